"""The runs of the history index: what is added is answered, by turns, and merging changes no answer."""

from __future__ import annotations

import gc
import logging
import random
import shutil
import stat
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from index_kit import ALL, FIRST, KEEP, LAST, OTHER, Pair, add, counting, disk_of, pairs, shrink, some_key

from eventstore.checked_file import PARTIAL, IndexDamagedError
from eventstore.errors import ConflictError, StateError, StorageError
from eventstore.index import manifest as manifests
from eventstore.index.runs import IndexRuns

KEY = b"k" * 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where an index is, once there is one."""
    return tmp_path / "store" / "index"


def opened(folder: Path) -> IndexRuns:
    """Open the index as another process would."""
    return IndexRuns(folder, keep=KEEP)


def files(folder: Path) -> set[str]:
    """The names of the runs and of unfinished files."""
    return {path.name for path in folder.iterdir() if path.suffix in (".run", PARTIAL)}


def assert_answers(runs: IndexRuns, records: list[Pair]) -> None:
    """The index has these records, and nothing of other keys."""
    for key, payloads in counting(records).items():
        assert runs.get(key) == payloads
    rng = random.Random(0)
    assert all(runs.get(some_key(rng)) == [] for _ in range(20))


# adding and asking ---------------------------------------------------------------------------------------


def test_an_index_begins_empty_and_leaves_no_trace(folder: Path) -> None:
    """Without a folder there is nothing, at position 0, and opening makes none."""
    runs = opened(folder)
    assert (runs.position, runs.mark, dict(runs.writers), runs.runs) == (0, "", {}, ())
    assert runs.get(KEY + b"\1") == []
    assert not runs.refresh()
    assert not folder.exists()


def test_what_was_added_is_there_for_all(folder: Path) -> None:
    """Records, position, writers and mark are seen by who added them, and by whoever opens the index."""
    runs = opened(folder)
    records = pairs(random.Random(1), 200, keys=80)
    with runs.turn() as mine:
        assert mine
        keys, payloads = map(list, zip(*records, strict=True))
        runs.add(keys, payloads, until=900, writers={"a": 7, "b": 5}, mark="digest")
    for each in (runs, opened(folder)):
        assert (each.position, each.mark, dict(each.writers)) == (900, "digest", {"a": 7, "b": 5})
        assert [(run.start, run.until) for run in each.runs] == [(0, 900)]
        assert_answers(each, records)


def test_what_counts_is_said_by_family(folder: Path) -> None:
    """Of one key the first, the last, or all that differ count, over runs and within them, by its family."""
    runs = opened(folder)
    said = [b"one", b"two", b"one", b"three", b"two"]
    for parts in ([said[:3], said[3:]], [[], said]):
        for part in parts:
            add(runs, [(KEY + bytes([family]), payload) for payload in part for family in (*KEEP, OTHER)])
        assert runs.get(KEY + bytes([FIRST])) == [b"one"]
        assert runs.get(KEY + bytes([LAST])) == [b"two"]
        assert runs.get(KEY + bytes([ALL])) == runs.get(KEY + bytes([OTHER])) == [b"one", b"two", b"three"]


def test_positions_without_records_need_no_run(folder: Path) -> None:
    """Positions that say nothing move `position` and make no file."""
    runs = opened(folder)
    add(runs, [], until=50)
    add(runs, [(KEY + b"\1", b"x")], until=60)
    add(runs, [], until=70)
    assert (runs.position, runs.mark, len(files(folder))) == (70, "mark 70", 1)
    assert opened(folder).get(KEY + b"\1") == [b"x"]


def test_only_their_owner_can_read_runs(folder: Path) -> None:
    """Records hold values: nobody else may look into the folder."""
    add(opened(folder), [(KEY + b"\1", b"x")])
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_others_see_it_when_they_refresh(folder: Path) -> None:
    """What another has added is answered after `refresh`, which says whether something changed."""
    writer, reader = opened(folder), opened(folder)
    for number in range(1, 4):
        add(writer, [(KEY + bytes([ALL]), b"%d" % number)])
        assert (reader.position, len(reader.get(KEY + bytes([ALL])))) == (number - 1, number - 1)
        assert (reader.refresh(), reader.refresh()) == (True, False)
        assert (reader.position, len(reader.get(KEY + bytes([ALL])))) == (number, number)


# turns ---------------------------------------------------------------------------------------------------


def test_only_one_has_the_turn(folder: Path) -> None:
    """While one adds, no other process or thread may; afterwards it may, and sees what was added."""
    first, second = opened(folder), opened(folder)
    inside: list[bool] = []

    def try_both() -> None:
        for runs in (first, second):
            with runs.turn() as mine:
                inside.append(mine)

    with first.turn() as mine:
        assert mine
        thread = threading.Thread(target=try_both)
        thread.start()
        thread.join()
        first.add([KEY + b"\1"], [b"x"], until=5, writers={}, mark="")
    assert inside == [False, False]
    with second.turn() as mine:
        assert (mine, second.position) == (True, 5)
    try_both()
    assert inside[2:] == [True, True]


def test_adding_needs_a_turn(folder: Path) -> None:
    """Without a turn, or in the turn of another thread, nothing can be added."""
    runs = opened(folder)
    codes: list[str] = []

    def try_it() -> None:
        with pytest.raises(StateError) as caught:
            runs.add([KEY + b"\1"], [b"x"], until=5, writers={}, mark="")
        codes.append(caught.value.code)

    try_it()
    with runs.turn():
        thread = threading.Thread(target=try_it)
        thread.start()
        thread.join()
    assert (codes, runs.position) == (["no_turn", "no_turn"], 0)


def test_positions_do_not_go_back(folder: Path) -> None:
    """What is in the index already cannot be added again."""
    runs = opened(folder)
    add(runs, [(KEY + b"\1", b"x")], until=9)
    with pytest.raises(ConflictError) as caught:
        add(runs, [(KEY + b"\1", b"y")], until=8)
    assert (caught.value.code, runs.position, runs.get(KEY + b"\1")) == ("index_moved", 9, [b"x"])


def test_records_of_a_range_are_not_added_to_what_was_set_aside_meanwhile(folder: Path) -> None:
    """Records that were read for an index that another thread has set aside do not begin a new one."""
    runs = opened(folder)
    add(runs, [(KEY + b"\1", b"x")], until=100)
    with runs.turn() as mine:
        assert mine
        thread = threading.Thread(target=runs.reset, args=("damage",))
        thread.start()
        thread.join()
        assert runs.position == 0
        with pytest.raises(ConflictError) as caught:
            runs.add([KEY + b"\2"], [b"y"], until=200, writers={}, mark="")
    assert caught.value.code == "index_moved"
    add(runs, [(KEY + b"\2", b"z")], until=200)
    assert (opened(folder).get(KEY + b"\1"), opened(folder).get(KEY + b"\2")) == ([], [b"z"])


# merging -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("small", [False, True])
def test_merging_changes_no_answer(folder: Path, monkeypatch: pytest.MonkeyPatch, small: bool) -> None:
    """Through many additions and merges, all answers stay what they were; few runs are there at any time."""
    if small:
        shrink(monkeypatch)
    runs, other = opened(folder), opened(folder)
    rng = random.Random(4)
    pool = [some_key(rng) for _ in range(300)]
    records: list[Pair] = []
    merged = 0
    for _ in range(20):
        more = [(rng.choice(pool), rng.randbytes(rng.randrange(20))) for _ in range(rng.choice([1, 20, 200]))]
        records += more
        add(runs, more)
        merged += runs.merge_if_due()
        assert len(runs.runs) <= 4
        assert_answers(runs, records)
    other.refresh()
    assert_answers(other, records)
    assert merged > 3


def test_a_merge_leaves_what_counts(folder: Path) -> None:
    """Records that do not count are gone from the merged run."""
    runs = opened(folder)
    for number in range(6):
        add(runs, [(KEY + bytes([family]), b"%d" % (number % 4)) for family in KEEP])
    runs.merge_if_due()
    assert [run.records for run in runs.runs] == [1 + 1 + 4]


def test_a_merge_in_another_thread_lets_others_add(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a merge is under way records are added and asked for; both are there when it is done."""
    runs = opened(folder)
    rng = random.Random(6)
    records = pairs(rng, 400, keys=100)
    for at in range(0, 400, 100):
        add(runs, records[at : at + 100])
    begun, go_on = threading.Event(), threading.Event()

    def waiting(*args: object, **named: object) -> int:
        begun.set()
        assert go_on.wait(30)
        return merge_runs(*args, **named)

    from eventstore.index import runs as room

    merge_runs = room.merge_runs
    monkeypatch.setattr(room, "merge_runs", waiting)
    thread = threading.Thread(target=runs.merge_if_due)
    thread.start()
    assert begun.wait(30)
    more = pairs(rng, 50, keys=20)
    add(runs, more)
    assert not runs.merge_if_due(), "somebody else is at it"
    assert_answers(runs, records + more)
    go_on.set()
    thread.join()
    assert [(run.start, run.until) for run in runs.runs] == [(0, 400), (400, 450)]
    assert_answers(opened(folder), records + more)


