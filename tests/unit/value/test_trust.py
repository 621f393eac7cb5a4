"""A store that is opened without trust in pickles never unpickles, and says so."""

from __future__ import annotations

import polars as pl
import pytest

from eventstore import EventStore, Execution, ValueRecorded, task
from eventstore.errors import StateError
from eventstore.value import Value, ValueTypes, default_types
from eventstore.workflow.recording import Recorder
from tests.store_kit import memory_url

calls: list[int] = []


class Parsed(Value):
    """A value with a format that runs nothing."""

    type_name = "lab.Parsed"
    format = "text/plain"

    def __init__(self, text):
        self.text = text

    def serialize(self):
        """Plain text."""
        return self.text.encode()

    @classmethod
    def deserialize(cls, data):
        """From text."""
        return cls(data.decode())


@task
def plain(x):
    """Returns a pickle."""
    calls.append(x)
    return [x]


@task
def parsed(x):
    """Returns text."""
    calls.append(x)
    return Parsed(str(x))


@task
def frame(x):
    """Returns a table."""
    calls.append(x)
    return pl.DataFrame({"x": [x, None]})


def load(store, value_hash):
    """Look a value up, then read it."""
    stored = store.lookup.value(value_hash)
    return store.types.load(stored.type_name, stored.data, stored.format, value_hash=value_hash)


def test_a_store_that_trusts_reads_pickles_and_one_that_does_not_refuses():
    """The same stored value is read by one opening, and a clear error in another."""
    url = memory_url()
    hostile = default_types.describe([1])._replace(data=b"\x80\x03cbuiltins\nprint\nq\x00)R.")
    with EventStore.open(url, create=True) as store, store.execution() as run:
        run.tag_value([1, "a"], "kept")
        store.append(
            ValueRecorded(
                value_hash="f" * 40,
                type_name="builtins.list",
                size_bytes=len(hostile.data),
                data=hostile.data,
            )
        )
    value_hash = default_types.hash([1, "a"])
    with EventStore.open(url) as store:
        assert load(store, value_hash) == [1, "a"]
    with EventStore.open(url, trust_pickle=False) as store:
        for stored in (value_hash, "f" * 40):
            with pytest.raises(StateError, match="trust_pickle=True reads it") as caught:
                load(store, stored)
            assert caught.value.code == "pickle_not_trusted"


def test_without_trust_a_task_runs_again_rather_than_unpickle():
    """A pickled result is a miss, a result in another format a hit; recording goes on as ever."""
    url = memory_url()
    calls.clear()
    for trust, expected in ((True, 2), (True, 2), (False, 3), (True, 3)):
        with EventStore.open(url, create=True, trust_pickle=trust) as store, store.execution():
            assert plain(1) == [1]
            assert parsed(2).text == "2"
        assert len(calls) == expected, (trust, calls)


def test_a_table_from_the_cache_needs_no_trust():
    """A polars result that is recorded by content is answered from the cache without unpickling."""
    calls.clear()
    types = ValueTypes()
    types.use_tables("polars")
    with EventStore.open(memory_url(), create=True) as store:
        for _ in range(2):
            with Execution(store, types=types.without_pickle()):
                assert frame(3).equals(pl.DataFrame({"x": [3, None]}))
        (recorded,) = [e.event for e in store.events(tail=True) if e.kind == "value.recorded" and is_table(e)]
    assert calls == [3]
    assert pl.read_ipc(recorded.data).columns == ["x"]


def is_table(recorded):
    """Whether the event is of a frame."""
    return recorded.event.type_name == "polars.DataFrame"


def test_a_known_value_is_not_written_again():
    """A second recording of equal values, in another batch, appends nothing."""
    with EventStore.open(memory_url(), create=True) as store:
        appended = []
        for _ in range(3):
            recorder = Recorder(store)
            batch = recorder.batch()
            for value in ([1, "a"], {"k": {1, 2}}, {"k": {2, 1}}, None, Parsed("x")):
                batch.value(value, recorder.describe(value, "a value"))
            appended.append(len(batch.events))
            batch.append()
    assert appended == [4, 0, 0]
