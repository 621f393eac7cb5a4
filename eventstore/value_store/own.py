"""Large values as files: bytes named by their BLAKE3, one zstd frame a file, put whole or not at all.

A name can only ever hold one content, so a put is idempotent, needs no lock, and a get checks what it reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from eventstore import layout
from eventstore.codec.compression import (
    DEFAULT_LEVEL,
    Dictionary,
    compress,
    decompress,
    dictionary_of,
    train_dictionary,
)
from eventstore.errors import EventStoreError, IntegrityError, InvalidEventError, NotFoundError
from eventstore.filesystem import Storage
from eventstore.ids import Digest, is_digest
from eventstore.value_store.digest import data_digest, is_of_data

__all__ = ["DICTIONARY_BYTES", "DICTIONARY_LIMIT", "ValueStore", "missing_value"]

DICTIONARY_BYTES = 112_640
"""Size of a dictionary unless another is asked for: zstd's own default."""
DICTIONARY_LIMIT = 64 * 1024
"""Longer values are compressed without a dictionary: they have enough in common with themselves."""
_CHECKED = 100_000
"""Most digests that are remembered as whole in the store."""


class ValueStore:
    """Bytes by digest under ``values/`` of a store.

    Parameters
    ----------
    storage
        The store's root.
    level
        zstd level of new files, 1 to 22.
    max_bytes
        Largest value that `put` takes, in bytes before compression.
    dictionary
        SHA-256 of the dictionary for new small values, from `train`; reading needs no setting.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        level: int = DEFAULT_LEVEL,
        max_bytes: int = 1_000_000_000,
        dictionary: str | None = None,
    ) -> None:
        if not 1 <= level <= 22:
            raise InvalidEventError(
                f"a zstd level from 1 to 22 was expected, found {level}; 3 is quick, 19 is small",
                code="bad_level",
            )
        self._storage = storage
        self._level = level
        self._max_bytes = max_bytes
        self._dictionaries: dict[int, list[Dictionary]] = {}
        self._whole: set[str] = set()
        self._dictionary = None if dictionary is None else self._load_dictionary(_checked(dictionary))

    def put(self, data: bytes) -> Digest:
        """Store `data` unless it is there whole, and return its BLAKE3.

        The first put of a value that is there reads it back; a file that does not hold it is replaced.

        Raises
        ------
        InvalidEventError
            `data` is longer than `max_bytes` (code ``value_too_large``); nothing is stored.
        StorageError
            The filesystem refused; nothing is visible.
        """
        if len(data) > self._max_bytes:
            raise InvalidEventError(
                f"a value of at most {self._max_bytes} bytes was expected, found {len(data)}: keep "
                "it in a file and record the file, or raise max_value_bytes; nothing was stored",
                code="value_too_large",
                size_bytes=len(data),
            )
        digest = data_digest(data)
        path = layout.value_path(digest)
        if not (self._storage.exists(path) and (digest in self._whole or self._holds(path, data))):
            dictionary = self._dictionary if len(data) <= DICTIONARY_LIMIT else None
            self._storage.put(path, compress(data, level=self._level, dictionary=dictionary))
        if len(self._whole) >= _CHECKED:
            self._whole.clear()
        self._whole.add(digest)
        return digest

    def _holds(self, path: str, data: bytes) -> bool:
        try:
            return self._decompress(path, self._storage.read(path)) == data
        except (IntegrityError, NotFoundError):
            return False

    def get(self, digest: str) -> bytes:
        """Return the bytes whose name is `digest`.

        Raises
        ------
        NotFoundError
            No such value (code ``value_missing``).
        IntegrityError
            The file is truncated or altered (``bad_frame``, ``value_digest``), or the dictionary that it
            needs is gone (``dictionary_missing``).
        """
        path = layout.value_path(_checked(digest))
        try:
            frame = self._storage.read(path)
        except NotFoundError as error:
            raise missing_value(self._storage, path) from error
        data = self._decompress(path, frame)
        if not is_of_data(digest, data):
            raise IntegrityError(
                f"bytes with BLAKE3 {digest} were expected in {path!r}, found {data_digest(data)}; restore "
                "the file from a copy and run `eventstore verify`",
                code="value_digest",
                path=path,
            )
        return data

    def has(self, digest: str) -> bool:
        """Whether the value is stored."""
        return self._storage.exists(layout.value_path(_checked(digest)))

    def size(self, digest: str) -> int:
        """Return how many bytes the stored (compressed) value takes; raises NotFoundError."""
        path = layout.value_path(_checked(digest))
        try:
            return self._storage.size(path)
        except NotFoundError as error:
            raise missing_value(self._storage, path) from error

    def __iter__(self) -> Iterator[Digest]:
        """Yield the digests of all stored values, in order."""
        for entry in self._storage.files(layout.VALUES):
            digest = layout.parse_value(entry.path)
            if digest is not None:
                yield digest

    # dictionaries ----------------------------------------------------------------------------------------

    def train(self, samples: Iterable[bytes], *, size_bytes: int = DICTIONARY_BYTES) -> Digest:
        """Make a dictionary from values that are alike, store it, and return its SHA-256.

        New values use it where the store is opened with it. It must stay as long as there are values that do.

        Parameters
        ----------
        samples
            Values as they will be put: some hundred, in all about a hundred times `size_bytes`.
        size_bytes
            Most bytes of the dictionary.

        Raises
        ------
        InvalidEventError
            No dictionary can be made of them (code ``bad_samples``), or another one has its number
            (``dictionary_number``): add samples.
        """
        made = train_dictionary(list(samples), size_bytes=size_bytes)
        if any(known.digest != made.digest for known in self._numbered(made.number)):
            raise InvalidEventError(
                f"a dictionary with a number of its own was expected, found {made.number}, which another has "
                "already; train with more samples",
                code="dictionary_number",
            )
        self._storage.put(layout.dictionary_path(made.number, made.digest), made.data)
        return Digest(made.digest)

    def dictionaries(self) -> list[Digest]:
        """Return the SHA-256 of each dictionary."""
        found = (layout.parse_dictionary(entry.path) for entry in self._storage.files(layout.DICTIONARIES))
        return [parsed[1] for parsed in found if parsed is not None]

    def _load_dictionary(self, digest: str) -> Dictionary:
        for entry in self._storage.files(layout.DICTIONARIES):
            parsed = layout.parse_dictionary(entry.path)
            if parsed is not None and parsed[1] == digest:
                return self._read_dictionary(entry.path, digest)
        raise NotFoundError(
            f"the dictionary {digest} was expected in {self._storage.url}, found none of this name; train() "
            "makes one and returns its name",
            code="dictionary_missing",
        )

    def _read_dictionary(self, path: str, digest: str) -> Dictionary:
        found = Dictionary(self._storage.read(path))
        if found.digest != digest:
            raise IntegrityError(
                f"a dictionary with SHA-256 {digest} was expected in {path!r}, found {found.digest}; restore "
                "the file from a copy",
                code="bad_dictionary",
                path=path,
            )
        return found

    def _numbered(self, number: int) -> list[Dictionary]:
        """Return the dictionaries that frames call `number`: one, as `train` sees to it."""
        if number not in self._dictionaries:
            entries = self._storage.files(layout.DICTIONARIES)
            parsed = [(entry.path, layout.parse_dictionary(entry.path)) for entry in entries]
            found = [self._read_dictionary(p, each[1]) for p, each in parsed if each and each[0] == number]
            if not found:
                return []  # perhaps it comes yet
            self._dictionaries[number] = found
        return self._dictionaries[number]

    def _decompress(self, path: str, frame: bytes) -> bytes:
        number = dictionary_of(frame)
        if not number:
            return decompress(frame, where=path)
        known = self._numbered(number)
        if not known:
            raise IntegrityError(
                f"the dictionary number {number} was expected in {layout.DICTIONARIES!r}, as {path!r} needs "
                "it, found none; restore it from a copy",
                code="dictionary_missing",
                path=path,
            )
        for dictionary in known[:-1]:
            try:
                return decompress(frame, where=path, dictionary=dictionary)
            except EventStoreError:
                continue
        return decompress(frame, where=path, dictionary=known[-1])


def missing_value(storage: Storage, path: str) -> NotFoundError:
    """Return the error for a value that is not there."""
    return NotFoundError(
        f"a value was expected at {path!r} in {storage.url}, found no file; restore it from a copy, or "
        "record the value again",
        code="value_missing",
        path=path,
    )


def _checked(digest: str) -> Digest:
    """Refuse what is no digest before it becomes a path."""
    if not is_digest(digest):
        raise InvalidEventError(
            f"a digest of 64 lower-case hex characters was expected, found {digest[:80]!r}; a value "
            "is asked for by the `data_digest` of its event",
            code="bad_digest",
        )
    return Digest(digest)