def test_a_merge_for_what_was_set_aside_is_dropped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If everything is set aside while runs are merged, the merged one does not come back."""
    from eventstore.index import runs as room

    runs, other = opened(folder), opened(folder)
    for _ in range(3):
        add(runs, pairs(random.Random(6), 50, keys=20))
    other.refresh()
    real = room.merge_runs

    def merging(*args: object, **named: object) -> int:
        count = real(*args, **named)
        other.reset("damage")
        return count

    monkeypatch.setattr(room, "merge_runs", merging)
    assert not runs.merge_if_due()
    assert (runs.position, runs.runs) == (0, ())
    assert opened(folder).position == 0


def test_closing_gives_up_a_merge(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A merge that is under way stops soon after `close`, and leaves runs and files as they were."""
    shrink(monkeypatch)
    runs = opened(folder)
    for _ in range(3):
        add(runs, pairs(random.Random(6), 100, keys=50))
    before = files(folder)
    from eventstore.index import runs as room

    real = room.merge_runs

    def merging(*args: object, **named: object) -> int:
        runs.close()
        return real(*args, **named)

    monkeypatch.setattr(room, "merge_runs", merging)
    with pytest.raises(StateError) as caught:
        runs.merge_if_due()
    assert (caught.value.code, files(folder)) == ("closed", before)
    assert len(opened(folder).runs) == 3


