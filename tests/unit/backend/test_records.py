"""Records: their fields, taking them in in any order, and the walk over what roots own."""

from __future__ import annotations

import random
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from backend_kit import START, Engine, Known, kinds, one_record, open_backend, task

from eventstore.backend import JobDescription, LogBackend, intake
from eventstore.errors import FormatError, InvalidEventError


@pytest.fixture
def known(backend: LogBackend, tmp_path: Path) -> Known:
    """A small history with everything in it."""
    return Known.make(backend, tmp_path)


def records_of(backend: LogBackend, *roots: str) -> list[dict[str, Any]]:
    """All records that the roots own."""
    return list(backend.get_records(backend.iter_record_ids(roots)))


# what a record says --------------------------------------------------------------------------------------


def test_fields_of_an_execution(backend: LogBackend, known: Known) -> None:
    """An execution says its arguments as JSON text, and its root job."""
    assert one_record(backend, known.execution_id) == {
        "_version": 1,
        "_type": "Execution",
        "id": known.execution_id,
        "args": '["run", "flow.py"]',
        "job_id": known.root.job_id,
    }


def test_fields_of_a_job(backend: LogBackend, known: Known) -> None:
    """A job says its times as text, its state, its call, and its children by start."""
    assert one_record(backend, known.parent.job.job_id) == {
        "_version": 1,
        "_type": "Job",
        "id": known.parent.job.job_id,
        "start_time": "2026-01-31 12:00:00.250000+00:00",
        "end_time": one_record(backend, known.parent.job.job_id)["end_time"],
        "task_hash": task("parent").task_hash,
        "cached": False,
        "status": "DONE",
        "call_hash": known.parent.call_hash,
        "parent_id": known.root.job_id,
        "children": [],
        "execution_id": known.execution_id,
    }
    running = one_record(backend, known.root.job_id)
    assert (running["end_time"], running["status"], running["parent_id"]) == (None, "RUNNING", None)
    assert running["children"] == [known.parent.job.job_id, known.child.job.job_id, known.failed.job.job_id]


def test_fields_of_a_call(backend: LogBackend, known: Known) -> None:
    """A call says its arguments by place or key, and its children in call order."""
    record = one_record(backend, known.parent.call_hash)
    assert list(record) == [
        "_version",
        "_type",
        "call_hash",
        "task_name",
        "task_hash",
        "args_hash",
        "value_hash",
        "timestamp",
        "args",
        "children",
    ]
    assert record["_type"] == "CallNode"
    assert record["children"] == [known.child.call_hash, known.failed.call_hash, known.child.call_hash]
    assert record["args"]["0"]["upstream"] == [known.child.call_hash]
    assert set(record["args"]["key"]) == {"arg_hash", "value_hash", "upstream"}


def test_fields_of_values(backend: LogBackend, known: Known) -> None:
    """A value says type, format and bytes, what is inside it, and its path or task."""
    folder, (file, *_) = known.folder, known.files
    record = one_record(backend, folder.hash)
    assert record == {
        "_version": 1,
        "_type": "Value",
        "value_hash": folder.hash,
        "type": "redun.Dir",
        "format": "application/python-pickle",
        "data": record["data"],
        "subvalues": sorted(each.hash for each in known.files),
        "subtype": None,
    }
    assert one_record(backend, file.hash)["subtype"] == {"_type": "File", "path": file.path}
    assert one_record(backend, task("parent").task_hash)["subtype"]["_type"] == "Task"
    assert b64decode(record["data"]).startswith(b"\x80\x03")


def test_fields_of_tags(backend: LogBackend, known: Known) -> None:
    """A tag says its entity, key and value, and what it supersedes; a deletion has neither."""
    assert one_record(backend, known.tag.tag_hash) == {
        "_version": 1,
        "_type": "Tag",
        "tag_hash": known.tag.tag_hash,
        "entity_type": "Job",
        "entity_id": known.parent.job.job_id,
        "key": "env",
        "value": {"b": 1},
        "parents": [],
    }
    deletion = one_record(backend, known.deletion.tag_hash)
    assert deletion["parents"] == [known.tag.tag_hash]
    named = [deletion[name] for name in ("entity_type", "entity_id", "key", "value")]
    assert named == ["Null", "", "", None]


def test_large_values_are_exported_whole(backend: LogBackend) -> None:
    """A value that lies in the value store has its bytes in its record."""
    value_hash = backend.record_value(b"x" * 100_000)
    other = open_backend()
    other.put_records([one_record(backend, value_hash)])
    assert other.get_value(value_hash) == (b"x" * 100_000, True)
    other.close()


def test_records_are_in_the_order_that_was_asked(backend: LogBackend, known: Known) -> None:
    """Repeats are repeated and unknown ids are skipped; out of order each comes once, by type."""
    ids = [known.tag.tag_hash, known.child.call_hash, "nobody", known.execution_id, known.tag.tag_hash]
    found = [record["_type"] for record in backend.get_records(iter(ids))]
    assert found == ["Tag", "CallNode", "Execution", "Tag"]
    found = [record["_type"] for record in backend.get_records(iter(ids), in_order=False)]
    assert found == ["Execution", "CallNode", "Tag"]


