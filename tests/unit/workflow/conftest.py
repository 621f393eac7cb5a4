"""A store in memory that keeps what was appended, batch by batch, and answers from it."""

from __future__ import annotations

import pytest

from eventstore.errors import StateError
from eventstore.events import EvaluationCached, ValueRecorded
from eventstore.index import StoredValue
from eventstore.value_store import data_digest
from eventstore.workflow import Execution


class Bytes:
    """Large values."""

    def __init__(self):
        self.stored = {}

    def put(self, data):
        """Keep bytes by digest."""
        digest = data_digest(data)
        self.stored[digest] = data
        return digest


class Answers:
    """The last evaluation and the first value of a hash count."""

    def __init__(self, store):
        self.store = store

    def evaluation(self, eval_hash):
        """The newest entry."""
        found = [e.value_hash for e in self.store.of(EvaluationCached) if e.eval_hash == eval_hash]
        return found[-1] if found else None

    def value(self, value_hash):
        """The first record."""
        for event in self.store.of(ValueRecorded):
            if event.value_hash == value_hash:
                data = self.store.values.stored[event.data_digest] if event.data is None else event.data
                return StoredValue(event.type_name, event.format, data)
        return None

    def has_value(self, value_hash):
        """Whether there is a record."""
        return any(event.value_hash == value_hash for event in self.store.of(ValueRecorded))


class FakeStore:
    """What recording needs of a store."""

    def __init__(self):
        self.batches = []
        self.values = Bytes()
        self.lookup = Answers(self)
        self.closed = False

    def append(self, *events):
        """Keep a batch."""
        assert events
        if self.closed:
            raise StateError("the store is closed", code="closed")
        self.batches.append(events)

    @property
    def all_events(self):
        """All events in order."""
        return [event for batch in self.batches for event in batch]

    def of(self, kind):
        """Events of one class."""
        return [event for event in self.all_events if isinstance(event, kind)]

    def kinds(self, first=0):
        """The kinds of each batch from `first` on."""
        return [[event.kind for event in batch] for batch in self.batches[first:]]

    def execution(self, **options):
        """A run on this store."""
        return Execution(self, **options)


@pytest.fixture
def store():
    """An empty fake store."""
    return FakeStore()
