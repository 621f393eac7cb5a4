"""Large values by content: put once, read back checked, refused clearly."""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path

import pytest
from store_kit import cut, flip

from eventstore import IntegrityError, InvalidEventError, NotFoundError, StorageError, layout
from eventstore.codec.compression import compress
from eventstore.filesystem import open_storage
from eventstore.testing import FaultPlan, FaultyStorage, When
from eventstore.value_store import ValueStore

DATA = b"some bytes " * 1000
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def values(tmp_path: Path) -> ValueStore:
    """A value store with one value."""
    store = ValueStore(open_storage(tmp_path))
    assert store.put(DATA) == DIGEST
    return store


@pytest.fixture
def file(tmp_path: Path, values: ValueStore) -> Path:
    """The file of that value."""
    return tmp_path / layout.value_path(DIGEST)


def test_a_value_is_found_by_its_digest(values: ValueStore, file: Path) -> None:
    """Bytes, presence, stored size and listing agree."""
    assert values.get(DIGEST) == DATA
    assert values.has(DIGEST)
    assert values.size(DIGEST) == file.stat().st_size < len(DATA)
    empty = values.put(b"")
    assert values.get(empty) == b""
    assert list(values) == sorted([DIGEST, empty])


def test_a_value_is_stored_once(tmp_path: Path, values: ValueStore, file: Path) -> None:
    """Putting it again writes nothing."""
    plan = FaultPlan()
    again = ValueStore(FaultyStorage(open_storage(tmp_path), plan))
    assert again.put(DATA) == DIGEST
    assert [line.partition(" ")[0] for line in plan.trace] == ["exists"]


def test_a_value_that_is_too_large_is_refused_and_not_stored(tmp_path: Path) -> None:
    """The limit counts bytes before compression; the message says what to do."""
    values = ValueStore(open_storage(tmp_path), max_bytes=10)
    assert values.get(values.put(b"x" * 10)) == b"x" * 10
    with pytest.raises(
        InvalidEventError, match=r"at most 10 bytes .*found 11: .*nothing was stored"
    ) as caught:
        values.put(b"y" * 11)
    assert caught.value.code == "value_too_large"
    assert len(list(values)) == 1


def test_a_value_that_is_not_there_is_not_found(values: ValueStore) -> None:
    """Code and path are those of the value, not of some file."""
    other = hashlib.sha256(b"other").hexdigest()
    assert not values.has(other)
    with pytest.raises(NotFoundError, match="record the value again") as caught:
        values.get(other)
    assert (caught.value.code, caught.value.path) == ("value_missing", layout.value_path(other))
    with pytest.raises(NotFoundError) as caught:
        values.size(other)
    assert caught.value.code == "value_missing"


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", "AB" * 32, "a" * 63, "g" * 64, "a" * 65])
def test_what_is_no_digest_never_becomes_a_path(values: ValueStore, digest: str) -> None:
    """All questions refuse it."""
    for ask in (values.get, values.has, values.size):
        with pytest.raises(InvalidEventError, match="64 lower-case hex") as caught:
            ask(digest)
        assert caught.value.code == "bad_digest"


@pytest.mark.parametrize("length", [0, 3, 20])
def test_a_truncated_value_is_damage(values: ValueStore, file: Path, length: int) -> None:
    """No frame, no value."""
    cut(file, length)
    with pytest.raises(IntegrityError) as caught:
        values.get(DIGEST)
    assert caught.value.code == "bad_frame"
    assert caught.value.path == layout.value_path(DIGEST)


def test_no_flipped_bit_of_a_value_changes_it(values: ValueStore, file: Path) -> None:
    """A flip is found, or it is in a bit that decompression does not look at."""
    refused = 0
    for offset in range(file.stat().st_size):
        flip(file, offset, offset % 8)
        try:
            assert values.get(DIGEST) == DATA
        except IntegrityError:
            refused += 1
        flip(file, offset, offset % 8)
    assert refused > file.stat().st_size // 2
    assert values.get(DIGEST) == DATA


def test_another_value_under_the_name_is_damage(values: ValueStore, file: Path) -> None:
    """The message says which digest was found."""
    file.write_bytes(compress(b"other"))
    with pytest.raises(IntegrityError, match=hashlib.sha256(b"other").hexdigest()) as caught:
        values.get(DIGEST)
    assert caught.value.code == "value_digest"


@pytest.mark.parametrize("when", [When.BEFORE, When.TORN])
def test_a_put_that_is_refused_shows_nothing(tmp_path: Path, when: When) -> None:
    """Not even half of it; the next attempt succeeds."""
    plan = FaultPlan(at=0, when=when, number=errno.ENOSPC, only=frozenset({"put"}))
    values = ValueStore(FaultyStorage(open_storage(tmp_path), plan))
    with pytest.raises(StorageError) as caught:
        values.put(DATA)
    assert caught.value.code == "disk_full"
    assert not values.has(DIGEST)
    assert list(values) == []
    assert values.get(values.put(DATA)) == DATA


def test_files_of_others_are_not_listed(tmp_path: Path, values: ValueStore) -> None:
    """Only names of the format are values."""
    (tmp_path / "values" / "note.txt").write_text("hello")
    assert list(values) == [DIGEST]