def test_files_that_no_longer_count_are_removed_after_a_grace(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Merged runs stay for a while, then they go, and so does what killed processes left."""
    runs, reader = opened(folder), opened(folder)
    records = pairs(random.Random(6), 90, keys=50)
    for at in range(0, 90, 30):
        add(runs, records[at : at + 30])
    reader.refresh()
    (folder / f"x.run.0123{PARTIAL}").write_bytes(b"half")
    (folder / "never-published.run").write_bytes(b"whole")
    (folder / "notes.txt").write_bytes(b"not ours")
    old = {f"{run.name}.run" for run in runs.runs}
    assert runs.merge_if_due()
    assert files(folder) == old | {f"{run.name}.run" for run in runs.runs}
    runs.merge_if_due()
    assert old < files(folder), "their time is not over"
    monkeypatch.setattr("eventstore.index.run_folder.GRACE_SECONDS", 0.0)
    runs.merge_if_due()
    assert files(folder) == {f"{run.name}.run" for run in runs.runs}
    assert (folder / "notes.txt").exists()
    assert_answers(reader, records)  # of the files that it has open
    assert reader.refresh()
    assert_answers(reader, records)


# damage --------------------------------------------------------------------------------------------------


def damage(path: Path, at: int = 3) -> None:
    """Flip a bit, in a new file of the same name."""
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.unlink()
    path.write_bytes(content)


def test_damage_is_found_and_everything_set_aside(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A look-up in a damaged page raises; after `reset` the index is empty for all, until it is built."""
    runs, other = opened(folder), opened(folder)
    add(runs, [(KEY + b"\1", b"x")])
    damage(folder / f"{runs.runs[0].name}.run")
    other.refresh()
    with pytest.raises(IndexDamagedError) as caught:
        other.get(KEY + b"\1")
    assert caught.value.code == "index_damaged"
    with caplog.at_level(logging.WARNING):
        other.reset(str(caught.value))
    assert "set aside" in caplog.text
    assert (other.position, other.get(KEY + b"\1")) == (0, [])
    assert (runs.position, runs.refresh(), runs.position) == (1, True, 0)
    add(other, [(KEY + b"\1", b"x")], until=7)
    assert (other.get(KEY + b"\1"), opened(folder).position) == ([b"x"], 7)


def test_a_reset_does_not_wait_for_the_turn(folder: Path) -> None:
    """While another process adds, what was set aside is empty here at once, also twice, and later for all."""
    runs, other = opened(folder), opened(folder)
    add(runs, [(KEY + b"\1", b"x")], until=3)
    other.refresh()
    with runs.turn():
        thread = threading.Thread(target=lambda: [other.reset("damage"), other.reset("again")])
        thread.start()
        thread.join()
        assert (other.position, runs.position) == (0, 3)
        runs.add([KEY + b"\2"], [b"y"], until=4, writers={}, mark="")
        other.refresh()
        assert other.position == 0, "what was added to it is not believed either"
    with other.turn() as mine:
        assert (mine, other.position) == (True, 0)
    assert (runs.refresh(), runs.position) == (True, 0)


def test_what_another_has_built_anew_is_not_set_aside_again(folder: Path) -> None:
    """Who finds damage after another has begun anew takes what that one has built."""
    runs, late = opened(folder), opened(folder)
    add(runs, [(KEY + b"\1", b"x")])
    late.refresh()
    runs.reset("damage")
    add(runs, [(KEY + b"\1", b"x")], until=30)
    late.reset("the same damage")
    assert (late.position, late.get(KEY + b"\1")) == (30, [b"x"])


def test_a_reset_within_a_turn_goes_on(folder: Path) -> None:
    """Who has the turn can set everything aside and add from 0 on."""
    runs = opened(folder)
    add(runs, [(KEY + b"\1", b"x")], until=30)
    with runs.turn():
        runs.reset("of another chain")
        assert runs.position == 0
        runs.add([KEY + b"\2"], [b"y"], until=20, writers={}, mark="")
    assert (opened(folder).get(KEY + b"\1"), opened(folder).get(KEY + b"\2")) == ([], [b"y"])


def test_a_merge_does_not_copy_damage(folder: Path) -> None:
    """Damage in what would be merged is found, and no merged run is left."""
    runs = opened(folder)
    for _ in range(3):
        add(runs, pairs(random.Random(6), 50, keys=20))
    damage(folder / f"{runs.runs[1].name}.run")
    fresh, before = opened(folder), files(folder)
    with pytest.raises(IndexDamagedError):
        fresh.merge_if_due()
    assert files(folder) == before


def lose_run(folder: Path) -> None:
    """Delete a run."""
    next(folder.glob("*.run")).unlink()


def cut_run(folder: Path) -> None:
    """Leave out a run's end."""
    path = next(folder.glob("*.run"))
    content = path.read_bytes()[:-5]
    path.unlink()
    path.write_bytes(content)


def damage_manifest(folder: Path) -> None:
    """Flip a bit."""
    damage(folder / manifests.MANIFEST, 20)


def empty_manifest(folder: Path) -> None:
    """As after a power loss."""
    (folder / manifests.MANIFEST).write_bytes(b"")


def newer_format(folder: Path) -> None:
    """Write what a later version might."""
    good = manifests.open_manifest(folder)
    assert good is not None
    assert good.manifest is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifests, "FORMAT", manifests.FORMAT + 1)
        manifests.put_manifest(folder, good.manifest)


