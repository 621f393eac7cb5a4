"""Databases of redun to import, made by redun itself; and what a store must say after it, by its look-ups."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from redun import File, Handle, Scheduler, task
from redun.backends.base import TagEntity
from redun.backends.db import RedunBackendDb
from redun.config import Config
from redun.scheduler import catch

from eventstore import EventStore
from eventstore.filesystem import open_storage
from eventstore.hashing import hash_argument
from eventstore.redun.importing import ImportReport, import_database, open_database
from eventstore.value_store import RedunValueStore

redun_namespace = "imported"
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


# a database of redun ----------------------------------------------------------------------------------------


class RedunPlace:
    """A redun database in a file, perhaps with a value store beside it."""

    def __init__(self, folder: Path, *, value_store: bool = False) -> None:
        self.folder = folder
        self.path = folder / "redun.db"
        self.values = folder / "values" if value_store else None
        folder.mkdir(parents=True, exist_ok=True)
        if _template.is_file() and not self.path.exists():
            shutil.copy(_template, self.path)

    @property
    def url(self) -> str:
        """As redun takes it."""
        return f"sqlite:///{self.path}"

    def settings(self) -> dict[str, str]:
        """What a user of redun would write into its configuration."""
        settings = {"db_uri": self.url}
        if self.values is not None:
            settings |= {"value_store_path": str(self.values), "value_store_min_size": "1024"}
        return settings

    def scheduler(self) -> Scheduler:
        """A scheduler of redun with redun's own backend."""
        scheduler = Scheduler(config=Config({"backend": self.settings()}))
        scheduler.load(migrate=True)
        return scheduler

    def backend(self) -> RedunBackendDb:
        """The backend that redun has."""
        backend = RedunBackendDb(config=self.settings())
        backend.load(migrate=True)
        return backend

    def bring_into(self, store: EventStore, **options: Any) -> ImportReport:
        """Import the database."""
        values = RedunValueStore(open_storage(str(self.values))) if self.values is not None else None
        with open_database(self.url) as database:
            return import_database(database, store, value_store=values, **options)

    def rows(self, query: str) -> list[Any]:
        """What the database says."""
        engine = sa.create_engine(self.url)
        with engine.connect() as connection:
            found = connection.execute(sa.text(query)).all()
        engine.dispose()
        return list(found)


def close(backend: RedunBackendDb) -> None:
    """Let go of all connections."""
    backend.session.close()
    backend.engine.dispose()


_template = Path()


def use_template(folder: Path) -> None:
    """Make an empty database once, for all that follow to begin as its copies: migrations take time."""
    global _template
    if _template.is_file():
        return
    place = RedunPlace(folder)
    close(place.backend())
    _template = place.path


# a workflow -------------------------------------------------------------------------------------------------


class Conn(Handle):
    """A handle as redun's users write them."""

    def __init__(self, name: str, uri: str, namespace: str | None = None) -> None:
        self.uri = uri
        self.instance = None


@task()
def one(x: int) -> int:
    """More by one."""
    return x + 1


@task()
def three(x: int, y: int = 3, *, z: int = 4) -> list[int]:
    """Its arguments."""
    return [x, y, z]


@task()
def long(count: int) -> bytes:
    """Many bytes."""
    return b"x" * count


@task()
def write(path: str, text: str) -> File:
    """A file."""
    made = File(path)
    made.write(text)
    return made


@task()
def fails(x: int) -> int:
    """An error."""
    raise ValueError(f"bad {x}")


@task()
def recovered(error: Exception) -> str:
    """What is in its place."""
    return "recovered"


@task()
def step(conn: Conn, count: int) -> Conn:
    """The next state."""
    return conn


@task(tags=[("kind", {"of": ["work", 2.5]})])
def work(folder: str, count: int) -> list[Any]:
    """Calls in calls, upstreams, defaults, a long value, a file, an error that is caught, a handle."""
    conn = step(step(Conn("c", "db"), count), 2)
    return [
        [one(one(number)) for number in range(count)],
        three(1, z=one(2)),
        long(2_000),
        write(f"{folder}/made.txt", "text"),
        catch(fails(1), ValueError, recovered),
        conn,
    ]


@task()
def broken() -> list[Any]:
    """An error that nobody catches."""
    return [one(1), fails(2)]


