"""Sub-schedulers in other processes: they find the store of the run, or fail clearly."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import workflow_kit as kit
from redun import Scheduler
from redun.executors.base import load_task_module
from redun.hashing import hash_struct
from redun.task import get_task_registry

from eventstore.errors import StateError
from eventstore.redun import setup_scheduler
from eventstore.redun.opening import below
from eventstore.redun.subruns import ROOT_TASK
from eventstore.store import EventStore

PROCESSES = ["spawned", "served"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the current folder, with a redun.ini that says where the store is and how to run."""
    monkeypatch.chdir(tmp_path)
    lines = [
        "[backend]",
        "db_uri = history",
        f"state_dir = {os.environ['EVENTSTORE_STATE']}",
        "[scheduler]",
        "setup_scheduler = eventstore.redun::setup_scheduler",
    ]
    for name, settings in kit.EXECUTORS.items():
        lines += [f"[{name}]", *(f"{key} = {value}" for key, value in settings.items())]
    (tmp_path / ".redun").mkdir()
    (tmp_path / ".redun" / "redun.ini").write_text("\n".join(lines))
    return tmp_path


def no_sql_files(folder: Path) -> bool:
    """Whether there is no SQLite file anywhere below a folder."""
    return not [
        each for each in folder.rglob("*") if each.is_file() and each.read_bytes()[:15] == b"SQLite format 3"
    ]


def tree_of(scheduler: Scheduler) -> Any:
    """Return task names of the newest execution's jobs, nested."""
    store = scheduler.backend.log.store

    def below_job(job_id: str) -> Any:
        job = store.lookup.job(job_id)
        return {
            store.lookup.task(job.task_hash).name: [
                below_job(each) for each in store.lookup.child_jobs(job_id)
            ]
        }

    *_, newest = store.events(kinds=["execution.started"], tail=True)
    return below_job(newest.event.job_id)


@pytest.mark.parametrize("how", PROCESSES)
def test_subrun_extends_the_run(scheduler: Scheduler, tmp_path: Path, how: str) -> None:
    """A sub-scheduler in another process records below its parent's job, in the same store."""
    pid, value = scheduler.run(kit.outer(how))
    assert (value, pid != os.getpid()) == (2, True)
    assert tree_of(scheduler) == {"outer": [{"subrun_root_task": [{"inner": [{"where": []}, {"leaf": []}]}]}]}
    assert no_sql_files(tmp_path / "store")
    # What a worker recorded lies sealed in the store when its sub-scheduler has ended.
    with EventStore.open(scheduler.backend.db_uri, read_only=True, state_dir=tmp_path / "no state") as store:
        names = {event.event.task_name for event in store.events(kinds=["call_node.recorded"])}
    assert {"kit.inner", "kit.leaf", "kit.where"} <= names


def test_subrun_in_a_thread(scheduler: Scheduler) -> None:
    """A sub-scheduler in a thread of the same process does, too."""
    pid, value = scheduler.run(kit.outer("default"))
    assert (pid, value) == (os.getpid(), 2)
    assert tree_of(scheduler) == {"outer": [{"subrun_root_task": [{"inner": [{"where": []}, {"leaf": []}]}]}]}


def test_subrun_below_no_provenance(scheduler: Scheduler) -> None:
    """Below an unrecorded task a sub-scheduler opens the same store, and records no job there, either."""
    pid, value = scheduler.run(kit.unrecorded_outer("served"))
    assert (value, pid != os.getpid()) == (2, True)
    assert not list(scheduler.backend.log.store.events(kinds=["job.started"], tail=True))
    assert no_sql_files(Path(scheduler.backend.db_uri).parent)


