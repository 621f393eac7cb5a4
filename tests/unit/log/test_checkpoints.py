"""Checkpoints of subscriptions: what is stored, what is kept, and what damage costs."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_kit import STORE_ID, beats, cut, flip, found, memory_url, open_store

from eventstore import (
    Checkpoint,
    ConflictError,
    FormatError,
    HandlerFailure,
    IntegrityError,
    StorageError,
    SubscriptionState,
    layout,
)
from eventstore.filesystem import Abilities, Entry, FsspecStorage, open_storage
from eventstore.ids import Digest
from eventstore.log.sequence import Head
from eventstore.log.subscription import Checkpoints, foreign_checkpoint, is_of_log
from eventstore.log.subscription.checkpoint import decode_checkpoint, encode_checkpoint
from eventstore.seal import GENESIS
from eventstore.testing import FaultPlan, FaultyStorage, When

FAILURE = HandlerFailure("ValueError", "größe", 5, 9, 4)
ONE = Checkpoint(
    name="mail",
    revision=1,
    position=5,
    seal=2,
    seal_digest=Digest("cd" * 32),
    kinds=("job.ended",),
    state=SubscriptionState.ACTIVE,
    failure=None,
    updated_at=dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC),
    software="test 1",
    runner="ab",
    store_id=STORE_ID,
)
PATH = layout.subscription_path("mail", 1)


def _revisions(place: FsspecStorage) -> list[int]:
    found = (layout.parse_subscription(entry.path) for entry in place.files("subscriptions"))
    return [name[1] for name in found if name]


def _at(revision: int, *, position: int = 0, runner: str = "ab") -> Checkpoint:
    return replace(ONE, revision=revision, position=position, runner=runner)


# one file -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "checkpoint",
    [
        ONE,
        replace(ONE, kinds=None),
        replace(ONE, kinds=()),
        replace(ONE, state=SubscriptionState.PARKED, failure=FAILURE),
        replace(ONE, state=SubscriptionState.DELETED),
    ],
)
def test_a_checkpoint_reads_back(checkpoint: Checkpoint) -> None:
    """All fields, of each state."""
    assert decode_checkpoint(PATH, encode_checkpoint(checkpoint), store_id=STORE_ID) == checkpoint


def test_a_checkpoint_can_be_read_and_checked_without_this_package() -> None:
    """One line of JSON, whose digest is that of the bytes of its body."""
    raw = encode_checkpoint(replace(ONE, state=SubscriptionState.PARKED, failure=FAILURE))
    said = json.loads(raw)
    body = raw.partition(b'"subscription":')[2].removesuffix(b"}\n")
    assert hashlib.sha256(body).hexdigest() == said["digest"]
    assert said["subscription"] == {
        "failure": {"attempts": 4, "error_type": "ValueError", "first": 5, "last": 9, "message": "größe"},
        "format": 2,
        "kinds": ["job.ended"],
        "name": "mail",
        "position": 5,
        "revision": 1,
        "runner": "ab",
        "seal": 2,
        "seal_digest": "cd" * 32,
        "software": "test 1",
        "state": "parked",
        "store_id": STORE_ID,
        "updated_at": "2026-03-01T12:00:00+00:00",
    }


@given(st.data())
def test_any_altered_byte_is_damage(data: st.DataObject) -> None:
    """Wherever it is, and wherever the file is cut."""
    raw = encode_checkpoint(ONE)
    at = data.draw(st.integers(0, len(raw) - 1))
    altered = raw[:at] + bytes([raw[at] ^ 1 << data.draw(st.integers(0, 7))]) + raw[at + 1 :]
    for bad in (altered, raw[:at], b"", raw + b"\n"):
        with pytest.raises(IntegrityError, match="mail"):
            decode_checkpoint(PATH, bad, store_id=STORE_ID)


def _framed(said: object) -> bytes:
    body = json.dumps(said).encode()
    digest = hashlib.sha256(body).hexdigest().encode()
    return b'{"digest":"' + digest + b'","subscription":' + body + b"}\n"


@pytest.mark.parametrize(
    ("change", "error", "code"),
    [
        ({"format": 3}, FormatError, "newer_format"),
        ({"store_id": "cd" * 16}, FormatError, "other_store"),
        ({"revision": 2}, IntegrityError, "checkpoint_damaged"),
        ({"name": "post"}, IntegrityError, "checkpoint_damaged"),
        ({"position": -1}, IntegrityError, "checkpoint_damaged"),
        ({"position": "5"}, IntegrityError, "checkpoint_damaged"),
        ({"seal": -1}, IntegrityError, "checkpoint_damaged"),
        ({"seal": "2"}, IntegrityError, "checkpoint_damaged"),
        ({"seal_digest": None}, IntegrityError, "checkpoint_damaged"),
        ({"seal_digest": "cd"}, IntegrityError, "checkpoint_damaged"),
        ({"state": "asleep"}, IntegrityError, "checkpoint_damaged"),
        ({"state": "parked"}, IntegrityError, "checkpoint_damaged"),
        ({"failure": dataclasses.asdict(FAILURE)}, IntegrityError, "checkpoint_damaged"),
        ({"failure": {"message": "x"}}, IntegrityError, "checkpoint_damaged"),
        ({"updated_at": "yesterday"}, IntegrityError, "checkpoint_damaged"),
    ],
)
def test_a_whole_file_that_says_something_else_is_refused(
    change: dict[str, object], error: type[Exception], code: str
) -> None:
    """A newer format, another store, another name or number, or fields that make no sense."""
    said = {**json.loads(encode_checkpoint(ONE))["subscription"], **change}
    with pytest.raises(error) as caught:
        decode_checkpoint(PATH, _framed(said), store_id=STORE_ID)
    assert caught.value.code == code  # type: ignore[attr-defined]
    with pytest.raises(IntegrityError):
        decode_checkpoint(PATH, _framed([]), store_id=STORE_ID)


def test_a_file_of_the_first_format_names_no_seal() -> None:
    """It is read, and nothing vouches for its position unless that is the first."""
    said = json.loads(encode_checkpoint(ONE))["subscription"]
    old = {**{name: said[name] for name in said if not name.startswith("seal")}, "format": 1}
    checkpoint = decode_checkpoint(PATH, _framed(old), store_id=STORE_ID)
    assert checkpoint == replace(ONE, seal=0, seal_digest=GENESIS)
    nothing = Head(0, 0, GENESIS, b"")
    assert not is_of_log(checkpoint, nothing)
    assert is_of_log(replace(checkpoint, position=0), nothing)


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (Head(5, 2, ONE.seal_digest, b""), True),
        (Head(9, 2, ONE.seal_digest, b""), True),
        (Head(4, 2, ONE.seal_digest, b""), False),
        (Head(9, 2, Digest("ef" * 32), b""), False),
        (None, False),
    ],
)
def test_a_checkpoint_is_of_the_log_with_its_seal(head: Head | None, expected: bool) -> None:
    """The same digest, after at least as many events; else the error says what was found there."""
    assert is_of_log(ONE, head) is expected
    if not expected:
        error = foreign_checkpoint(ONE, head)
        words = "no seal" if head is None else "4 events" if head.size == 4 else "ef" * 32
        assert (error.code, error.path, error.position) == ("foreign_checkpoint", PATH, 5)
        for part in ("'mail'", "position 5", "seal 2", ONE.seal_digest, words, "seek"):
            assert part in str(error)


# all files ------------------------------------------------------------------------------------------------


def test_the_last_two_are_kept_and_the_largest_counts() -> None:
    """Older ones go with each put; a deletion leaves only itself."""
    place = open_storage(memory_url())
    checkpoints = Checkpoints(place, store_id=STORE_ID)
    assert checkpoints.newest("mail") == (0, None)
    for revision in range(1, 6):
        assert checkpoints.put(_at(revision, position=revision)).revision == revision
    assert _revisions(place) == [4, 5]
    assert checkpoints.newest("mail") == (5, _at(5, position=5))
    checkpoints.put(replace(_at(6), state=SubscriptionState.DELETED))
    assert _revisions(place) == [6]
    assert checkpoints.all() == []


def test_leftovers_of_others_are_removed_too() -> None:
    """What an earlier process could not delete goes with the next put of one that has looked."""
    place = open_storage(memory_url())
    for revision in (2, 5, 6):
        place.put(layout.subscription_path("mail", revision), encode_checkpoint(_at(revision)))
    checkpoints = Checkpoints(place, store_id=STORE_ID)
    checkpoints.newest("mail")
    checkpoints.put(_at(7))
    assert _revisions(place) == [6, 7]


def test_a_number_that_is_taken_by_another_is_a_conflict() -> None:
    """Nothing is overwritten."""
    place = open_storage(memory_url())
    Checkpoints(place, store_id=STORE_ID).put(_at(1))
    with pytest.raises(ConflictError) as caught:
        Checkpoints(place, store_id=STORE_ID).put(_at(1, runner="cd", position=9))
    assert (caught.value.code, caught.value.path) == ("subscription_taken", PATH)
    assert Checkpoints(place, store_id=STORE_ID).newest("mail") == (1, _at(1))


def test_a_number_that_is_free_again_is_a_conflict_too() -> None:
    """The file before it is gone, so others are far ahead; nothing of ours stays."""
    place = open_storage(memory_url())
    ahead = Checkpoints(place, store_id=STORE_ID)
    for revision in range(1, 5):
        ahead.put(_at(revision))
    with pytest.raises(ConflictError):
        Checkpoints(place, store_id=STORE_ID).put(_at(2, runner="cd"))
    assert _revisions(place) == [3, 4]


def test_what_was_put_without_being_told_is_known_again() -> None:
    """After a lost reply the same runner goes on with the next number."""
    inner = open_storage(memory_url())
    plan = FaultPlan(0, when=When.AFTER, only=frozenset({"create"}))
    checkpoints = Checkpoints(FaultyStorage(inner, plan), store_id=STORE_ID)
    with pytest.raises(StorageError):
        checkpoints.put(_at(1))
    assert checkpoints.put(_at(1, position=7)) == _at(2, position=7)
    assert checkpoints.newest("mail") == (2, _at(2, position=7))


def test_an_old_file_that_cannot_be_deleted_does_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    """It is told, tried again with the next put, and files still go in order."""
    place = open_storage(memory_url())
    plan = FaultPlan(0, strikes=2, only=frozenset({"delete"}))
    checkpoints = Checkpoints(FaultyStorage(place, plan), store_id=STORE_ID)
    for revision in range(1, 5):
        checkpoints.put(_at(revision))
    assert _revisions(place) == [1, 2, 3, 4]
    assert caplog.text.count("does no harm") == 2
    checkpoints.put(_at(5))
    assert _revisions(place) == [4, 5]


@pytest.mark.parametrize("harm", [lambda path: flip(path, 100), lambda path: cut(path, 0)])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    tmp_path: Path, harm: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    """With a warning; its number is not used again. With none whole, that is an error."""
    place = open_storage(tmp_path)
    checkpoints = Checkpoints(place, store_id=STORE_ID)
    checkpoints.put(_at(1, position=1))
    checkpoints.put(_at(2, position=2))
    harm(tmp_path / layout.subscription_path("mail", 2))
    with caplog.at_level(logging.WARNING):
        assert checkpoints.newest("mail") == (2, _at(1, position=1))
    assert "00000000000000000002.json' is damaged" in caplog.text
    checkpoints.put(_at(3, position=3))
    assert checkpoints.newest("mail") == (3, _at(3, position=3))
    harm(tmp_path / layout.subscription_path("mail", 3))
    with pytest.raises(IntegrityError, match="subscribe anew") as caught:
        checkpoints.newest("mail")
    assert caught.value.code == "checkpoint_damaged"
    assert checkpoints.all() == []


def test_other_files_in_the_folder_are_nobodys(tmp_path: Path) -> None:
    """They are neither read nor removed."""
    place = open_storage(tmp_path)
    for path in ("subscriptions/mail/notes.txt", "subscriptions/mail/7.json", "subscriptions/x.json"):
        place.put(path, b"x")
    checkpoints = Checkpoints(place, store_id=STORE_ID)
    assert checkpoints.newest("mail") == (0, None)
    assert checkpoints.all() == []


class Hasty(FsspecStorage):
    """A storage whose listing names files that are gone, so many times."""

    stale = 0

    def files(self, folder: str = "", *, temporary: bool = False) -> list[Entry]:
        """List, with one file too many while that lasts."""
        found = super().files(folder, temporary=temporary)
        if self.stale:
            self.stale -= 1
            found.append(Entry(layout.subscription_path("mail", 99), 1))
        return found


def test_a_listing_that_is_overtaken_is_done_again(tmp_path: Path) -> None:
    """A file that is removed between listing and reading is no damage; if it never ends, that is told."""
    place = open_storage(tmp_path)
    place.__class__ = Hasty
    assert isinstance(place, Hasty)
    checkpoints = Checkpoints(place, store_id=STORE_ID)
    checkpoints.put(_at(1))
    place.stale = 3
    assert checkpoints.newest("mail") == (1, _at(1))
    place.stale = 1000
    with pytest.raises(StorageError) as caught:
        checkpoints.newest("mail")
    assert (caught.value.code, caught.value.transient) == ("checkpoint_races", True)


class Plain(FsspecStorage):
    """A storage without an atomic put-if-absent, which says so or only finds out."""

    known = True

    @property
    def abilities(self) -> Abilities:
        """What it says of itself."""
        return replace(super().abilities, atomic_create=not self.known)

    def create(self, path: str, data: bytes) -> bool:
        """Refuse."""
        raise self._no_atomic_create(path)


@pytest.mark.parametrize("known", [True, False])
def test_without_atomic_create_one_runner_at_a_time_is_the_users_duty(
    tmp_path: Path, known: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Checkpoints are put after a look at the name, and that this is so is said once."""
    place = open_storage(tmp_path)
    place.__class__ = Plain
    assert isinstance(place, Plain)
    place.known = known
    checkpoints = Checkpoints(place, store_id=STORE_ID)
    for revision in range(1, 4):
        checkpoints.put(_at(revision))
    assert _revisions(place) == [2, 3]
    assert caplog.text.count("let only one run at a time") == 1
    with pytest.raises(ConflictError):
        Checkpoints(place, store_id=STORE_ID).put(_at(3, runner="cd"))


