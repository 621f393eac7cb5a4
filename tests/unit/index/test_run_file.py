"""One run: whatever its records are, a look-up finds those of a key and no others, and damage is noticed."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from index_kit import ALL, Pair, disk_of, make_run, pairs, shrink, some_key

from eventstore.checked_file import IndexDamagedError
from eventstore.errors import InvalidEventError, StorageError
from eventstore.index.records import Records
from eventstore.index.run_file import Run
from eventstore.index.run_writer import write_run


def by_key(records: list[Pair]) -> dict[bytes, list[bytes]]:
    """The payloads of each key, in order."""
    found: dict[bytes, list[bytes]] = {}
    for key, payload in records:
        found.setdefault(key, []).append(payload)
    return found


def assert_run(run: Run, records: list[Pair], absent: list[bytes]) -> None:
    """The run has these records, twice asked, and nothing of these other keys."""
    for _ in range(2):  # the first time pages are checked
        for key, payloads in by_key(records).items():
            assert (run.one(key), run.all(key), run.newest(key)) == (payloads[0], payloads, payloads[-1])
        for key in absent:
            assert (run.one(key), run.all(key), run.newest(key)) == (None, [], None)


@pytest.mark.parametrize("count", [0, 1, 2, 15, 16, 17, 33, 500, 5_000])
@pytest.mark.parametrize("small", [False, True])
def test_a_run_has_its_records_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, small: bool
) -> None:
    """Present and absent keys, several records to a key, in blocks of the usual size and in small ones."""
    if small:
        shrink(monkeypatch)
    rng = random.Random(count)
    records = pairs(rng, count, keys=max(1, count // 2))
    run = make_run(tmp_path / "a.run", records)
    assert run.records == count
    absent = [some_key(rng) for _ in range(200)]
    near = [key[:-1] + bytes([key[-1] ^ 8]) for key, _ in records]
    assert_run(run, records, absent + near)


@pytest.mark.parametrize("same", [10, 64, 65, 3_000])
def test_a_key_of_many_records_keeps_their_order_and_its_neighbours(tmp_path: Path, same: int) -> None:
    """A crowded block is bisected: its many records come in order, and those beside them are found."""
    crowd = b"\x55" * 20 + bytes([ALL])
    beside = [b"\x55" * 19 + bytes([last, family]) for last in (0x54, 0x55, 0x56) for family in (1, 2, 4)]
    records = [(crowd, b"%d" % number) for number in range(same)] + [(key, b"x" + key) for key in beside]
    random.Random(1).shuffle(records)
    run = make_run(tmp_path / "a.run", records)
    assert_run(run, records, [b"\x55" * 19 + bytes([0x57, 1]), b"\x55" * 21, b"\0" * 21, b"\xff" * 21])


def test_large_payloads_are_read_alone(tmp_path: Path) -> None:
    """A block of more bytes than are checked at once answers the same."""
    rng = random.Random(3)
    records = [(some_key(rng), rng.randbytes(30_000)) for _ in range(40)]
    assert_run(make_run(tmp_path / "a.run", records), records, [some_key(rng) for _ in range(50)])


def test_bytes_across_two_keys_are_no_key(tmp_path: Path) -> None:
    """A key whose bytes stand in the end of one key and the beginning of the next is absent, or elsewhere."""
    wanted = b"\x10" + bytes(range(100, 120))
    first = b"\x01" * 11 + wanted[:10]
    second = wanted[10:] + b"\x01" * 10
    assert first + second == b"\x01" * 11 + wanted + b"\x01" * 10
    without = [(first, b"1"), (second, b"2")]
    assert_run(make_run(tmp_path / "a.run", without), without, [wanted])
    # In the order of keys the two stand before the wanted one or behind it: then it is found all the same.
    low = b"\x01" * 11 + b"\x70" * 10
    high = b"\x70" * 11 + b"\x02" * 10
    assert (low + high)[11:32] == b"\x70" * 21
    both = [(low, b"low"), (high, b"high"), (b"\x70" * 21, b"wanted")]
    assert_run(make_run(tmp_path / "b.run", both), both, [])


def test_ranges_of_keys_are_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`between` gives the records of a range of prefixes, in order, also where it cuts blocks."""
    shrink(monkeypatch)
    rng = random.Random(5)
    records = sorted(pairs(rng, 300, keys=100), key=lambda pair: pair[0])
    run = make_run(tmp_path / "a.run", records)
    bounds = [0, 1 << 32, *(rng.randrange(1 << 32) for _ in range(60))]
    bounds += [int.from_bytes(key[:4], "big") for key, _ in records[::20]]
    for low in set(bounds) - {1 << 32}:
        high = rng.choice([bound for bound in bounds if bound > low])
        found = run.between(low, high)
        expected = [pair for pair in records if low <= int.from_bytes(pair[0][:4], "big") < high]
        assert list(zip(found.keys.to_pylist(), found.payloads.to_pylist(), strict=True)) == expected


