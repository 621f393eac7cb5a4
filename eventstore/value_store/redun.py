"""The value store of redun: raw bytes named by value hash, in a folder that both can use at once."""

from __future__ import annotations

import re
from collections.abc import Iterator

from eventstore.errors import IntegrityError, InvalidEventError, NotFoundError
from eventstore.filesystem import Storage
from eventstore.hashing import hash_tagged_bytes
from eventstore.value_store.own import missing_value

__all__ = ["RedunValueStore"]

_VALUE_HASH = re.compile("[0-9a-f]{40}")


class RedunValueStore:
    """A value store of redun, to read and to add to as it is: ``<2 hex>/<38 hex>`` of the value hash, raw.

    A value hash is not always made of the bytes, so what is read cannot be checked in general; a value that
    is hashed by its bytes is checked when `plain` says so.

    Parameters
    ----------
    storage
        The folder that redun's setting ``value_store_path`` names.
    use_subdir
        Values lie in folders by the first two characters; False for a flat folder.
    """

    def __init__(self, storage: Storage, *, use_subdir: bool = True) -> None:
        self._storage = storage
        self._use_subdir = use_subdir

    def _path(self, value_hash: str) -> str:
        if not _VALUE_HASH.fullmatch(value_hash):
            raise InvalidEventError(
                f"a value hash of 40 lower-case hex characters was expected, found {value_hash[:80]!r}; a "
                "value is asked for by its `value_hash`",
                code="bad_digest",
            )
        return f"{value_hash[:2]}/{value_hash[2:]}" if self._use_subdir else value_hash

    def put(self, value_hash: str, data: bytes) -> None:
        """Store the bytes of a value unless they are there; a file that is plainly damaged is replaced.

        That is one that was cut off, or that the hash disproves where it proves `data`. Else the first
        writer's bytes stay, as they do in redun: one value may have several.
        """
        path = self._path(value_hash)
        if not (self._storage.exists(path) and self._intact(path, value_hash, data)):
            self._storage.put(path, data)

    def _intact(self, path: str, value_hash: str, data: bytes) -> bool:
        found = self._storage.read(path)
        if found == data:
            return True
        proven = hash_tagged_bytes("Value", data) == value_hash
        return not proven and not (len(found) < len(data) and data.startswith(found))

    def get(self, value_hash: str, *, plain: bool = False) -> bytes:
        """Return the bytes of a value.

        Parameters
        ----------
        plain
            The value is hashed by its bytes: compare them.

        Raises
        ------
        NotFoundError
            No such value (code ``value_missing``).
        IntegrityError
            The bytes of a plain value do not have its hash (``value_digest``).
        """
        path = self._path(value_hash)
        try:
            data = self._storage.read(path)
        except NotFoundError as error:
            raise missing_value(self._storage, path) from error
        if plain and hash_tagged_bytes("Value", data) != value_hash:
            raise IntegrityError(
                f"the bytes of the value {value_hash} were expected in {path!r}, found others; restore the "
                "file from a copy, or record the value again",
                code="value_digest",
                path=path,
            )
        return data

    def has(self, value_hash: str) -> bool:
        """Whether the value is stored."""
        return self._storage.exists(self._path(value_hash))

    def size(self, value_hash: str) -> int:
        """Return how many bytes the value takes; raises NotFoundError."""
        path = self._path(value_hash)
        try:
            return self._storage.size(path)
        except NotFoundError as error:
            raise missing_value(self._storage, path) from error

    def __iter__(self) -> Iterator[str]:
        """Yield the hashes of all stored values, in order; files of other names are left out."""
        for entry in self._storage.files():
            value_hash = entry.path.replace("/", "", 1) if self._use_subdir else entry.path
            if _VALUE_HASH.fullmatch(value_hash) and entry.path == self._path(value_hash):
                yield value_hash