@pytest.mark.parametrize("harm", [lose_run, cut_run, damage_manifest, empty_manifest, newer_format])
def test_an_index_that_cannot_be_opened_is_built_anew(
    folder: Path, caplog: pytest.LogCaptureFixture, harm: object
) -> None:
    """Files that are lost or damaged make the index empty, with a warning, and ready to be built."""
    add(opened(folder), [(KEY + b"\1", b"x")], until=5)
    harm(folder)  # type: ignore[operator]
    with caplog.at_level(logging.WARNING):
        runs = opened(folder)
    assert (runs.position, runs.get(KEY + b"\1")) == (0, [])
    assert "built anew" in caplog.text
    add(runs, [(KEY + b"\1", b"y")], until=6)
    assert (opened(folder).position, opened(folder).get(KEY + b"\1")) == (6, [b"y"])


@pytest.mark.parametrize("rules", [{"keep": {**KEEP, FIRST: "last"}}, {"keep": KEEP, "version": 2}])
def test_runs_that_say_something_else_are_built_anew(folder: Path, rules: dict[str, Any]) -> None:
    """What counts of a family, and the version of payloads, are part of what runs are."""
    add(opened(folder), [(KEY + b"\1", b"x"), (KEY + b"\1", b"y")], until=5)
    other = IndexRuns(folder, **rules)
    assert (other.position, other.get(KEY + b"\1")) == (0, [])
    add(other, [(KEY + b"\1", b"x"), (KEY + b"\1", b"y")], until=5)
    assert other.get(KEY + b"\1") == [b"y" if rules["keep"][FIRST] == "last" else b"x"]


def test_the_folder_may_be_deleted_at_any_time(folder: Path) -> None:
    """Whoever has it open answers on, then finds nothing, and builds it anew."""
    runs = opened(folder)
    add(runs, [(KEY + b"\1", b"x")], until=5)
    shutil.rmtree(folder)
    assert runs.get(KEY + b"\1") == [b"x"]
    assert (runs.refresh(), runs.position, runs.get(KEY + b"\1")) == (True, 0, [])
    add(runs, [(KEY + b"\1", b"y")], until=6)
    assert opened(folder).get(KEY + b"\1") == [b"y"]