def run_everything(place: RedunPlace) -> None:
    """Run the workflow twice with different arguments, once from the cache, and one that fails; edit tags."""
    scheduler = place.scheduler()
    for count in (3, 4, 4):  # the second undoes what followed from the handle of the first
        scheduler.run(work(str(place.folder), count), tags=[("user", "ada")])
    with contextlib.suppress(ValueError):
        scheduler.run(broken())
    first, *_ = [row.id for row in place.rows("SELECT id FROM execution ORDER BY rowid")]
    backend = scheduler.backend
    backend.record_tags(TagEntity.Execution, first, [("state", 1)])
    backend.record_tags(TagEntity.Execution, first, [("state", [2, None])], update=True)
    backend.delete_tags(first, [], keys=["user"])
    close(backend)


_everything: list[RedunPlace] = []


def everything(make_folder: Callable[[str], Path]) -> RedunPlace:
    """A database that has seen all of that, made once in a process; not to be changed."""
    if not _everything:
        use_template(make_folder("template"))
        place = RedunPlace(make_folder("redun"), value_store=True)
        run_everything(place)
        _everything.append(place)
    return _everything[0]


# what a store must say --------------------------------------------------------------------------------------


def differences(place: RedunPlace, store: EventStore) -> list[str]:
    """What the store says otherwise than the database: empty if history is the same.

    Records are compared in the form in which redun exports them; what it does not export, by its tables.
    """
    return [*_in_records(place, store), *_beyond_records(place, store)]


def _in_records(place: RedunPlace, store: EventStore) -> Iterator[str]:
    backend = place.backend()
    ids = [
        row[0]
        for row in place.rows(
            "SELECT id FROM execution UNION ALL SELECT id FROM job UNION ALL SELECT call_hash FROM call_node "
            "UNION ALL SELECT value_hash FROM value UNION ALL SELECT tag_hash FROM tag"
        )
    ]
    children: dict[str, list[str]] = {}
    for row in place.rows("SELECT parent_id, child_id FROM call_edge ORDER BY parent_id, call_order"):
        children.setdefault(row.parent_id, []).append(row.child_id)
    called: dict[str, list[str]] = {}
    for row in place.rows("SELECT parent_id, id FROM job WHERE parent_id IS NOT NULL ORDER BY id"):
        called.setdefault(row.parent_id, []).append(row.id)
    for record in backend.get_records(ids):
        kind = record["_type"]
        key = record[{"Value": "value_hash", "CallNode": "call_hash", "Tag": "tag_hash"}.get(kind, "id")]
        ours = _RECORDS[kind](store, key)
        theirs = {name: value for name, value in record.items() if not name.startswith("_")}
        if kind == "Value" and place.values is not None and not theirs["data"]:
            data = (place.values / key[:2] / key[2:]).read_bytes()  # redun does not export it
            theirs["data"] = base64.b64encode(data).decode()
        if kind == "Job":
            theirs["children"] = called.get(key, [])  # redun leaves out those of another batch
        if kind == "CallNode":
            theirs["children"] = children.get(key, [])  # redun gives them in no promised order
        if kind == "Value" and theirs["subtype"]:
            theirs["subtype"] = {n: v for n, v in theirs["subtype"].items() if not n.startswith("_")}
        if ours != theirs:
            yield f"{kind} {key}: {ours} where redun says {theirs}"
    close(backend)


def _execution(store: EventStore, key: str) -> Any:
    known = store.lookup.execution(key)
    return known and {"id": key, "args": known.args, "job_id": known.job_id}


def _job(store: EventStore, key: str) -> Any:
    known = store.lookup.job(key)
    return known and {
        "id": key,
        "start_time": _time(known.start_us),
        "end_time": _time(known.end_us),
        "task_hash": known.task_hash,
        "cached": known.is_cached,
        "status": known.status or "RUNNING",
        "call_hash": known.call_hash,
        "parent_id": known.parent_id,
        "children": sorted(store.lookup.child_jobs(key)),
        "execution_id": known.execution_id,
    }


def _time(microseconds: int | None) -> str | None:
    return None if microseconds is None else str(_EPOCH + dt.timedelta(microseconds=microseconds))


def _call(store: EventStore, key: str) -> Any:
    known = store.lookup.call(key)
    return known and {
        "call_hash": key,
        "task_name": known.task_name,
        "task_hash": known.task_hash,
        "args_hash": known.args_hash,
        "value_hash": known.value_hash,
        "timestamp": _time(known.at_us),
        "args": dict(_argument(key, each) for each in known.arguments),
        "children": list(known.children),
    }


def _argument(call_hash: str, given: Any) -> tuple[str, Any]:
    place = {"position": given["position"], "key": given["key"], "value_hash": given["value_hash"]}
    said = {
        "arg_hash": hash_argument(call_hash, **place),
        "value_hash": given["value_hash"],
        "upstream": sorted(given["upstreams"]),
    }
    return given["key"] or str(given["position"]), said


