"""A bell is heard by all others and never missed; who rings does not hear itself."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from eventstore import bell as room
from eventstore.bell import Bell, Ringer


@pytest.fixture
def ringers(tmp_path: Path) -> tuple[Ringer, Ringer]:
    """Two writers' ringers on one bell, both quiet."""
    bell = Bell.of(tmp_path / "folder" / "bell")
    assert bell is not None
    both = bell.ringer(), bell.ringer()
    for each in both:
        each.has_rung()
    return both


def test_the_others_hear_and_the_ringer_does_not(ringers: tuple[Ringer, Ringer]) -> None:
    """However often it rings, it is heard once, and once more after the next time."""
    first, second = ringers
    for _ in range(3):
        first.ring()
        first.ring()
        assert second.has_rung()
        assert not second.has_rung()
        assert not first.has_rung()


def test_own_ringing_does_not_drown_what_another_rang(ringers: tuple[Ringer, Ringer]) -> None:
    """Both rang; each hears the other."""
    first, second = ringers
    first.ring()
    second.ring()
    assert first.has_rung()
    assert second.has_rung()


def test_another_process_is_heard(ringers: tuple[Ringer, Ringer], tmp_path: Path) -> None:
    """Its number is none of those that are taken here."""
    first, second = ringers
    code = (
        "from pathlib import Path; from eventstore.bell import Bell; import sys\n"
        "ringer = Bell.of(Path(sys.argv[1])).ringer(); ringer.ring(); print(ringer._number)"
    )
    path = str(tmp_path / "folder" / "bell")
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert int(done.stdout) not in {first._number, second._number}
    assert first.has_rung()
    assert second.has_rung()


def test_a_number_that_was_given_back_is_heard_under_its_next_owner(ringers: tuple[Ringer, Ringer]) -> None:
    """The next owner does not begin where the last one stopped."""
    first, second = ringers
    first.ring()
    assert second.has_rung()
    first.close()
    third = second._bell.ringer()
    assert third._number == first._number
    third.ring()
    assert second.has_rung()


def test_more_writers_than_numbers_share_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They hear each other, and themselves, which only costs a look."""
    monkeypatch.setattr(room, "_SHARED", 2)
    bell = Bell.of(tmp_path / "bell")
    assert bell is not None
    ringers = [bell.ringer() for _ in range(5)]
    assert [each._number for each in ringers] == [0, 1, 2, 2, 2]
    for each in ringers:
        each.has_rung()
    ringers[4].ring()
    assert all(each.has_rung() for each in ringers)


def test_a_bell_that_cannot_be_made_is_none(tmp_path: Path) -> None:
    """Journals are then looked at on every question."""
    (tmp_path / "file").write_bytes(b"")
    assert Bell.of(tmp_path / "file" / "bell") is None


def test_a_bell_that_was_deleted_is_made_again(tmp_path: Path) -> None:
    """Two who open the folder later meet at the new file."""
    path = tmp_path / "bell"
    before = Bell.of(path)
    assert Bell.of(path) is before
    path.unlink()
    after = Bell.of(path)
    assert after is not None
    assert after is not before


def test_a_finalizer_may_give_a_number_back_amid_any_call(tmp_path: Path) -> None:
    """The garbage collector may close a store while the same thread is at a bell: nobody waits for itself."""
    bell = Bell.of(tmp_path / "bell")
    assert bell is not None
    ringer = bell.ringer()

    def finalize_amid() -> None:
        with Bell._lock:
            ringer.close()

    thread = threading.Thread(target=finalize_amid, daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
