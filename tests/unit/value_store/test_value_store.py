"""Large values by content: put once, read back checked, refused clearly."""

from __future__ import annotations

import errno
import hashlib
import shutil
from pathlib import Path

import pytest
import zstandard
from blake3 import blake3
from store_kit import cut, flip

from eventstore import EventStore, IntegrityError, InvalidEventError, NotFoundError, StorageError, layout
from eventstore.codec.compression import compress
from eventstore.filesystem import open_storage
from eventstore.testing import FaultPlan, FaultyStorage, When
from eventstore.value_store import ValueStore, data_digest

DATA = b"some bytes " * 1000
DIGEST = blake3(DATA).hexdigest()


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
    """Putting it again writes nothing: the file is read once, to see that it is whole."""
    plan = FaultPlan()
    again = ValueStore(FaultyStorage(open_storage(tmp_path), plan))
    assert again.put(DATA) == again.put(DATA) == DIGEST
    assert [line.partition(" ")[0] for line in plan.trace] == ["exists", "read", "exists"]


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
    other = blake3(b"other").hexdigest()
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
    with pytest.raises(IntegrityError, match=blake3(b"other").hexdigest()) as caught:
        values.get(DIGEST)
    assert caught.value.code == "value_digest"


def test_a_value_of_an_early_store_is_found_by_its_sha_256(tmp_path: Path) -> None:
    """The first stores named values so; such a name is checked as well."""
    early = hashlib.sha256(DATA).hexdigest()
    file = tmp_path / layout.value_path(early)
    file.parent.mkdir(parents=True)
    file.write_bytes(compress(DATA))
    values = ValueStore(open_storage(tmp_path))
    assert values.get(early) == DATA
    file.write_bytes(compress(DATA + b"x"))
    with pytest.raises(IntegrityError) as caught:
        values.get(early)
    assert caught.value.code == "value_digest"


def test_names_are_those_of_the_published_vectors() -> None:
    """Of the official test vectors of BLAKE3: no byte, one, and two chunks and a byte of 0, 1, ... 250."""
    assert data_digest(b"") == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    assert data_digest(b"\0") == "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213"
    data = bytes(number % 251 for number in range(2049))
    assert data_digest(data) == "5f4d72f40d7a5f82b15ca2b2e44b1de3c2ef86c426c95c1af0b6879522563030"


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


def damage(file: Path, how: str) -> None:
    """Do to a file what disks do."""
    if how == "emptied":
        file.write_bytes(b"")
    elif how == "cut":
        cut(file, 20)
    elif how == "flipped":
        flip(file, 12, 3)
    else:
        file.write_bytes(compress(b"other"))


@pytest.mark.parametrize("how", ["emptied", "cut", "flipped", "another"])
def test_a_put_repairs_a_damaged_value(tmp_path: Path, values: ValueStore, file: Path, how: str) -> None:
    """Whoever has the bytes heals the file by putting them again, in a process that has not seen them yet."""
    damage(file, how)
    with pytest.raises(IntegrityError):
        values.get(DIGEST)
    again = ValueStore(open_storage(tmp_path))
    assert again.put(DATA) == DIGEST
    assert values.get(DIGEST) == DATA
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_value_that_was_deleted_is_put_again(values: ValueStore, file: Path) -> None:
    """That this process has put it before does not mean that it is there."""
    file.unlink()
    assert values.put(DATA) == DIGEST
    assert values.get(DIGEST) == DATA


@pytest.mark.parametrize("level", [0, 23, -1])
def test_a_level_that_zstd_does_not_have_is_refused(tmp_path: Path, level: int) -> None:
    """Levels go from 1 to 22; a higher one makes smaller files that any setting reads."""
    with pytest.raises(InvalidEventError) as caught:
        ValueStore(open_storage(tmp_path), level=level)
    assert caught.value.code == "bad_level"


def test_a_higher_level_makes_smaller_files(tmp_path: Path) -> None:
    """And what was written with one level is read with every other."""
    data = b"".join(b"%d,%d\n" % (n, n * n % 977) for n in range(20_000))
    sizes = []
    for level in (1, 19):
        store = ValueStore(open_storage(tmp_path / str(level)), level=level)
        sizes.append(store.size(store.put(data)))
        assert ValueStore(open_storage(tmp_path / str(level))).get(store.put(data)) == data
    assert sizes[1] < sizes[0]


# dictionaries --------------------------------------------------------------------------------------------


def record(number: int) -> bytes:
    """One of many small values that are alike."""
    noise = hashlib.sha256(b"%d" % number).hexdigest()[:16]
    return (
        f'{{"sample": "S{number:06d}", "reads": {number * 7919 % 100_000}, "genome": "GRCh38", "tool": '
        f'{{"name": "aligner", "version": "2.4.1", "options": ["--seed", "{noise}"]}}, "status": "passed"}}'
    ).encode()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A store with a dictionary, and the dictionary's digest."""
    root = tmp_path_factory.mktemp("trained")
    return root, ValueStore(open_storage(root)).train(map(record, range(1000)), size_bytes=4096)


