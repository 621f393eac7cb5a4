"""A mirror of a real history says what redun's own database says, and redun's own tools read it."""

from __future__ import annotations

import argparse
import asyncio
import io
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redun import Scheduler
from redun.backends.db import (
    CallNode,
    Execution,
    Handle,
    Job,
    RedunBackendDb,
    Tag,
    Task,
    Value,
)
from redun.backends.db import File as FileRow
from redun.backends.db.dataflow import display_dataflow, make_dataflow_dom, walk_dataflow
from redun.backends.db.query import CallGraphQuery
from redun.cli import RedunClient
from redun.console.app import RedunApp
from redun_rows_kit import Ran, events_of, history, open_scheduler, play, rows, tables_of
from store_kit import open_store
from textual.widgets import DataTable

from eventstore import EventStore
from eventstore.redun import EventStoreBackend
from eventstore.redun.mirror import SqlMirror
from eventstore.redun.mirror import mirror as mirror_room


class Place:
    """A scheduler whose backend has this session, as redun's tools want it."""

    def __init__(self, session: Any) -> None:
        backend = RedunBackendDb(db_uri="sqlite:///:memory:")
        backend.session = session
        self.session = session
        self.backend = session.backend
        self.scheduler = Scheduler(backend=backend)

    def says(self, *words: str) -> str:
        """Return what a command of redun prints."""
        printed = io.StringIO()
        client = RedunClient(stdout=printed)
        client.scheduler, client.repo = self.scheduler, "default"
        client.execute(["redun", *words])
        return printed.getvalue()


@pytest.fixture(scope="module")
def ran() -> Ran:
    """A database of redun with a bit of everything."""
    return history()