def test_run_from_redun_ini(project: Path) -> None:
    """`redun run` and `redun log` work with a store named in redun.ini, and a sub-scheduler in a process."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    redun = str(Path(sys.executable).with_name("redun"))

    def command(*words: str) -> str:
        done = subprocess.run([redun, *words], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert ", 2]" in command("run", "workflow_kit", "kit.outer", "--how", "spawned")
    assert command("log").count("[ DONE ]") == 1
    assert (project / ".redun" / "history" / "store.json").exists()
    assert no_sql_files(project)


def test_worker_gets_the_config_folder(project: Path) -> None:
    """A sub-scheduler that is given the config folder opens the store that its redun.ini names."""
    scheduler = setup_scheduler(kit.make_config(str(project / ".redun" / "history")))
    scheduler.load()
    pid, _ = scheduler.run(kit.outer("served", config_dir=str(project / ".redun")))
    assert pid != os.getpid()
    assert tree_of(scheduler)["outer"][0]["subrun_root_task"] != []
    scheduler.backend.close()


def test_worker_without_the_store(scheduler: Scheduler, tmp_path: Path) -> None:
    """A worker that does not find the run's store fails and says so; neither a store nor a file is made."""
    config = {"backend": {"db_uri": str(tmp_path / "elsewhere" / "store")}}
    with pytest.raises(Exception, match=r"the store of the run was expected at .*elsewhere"):
        scheduler.run(kit.outer("served", config=config))
    assert not (tmp_path / "elsewhere").exists()
    assert scheduler.run(kit.leaf(1)) == 2


def test_worker_of_another_machine(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does a run of its own make a store where the forwarded configuration's is gone."""
    scheduler = setup_scheduler(kit.make_config(str(project / "history")))
    scheduler.load()
    forwarded = scheduler.config.get_config_dict(replace_config_dir=".")
    shutil.move(project / "history", project / "moved")
    elsewhere = Scheduler(config=kit.make_config(str(project / "other")))
    elsewhere.load()
    with pytest.raises(Exception, match="the store of the run was expected at"):
        elsewhere.run(kit.outer("default", new_execution=True, config=forwarded))
    assert not (project / "history").exists()
    shutil.move(project / "moved", project / "history")
    scheduler.backend.close()
    elsewhere.backend.close()


def test_worker_with_another_store(scheduler: Scheduler, tmp_path: Path) -> None:
    """A parent's job that is not in the store is an error after the bound, not a wrong record."""
    other = kit.make_scheduler(str(tmp_path / "other"))
    other.backend.close()
    config = {"backend": {"db_uri": str(tmp_path / "other"), "flush_seconds": "0.2", "fresh_seconds": "0.2"}}
    with pytest.raises(ValueError, match="Unknown parent_job_id"):
        scheduler.run(kit.outer("default", config=config))


def test_worker_without_this_package(project: Path) -> None:
    """Without this package redun refuses a store's URL; it makes no SQLite file of it."""
    program = (
        "from redun import Scheduler; from redun.config import Config;"
        f"Scheduler(config=Config({{'backend': {{'db_uri': {str(project / 'history')!r}}}}})).load()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Could not parse" in done.stderr
    assert [each.name for each in project.iterdir()] == [".redun"]


def test_task_that_starts_sub_schedulers() -> None:
    """It is redun's own in hash and options, and its module, which every executor imports, is ours."""
    task = get_task_registry().get(ROOT_TASK)
    assert task.load_module == "eventstore.redun.subruns"
    assert task.hash == hash_struct(["Task", ROOT_TASK, "version", task.version])
    load_task_module(task.load_module, task.fullname)
    assert get_task_registry().get(ROOT_TASK) is task
    assert set(task.signature.parameters) >= {"expr", "config", "config_dir", "job_info"}


def test_stores_opened_below_are_closed(tmp_path: Path) -> None:
    """What a sub-scheduler opens is closed when it ends, also by an error; others stay open."""
    outside = kit.make_scheduler(str(tmp_path / "store"))
    made = []

    def run_below() -> None:
        with below(extends=True):
            made.append(kit.make_scheduler(str(tmp_path / "store")))
            made[0].backend.record_value(1)
            raise KeyError

    with pytest.raises(KeyError):
        run_below()
    with pytest.raises(StateError, match="load"):
        made[0].backend.record_value(2)
    outside.backend.record_value(3)
    outside.backend.close()
