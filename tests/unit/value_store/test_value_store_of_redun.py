"""A value store of redun, read and written beside redun itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from redun.backends.value_store import ValueStore as TheirStore
from redun.value import get_type_registry
from store_kit import flip

from eventstore import IntegrityError, InvalidEventError, NotFoundError
from eventstore.filesystem import open_storage
from eventstore.value_store import RedunValueStore

oracle = get_type_registry()
VALUE = ["some value", 7] * 100
DATA = oracle.serialize(VALUE)
HASH = oracle.get_hash(VALUE)


@pytest.fixture(params=[True, False])
def both(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[RedunValueStore, TheirStore, Path]:
    """Our store and redun's over one folder, and the path of the value."""
    ours = RedunValueStore(open_storage(tmp_path), use_subdir=request.param)
    theirs = TheirStore(str(tmp_path), use_subdir=request.param)
    return ours, theirs, Path(theirs.get_value_path(HASH))


def test_what_redun_wrote_is_read(both: tuple[RedunValueStore, TheirStore, Path]) -> None:
    """Presence, bytes, size and listing of values that redun put there."""
    ours, theirs, path = both
    assert (ours.has(HASH), list(ours)) == (False, [])
    theirs.put(HASH, DATA)
    assert (ours.has(HASH), list(ours)) == (True, [HASH])
    assert ours.get(HASH) == ours.get(HASH, plain=True) == DATA
    assert ours.size(HASH) == theirs.size(HASH) == len(DATA)
    (path.parent / "note.txt").write_text("not a value")
    assert list(ours) == [HASH]


def test_redun_reads_what_we_write(both: tuple[RedunValueStore, TheirStore, Path]) -> None:
    """The same file, with the bytes as they are."""
    ours, theirs, path = both
    ours.put(HASH, DATA)
    assert theirs.get(HASH) == (DATA, True)
    assert path.read_bytes() == DATA
    assert [each for each in path.parent.iterdir() if each.is_file()] == [path]


def test_the_first_bytes_of_a_value_stay(both: tuple[RedunValueStore, TheirStore, Path]) -> None:
    """A value whose hash is not made of its bytes may have several; nothing says which is better."""
    ours = both[0]
    other = "0" * 40
    ours.put(other, b"first")
    ours.put(other, b"second")
    assert ours.get(other) == b"first"


def test_a_put_repairs_what_is_plainly_damaged(both: tuple[RedunValueStore, TheirStore, Path]) -> None:
    """A file that was cut off, and one that the hash disproves."""
    ours, theirs, path = both
    ours.put(HASH, DATA)
    path.write_bytes(DATA[:10])
    ours.put(HASH, DATA)
    assert path.read_bytes() == DATA
    flip(path, 20, 1)
    with pytest.raises(IntegrityError) as caught:
        ours.get(HASH, plain=True)
    assert caught.value.code == "value_digest"
    ours.put(HASH, DATA)
    assert ours.get(HASH, plain=True) == DATA
    torn = Path(theirs.get_value_path("0" * 40))
    ours.put("0" * 40, b"whole")
    torn.write_bytes(b"who")
    ours.put("0" * 40, b"whole")
    assert ours.get("0" * 40) == b"whole"


def test_absence_is_clear(both: tuple[RedunValueStore, TheirStore, Path]) -> None:
    """A value that is not there is not found, by bytes and by size."""
    for ask in (both[0].get, both[0].size):
        with pytest.raises(NotFoundError) as caught:
            ask(HASH)
        assert caught.value.code == "value_missing"


NO_HASHES = ["", "../../etc/passwd", "/" + "a" * 39, "A" * 40, "a" * 39, "a" * 41, "s3://" + "a" * 35]


@pytest.mark.parametrize("value_hash", [*NO_HASHES, ".." + "a" * 38])
def test_what_is_no_hash_never_becomes_a_path(
    both: tuple[RedunValueStore, TheirStore, Path], tmp_path: Path, value_hash: str
) -> None:
    """All verbs refuse it, and nothing is stored."""
    ours = both[0]
    for ask in (ours.get, ours.has, ours.size, lambda name: ours.put(name, b"x")):
        with pytest.raises(InvalidEventError, match="40 lower-case hex") as caught:
            ask(value_hash)
        assert caught.value.code == "bad_digest"
    assert list(tmp_path.iterdir()) == []