@pytest.fixture(scope="module")
def store(ran: Ran, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EventStore]:
    """A store with the same history, the second half of it not sealed; large values beside the log."""
    with open_store(tmp_path_factory.mktemp("mirror") / "store", inline_limit=1000) as opened:
        events = list(events_of(ran.path))
        opened.append(*events[: len(events) // 2])
        opened.seal()
        opened.append(*events[len(events) // 2 :])
        yield opened


@pytest.fixture(scope="module")
def places(ran: Ran, store: EventStore) -> Iterator[tuple[Place, Place]]:
    """Redun on its own database, and on the mirror."""
    own = open_scheduler(ran.path).backend
    mirror = SqlMirror(store)
    yield Place(own.session), Place(mirror.session)
    own.session.close()
    mirror.close()


def test_the_tables_are_redun_s_row_by_row(
    ran: Ran, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every table holds the same rows, with the second half as a tail, and once all is sealed."""
    monkeypatch.setattr(mirror_room, "FLUSH_EVENTS", 10_000)
    mirror = SqlMirror(store, store.local_folder / "rows.db")
    mirror.refresh()
    right = tables_of(ran.path)
    large = {row[0] for row in right["value"] if len(row[3]) > 1000}
    assert len(large) >= 2
    right["value"] = [row if row[0] not in large else (*row[:3], b"") for row in right["value"]]
    assert all(right.values())
    assert tables_of(mirror.path) == right
    assert mirror.position < sum(1 for _ in events_of(ran.path))
    store.seal()
    mirror.rebuild()
    assert mirror.position == sum(1 for _ in events_of(ran.path))
    assert tables_of(mirror.path) == right
    mirror.close()


def test_the_schema_is_that_of_a_database_of_redun(ran: Ran, store: EventStore) -> None:
    """The same tables, columns and indexes, and the version that redun looks for."""
    mirror = SqlMirror(store, store.local_folder / "schema.db")
    mirror.refresh()

    def schema(path: Path) -> set[tuple[object, ...]]:
        found: set[tuple[object, ...]] = set()
        db = sqlite3.connect(path)
        kinds = db.execute("SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'mirror_%'").fetchall()
        for kind, name in kinds:
            if kind == "table":
                found |= {(name, row[1], row[3]) for row in db.execute(f"PRAGMA table_info({name})")}
            elif not name.startswith("sqlite_"):
                found |= {(name, row[2]) for row in db.execute(f"PRAGMA index_info({name})")}
        db.close()
        return found

    assert schema(mirror.path) == schema(ran.path)
    plain = RedunBackendDb(db_uri=f"sqlite:///{mirror.path}")
    plain.load(migrate=False)
    assert plain.get_db_version() == plain.get_all_db_versions()[-1]
    plain.session.close()
    mirror.close()


COMMANDS = [
    ["log"],
    ["log", "--all"],
    ["log", "--all", "--detail"],
    ["log", "{execution}"],
    ["log", "{job}"],
    ["log", "{call}"],
    ["log", "{task}"],
    ["log", "{value}"],
    ["log", "{file}"],
    ["log", "--file"],
    ["log", "--file-path", "*.txt"],
    ["log", "--file", "--job", "--value"],
    ["log", "--job", "--job-status", "FAILED"],
    ["log", "--job", "--exec-id", "{execution}"],
    ["log", "--exec", "--exec-tag", "env=prod"],
    ["log", "--job", "--tag", "urgent=true"],
    ["log", "--task-name", "mirror_kit.add", "--job"],
    ["tag", "list"],
    ["tag", "list", "env=prod"],
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_redun_s_commands_print_the_same(ran: Ran, places: tuple[Place, Place], words: list[str]) -> None:
    """`redun log` and `redun tag list` say the same on the mirror, and say something."""
    names = {
        "execution": "SELECT id FROM execution ORDER BY rowid",
        "job": "SELECT id FROM job WHERE parent_id IS NOT NULL ORDER BY rowid",
        "call": "SELECT call_hash FROM call_node WHERE task_name = 'mirror_kit.double'",
        "task": "SELECT hash FROM task WHERE name = 'main'",
        "value": "SELECT value_hash FROM call_node WHERE task_name = 'mirror_kit.main'",
        "file": "SELECT path FROM file ORDER BY path",
    }
    ids = {name: rows(ran.path, statement)[0][0] for name, statement in names.items()}
    given = [word.format(**ids) for word in words]
    own, ours = (place.says(*given) for place in places)
    assert sorted(ours.splitlines()) == sorted(own.splitlines())
    assert len(own) > 40


def test_queries_find_the_same(places: tuple[Place, Place]) -> None:
    """CallGraphQuery, with every filter that goes over other tables."""

    def found(place: Place) -> list[list[str]]:
        query = CallGraphQuery(place.session)
        asked = [
            query,
            query.filter_job_statuses(["FAILED"]),
            query.filter_job_statuses(["CACHED"]),
            query.filter_execution_statuses(["DONE"]),
            query.filter_execution_tags([("env", "prod")]),
            query.filter_tags([("level", 1)]),
            query.filter_task_names(["mirror_kit.add"]),
            query.filter_value_types(["redun.File"]),
            query.filter_file_paths(["*.txt"]),
            query.like_id("a"),
        ]
        return [sorted(map(repr, one.all())) for one in asked]

    own, ours = map(found, places)
    assert ours == own
    assert all(own[:5])


def test_dataflow_is_walked_the_same(places: tuple[Place, Place]) -> None:
    """From every result of a task back to what it came from, as text."""

    def flows(place: Place) -> dict[str, list[str]]:
        found = {}
        for node in place.session.query(CallNode).order_by(CallNode.call_hash):
            edges = list(walk_dataflow(place.backend, node.value))
            found[node.call_hash] = sorted(display_dataflow(make_dataflow_dom(edges)))
        return found

    own, ours = map(flows, places)
    assert ours == own
    assert sum(map(len, own.values())) > 50


def test_rows_give_the_same_through_their_relations(places: tuple[Place, Place]) -> None:
    """Values, previews, statuses, tags, files, handles and children of every row."""

    def facts(place: Place) -> dict[str, list[object]]:
        session = place.session
        return {
            "values": [
                (
                    one.value_hash,
                    repr(one.value_parsed),
                    repr(one.preview),
                    len(one.children),
                    len(one.parents),
                )
                for one in session.query(Value).order_by(Value.value_hash)
            ],
            "jobs": [
                (one.id, one.status, one.task.fullname, one.context, [child.id for child in one.child_jobs])
                for one in session.query(Job).order_by(Job.id)
            ],
            "executions": [
                (one.id, one.status, repr(one.task), sorted((tag.key, str(tag.value)) for tag in one.tags))
                for one in session.query(Execution).order_by(Execution.id)
            ],
            "calls": [
                (one.args_display, [child.call_hash for child in one.children], len(one.downstream))
                for one in session.query(CallNode).order_by(CallNode.call_hash)
            ],
            "tags": [
                (repr(one), one.is_current, sorted(parent.tag_hash for parent in one.parents))
                for one in session.query(Tag).order_by(Tag.tag_hash)
            ],
            "others": [
                *(sorted(repr(one.values)) for one in session.query(FileRow).order_by(FileRow.path)),
                *((one.hash, len(one.jobs)) for one in session.query(Task).order_by(Task.hash)),
                *((one.hash, one.is_valid) for one in session.query(Handle).order_by(Handle.hash)),
            ],
        }

    own, ours = map(facts, places)
    assert ours == own


def test_redun_s_console_shows_the_same(places: tuple[Place, Place]) -> None:
    """Its screens list the same executions, jobs and tasks on the session that it has taken once."""
    expected = {"executions": "mirror_kit", "tasks": "write", "files": ".txt"}

    async def screens(place: Place) -> dict[str, list[list[str]]]:
        app = RedunApp(place.scheduler, argparse.Namespace(), [], ["redun", "console"])
        async with app.run_test(size=(160, 60)) as pilot:
            found = {}
            for route, word in expected.items():
                app.route([route])
                for _ in range(200):
                    before = _shown(app)
                    await pilot.pause(0.1)
                    found[route] = _shown(app)
                    if word in str(before) and found[route] == before:
                        break
            return found

    own, ours = (asyncio.run(screens(place)) for place in places)
    assert ours == own
    assert all(word in str(own[route]) for route, word in expected.items())


def _shown(app: RedunApp) -> list[list[str]]:
    """Return the cells of a screen's tables."""
    tables = list(app.screen.query(DataTable))
    return [
        [str(cell) for cell in table.get_row_at(row)] for table in tables for row in range(table.row_count)
    ]


def test_a_history_of_our_own_backend_is_what_redun_s_would_be(ran: Ran, tmp_path: Path) -> None:
    """The same calls through the adapter leave as many rows of each kind, as valid and as current."""
    backend = EventStoreBackend(db_uri=str(tmp_path / "store"))
    backend.load()
    (tmp_path / "files").mkdir()
    play(Scheduler(backend=backend), tmp_path / "files")
    path = Path(backend.engine.url.database)
    counted = {
        "execution": "SELECT args LIKE '%main%', updated_time IS NOT NULL FROM execution",
        "job": "SELECT name, cached, end_time IS NOT NULL, call_hash IS NOT NULL, parent_id IS NOT NULL "
        "FROM job JOIN task ON task.hash = task_hash",
        "call_node": "SELECT task_name FROM call_node",
        "value": "SELECT type, format FROM value",
        "task": "SELECT hash, name, namespace, source FROM task",
        "argument": "SELECT task_name, arg_position, arg_key FROM argument JOIN call_node USING (call_hash)",
        "argument_result": "SELECT 1 FROM argument_result",
        "call_edge": "SELECT task_name, call_order FROM call_edge JOIN call_node ON call_hash = child_id",
        "call_subtree_task": "SELECT task_hash FROM call_subtree_task",
        "evaluation": "SELECT task_hash FROM evaluation",
        "subvalue": "SELECT type FROM subvalue JOIN value USING (value_hash)",
        "handle": "SELECT fullname, key, is_valid FROM handle",
        "handle_edge": "SELECT 1 FROM handle_edge",
        "tag": "SELECT entity_type, key, value, is_current FROM tag",
        "tag_edit": "SELECT 1 FROM tag_edit",
    }
    backend.session.commit()
    for name, statement in counted.items():
        assert Counter(rows(path, statement)) == Counter(rows(ran.path, statement)), name
    backend.close()