def test_a_storage_that_refuses_is_no_storage_without_atomic_create() -> None:
    """Any other refusal comes out, and nothing is put by other means."""
    place = open_storage(memory_url())
    checkpoints = Checkpoints(
        FaultyStorage(place, FaultPlan(0, only=frozenset({"create"}))), store_id=STORE_ID
    )
    with pytest.raises(StorageError, match="planned fault"):
        checkpoints.put(_at(1))
    assert _revisions(place) == []


def test_verify_names_what_is_damaged_and_what_lies_beyond_the_head(tmp_path: Path) -> None:
    """Damage costs that events come again, beyond the head seals are missing, another history only stops."""
    with open_store(tmp_path / "store") as store:
        store.append(*beats("a", "b"))
        store.seal()
        store.subscription("mail").run(lambda _: None)
        checkpoint = layout.subscription_path("mail", 2)
        assert store.verify().findings == []
        raw = store.storage.read(checkpoint)
        flip(tmp_path / "store" / checkpoint, 100)
        report = store.verify()
        assert found(report) == [("warning", "checkpoint_damaged", checkpoint)]
        assert report.ok
        store.storage.put(checkpoint, raw)
        beyond = replace(store.subscriptions()[0], position=3)
        store.storage.put(checkpoint, encode_checkpoint(beyond))
        assert found(store.verify()) == [("error", "checkpoint_beyond_head", checkpoint)]
        foreign = replace(store.subscriptions()[0], position=2, seal_digest=Digest("ab" * 32))
        store.storage.put(checkpoint, encode_checkpoint(foreign))
        report = store.verify()
        assert found(report) == [("warning", "foreign_checkpoint", checkpoint)]
        assert report.ok
        store.subscription("mail").seek(1)
        assert store.verify().findings == [], "the older file counts for nothing"
        newest = layout.subscription_path("mail", 3)
        store.storage.put(newest, encode_checkpoint(replace(foreign, revision=3)))
        assert found(store.verify()) == [("warning", "foreign_checkpoint", newest)]
        store.subscription("mail").delete()
        assert store.verify().findings == []


def test_a_bad_name_is_no_path(tmp_path: Path) -> None:
    """Nothing outside of the folder is ever looked at."""
    with pytest.raises(ValueError, match="lower-case"):
        Checkpoints(open_storage(tmp_path), store_id=STORE_ID).newest("../segments")
    assert list(tmp_path.iterdir()) == []
