"""A real Scheduler on our backend: what runs, what is cached, and what is recorded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import workflow_kit as kit
from redun import File, Scheduler
from redun.backends.base import TagEntity
from redun.backends.db import RedunBackendDb
from redun.scheduler import DryRunResult
from redun.task import CacheScope

from eventstore.redun import EventStoreBackend
from eventstore.store import EventStore


def again(scheduler: Scheduler) -> Scheduler:
    """Return a new scheduler on the store of another, which is closed first."""
    scheduler.backend.close()
    return kit.make_scheduler(scheduler.backend.db_uri)


def kinds(scheduler: Scheduler) -> list[str]:
    """Return the kinds of all events so far."""
    return [event.event.kind for event in scheduler.backend.log.store.events(tail=True)]


def jobs(scheduler: Scheduler) -> dict[str, str | None]:
    """Return task name and status of each recorded job."""
    lookup = scheduler.backend.log.store.lookup
    started = scheduler.backend.log.store.events(kinds=["job.started"], tail=True)
    found = [lookup.job(event.event.job_id) for event in started]
    return {lookup.task(job.task_hash).name: job.status for job in found}


def in_order(part: Any) -> Any:
    """Return part of a record, sorted if it is a list: SQLite promises no order of a call's children."""
    return sorted(part) if isinstance(part, list) else part


def test_nested_run(scheduler: Scheduler) -> None:
    """Nested tasks run, and their jobs, calls and values are recorded."""
    assert scheduler.run(kit.tree(1)) == [2, 3]
    assert jobs(scheduler) == {"tree": "DONE", "leaf": "DONE"}
    assert kinds(scheduler).count("call_node.recorded") == 3


def test_cached_run(scheduler: Scheduler) -> None:
    """A new scheduler on the same store runs nothing again, and its jobs are cached."""
    scheduler.run(kit.tree(1))
    second = again(scheduler)
    assert second.run(kit.tree(1)) == [2, 3]
    assert kit.calls == []
    assert jobs(second) == {"tree": "CACHED", "leaf": "CACHED"}


def test_open_store_sees_a_second(scheduler: Scheduler) -> None:
    """A second backend answers with what the first recorded a moment ago, while that is still open."""
    scheduler.run(kit.tree(1))
    second = kit.make_scheduler(scheduler.backend.db_uri)
    assert second.run(kit.tree(1)) == [2, 3]
    assert kit.calls == []


def test_errors_and_catch(scheduler: Scheduler) -> None:
    """A caught error recovers, its job has failed; and it is never taken from the cache of another run."""
    assert scheduler.run(kit.careful()) == "recovered from no"
    assert jobs(scheduler)["fails"] == "FAILED"
    with pytest.raises(ValueError, match="no"):
        scheduler.run(kit.fails("no"))
    assert kit.calls == ["fails", "fails"]


def test_async_tasks(scheduler: Scheduler) -> None:
    """Async tasks run and are recorded."""
    assert scheduler.run([kit.sleeps(2), kit.sleeps(3)]) == [4, 6]
    assert jobs(scheduler)["sleeps"] == "DONE"


def test_unrecorded_jobs(scheduler: Scheduler) -> None:
    """Below a task with prov=False nothing is recorded, and if it is the root not even the execution."""
    assert scheduler.run(kit.unrecorded(1)) == [2]
    assert "job.started" not in kinds(scheduler)
    assert "execution.started" not in kinds(scheduler)


def test_dry_run(scheduler: Scheduler) -> None:
    """A dry run runs nothing, and gives the result if all of it is cached."""
    with pytest.raises(DryRunResult):
        scheduler.run(kit.tree(1), dryrun=True)
    assert kit.calls == []
    scheduler.run(kit.tree(1))
    assert scheduler.run(kit.tree(1), dryrun=True) == [2, 3]


def test_script(scheduler: Scheduler) -> None:
    """A script's output comes back as bytes."""
    assert scheduler.run(kit.shell("you")) == b"hello you\n"


def test_process_executor(scheduler: Scheduler) -> None:
    """A task may run in another process."""
    assert scheduler.run(kit.in_a_process()) != os.getpid()


