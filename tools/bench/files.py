"""Benchmarks of files and of the value store, beside redun and beside what the filesystem takes by itself."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import redun.file
import zstandard
from redun.backends.value_store import ValueStore as TheirStore

from eventstore.file import ContentFile, Dir, File
from eventstore.filesystem import open_storage
from eventstore.value_store import RedunValueStore, ValueStore, data_digest
from tools.bench.campaign import Settings, benchmark
from tools.bench.measure import Row, interleave, rate

__all__: list[str] = []

MIB = 2**20
FOLDERS = 100
VALUES = ((65_536, 400), (MIB, 60), (16 * MIB, 6))
"""Bytes of a value, and how many."""


# folders -------------------------------------------------------------------------------------------------


def make_tree(root: Path, count: int) -> None:
    """Make so many small files, in a hundred folders."""
    for number in range(FOLDERS):
        (root / f"{number:03d}").mkdir(parents=True)
    for number in range(count):
        (root / f"{number % FOLDERS:03d}" / f"file-{number:07d}.txt").write_bytes(b"x" * (number % 50))


def bare_walk(folder: str) -> int:
    """List every folder and look at every file: what nobody can do without."""
    count = 0
    waiting = [folder]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir():
                    waiting.append(entry.path)
                else:
                    count += entry.stat().st_size >= 0
    return count


@benchmark("folder", "the hash of a folder of at most 10,000 small files in 100 folders, from a warm cache")
def folder(settings: Settings) -> list[Row]:
    """Hash a Dir, and take the hashes of its files, beside redun and a bare walk."""
    root = settings.fresh("folder")
    count = min(settings.size, 10_000)
    make_tree(root, count)
    path = str(root)
    text = [f"{path}/{number % FOLDERS:03d}/file-{number:07d}.txt" for number in range(count)]
    states = [os.stat(each) for each in text]  # noqa: PTH116 - as text, as in a walk

    def ours() -> None:
        _ = Dir(path).hash

    def theirs() -> None:
        _ = redun.file.Dir(path).hash

    def digests() -> None:
        for name, state in zip(text, states, strict=True):
            hashlib.sha512(f"{name}{state.st_size}{state.st_mtime}".encode()).hexdigest()

    def bare() -> None:
        bare_walk(path)

    def one_by_one() -> None:
        for name in text:
            _ = File(name).hash

    def one_by_one_redun() -> None:
        for name in text:
            _ = redun.file.File(name).hash

    subjects: dict[str, Callable[[], float | None]] = {
        "ours": ours,
        "redun": theirs,
        "bare": bare,
        "digests": digests,
        "files": one_by_one,
        "files redun": one_by_one_redun,
    }
    times = interleave(subjects, settings.repeats)
    shutil.rmtree(root)
    mine = rate(count, times["ours"])
    limit = count / (times["bare"].median + times["digests"].median)
    return [
        Row(f"Dir of {count:,} files", mine, "files/s", limit, "bare walk and one SHA-512 a file"),
        Row(f"Dir of {count:,} files", mine, "files/s", rate(count, times["bare"]), "bare walk"),
        Row(f"Dir of {count:,} files", mine, "files/s", rate(count, times["redun"]), "redun"),
        Row(
            "a File by itself",
            rate(count, times["files"]),
            "files/s",
            rate(count, times["files redun"]),
            "redun",
        ),
    ]


# files ---------------------------------------------------------------------------------------------------


@benchmark("file", "one file of 256 MiB from a warm cache: hashed by content, copied, written")
def file(settings: Settings) -> list[Row]:
    """Hash and copy a large file, beside redun and the bare operations."""
    root = settings.fresh("file")
    root.mkdir()
    size = 256 * MIB if settings.size >= 100_000 else 32 * MIB
    path, copy = root / "a", root / "b"
    chunk = random.Random(settings.seed).randbytes(MIB)
    with path.open("wb") as stream:
        for _ in range(size // MIB):
            stream.write(chunk)

    def bare_hash() -> None:
        with path.open("rb") as stream:
            hashlib.file_digest(stream, "sha512")

    subjects: dict[str, Callable[[], object]] = {
        "hash": lambda: ContentFile(path).hash,
        "hash redun": lambda: redun.file.ContentFile(str(path)).hash,
        "hash bare": bare_hash,
        "copy": lambda: File(path).copy_to(File(copy)),
        "copy redun": lambda: redun.file.File(str(path)).copy_to(redun.file.File(str(copy))),
        "copy bare": lambda: shutil.copyfile(path, copy),
    }
    times = interleave({name: _no_result(act) for name, act in subjects.items()}, settings.repeats)
    shutil.rmtree(root)

    def speed(name: str) -> float:
        return size / MIB / times[name].median

    return [
        Row("ContentFile.hash", speed("hash"), "MiB/s", speed("hash bare"), "bare SHA-512 of the file"),
        Row("ContentFile.hash", speed("hash"), "MiB/s", speed("hash redun"), "redun"),
        Row("File.copy_to", speed("copy"), "MiB/s", speed("copy bare"), "bare copy by the system"),
        Row("File.copy_to", speed("copy"), "MiB/s", speed("copy redun"), "redun"),
    ]


def _no_result(act: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        act()

    return run


# values --------------------------------------------------------------------------------------------------


def made_values(size: int, count: int, seed: int) -> list[bytes]:
    """Values that shrink to about a third, as tables and text do; no two are alike."""
    rng = random.Random(seed)
    words = pa.array([rng.randbytes(rng.randint(3, 9)) + b" " for _ in range(4096)], pa.large_binary())
    drawn = size // 4
    values = []
    for _ in range(count):
        chance = pa.Array.from_buffers(pa.uint16(), drawn, [None, pa.py_buffer(rng.randbytes(2 * drawn))])
        text = words.take(pc.bit_wise_and(chance, pa.scalar(4095, pa.uint16())))
        values.append(text.buffers()[2].slice(0, size).to_pybytes())
    return values


def bare_put(root: Path, values: list[bytes], *, digest: bool) -> list[Path]:
    """Compress each value and write it as safely: beside, forced to the device, renamed, folders too."""

    def sync(folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)

    compressor = zstandard.ZstdCompressor(level=3, write_checksum=True)
    paths = []
    for number, value in enumerate(values):
        name = data_digest(value) if digest else f"{number:064x}"
        folder = root / name[-2:]
        if not folder.is_dir():
            folder.mkdir(parents=True)
            sync(root)
        path, beside = folder / name, folder / f".{name}"
        with beside.open("xb") as stream:
            stream.write(compressor.compress(value))
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(path)
        sync(folder)
        paths.append(path)
    return paths


def bare_get(paths: list[Path], *, digest: bool) -> None:
    """Read and decompress each, and hash it if `digest`."""
    for path in paths:
        data = zstandard.ZstdDecompressor().decompress(path.read_bytes())
        if digest:
            data_digest(data)


@benchmark("value-store", "large values of three sizes put into the value store and read back")
def value_store(settings: Settings) -> list[Row]:
    """Put and get, beside bare files with zstd, the same with BLAKE3, and redun's store of raw bytes."""
    rows = []
    for size, count in VALUES:
        if size * count > settings.size * 4096:
            continue
        rows += _values_of(settings, size, count)
    return rows