# walking -------------------------------------------------------------------------------------------------


def test_walk_reaches_everything_below(backend: LogBackend, known: Known) -> None:
    """From an execution: jobs, tasks, calls, arguments, upstreams, results, what is inside, and all tags."""
    walked = list(backend.iter_record_ids([known.execution_id]))
    assert len(walked) == len(set(walked))
    assert set(walked) >= {
        known.execution_id,
        known.root.job_id,
        *(each.job.job_id for each in (known.parent, known.child, known.failed)),
        *(each.call_hash for each in (known.parent, known.child, known.failed)),
        *(each.value_hash for each in (known.parent, known.child, known.failed)),
        *(task(name).task_hash for name in ("parent", "child", "main")),
        known.folder.hash,
        *(each.hash for each in known.files),
        known.tag.tag_hash,
        known.deletion.tag_hash,
    }
    assert {record["_type"] for record in backend.get_records(walked)} == {
        "Execution",
        "Job",
        "CallNode",
        "Value",
        "Tag",
    }


def test_walk_is_breadth_first(backend: LogBackend, known: Known) -> None:
    """Roots come first, then what they own, then what that owns; unknown roots never."""
    roots = [known.execution_id, "nobody", known.folder.hash]
    walked = list(backend.iter_record_ids(iter(roots)))
    assert walked[:2] == [known.execution_id, known.folder.hash]
    assert walked[2] == known.root.job_id
    depth = {known.execution_id: 0, known.root.job_id: 1, known.parent.job.job_id: 2, known.tag.tag_hash: 3}
    places = [walked.index(entity_id) for entity_id in depth]
    assert places == sorted(places)
    assert {walked.index(each.hash) for each in known.files} == {4, 5}


def test_walk_follows_upstreams(backend: LogBackend, engine: Engine) -> None:
    """A call leads to the calls whose results went into its arguments, though they are no children."""
    upstream = engine.call(1, args=["a"])
    done = engine.call(2, args=[1], upstreams={0: [upstream.call_hash]})
    assert upstream.call_hash in set(backend.iter_record_ids([done.call_hash]))


def test_walk_from_a_tag_reaches_its_edits(backend: LogBackend, known: Known) -> None:
    """A tag leads to what it supersedes and to what supersedes it."""
    assert list(backend.iter_record_ids([known.tag.tag_hash])) == [
        known.tag.tag_hash,
        known.deletion.tag_hash,
    ]
    assert list(backend.iter_record_ids([known.deletion.tag_hash])) == [
        known.deletion.tag_hash,
        known.tag.tag_hash,
    ]


# taking in -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_records_come_in_any_order(backend: LogBackend, known: Known, seed: int) -> None:
    """Whatever came first, the other store then exports the same, and its tags are as current."""
    records = records_of(backend, known.execution_id)
    ids = [_id_of(record) for record in records]
    shuffled = records + records[:3]
    random.Random(seed).shuffle(shuffled)
    other = open_backend()
    assert other.put_records(iter(shuffled)) == len(records)
    assert list(other.get_records(ids)) == records
    tagged = [known.parent.job.job_id, known.execution_id, ""]
    assert other.get_tags(tagged) == backend.get_tags(tagged)
    execution, imported = (each.get_execution(known.execution_id) for each in (backend, other))
    assert execution is not None
    assert imported is not None
    assert (imported.args, imported.job_id, imported.status) == (
        execution.args,
        execution.job_id,
        "RUNNING",
    )
    before = kinds(other)
    assert other.put_records(shuffled) == 0
    assert kinds(other) == before
    other.close()