def test_files(scheduler: Scheduler, tmp_path: Path) -> None:
    """A task reads its file again when that has changed, and a written file that is gone is written again."""
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_text("one")
    assert scheduler.run(kit.reads(File(str(source)))) == "one"
    assert scheduler.run(kit.reads(File(str(source)))) == "one"
    source.write_text("three")
    assert scheduler.run(kit.reads(File(str(source)))) == "three"
    scheduler.run(kit.writes(str(target), "x"))
    target.unlink()
    scheduler.run(kit.writes(str(target), "x"))
    assert kit.calls == ["reads", "reads", "writes", "writes"]
    assert target.read_text() == "x"


def test_handles_roll_back(scheduler: Scheduler, tmp_path: Path) -> None:
    """A chain on a handle is cached; a changed step runs again with all after it, as the old one later."""
    path = str(tmp_path / "notes")
    run = lambda *lines: scheduler.run(kit.notebook(path, list(lines)))  # noqa: E731 - said four times
    run("a", "b")
    run("a", "b")
    assert kit.calls == ["opened", "noted a", "noted b"]
    run("a", "c")
    assert kit.calls[3:] == ["noted c"]
    run("a", "b")
    assert kit.calls[4:] == ["noted b"], "an invalid handle must not come from the cache"
    scheduler = again(scheduler)
    run("a", "b")
    assert kit.calls == []


def test_contexts(scheduler: Scheduler) -> None:
    """A call carries its context as a tag and as a value."""
    assert scheduler.run(kit.under_context(), context={"base": 7}) == 7
    context_hash = scheduler.type_registry.get_hash({"base": 7})
    log = scheduler.backend.log
    tags = [
        tag.value
        for event in log.store.events(kinds=["call_node.recorded"], tail=True)
        for tag in log.get_tags([event.event.call_hash]).get(event.event.call_hash, [])
        if tag.key == "redun.context"
    ]
    assert set(tags) == {f'"{context_hash}"'}
    assert len(tags) == kinds(scheduler).count("call_node.recorded")
    assert scheduler.backend.get_value(context_hash) == ({"base": 7}, True)


def test_tags_of_a_run(scheduler: Scheduler) -> None:
    """Tags of execution, job and value are recorded where they belong."""
    scheduler.run(kit.tagged(), tags=[("project", "p")], execution_id="e1")
    backend = scheduler.backend
    value_hash = scheduler.type_registry.get_hash(6)
    assert list(backend.get_tags(["e1"])["e1"].items()) == [("project", "p")]
    assert list(backend.get_tags([value_hash])[value_hash].items()) == [("sort", "value")]
    assert kinds(scheduler).count("tags.recorded") == 3


def test_heartbeat(scheduler: Scheduler) -> None:
    """The event loop's heartbeat is recorded with the execution."""
    scheduler.run(kit.leaf(1), execution_id="e1")
    state = scheduler.backend.log.get_execution("e1")
    assert state is not None
    assert state.updated_us is not None
    assert state.status == "DONE"


def test_argument_upstreams(scheduler: Scheduler) -> None:
    """An argument names the calls whose results it was made of, also through an operation and a list."""
    scheduler.run(kit.leaf(kit.leaf(kit.leaf(1)) + kit.leaf(5)))
    calls = {
        event.event.call_hash: event.event
        for event in scheduler.backend.log.store.events(kinds=["call_node.recorded"], tail=True)
    }
    counts = sorted(len(call.arguments[0].upstreams) for call in calls.values())
    assert counts == [0, 0, 0, 1, 2], "the root task's, the two innermost, the middle, and the last"
    assert all(set(call.arguments[0].upstreams) <= set(calls) for call in calls.values())


def test_scopes(scheduler: Scheduler) -> None:
    """Within one run an equal call runs once; with cache scope CSE the next run does it again."""
    leaf = kit.leaf.options(cache_scope=CacheScope.CSE)
    scheduler.run([leaf(1), leaf(1), leaf(1)])
    assert kit.calls == ["leaf"]
    scheduler.run(leaf(1))
    assert kit.calls == ["leaf", "leaf"]


def test_shallow_check(scheduler: Scheduler) -> None:
    """With a shallow check the whole call is answered, and no job is recorded below it."""
    scheduler.run(kit.tree(1))
    scheduler = again(scheduler)
    before = kinds(scheduler).count("job.started")
    assert scheduler.run(kit.tree.options(check_valid="shallow")(1)) == [2, 3]
    assert kinds(scheduler).count("job.started") == before + 1
    assert kit.calls == []


