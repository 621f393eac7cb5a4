"""redun's own backend and ours, driven by the same calls at the same moments, and their answers side by side.

`Pair` compares exactly. What is different on purpose (docs/redun.md, "Where the backend differs") is done to
redun's side by hand: each such place says so, and nothing else is evened out.
"""

from __future__ import annotations

import datetime as dt
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any
from unittest import mock

import redun.backends.db as redun_db
import sqlalchemy as sa
from backend_material_kit import registry
from redun.backends.base import TagEntity
from redun.backends.db import RedunBackendDb

from eventstore.redun import EventStoreBackend

START = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
MOST_BYTES = 200_000


class Clock:
    """The time of both sides: stands still during a step, and is never the same in two."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> dt.datetime:
        """Return the time."""
        return self.now

    def step(self, microseconds: int) -> None:
        """Go on."""
        self.now += dt.timedelta(microseconds=microseconds)

    @contextmanager
    def for_redun(self) -> Iterator[None]:
        """Let redun's own backends take the time from here."""
        _clocks.append(self)
        default = redun_db.CallNode.__table__.c.timestamp.default
        with (
            mock.patch.object(redun_db, "utcnow", _redun_now),
            mock.patch.object(default, "arg", _redun_now),
        ):
            yield
        _clocks.remove(self)


_clocks: list[Clock] = []


def _redun_now(_context: object = None) -> dt.datetime:
    """The time of the newest clock; SQLAlchemy keeps the function beyond the patch, for the real time."""
    return _clocks[-1].now if _clocks else dt.datetime.now(dt.UTC)


# the two sides -------------------------------------------------------------------------------------------


class Plain(RedunBackendDb):
    """redun's own backend, in memory, without checks of foreign keys: what they forbid, no scheduler does."""

    def __init__(self) -> None:
        super().__init__(config={"max_value_size": MOST_BYTES}, db_uri="sqlite:///:memory:")
        self.load()
        # A job's start switches the checks on again.
        sa.event.listen(self.engine, "before_cursor_execute", _unchecked, retval=True)
        self.session.execute(sa.text("PRAGMA foreign_keys=OFF"))
        self.session.commit()

    def wipe(self) -> None:
        """Forget everything."""
        self.session.rollback()
        self.session.expunge_all()
        for table in redun_db.Base.metadata.tables.values():
            if table.name not in {"redun_version", "alembic_version"}:
                self.session.execute(table.delete())
        self.session.commit()
        self._executions.clear()

    def tag_hashes(self, entity_id: str, wanted: Callable[[str, Any], bool]) -> list[str]:
        """The current tags of an entity that are wanted, by key and value."""
        rows = self.session.query(redun_db.Tag).filter_by(entity_id=entity_id, is_current=True)
        return [row.tag_hash for row in rows if wanted(row.key, row.value)]


class Theirs(Plain):
    """The same, with what is done to it by hand."""

    def _record_subvalues(self, subvalues: list[Any], parent_value_hash: str) -> None:
        """On purpose different: a value recorded as a part has links to its own parts, too."""
        super()._record_subvalues(subvalues, parent_value_hash)
        for part in subvalues:
            inside = list(registry.iter_subvalues(part))
            if inside:
                super()._record_subvalues(inside, registry.get_hash(part))


def _unchecked(_conn: Any, _cursor: Any, statement: str, parameters: Any, *_more: Any) -> tuple[str, Any]:
    return statement.replace("PRAGMA foreign_keys=ON", "PRAGMA foreign_keys=OFF"), parameters


@cache
def theirs(number: int) -> Theirs:
    """Redun's backends are made once, and wiped for each use: to make one takes long."""
    return Theirs()


@cache
def plain() -> Plain:
    """Redun's backend as it is."""
    return Plain()