def _values_of(settings: Settings, size: int, count: int) -> list[Row]:
    made = made_values(size, count, settings.seed)
    root = settings.fresh("values")
    places = iter(range(1_000_000))
    last: dict[str, Path] = {}

    def place(name: str) -> Path:
        shutil.rmtree(last.get(name, root / "none"), ignore_errors=True)
        last[name] = root / f"{name}-{next(places)}"
        last[name].mkdir(parents=True)
        return last[name]

    paths: dict[bool, list[Path]] = {}
    digests = [data_digest(value) for value in made]
    hashes = [digest[:40] for digest in digests]

    def put() -> None:
        store = ValueStore(open_storage(place("ours")))
        for value in made:
            store.put(value)

    def put_again() -> None:
        store = ValueStore(open_storage(last["ours"]))
        for value in made:
            store.put(value)

    def get() -> None:
        store = ValueStore(open_storage(last["ours"]))
        for digest in digests:
            store.get(digest)

    def put_bare() -> None:
        paths[False] = bare_put(place("bare"), made, digest=False)

    def put_hashed() -> None:
        paths[True] = bare_put(place("hashed"), made, digest=True)

    def put_redun() -> None:
        store = TheirStore(str(place("redun")))
        for name, value in zip(hashes, made, strict=True):
            store.put(name, value)

    def get_redun() -> None:
        store = TheirStore(str(last["redun"]))
        for name in hashes:
            store.get(name)

    def put_raw() -> None:
        store = RedunValueStore(open_storage(place("raw")))
        for name, value in zip(hashes, made, strict=True):
            store.put(name, value)

    subjects: dict[str, Callable[[], float | None]] = {
        "put": put,
        "put bare": put_bare,
        "put hashed": put_hashed,
        "put redun": put_redun,
        "put raw": put_raw,
        "get": get,
        "get bare": lambda: bare_get(paths[False], digest=False),
        "get hashed": lambda: bare_get(paths[True], digest=True),
        "get redun": get_redun,
        "again": put_again,
    }
    times = interleave(subjects, settings.repeats)
    shutil.rmtree(root)
    what = f"{size // 1024:,} KiB"

    def speed(name: str) -> float:
        return size * count / MIB / times[name].median

    rows = []
    for verb in ("put", "get"):
        for limit, of in (("bare", "bare file and zstd"), ("hashed", "the same and one BLAKE3")):
            least = speed(f"{verb} {limit}")
            holds = speed(verb) >= 0.8 * least
            rows.append(Row(f"{verb} {what}", speed(verb), "MiB/s", least, of, "80 %", holds))
        theirs = speed(f"{verb} redun")
        rows.append(Row(f"{verb} {what}", speed(verb), "MiB/s", theirs, "redun: raw, not forced to disk"))
    rows += [
        Row(f"put {what}, there already", speed("again"), "MiB/s"),
        Row(f"put {what} into a store of redun", speed("put raw"), "MiB/s", speed("put redun"), "redun"),
    ]
    return rows
