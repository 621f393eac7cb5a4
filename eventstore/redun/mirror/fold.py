"""From events to redun's rows: what redun's own backend would have written, had it been called instead.

A fold adds rows or changes a few columns and never deletes, so any split of the log into batches gives the
same tables. The first event that states a thing wins, as in redun, where a known thing is left as it is; the
columns that redun changes are those of `tail.CHANGING`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from operator import itemgetter
from typing import Any

import pyarrow as pa

from eventstore.hashing import hash_argument
from eventstore.redun.mirror.rows import columns, items, of_kinds, parts_of, struct_items

__all__ = ["Fold"]

_TASK = "INSERT OR IGNORE INTO task (hash, name, namespace, source) VALUES (?, ?, ?, ?)"
_VALUE = "INSERT OR IGNORE INTO value (value_hash, type, format, value) VALUES (?, ?, ?, ?)"
_STORED = "INSERT OR IGNORE INTO mirror_value (value_hash, data_digest, size_bytes) VALUES (?, ?, ?)"
_FILE = "INSERT OR IGNORE INTO file (value_hash, path) VALUES (?, ?)"
_SUBVALUE = "INSERT OR IGNORE INTO subvalue (parent_value_hash, value_hash) VALUES (?, ?)"
_CALL = (
    "INSERT OR IGNORE INTO call_node (call_hash, task_name, task_hash, args_hash, value_hash, timestamp) "
    "VALUES (?, ?, ?, ?, ?, ?)"
)
_ARGUMENT = (
    "INSERT OR IGNORE INTO argument (arg_hash, call_hash, value_hash, arg_position, arg_key) "
    "VALUES (?, ?, ?, ?, ?)"
)
_UPSTREAM = "INSERT OR IGNORE INTO argument_result (arg_hash, result_call_hash) VALUES (?, ?)"
_EDGE = "INSERT OR IGNORE INTO call_edge (parent_id, child_id, call_order) VALUES (?, ?, ?)"
_WAITING_EDGE = "INSERT OR IGNORE INTO mirror_edge (parent_id, child_id, call_order) VALUES (?, ?, ?)"
_ARRIVED_EDGES = (
    "INSERT OR IGNORE INTO call_edge (parent_id, child_id, call_order) "
    "SELECT parent_id, child_id, call_order FROM mirror_edge "
    "WHERE child_id IN (SELECT value FROM json_each(?))"
)
_SUBTREE = "INSERT OR IGNORE INTO call_subtree_task (call_hash, task_hash) VALUES (?, ?)"
_EVALUATION = (
    "INSERT INTO evaluation (eval_hash, task_hash, args_hash, value_hash) VALUES (?, ?, ?, ?) "
    "ON CONFLICT (eval_hash) DO UPDATE SET value_hash = excluded.value_hash "
    "WHERE evaluation.value_hash <> excluded.value_hash"
)
_JOB_START = (
    "INSERT OR IGNORE INTO job (id, start_time, task_hash, cached, parent_id, execution_id) "
    "VALUES (?1, ?2, ?3, coalesce(?4, 0), ?6, ?7)"
)
_JOB_END = (
    "INSERT INTO job (id, start_time, end_time, task_hash, cached, call_hash, parent_id, execution_id) "
    "VALUES (?1, ?2, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (id) DO UPDATE SET "
    "end_time = excluded.end_time, cached = excluded.cached, call_hash = excluded.call_hash"
)
_RUN_FACTS = (
    "INSERT INTO mirror_execution (id, args, stated_job_id, job_id, updated_time) VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT (id) DO UPDATE SET args = coalesce(args, excluded.args), "
    "stated_job_id = coalesce(stated_job_id, excluded.stated_job_id), "
    "job_id = coalesce(job_id, excluded.job_id), "
    "updated_time = max(coalesce(updated_time, excluded.updated_time), "
    "coalesce(excluded.updated_time, updated_time))"
)
_EXECUTION = (
    "INSERT INTO execution (id, args, updated_time, job_id) "
    "SELECT id, args, updated_time, coalesce(job_id, stated_job_id) FROM mirror_execution "
    "WHERE id = ? AND args IS NOT NULL AND coalesce(job_id, stated_job_id) IS NOT NULL "
    "ON CONFLICT (id) DO UPDATE SET updated_time = excluded.updated_time, job_id = excluded.job_id "
    "WHERE execution.updated_time IS NOT excluded.updated_time OR execution.job_id <> excluded.job_id"
)
_TAG_EDIT = "INSERT OR IGNORE INTO tag_edit (parent_id, child_id) VALUES (?, ?)"
_TAG = (
    "INSERT OR IGNORE INTO tag (tag_hash, entity_type, entity_id, key, value, is_current) "
    "SELECT ?1, ?2, ?3, ?4, ?5, NOT EXISTS (SELECT 1 FROM tag_edit WHERE parent_id = ?1)"
)
_SUPERSEDE = "UPDATE tag SET is_current = 0 WHERE tag_hash = ? AND is_current"
_HANDLE = (
    "INSERT INTO handle (hash, fullname, value_hash, key, is_valid) "
    "VALUES (?1, ?2, coalesce(?3, ?1), coalesce(?4, ''), 1) "
    "ON CONFLICT (hash) DO UPDATE SET is_valid = 1, "
    "value_hash = CASE value_hash WHEN hash THEN excluded.value_hash ELSE value_hash END, "
    "key = CASE key WHEN '' THEN excluded.key ELSE key END "
    "WHERE NOT is_valid OR (value_hash = hash AND excluded.value_hash <> hash) "
    "OR (key = '' AND excluded.key <> '')"
)
_HANDLE_EDGE = "INSERT OR IGNORE INTO handle_edge (parent_id, child_id) VALUES (?, ?)"
_ROLL_BACK = """
WITH RECURSIVE below (hash) AS (
    SELECT child_id FROM handle_edge JOIN handle ON hash = parent_id
    WHERE parent_id = ?1 AND fullname = ?2 AND is_valid
    UNION
    SELECT child_id FROM below JOIN handle USING (hash) JOIN handle_edge ON parent_id = hash
    WHERE fullname = ?2 AND is_valid
)
UPDATE handle SET is_valid = 0 WHERE hash IN (SELECT hash FROM below) AND hash <> ?1 AND is_valid
"""
_KNOWN_CALLS = "SELECT call_hash FROM call_node WHERE call_hash IN (SELECT value FROM json_each(?))"
_JOB = ("job_id", "occurred_at", "task_hash", "cached", "call_hash", "parent_id", "execution_id")
_HANDLE_KINDS = ("handle.recorded", "handle.advanced", "handle.forked", "handle.rolled_back")


class Fold:
    """Adds batches of events to the tables of one database, inside its caller's transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def add(self, batch: pa.RecordBatch) -> None:
        """Add events, in the order of the log."""
        parts = parts_of(batch)
        for kind, take in (
            ("task.recorded", self._tasks),
            ("value.recorded", self._values),
            ("call_node.recorded", self._calls),
            ("evaluation.cached", self._evaluations),
        ):
            if kind in parts:
                take(parts[kind])
        self._jobs(batch)
        self._executions(parts, batch)
        self._tags(parts, batch)
        if any(kind in parts for kind in _HANDLE_KINDS):
            self._handles(batch)

    def _many(self, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
        self._db.executemany(statement, rows)

    def _known_calls(self, hashes: Iterable[str]) -> set[str]:
        rows = self._db.execute(_KNOWN_CALLS, (json.dumps(list(hashes)),))
        return {call_hash for (call_hash,) in rows}

    # what is stated once ---------------------------------------------------------------------------------

    def _tasks(self, part: pa.RecordBatch) -> None:
        hashes, names, namespaces, sources = columns(
            part, "task_hash", "task_name", "task_namespace", "source"
        )
        rows = zip(hashes, names, namespaces, sources, strict=True)
        self._many(_TASK, ((hash_, name, space or "", source or "") for hash_, name, space, source in rows))

    def _values(self, part: pa.RecordBatch) -> None:
        names = ("value_hash", "type_name", "format", "data", "data_digest", "size_bytes", "file_path")
        hashes, types, formats, data, digests, sizes, paths = columns(part, *names)
        # Where the bytes lie in the value store, redun has none either.
        self._many(_VALUE, zip(hashes, types, formats, (one or b"" for one in data), strict=True))
        stored = zip(hashes, digests, sizes, strict=True)
        self._many(_STORED, (row for row in stored if row[1] is not None))
        self._many(_FILE, (row for row in zip(hashes, paths, strict=True) if row[1] is not None))
        self._many(_SUBVALUE, items(hashes, part.column("subvalues")))

    def _calls(self, part: pa.RecordBatch) -> None:
        calls = part.column("call_hash").to_pylist()
        seen = self._known_calls(calls)
        places = []
        for place, call_hash in enumerate(calls):
            if call_hash not in seen:
                seen.add(call_hash)
                places.append(place)
        if not places:
            return
        if len(places) < len(calls):
            # What a later event says of the arguments and children of a known call goes with it.
            part = part.take(pa.array(places, pa.int64()))
        names = ("call_hash", "task_name", "task_hash", "args_hash", "value_hash", "occurred_at")
        rows = columns(part, *names)
        calls = rows[0]
        self._many(_CALL, zip(*rows, strict=True))
        self._arguments(calls, part.column("arguments"))
        self._many(_SUBTREE, items(calls, part.column("subtree_tasks")))
        self._edges(calls, part.column("children"))

    def _arguments(self, calls: list[str], lists: pa.Array) -> None:
        places, fields = struct_items(lists, "position", "key", "value_hash", "upstreams")
        positions, keys, values = (field.to_pylist() for field in fields[:3])
        rows = []
        for place, position, key, value in zip(places, positions, keys, values, strict=True):
            arg_hash = hash_argument(calls[place], position=position, key=key, value_hash=value)
            rows.append((arg_hash, calls[place], value, position, key))
        self._many(_ARGUMENT, rows)
        self._many(_UPSTREAM, items([row[0] for row in rows], fields[3]))

    def _edges(self, calls: list[str], lists: pa.Array) -> None:
        # redun keeps edges to recorded children only. A child may be recorded by another process, whose
        # events come later in the log than those of the parent: until then the edge waits.
        edges: list[tuple[str, str, int]] = []
        parent, order = None, 0
        for call_hash, child in items(calls, lists):
            order = order + 1 if call_hash == parent else 0
            parent = call_hash
            edges.append((call_hash, child, order))
        if edges:
            known = self._known_calls({child for _, child, _ in edges})
            self._many(_EDGE, (edge for edge in edges if edge[1] in known))
            self._many(_WAITING_EDGE, (edge for edge in edges if edge[1] not in known))
        if self._db.execute("SELECT 1 FROM mirror_edge LIMIT 1").fetchone():
            self._db.execute(_ARRIVED_EDGES, (json.dumps(calls),))

    # what changes ----------------------------------------------------------------------------------------

    def _evaluations(self, part: pa.RecordBatch) -> None:
        names = ("eval_hash", "task_hash", "args_hash", "value_hash")
        self._many(_EVALUATION, zip(*columns(part, *names), strict=True))

    def _jobs(self, batch: pa.RecordBatch) -> None:
        part = of_kinds(batch, "job.started", "job.ended", key="job_id")
        kinds, *cells = columns(part, "kind", *_JOB)
        rows = list(zip(*cells, strict=True))
        is_start = [kind == "job.started" for kind in kinds]
        begun: set[str] = set()
        ended_before: set[str] = set()
        for start, row in zip(is_start, rows, strict=True):
            if start:
                begun.add(row[0])
            elif row[0] not in begun:
                ended_before.add(row[0])
        odd = ended_before & begun
        plain = [pair for pair in zip(is_start, rows, strict=True) if pair[1][0] not in odd]
        self._many(_JOB_START, (row for start, row in plain if start))
        self._many(_JOB_END, (row for start, row in plain if not start))
        if odd:
            # The first event makes the row: here an end, and the job began then.
            for start, row in zip(is_start, rows, strict=True):
                if row[0] in odd:
                    self._db.execute(_JOB_START if start else _JOB_END, row)

    def _executions(self, parts: dict[str, pa.RecordBatch], batch: pa.RecordBatch) -> None:
        facts: list[tuple[str, str | None, str | None, str | None, str | None]] = []
        if part := parts.get("execution.started"):
            for run, args, job in zip(*columns(part, "execution_id", "args", "job_id"), strict=True):
                facts.append((run, args or "[]", job, None, None))
        if "job.started" in parts or "job.ended" in parts:
            roots = of_kinds(batch, "job.started", "job.ended", key="job_id")
            roots = roots.filter(roots.column("parent_id").is_null())
            for run, job in zip(*columns(roots, "execution_id", "job_id"), strict=True):
                facts.append((run, None, None, job, None))
        if part := parts.get("execution.heartbeat"):
            for run, moment in zip(*columns(part, "execution_id", "occurred_at"), strict=True):
                facts.append((run, None, None, None, moment))
        if facts:
            self._many(_RUN_FACTS, facts)
            self._many(_EXECUTION, ((run,) for run in dict.fromkeys(fact[0] for fact in facts)))

    def _tags(self, parts: dict[str, pa.RecordBatch], batch: pa.RecordBatch) -> None:
        if "tags.recorded" not in parts and "tags.deleted" not in parts:
            return
        part = of_kinds(batch, "tags.recorded", "tags.deleted", key=None)
        kinds, deleted, superseded = columns(part, "kind", "tag_hash", "superseded")
        types, entities = columns(part, "entity_type", "entity_id")
        places, fields = struct_items(part.column("tags"), "tag_hash", "key", "value")
        tags = list(zip(places, *(one.to_pylist() for one in fields), strict=True))
        for place, kind in enumerate(kinds):
            if kind == "tags.deleted" and deleted[place] is not None:
                types[place], entities[place] = "Null", ""
                tags.append((place, deleted[place], "", "null"))
        tags.sort(key=itemgetter(0))
        edits = [(parent, tag[1]) for tag in tags for parent in superseded[tag[0]] or ()]
        self._many(_TAG_EDIT, edits)
        self._many(_TAG, ((one, types[place], entities[place], key, text) for place, one, key, text in tags))
        self._many(_SUPERSEDE, ((parent,) for parent, _ in edits))

    def _handles(self, batch: pa.RecordBatch) -> None:
        # One by one: which states a rollback reaches depends on what came before it.
        chosen = of_kinds(batch, *_HANDLE_KINDS, key="handle_hash")
        names = ("kind", "handle_hash", "handle_name", "handle_key", "value_hash", "parents")
        for kind, hash_, name, key, value_hash, parents in zip(*columns(chosen, *names), strict=True):
            if kind == "handle.rolled_back":
                self._db.execute(_ROLL_BACK, (hash_, name))
                continue
            # A state that is only mentioned is a row as well: its value has the state's own hash.
            self._many(_HANDLE, ((parent, name, None, None) for parent in parents or ()))
            self._db.execute(_HANDLE, (hash_, name, value_hash, key))
            self._many(_HANDLE_EDGE, ((parent, hash_) for parent in parents or ()))