def test_a_folder_that_is_deleted_in_a_turn_is_noticed(folder: Path) -> None:
    """What is added behind a position that is gone is refused."""
    runs = opened(folder)
    add(runs, [(KEY + b"\1", b"x")], until=5)
    with runs.turn():
        shutil.rmtree(folder)
        with pytest.raises(ConflictError):
            runs.add([KEY + b"\1"], [b"y"], until=6, writers={}, mark="")
    assert runs.position == 0


def test_a_reader_whose_runs_are_removed_under_it_looks_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a run goes between manifest and opening, because it was merged, the new manifest is read."""
    runs, reader = opened(folder), opened(folder)
    records = pairs(random.Random(6), 90, keys=50)
    for at in range(0, 90, 30):
        add(runs, records[at : at + 30])
    monkeypatch.setattr("eventstore.index.run_folder.GRACE_SECONDS", 0.0)
    from eventstore.index import runs as room

    real, times = room.open_manifest, []

    def slow(path: Path) -> object:
        found = real(path)
        if not times:
            times.append(1)
            assert runs.merge_if_due()
            runs.merge_if_due()
        return found

    monkeypatch.setattr(room, "open_manifest", slow)
    assert reader.refresh()
    assert len(reader.runs) == 1
    assert_answers(reader, records)


# the disk ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["nothing", "half of the run", "all but a byte of the manifest"])
def test_a_full_disk_leaves_the_index_as_it_was(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """Wherever the disk is full, for the run or the manifest, nothing is half there and old answers stay."""
    runs = opened(folder)
    records, more = (pairs(random.Random(seed), 60, keys=30, longest=10) for seed in (6, 8))
    add(runs, records[:30])
    add(runs, records[30:])
    before = files(folder)
    shutil.copytree(folder, tmp_path / "copy")
    copy = opened(tmp_path / "copy")
    add(copy, more)
    run_bytes = copy.runs[-1].size_bytes
    manifest_bytes = (tmp_path / "copy" / manifests.MANIFEST).stat().st_size
    room = {"nothing": 0, "half of the run": run_bytes // 2}.get(part, run_bytes + manifest_bytes - 1)
    with monkeypatch.context() as patch:
        disk_of(room, patch)
        for attempt in (lambda: add(runs, more), runs.merge_if_due):
            with pytest.raises(StorageError, match="make room") as caught:
                attempt()
            assert caught.value.code == "disk_full"
            assert files(folder) == before
            assert (runs.position, len(runs.runs)) == (60, 2)
            assert_answers(runs, records)
    assert runs.merge_if_due()
    assert_answers(opened(folder), records)


def test_a_folder_that_cannot_be_used_is_a_clear_error(tmp_path: Path) -> None:
    """Where a file is in the way of the folder, opening says so, and so does taking a turn."""
    runs = opened(tmp_path / "file" / "index")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError) as caught, runs.turn():
        pass
    assert caught.value.code == "index_refused"
    with pytest.raises(StorageError) as caught:
        opened(tmp_path / "file" / "index")
    assert caught.value.code == "index_refused"


# use -----------------------------------------------------------------------------------------------------


def test_a_closed_index_says_so(folder: Path) -> None:
    """After closing nothing is answered or changed; closing twice is no error, and nothing is left open."""
    gc.collect()  # files of tests before this one are not to be closed meanwhile
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    runs = opened(folder)
    add(runs, [(KEY + b"\1", b"x"), (KEY + bytes([ALL]), b"x")])
    runs.close()
    runs.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors
    uses = [partial(runs.get, KEY + bytes([family])) for family in KEEP]
    uses += [runs.refresh, runs.merge_if_due, lambda: runs.reset("x"), lambda: add(runs, [])]
    for use in uses:
        with pytest.raises(StateError) as caught:
            use()
        assert caught.value.code == "closed"


def test_threads_may_ask_while_runs_come_and_go(folder: Path) -> None:
    """Answers in other threads are right while records are added and runs merged."""
    runs = opened(folder)
    rng = random.Random(3)
    records = [(some_key(rng, FIRST), rng.randbytes(10)) for _ in range(500)]
    add(runs, records)
    wrong: list[object] = []
    done = threading.Event()

    def ask() -> None:
        mine = random.Random()
        while not done.is_set():
            key, payload = mine.choice(records)
            try:
                if runs.get(key) != [payload]:
                    wrong.append(key)
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(15):
        add(runs, pairs(rng, 100, keys=50))
        runs.merge_if_due()
    done.set()
    for thread in threads:
        thread.join()
    assert wrong == []
