"""`HistoryIndex`: answers to what an engine asks while it runs, at a price that does not grow with history.

Sorted runs on local disk hold the records of the sealed log up to a position; an overlay in memory holds
what is newer: own appends, seen at once, those of other processes of this machine, seen when they are asked
for, and those of other machines, within a bound. Both are derived from the log, and made anew when lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter

from eventstore.events.envelope import Event
from eventstore.index.facts import (
    CallFacts,
    CallMention,
    CallOutcome,
    ExecutionFacts,
    HandleFacts,
    JobFacts,
    StoredValue,
    TagFacts,
    TaskFacts,
    ValueFacts,
)
from eventstore.index.families import Family, Key, Record
from eventstore.index.following import LogFollower
from eventstore.index.peers import PeerJournals
from eventstore.index.runs import IndexRuns
from eventstore.index.value_bytes import ValueBytes
from eventstore.log.journaled import Journaled
from eventstore.log.reader import LogReader
from eventstore.log.sequence import SealSequence
from eventstore.tags import CurrentTag
from eventstore.value_store import ValueStore

__all__ = ["HistoryIndex"]


class HistoryIndex:
    """What a store's history says of one thing. Safe to share by threads.

    Nothing is read before the first question. An unknown id is None or an empty list, never an error.

    Parameters
    ----------
    reader, sequence, values
        The log, its order, and where large values lie.
    runs
        Opens the part of the index that is on disk; None keeps all of it in memory.
    peers
        Journals of other processes of this machine; None for a store that no other process can see.
    own_rows
        The rows that this process' writer has in no segment yet.
    fresh_seconds
        How old an answer may be with respect to what other machines have sealed.
    look_seconds
        How old it may be with respect to what they have not sealed; to find that takes a listing.
    """

    def __init__(
        self,
        reader: LogReader,
        sequence: SealSequence,
        values: ValueStore,
        *,
        runs: Callable[[], IndexRuns] | None,
        peers: PeerJournals | None,
        own_rows: Callable[[], Journaled | None],
        fresh_seconds: float = 1.0,
        look_seconds: float = 10.0,
    ) -> None:
        self._bytes = ValueBytes(reader, values)
        self._log = LogFollower(
            reader,
            sequence,
            runs=runs,
            peers=peers,
            own_rows=own_rows,
            on_value=self._bytes.remember,
            fresh_seconds=fresh_seconds,
            look_seconds=look_seconds,
        )
        self._lock = self._log.lock

    # questions -------------------------------------------------------------------------------------------

    def evaluation(self, eval_hash: str, *, look: bool = True) -> str | None:
        """Return the value hash that the evaluation cache holds under `eval_hash`; the newest counts.

        Parameters
        ----------
        look
            For what is new since the last question that did. Who asks several in a row, to come to one
            answer, need look only once.
        """
        with self._lock:
            log = self._log
            if look:
                log.catch_up()
            stored = log.stored(Family.EVALUATION, eval_hash)
            recent = log.overlay.get(Family.EVALUATION, eval_hash)
            # Once it is in a run, another writer's may stand behind it there.
            if recent and not (stored and log.is_in_runs(recent[-1][1])):
                return str(recent[-1][0])
            return str(stored[-1][0]) if stored else None

    def value(self, value_hash: str) -> StoredValue | None:
        """Return a recorded value with its bytes. The first one recorded counts.

        Raises
        ------
        NotFoundError, IntegrityError
            The value is recorded and its bytes are missing or damaged.
        """
        record = self._first(Family.VALUE, value_hash)
        if record is None:
            return None
        type_name, media_type, _, digest, _, _, place, data = record
        if data is None:
            data = self._bytes.get(value_hash, digest, place)
        return StoredValue(type_name, media_type, data)

    def has_value(self, value_hash: str, *, look: bool = True) -> bool:
        """Whether the value is recorded.

        Parameters
        ----------
        look
            For what other processes have recorded since the last look, too. Who would only state it again
            need not: that does no harm.
        """
        return self._first(Family.VALUE, value_hash, look=look) is not None

    def value_facts(self, value_hash: str) -> ValueFacts | None:
        """Return what is known of a value besides its bytes."""
        record = self._first(Family.VALUE, value_hash)
        return None if record is None else ValueFacts(value_hash, *record[:6])

    def task(self, task_hash: str) -> TaskFacts | None:
        """Return a task."""
        record = self._first(Family.TASK, task_hash)
        return None if record is None else TaskFacts(task_hash, *record)

    def call(self, call_hash: str, *, look: bool = True) -> CallFacts | None:
        """Return a call node as it was first recorded; `look` as in `has_value`."""
        record = self._first(Family.CALL, call_hash, look=look)
        if record is None:
            return None
        *facts, given, subtree_tasks = record
        names = ("position", "key", "value_hash", "upstreams")
        arguments = [dict(zip(names, each, strict=True)) for each in given]
        return CallFacts._make((call_hash, *facts, arguments, subtree_tasks))

    def calls_of(self, task_hash: str, args_hash: str) -> list[CallOutcome]:
        """Return the call nodes of a task with these arguments, in the order of the log, each once."""
        found: dict[str, CallOutcome] = {}
        for record in self._all(Family.CALLS_OF, (args_hash, task_hash)):
            if record[2] == task_hash and record[3] == args_hash and record[0] not in found:
                found[record[0]] = CallOutcome._make(record)
        return list(found.values())

    def newest_call_with_args(self, task_name: str, args_hash: str) -> CallMention | None:
        """Return the newest call node of a task of this full name with these arguments."""
        records = self._all(Family.CALL_WITH_ARGUMENTS, (args_hash, task_name))
        return _newest(record[:4] for record in records if record[3:] == (args_hash, task_name))

    def newest_call_of_task(self, task_hash: str) -> CallMention | None:
        """Return the newest call node of a task."""
        return _newest(self._all(Family.CALL_OF_TASK, task_hash))

    def job(self, job_id: str, *, look: bool = True) -> JobFacts | None:
        """Return a job: its start, and its last end; `look` as in `evaluation`."""
        records = self._all(Family.JOB, job_id, look=look)
        if not records:
            return None
        start = next((record for record in records if len(record) == 4), None)
        end = next((record for record in reversed(records) if len(record) > 4), None)
        if end is None:
            at, execution_id, parent_id, task_hash = records[0]
            return JobFacts(job_id, execution_id, parent_id, task_hash, at, None, None, False, None)
        end_at, execution_id, parent_id, task_hash, status, is_cached, call_hash = end
        if start is None:
            # An end without a start stands alone; the first of several is when it began.
            at = next(record for record in records if len(record) > 4)[0]
        else:
            at, execution_id, parent_id, task_hash = start
        return JobFacts(job_id, execution_id, parent_id, task_hash, at, end_at, status, is_cached, call_hash)

    def jobs_that_ended_with(self, execution_id: str, call_hash: str, *, look: bool = True) -> list[str]:
        """Return the jobs of an execution that ended with a call node, in the order of the log, each once.

        `look` as in `evaluation`.
        """
        records = self._all(Family.ENDED, (call_hash, execution_id), look=look)
        if not records:
            return []
        return list(dict.fromkeys(each[0] for each in records if each[1:] == (execution_id, call_hash)))

    def job_that_ended_with(self, execution_id: str, call_hash: str) -> str | None:
        """Return one of those jobs, as of the last look at what is new; very many make it no slower."""
        with self._lock:
            found = self._log.newest(Family.ENDED, (call_hash, execution_id))
        return None if found is None or found[1:] != (execution_id, call_hash) else str(found[0])

    def child_jobs(self, job_id: str) -> list[str]:
        """Return the jobs that a job called, in the order of the log."""
        return list(dict.fromkeys(record[0] for record in self._all(Family.CHILD_JOB, job_id)))

    def execution(self, execution_id: str) -> ExecutionFacts | None:
        """Return an execution and its last heartbeat."""
        record = self._first(Family.EXECUTION, execution_id)
        if record is None:
            return None
        args, job_id, at = record
        beats = [beat[0] for beat in self._all(Family.HEARTBEAT, execution_id)]
        return ExecutionFacts(execution_id, job_id, args, at, beats[-1] if beats else None)

    def tag(self, tag_hash: str) -> TagFacts | None:
        """Return a tag, current or not."""
        record = self._first(Family.TAG, tag_hash)
        return None if record is None else TagFacts(tag_hash, *record)

    def tags_of(self, entity_id: str) -> list[TagFacts]:
        """Return all tags that an entity ever had, in the order of the log, each once."""
        found: dict[str, TagFacts] = {}
        for tag_hash, entity_type, entity, *rest in self._all(Family.TAG_OF, entity_id):
            if entity == entity_id:
                found.setdefault(tag_hash, TagFacts(tag_hash, entity_type, entity, *rest))
        return list(found.values())

    def is_superseded(self, tag_hash: str) -> bool:
        """Whether some tag stands in place of this one, which itself need not be recorded."""
        return bool(self._all(Family.SUPERSEDED, tag_hash))

    def superseded_by(self, tag_hash: str) -> list[str]:
        """Return the hashes of the tags that stand in place of this one, sorted."""
        return sorted({record[0] for record in self._all(Family.SUPERSEDED, tag_hash)})

    def current_tag_facts(self, entity_id: str) -> list[TagFacts]:
        """Return the tags of an entity that no other supersedes, sorted by key, value and hash."""
        with self._lock:
            log = self._log
            found: dict[str, TagFacts] = {}
            for record in log.all(Family.TAG_OF, entity_id):
                tag_hash, _, entity, *_ = record
                # What was recorded first counts.
                known = entity != entity_id or tag_hash in found
                if not known and not log.knows(Family.SUPERSEDED, tag_hash):
                    found[tag_hash] = TagFacts._make(record)
        return sorted(found.values(), key=_KEY_VALUE_HASH) if len(found) > 1 else list(found.values())

    def current_tags(self, entity_id: str) -> list[CurrentTag]:
        """Return the current tags of an entity, sorted by key, value and hash."""
        return [CurrentTag._make(tag[:5]) for tag in self.current_tag_facts(entity_id)]

    def current_tags_of(self, entity_ids: Iterable[str]) -> dict[str, list[CurrentTag]]:
        """Return the current tags of each entity, as `current_tags` does; an empty list if it has none."""
        return {entity_id: self.current_tags(entity_id) for entity_id in entity_ids}

    def handle(self, handle_hash: str) -> HandleFacts | None:
        """Return a state of a handle."""
        with self._lock:
            return self._log.handle(handle_hash)

    def is_valid_handle(self, handle_hash: str) -> bool:
        """Whether the state is recorded, and not rolled back since it was last mentioned."""
        state = self.handle(handle_hash)
        return state is not None and state.is_valid

    def knows_handle(self, handle_hash: str) -> bool:
        """Whether an event has made the state known."""
        return self.handle(handle_hash) is not None

    # keeping up ------------------------------------------------------------------------------------------

    def observe(self, events: Iterable[Event], writer: str, first: int) -> None:
        """Take in events that this process has just appended, as `first` and following of `writer`."""
        with self._lock:
            self._log.observe(events, writer, first)

    def look_again(self) -> None:
        """Look at once for what other machines have made durable, whatever the bounds say."""
        with self._lock:
            self._log.look_again()

    def after_seal(self) -> None:
        """Make a run of what was sealed, in the background, where there is enough of it."""
        self._log.after_seal(wait=True)

    def close(self) -> None:
        """Make a run of what was sealed, if it is worth it, and let go of the files."""
        self._log.close()

    def _first(self, family: Family, key: Key, *, look: bool = True) -> Record | None:
        with self._lock:
            return self._log.first(family, key, look=look)

    def _all(self, family: Family, key: Key, *, look: bool = True) -> list[Record]:
        with self._lock:
            return self._log.all(family, key, look=look)


_KEY_VALUE_HASH = attrgetter("key", "value", "tag_hash")


def _newest(records: Iterable[Record]) -> CallMention | None:
    found = list(records)
    if not found:
        return None
    call_hash, at, task_hash, args_hash = found[-1]
    return CallMention(call_hash, task_hash, args_hash, at)