def test_no_flipped_bit_gives_a_wrong_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One bit of any byte of the file: no answer is wrong, and who opens the file or reads all of it is told.

    Of bits in blocks, some question tells, too.
    """
    shrink(monkeypatch)
    rng = random.Random(7)
    records = pairs(rng, 16, keys=10, longest=20)
    path = tmp_path / "a.run"
    directory = make_run(path, records)._directory
    whole, right = path.read_bytes(), by_key(records)
    right |= {some_key(rng): [] for _ in range(10)}
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << rng.randrange(8)
        path.unlink()  # not written in place: an earlier map would change
        path.write_bytes(damaged)
        noticed = 0
        try:
            run = Run.open(path)
            assert run is not None
        except IndexDamagedError:
            continue
        for key, payloads in right.items():
            try:
                assert run.all(key) == payloads
                assert run.one(key) == (payloads[0] if payloads else None)
                assert run.newest(key) == (payloads[-1] if payloads else None)
            except IndexDamagedError:
                noticed += 1
        assert noticed or place >= directory, f"the bit at {place} of {len(whole)} was not noticed"
        with pytest.raises(IndexDamagedError):
            run.between(0, 1 << 32)


@pytest.mark.parametrize("cut", [0, 1, 43, 44, 100, -1])
def test_a_cut_file_is_damage(tmp_path: Path, cut: int) -> None:
    """A file that is shorter than it was is refused when it is opened, with its path and the next step."""
    path = tmp_path / "a.run"
    make_run(path, pairs(random.Random(1), 50, keys=20))
    content = path.read_bytes()[:cut]
    path.unlink()
    path.write_bytes(content)
    with pytest.raises(IndexDamagedError, match="build it anew") as caught:
        Run.open(path)
    assert (caught.value.code, caught.value.path) == ("index_damaged", str(path))


def test_a_run_by_another_name_is_not_taken_for_it(tmp_path: Path) -> None:
    """Each file says its name: one in the place of another is damage, one that is not there is none."""
    make_run(tmp_path / "a.run", pairs(random.Random(1), 50, keys=20))
    (tmp_path / "a.run").rename(tmp_path / "b.run")
    with pytest.raises(IndexDamagedError, match="'b'"):
        Run.open(tmp_path / "b.run")
    assert Run.open(tmp_path / "a.run") is None


def test_keys_of_another_length_are_refused() -> None:
    """Keys have 21 bytes, and there is a payload for each."""
    for keys, payloads in ([b"x" * 20, b"y" * 22], [b"", b""]), ([b"x" * 21], []):
        with pytest.raises(InvalidEventError) as caught:
            Records.of_columns(keys, payloads)
        assert caught.value.code == "bad_key"


def test_too_many_bytes_for_one_block_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Payloads of one block that have 4 GiB together are an error that says so, and no file is left."""
    monkeypatch.setattr("eventstore.index.run_writer._MOST_PAYLOADS", 1_000)
    with pytest.raises(InvalidEventError) as caught:
        make_run(tmp_path / "a.run", [(b"k" * 21, b"x" * 600), (b"k" * 21, b"y" * 600)])
    assert (caught.value.code, list(tmp_path.iterdir())) == ("too_large", [])


@pytest.mark.parametrize("room", [0, 5_000])
def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    """If the disk is full, at once or in the middle, the error says so and no part of a file stays."""
    disk_of(room, monkeypatch)
    with pytest.raises(StorageError, match="make room") as caught:
        make_run(tmp_path / "a.run", pairs(random.Random(1), 300, keys=20))
    assert (caught.value.code, list(tmp_path.iterdir())) == ("disk_full", [])


def test_a_missing_folder_is_a_clear_error(tmp_path: Path) -> None:
    """Without its folder a run cannot be written; the error names the path."""
    path = tmp_path / "absent" / "a.run"
    with pytest.raises(StorageError) as caught:
        make_run(path, [])
    assert (caught.value.code, caught.value.path) == ("index_refused", str(path))


def test_the_memory_of_writing_is_that_of_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The source is asked for consecutive parts of the keys, none much larger than a part should be."""
    monkeypatch.setattr("eventstore.index.run_writer.PART_BYTES", 10_000)
    rng = random.Random(2)
    records = sorted((some_key(rng), rng.randbytes(80)) for _ in range(3_000))
    columns = Records.of_columns(*map(list, zip(*records, strict=True)))
    asked: list[tuple[int, int]] = []

    def source(low: int, high: int) -> Records:
        asked.append((low, high))
        return columns.between(low, high)

    write_run(tmp_path / "a.run", source, count=3_000, size_bytes=columns.size_bytes, facts={"name": "a"})
    assert [low for low, _ in asked] == [0, *(high for _, high in asked[:-1])]
    assert asked[-1][1] == 1 << 32
    assert max(columns.between(*each).size_bytes for each in asked) < 20_000
    run = Run.open(tmp_path / "a.run")
    assert run is not None
    assert_run(run, records, [some_key(rng) for _ in range(100)])


def test_payloads_may_be_a_slice_of_more() -> None:
    """Columns that are parts of others keep to their part."""
    rng = random.Random(9)
    records = sorted(pairs(rng, 50, keys=50), key=lambda pair: pair[0])
    columns = Records.of_columns(*map(list, zip(*records, strict=True)))
    part = Records(columns.keys[10:20], columns.payloads[10:20])
    assert bytes(part.key_data) == b"".join(key for key, _ in records[10:20])
    assert part.size_bytes == sum(len(key) + len(payload) for key, payload in records[10:20])
    assert part.prefixes == pa.array(
        [int.from_bytes(key[:4], "big") for key, _ in records[10:20]], pa.uint64()
    )
    assert part.families.to_pylist() == [key[20] for key, _ in records[10:20]]
    assert sys.byteorder == "little", "files are written as the machine has its numbers"