def test_tags_by_hand(scheduler: Scheduler) -> None:
    """Tags are put on, updated, and taken off, in redun's words."""
    backend = scheduler.backend
    made = backend.record_tags(TagEntity.Value, "a" * 40, iter([("n", 1), ("m", [2])]))
    assert [(entity, key, value) for _, entity, key, value in made] == [
        ("a" * 40, "n", 1),
        ("a" * 40, "m", [2]),
    ]
    backend.update_tags(TagEntity.Value, "a" * 40, ["n"], [("k", 3)])
    assert sorted(backend.get_tags(["a" * 40])["a" * 40].items()) == [("k", 3), ("m", [2])]
    [(_, entity, key, value)] = backend.delete_tags("a" * 40, [("k", 3)], ["m"])
    assert (entity, key, value) == ("", "", None)
    assert backend.get_tags(["a" * 40]) == {}


def test_same_ids_as_redun(scheduler: Scheduler, tmp_path: Path) -> None:
    """The same workflow gives the same calls, values and tasks in redun's own backend, and walks to them."""
    theirs = RedunBackendDb(db_uri=f"sqlite:///{tmp_path}/redun.db")
    peer = Scheduler(backend=theirs)
    peer.load()
    source = tmp_path / "in"
    source.write_text("one")
    found = []
    for each in (scheduler, peer):
        workflow = [
            kit.careful(),
            kit.tree(3),
            kit.in_order(),
            kit.reads(File(str(source))),
            kit.leaf(x=kit.leaf(2)),
        ]
        each.run(workflow, execution_id="e1", tags=[("p", 1)])
        records = [
            {name: in_order(part) for name, part in record.items() if name not in {"timestamp", "data"}}
            for record in each.backend.get_records(each.backend.iter_record_ids(["e1"]))
            if record["_type"] in {"CallNode", "Value"} and record.get("type") != "redun.ErrorValue"
        ]
        found.append({record.get("call_hash") or record["value_hash"]: record for record in records})
    ours, peers = found
    # The error's traceback holds paths and lines of the scheduler's threads: those calls differ by run.
    common = ours.keys() & peers.keys()
    assert len(common) >= 20
    failed = {"kit.fails", "kit.careful", "redun.root_task", "kit.recover", "redun.catch"}
    for key in ours.keys() ^ peers.keys():
        record = ours.get(key) or peers[key]
        assert record.get("task_name") in failed or record["_type"] == "Value", record
    for key in common:
        if ours[key]["_type"] == "CallNode" and ours[key]["task_name"] in failed:
            continue
        assert ours[key] == peers[key]


def test_records_move_to_redun(scheduler: Scheduler, tmp_path: Path) -> None:
    """A database takes in what we export, and gives it back; a second time nothing is new."""
    scheduler.run(kit.tree(1), execution_id="e1")
    theirs = RedunBackendDb(db_uri=f"sqlite:///{tmp_path}/redun.db")
    theirs.load()
    records = list(scheduler.backend.get_records(scheduler.backend.iter_record_ids(["e1"])))
    assert theirs.put_records(records) == len(records)
    fresh = EventStoreBackend(db_uri=str(tmp_path / "other"))
    fresh.load()
    back = list(theirs.get_records(theirs.iter_record_ids(["e1"])))
    assert fresh.put_records(back) == len(records)
    assert fresh.put_records(back) == 0
    assert fresh.get_job(next(r["job_id"] for r in back if r["_type"] == "Execution")) is not None
    fresh.close()


def test_explained_misses(scheduler: Scheduler) -> None:
    """A miss is explained in redun's words."""
    backend = scheduler.backend
    scheduler.run(kit.leaf(1))
    known = next(iter(backend.log.store.events(kinds=["call_node.recorded"], tail=True))).event
    explained: dict[str, Any] = backend.explain_cache_miss(kit.leaf, "b" * 40)
    assert explained == {
        "reason": "new_args",
        "call_hash": known.call_hash,
        "call_task_hash": known.task_hash,
        "call_args_hash": known.args_hash,
    }
    assert backend.explain_cache_miss(kit.tree, "b" * 40) == {"reason": "new_call"}


def test_store_is_sound_after_a_run(scheduler: Scheduler) -> None:
    """What a run leaves verifies, and reads without redun."""
    scheduler.run(kit.tree(1))
    url = scheduler.backend.db_uri
    scheduler.backend.close()
    with EventStore.open(url, read_only=True) as store:
        assert not store.verify().findings
        assert store.head().size > 0