def test_records_are_taken_in_in_parts(
    backend: LogBackend, known: Known, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many records, or long ones, are several appends, and all of them arrive."""
    monkeypatch.setattr(intake, "_MOST_RECORDS", 3)
    records = records_of(backend, known.execution_id)
    other = open_backend()
    assert other.put_records(records) == len(records)
    assert list(other.get_records(map(_id_of, records))) == records
    monkeypatch.setattr(intake, "_MOST_RECORDS", 1000)
    monkeypatch.setattr(intake, "_MOST_BYTES", 100)
    assert {len(part) for part in intake.Intake.parts(records)} > {1}
    assert [record for part in intake.Intake.parts(records) for record in part] == records
    other.close()


def test_imported_jobs_keep_their_states(backend: LogBackend, known: Known) -> None:
    """Failed, done and running jobs are so after the import, also where a record does not say it."""
    records = [dict(record) for record in records_of(backend, known.execution_id)]
    expected = [record["status"] for record in records if record["_type"] == "Job"]
    for record in records:
        record.pop("status", None)
    other = open_backend()
    by_type = sorted(records, key=lambda record: record["_type"] != "Job")
    assert other.put_records(by_type) == len(records)
    jobs = [record["id"] for record in records if record["_type"] == "Job"]
    found = [record["status"] for record in other.get_records(jobs)]
    assert sorted(expected) == ["DONE", "DONE", "FAILED", "RUNNING"]
    assert found == expected
    other.close()


def test_imported_job_is_ended_by_a_later_import(backend: LogBackend, known: Known) -> None:
    """A job that was running when it was exported is completed by the record of its end, which is not new."""
    other = open_backend()
    other.put_records(records_of(backend, known.execution_id))
    backend.record_job_end(known.root._replace(call_hash=known.parent.call_hash))
    record = one_record(backend, known.root.job_id)
    assert other.put_records([record]) == 0
    assert one_record(other, known.root.job_id) == record
    assert other.put_records([record]) == 0
    assert kinds(other).count("job.ended") == 4
    other.close()


def test_ended_job_stays_as_it_is(backend: LogBackend, known: Known) -> None:
    """What is known stays, even if a record says otherwise."""
    record = one_record(backend, known.parent.job.job_id)
    assert backend.put_records([{**record, "end_time": "2030-01-01 00:00:00+00:00"}]) == 0
    assert one_record(backend, known.parent.job.job_id) == record


def test_imported_values_are_read(backend: LogBackend, known: Known) -> None:
    """Values, tasks and what is inside are there after an import; nobody knows of evaluations."""
    other = open_backend()
    other.put_records(records_of(backend, known.execution_id))
    assert other.get_value(known.child.value_hash) == backend.get_value(known.child.value_hash)
    assert other.store.lookup.evaluation(known.child.eval_hash) is None
    assert other.store.lookup.task(task("child").task_hash) is not None
    assert other.subtree_tasks(known.parent.call_hash) == frozenset()
    other.close()


def test_value_without_bytes_is_no_value(backend: LogBackend) -> None:
    """A record whose bytes stayed in redun's value store gives a value that cannot be read."""
    value_hash = open_backend().record_value("elsewhere")
    record = {
        "_version": 1,
        "_type": "Value",
        "value_hash": value_hash,
        "type": "builtins.str",
        "format": "application/python-pickle",
        "data": "",
        "subvalues": [],
        "subtype": None,
    }
    assert backend.put_records([record]) == 1
    assert backend.get_value(value_hash) == (None, False)


@pytest.mark.parametrize("text", ["2026-01-31T12:00:00Z", "2026-01-31 12:00:00", "2026-01-31 13:00:00+01:00"])
def test_times_are_read_leniently(backend: LogBackend, text: str) -> None:
    """Any ISO 8601 text is a time; one without a timezone is of UTC."""
    record = {
        "_version": 1,
        "_type": "Job",
        "id": "job",
        "start_time": text,
        "end_time": None,
        "task_hash": task().task_hash,
        "cached": False,
        "call_hash": None,
        "parent_id": None,
        "execution_id": "run",
    }
    assert backend.put_records([record]) == 1
    assert one_record(backend, "job")["start_time"] == str(START)


@pytest.mark.parametrize(
    ("change", "error", "code"),
    [
        ({"_version": 2}, FormatError, "record_version"),
        ({"_version": None}, FormatError, "record_version"),
        ({"_type": "Sample"}, FormatError, "record_type"),
        ({"key": None}, InvalidEventError, "wrong_type"),
        ({"tag_hash": "no hash"}, InvalidEventError, "hash_length"),
        ({"entity_type": "Sample"}, InvalidEventError, "bad_record"),
        ({"parents": None}, InvalidEventError, "bad_record"),
    ],
)
def test_bad_records_are_refused_with_those_beside_them(
    backend: LogBackend, known: Known, change: dict[str, Any], error: type[Exception], code: str
) -> None:
    """A record that is not one is an error, and nothing of its part is taken in."""
    good, bad = one_record(backend, known.root.job_id), one_record(backend, known.tag.tag_hash)
    other = open_backend()
    with pytest.raises(error) as caught:
        other.put_records([good, {**bad, **change}])
    assert caught.value.code == code  # type: ignore[attr-defined]
    assert kinds(other) == []
    assert other.put_records([good, bad]) == 2
    other.close()


@pytest.mark.parametrize("name", ["tag_hash", "value", "parents"])
def test_records_that_are_not_whole_are_refused(backend: LogBackend, known: Known, name: str) -> None:
    """A record without one of its fields is an error that names it."""
    record = one_record(backend, known.tag.tag_hash)
    del record[name]
    with pytest.raises(InvalidEventError, match=name) as caught:
        open_backend().put_records([record])
    assert caught.value.code == "bad_record"


def test_job_of_an_imported_execution_is_reached(backend: LogBackend) -> None:
    """A job that was recorded here below an imported one is its child."""
    record = {
        "_version": 1,
        "_type": "Job",
        "id": "parent",
        "start_time": str(START),
        "end_time": None,
        "task_hash": task().task_hash,
        "cached": False,
        "call_hash": None,
        "parent_id": None,
        "execution_id": "run",
    }
    backend.put_records([record])
    backend.record_job_start(JobDescription("child", "run", "parent", task()))
    assert one_record(backend, "parent")["children"] == ["child"]
    assert "child" in set(backend.iter_record_ids(["parent"]))


def _id_of(record: dict[str, Any]) -> str:
    named = {"CallNode": "call_hash", "Value": "value_hash", "Tag": "tag_hash"}
    return str(record[named.get(record["_type"], "id")])