class Pair:
    """Both backends, and the methods that record, called on both."""

    def __init__(self, clock: Clock, number: int) -> None:
        self.clock = clock
        self.theirs = theirs(number)
        self.theirs.wipe()
        self._folder = tempfile.mkdtemp(prefix="pair-store-")
        self._state = 0
        self.failed: set[str] = set()
        """Jobs that failed before they had a call node."""
        self.ours = self._open()

    def _open(self) -> EventStoreBackend:
        config = {
            "db_uri": f"{self._folder}/store",
            "state_dir": f"{self._folder}/state-{self._state}",
            "max_value_size": MOST_BYTES,
            "flush_seconds": 1e6,
            "fresh_seconds": 0,
        }
        made = EventStoreBackend(config)
        made.load()
        made.log._clock = self.clock
        made.log._job_wait_seconds = 0.0
        return made

    def reopen(self, *, elsewhere: bool) -> None:
        """Open our store again; elsewhere, without the index and the journals of before."""
        self.ours.close()
        self._state += elsewhere
        self.ours = self._open()

    def close(self) -> None:
        """Let go."""
        self.ours.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def both(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of both; the answers are equal."""
        ours = getattr(self.ours, method)(*args, **kwargs)
        other = getattr(self.theirs, method)(*args, **kwargs)
        same(ours, other, method)
        return ours

    def explain(self, task: Any, args_hash: str, *, in_order: bool = True) -> None:
        """Both name the same call for a miss.

        On purpose different: where records came in another order than that of their times, another call may
        be named that explains it as well.
        """
        ours, other = (each.explain_cache_miss(task, args_hash) for each in (self.ours, self.theirs))
        if not in_order and ours != other:
            key = {"new_task": "call_args_hash", "new_args": "call_task_hash"}[ours["reason"]]
            same(*(({name: each[name] for name in ("reason", key)}) for each in (ours, other)), "explanation")
        else:
            same(ours, other, "explanation")

    def both_fail(self, method: str, *args: Any, **kwargs: Any) -> list[Exception]:
        """Call a method that neither can do; both go on afterwards."""
        errors = []
        for side in (self.ours, self.theirs):
            try:
                getattr(side, method)(*args, **kwargs)
            except Exception as error:
                errors.append(error)
            else:
                raise AssertionError(f"{type(side).__name__}.{method} did not fail")
        self.theirs.session.rollback()
        return errors

    # tags ------------------------------------------------------------------------------------------------

    def record_tags(
        self,
        kind: TagEntity,
        entity_id: str,
        pairs: Sequence[tuple[str, Any]],
        *,
        parents: Sequence[str] = (),
        update: bool = False,
        new: bool = False,
    ) -> list[str]:
        """Put tags on an entity.

        On purpose different: pairs may come twice and as an iterator, a parent may be named and found, and
        what `new` makes current again is returned.
        """
        ours = self.ours.record_tags(
            kind, entity_id, iter(pairs), parents=iter(parents), update=update, new=new
        )
        once = {(key, canonical(value)): (key, value) for key, value in pairs}
        keys = {key for key, _ in once}
        found = self.theirs.tag_hashes(entity_id, lambda key, _value: key in keys) if update else []
        named = [each for each in dict.fromkeys(parents) if each not in found]
        other = self.theirs.record_tags(
            kind, entity_id, list(once.values()), parents=named, update=update, new=new
        )
        if update or new:
            assert {*map(_tag_text, other)} <= {*map(_tag_text, ours)}
            assert {each[2:] for each in map(_tag_text, ours)} == {(key, text) for key, text in once}
        else:
            assert ours == other
        return [each[0] for each in ours]

    def delete_tags(self, entity_id: str, pairs: Sequence[tuple[str, Any]], keys: Sequence[str]) -> list[str]:
        """Take tags off.

        On purpose different: where nothing is taken off nothing is recorded, and a None is a value too.
        """
        wanted = {(key, canonical(value)) for key, value in pairs}
        found = self.theirs.tag_hashes(
            entity_id, lambda key, value: key in keys or (key, canonical(value)) in wanted
        )
        ours = self.ours.delete_tags(entity_id, iter(pairs), iter(keys))
        if not found:
            assert ours == []
        elif any(value is None for _, value in pairs):
            assert ours == self.theirs.record_tags(TagEntity.Null, "", [("", None)], parents=found)
        else:
            assert ours == self.theirs.delete_tags(entity_id, list(pairs), list(keys))
        return [each[0] for each in ours]

    def compare_tags(self, entity_ids: Sequence[str]) -> None:
        """The current tags of entities are the same."""
        ours, other = (
            {
                entity_id: sorted((key, canonical(value)) for key, value in tags.items())
                for entity_id, tags in side.get_tags(list(entity_ids)).items()
            }
            for side in (self.ours, self.theirs)
        )
        same(ours, other, "current tags")

    # records ---------------------------------------------------------------------------------------------

    def records(self, ids: Sequence[str], *, in_order: bool = True) -> list[dict[str, Any]]:
        """Return our records of ids, which are those of redun."""
        ours = list(self.ours.get_records(iter(ids), sorted=in_order))
        other = list(self.theirs.get_records(iter(ids), sorted=in_order))
        if not in_order:
            assert [each["_type"] for each in ours] == [each["_type"] for each in other]
            ours, other = (sorted(each, key=_record_id) for each in (ours, other))
        same([*map(_record_id, ours)], [*map(_record_id, other)], "records")
        for one, peer in zip(ours, other, strict=True):
            same(comparable(one), comparable(self._evened(peer, one)), "record")
        return ours

    def _evened(self, record: dict[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
        """On purpose different: all children of a job are listed, and one that failed early has failed."""
        if record["_type"] != "Job":
            return record
        family = [record["id"], *ours["children"]]
        assert len(family) < 100, "redun lists the children that are asked for in the same hundred"
        (alone, *_) = self.theirs.get_records(family)
        if alone["id"] in self.failed:
            assert alone["status"] in {"CACHED", "DONE"}
            alone["status"] = "FAILED"
        return alone

    def walk(self, roots: Sequence[str]) -> list[str]:
        """Return what the roots own, the same on both sides, by our order."""
        ours = list(self.ours.iter_record_ids(iter(roots)))
        other = list(self.theirs.iter_record_ids(list(roots)))
        assert len(ours) == len(set(ours))
        # redun names the call of a job that still runs, which is None.
        same(set(ours), set(other) - {None}, f"owned by {roots}")
        known = [each for each in dict.fromkeys(roots) if each in set(ours)]
        assert ours[: len(known)] == known
        return ours

    def put_records(self, ours: list[dict[str, Any]], other: list[dict[str, Any]]) -> None:
        """Take in on each side what the other exported; both derive the status of a job anew.

        On purpose different: a job that was imported while it ran is ended by a later import.
        """
        ended = [each["id"] for each in ours if each["_type"] == "Job" and each["end_time"] is not None]
        rows = self.theirs.session.query(redun_db.Job).filter(redun_db.Job.id.in_(ended))
        running = {row.id for row in rows if row.end_time is None}
        self.theirs.session.rollback()
        self.theirs.session.execute(sa.delete(redun_db.Job).where(redun_db.Job.id.in_(running)))
        self.theirs.session.commit()
        self.theirs.session.expunge_all()
        count = self.theirs.put_records(ours)
        assert self.ours.put_records(iter(other)) == count - len(running)
        assert self.ours.put_records(ours) == 0

    # values and caches -----------------------------------------------------------------------------------

    def compare_values(self, value_hashes: Iterable[str]) -> None:
        """The same values come back, or none."""
        for value_hash in value_hashes:
            ours, other = self.ours.get_value(value_hash), self.theirs.get_value(value_hash)
            same(shown(*ours), shown(*other), value_hash)

    def compare_cache(self, *asked: Any, **options: Any) -> Any:
        """The same cache gives the same answer.

        On purpose different: an answer of the evaluation cache names no call.
        """
        value, call_hash, kind = self.ours.check_cache(*asked, **options)
        other, other_call, other_kind = self.theirs.check_cache(*asked, **options)
        if other_kind.name == "SINGLE":
            other_call = None
        hit = kind.name != "MISS"
        answer, peer = (kind, call_hash, shown(value, hit)), (other_kind, other_call, shown(other, hit))
        same(answer, peer, (asked, options))
        return kind


def same(ours: Any, other: Any, of: object) -> None:
    """Both answers are equal, or the error says what they are."""
    if ours != other:
        if isinstance(ours, set):
            ours, other = ours - other, other - ours
        raise AssertionError(f"{of}:\n  ours   {ours!r}\n  redun's {other!r}")


def canonical(value: Any) -> str:
    """A tag's value as text, by which it is compared."""
    return json.dumps(value, sort_keys=True)


def _tag_text(tag: tuple[str, str, str, Any]) -> tuple[str, str, str, str]:
    return (*tag[:3], canonical(tag[3]))


def shown(value: Any, found: bool) -> Any:
    """An answer in a form that can be compared: by type and hash."""
    return (type(value), registry.get_hash(value)) if found else (value, found)


def _record_id(record: Mapping[str, Any]) -> str:
    return str(
        record[{"CallNode": "call_hash", "Value": "value_hash", "Tag": "tag_hash"}.get(record["_type"], "id")]
    )


def comparable(record: dict[str, Any]) -> dict[str, Any]:
    """A record with what SQLite gives in no order in order: children of a call, parents of a tag."""
    unordered = {"CallNode": "children", "Tag": "parents"}.get(record["_type"])
    return record if unordered is None else record | {unordered: sorted(record[unordered])}