def test_a_dictionary_makes_small_alike_values_smaller(trained: tuple[Path, str]) -> None:
    """Less than half of the bytes, and every store reads them, told of the dictionary or not."""
    root, dictionary = trained
    plain = ValueStore(open_storage(root))
    small = ValueStore(open_storage(root), dictionary=dictionary)
    assert small.dictionaries() == [dictionary]
    for number in (5_000, 5_001):
        data = record(number)
        without = len(compress(data))
        digest = small.put(data)
        assert small.size(digest) < without / 2
        assert plain.get(digest) == data
    assert set(plain) == {blake3(record(number)).hexdigest() for number in (5_000, 5_001)}


def test_a_dictionary_is_stored_as_the_format_says(trained: tuple[Path, str], tmp_path: Path) -> None:
    """Its name has its number and digest; the number is in the frames; zstd's own readers take the file."""
    root, dictionary = trained
    (path,) = (root / "values" / "dictionaries").iterdir()
    data = path.read_bytes()
    assert hashlib.sha256(data).hexdigest() == dictionary
    number = int.from_bytes(data[4:8], "little")
    assert path.name == f"{number:010d}-{dictionary}.zdict"
    store = ValueStore(open_storage(root), dictionary=dictionary)
    frame = (root / layout.value_path(store.put(record(1)))).read_bytes()
    assert zstandard.get_frame_parameters(frame).dict_id == number
    known = zstandard.ZstdCompressionDict(data)
    assert zstandard.ZstdDecompressor(dict_data=known).decompress(frame) == record(1)


def test_long_values_do_without_a_dictionary(trained: tuple[Path, str]) -> None:
    """They could be read even if it were lost."""
    root, dictionary = trained
    store = ValueStore(open_storage(root), dictionary=dictionary)
    frame = (root / layout.value_path(store.put(DATA * 10))).read_bytes()
    assert zstandard.get_frame_parameters(frame).dict_id == 0


def test_a_lost_or_altered_dictionary_is_damage(trained: tuple[Path, str], tmp_path: Path) -> None:
    """The value says which number it needs; a store cannot be opened with one that is not there."""
    shutil.copytree(trained[0], tmp_path / "copy")
    storage = open_storage(tmp_path / "copy")
    digest = ValueStore(storage, dictionary=trained[1]).put(record(2))
    (path,) = (tmp_path / "copy" / "values" / "dictionaries").iterdir()
    flip(path, 500, 1)
    with pytest.raises(IntegrityError) as caught:
        ValueStore(storage).get(digest)
    assert caught.value.code == "bad_dictionary"
    path.write_bytes(b"no dictionary")
    with pytest.raises(IntegrityError) as caught:
        ValueStore(storage).get(digest)
    assert caught.value.code == "bad_dictionary"
    path.unlink()
    with pytest.raises(IntegrityError) as caught:
        ValueStore(storage).get(digest)
    assert caught.value.code == "dictionary_missing"
    with pytest.raises(NotFoundError) as missing:
        ValueStore(storage, dictionary=trained[1])
    assert missing.value.code == "dictionary_missing"
    with pytest.raises(InvalidEventError):
        ValueStore(storage, dictionary="../../etc/passwd")


def test_too_few_samples_make_no_dictionary(tmp_path: Path) -> None:
    """Nothing is stored, and the message says how many were given."""
    for samples in ([], [b"a"], [b"abc"] * 3):
        with pytest.raises(InvalidEventError, match=f"found {len(samples)} of") as caught:
            ValueStore(open_storage(tmp_path)).train(samples)
        assert caught.value.code == "bad_samples"
    assert list(tmp_path.iterdir()) == []


def test_verify_knows_dictionaries(trained: tuple[Path, str], tmp_path: Path) -> None:
    """A dictionary in a store is no foreign file."""
    with EventStore.open(tmp_path / "store", create=True) as store:
        store.values.train(map(record, range(1000)), size_bytes=4096)
        report = store.verify()
    assert [finding.code for finding in report.findings] == []


def test_a_store_is_opened_with_level_and_dictionary(tmp_path: Path) -> None:
    """What is put through the store uses them; opened without, it reads the same."""
    with EventStore.open(tmp_path / "store", create=True) as store:
        dictionary = store.values.train(map(record, range(1000)), size_bytes=4096)
        plain = store.values.size(store.values.put(record(1)))
    with EventStore.open(tmp_path / "store", value_level=19, value_dictionary=dictionary) as store:
        digest = store.values.put(record(2))
        assert store.values.size(digest) < plain / 2
    with EventStore.open(tmp_path / "store", read_only=True) as store:
        assert store.values.get(digest) == record(2)