def _value(store: EventStore, key: str) -> Any:
    facts, value, known = store.lookup.value_facts(key), store.lookup.value(key), store.lookup.task(key)
    if facts is None or value is None:
        return None
    subtype = {"path": facts.file_path} if facts.file_path is not None else None
    if known is not None:
        subtype = {"name": known.name, "namespace": known.namespace, "source": known.source}
    return {
        "value_hash": key,
        "type": facts.type_name,
        "format": facts.format,
        "data": base64.b64encode(value.data).decode(),
        "subvalues": sorted(facts.subvalues),
        "subtype": subtype,
    }


def _tag(store: EventStore, key: str) -> Any:
    known = store.lookup.tag(key)
    return known and {
        "tag_hash": key,
        "entity_type": known.entity_type,
        "entity_id": known.entity_id,
        "key": known.key,
        "value": json.loads(known.value),
        "parents": list(known.parents),
    }


_RECORDS = {"Execution": _execution, "Job": _job, "CallNode": _call, "Value": _value, "Tag": _tag}


def _beyond_records(place: RedunPlace, store: EventStore) -> Iterator[str]:
    ask = store.lookup
    for row in place.rows("SELECT * FROM evaluation"):
        if ask.evaluation(row.eval_hash) != row.value_hash:
            yield f"evaluation {row.eval_hash}"
    for row in place.rows("SELECT hash, fullname, key, value_hash, is_valid FROM handle"):
        known = ask.handle(row.hash)
        if known is None or tuple(known) != tuple(row):
            yield f"handle {tuple(row)}, found {known}"
        if ask.is_valid_handle(row.hash) != bool(row.is_valid):
            yield f"handle {row.hash} by its question"
    subtrees: dict[str, list[str]] = {}
    for row in place.rows("SELECT * FROM call_subtree_task ORDER BY task_hash"):
        subtrees.setdefault(row.call_hash, []).append(row.task_hash)
    for call_hash, tasks in subtrees.items():
        found = ask.call(call_hash)
        if found is None or list(found.subtree_tasks) != tasks:
            yield f"subtree tasks of {call_hash}"
    for row in place.rows("SELECT id, updated_time FROM execution WHERE updated_time IS NOT NULL"):
        known_execution = ask.execution(row.id)
        beat = dt.datetime.fromisoformat(row.updated_time).replace(tzinfo=dt.UTC)
        if known_execution is None or known_execution.updated_us is None:
            yield f"no heartbeat of {row.id}"
        elif known_execution.updated_us != (beat - _EPOCH) // dt.timedelta(microseconds=1):
            yield f"heartbeat of {row.id}"
    for row in place.rows("SELECT tag_hash, is_current FROM tag"):
        if ask.is_superseded(row.tag_hash) == bool(row.is_current):
            yield f"currency of the tag {row.tag_hash}"
    edges = {(row.parent_id, row.child_id) for row in place.rows("SELECT * FROM handle_edge")}
    said = {
        (parent, event.event.handle_hash)  # type: ignore[union-attr]
        for event in store.events(kinds=["handle.advanced"], tail=True)
        for parent in event.event.parents  # type: ignore[union-attr]
    }
    if edges != said:
        yield f"edges of handles: {said ^ edges}"


def misplaced(store: EventStore) -> list[str]:
    """What is mentioned before it is said, in the order of the log."""
    known: set[str] = set()
    found = []
    for recorded in store.events(tail=True):
        for mentioned in _mentions(recorded.event):
            if mentioned not in known:
                found.append(f"{recorded.kind} {recorded.id} mentions {mentioned}")
        known.update(_says(recorded.event))
    return found


def _mentions(event: Any) -> Iterable[str]:
    yield from getattr(event, "subvalues", ())
    yield from getattr(event, "children", ())
    yield from getattr(event, "superseded", ())
    for argument in getattr(event, "arguments", ()):
        yield argument.value_hash
        yield from argument.upstreams
    if event.kind != "value.recorded" and getattr(event, "value_hash", None):
        yield event.value_hash
    if event.kind != "task.recorded" and getattr(event, "task_hash", None):
        yield event.task_hash
    if event.kind == "job.ended" and event.call_hash:
        yield event.call_hash


def _says(event: Any) -> Iterable[str]:
    for name in ("value_hash", "task_hash", "call_hash", "tag_hash"):
        said = getattr(event, name, None)
        if said is not None and event.kind in (
            "value.recorded",
            "task.recorded",
            "call_node.recorded",
            "tags.deleted",
        ):
            yield said
    for tag in getattr(event, "tags", ()):
        yield tag.tag_hash
