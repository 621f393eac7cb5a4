"""Values kept in files of their own, where the user wants them, and recorded as the path: redun's FileCache.

A file is named by its content, so equal values share one and what is read back is checked against its name.
"""

from __future__ import annotations

import posixpath
import re
from typing import Any

from eventstore.errors import IntegrityError, NotFoundError
from eventstore.file import File
from eventstore.hashing import hash_bytes
from eventstore.pickling import dump_pickle, load_pickle
from eventstore.value import ValueType

__all__ = ["FileCache"]

_NAME = re.compile("[0-9a-f]{40}")


class FileCache(ValueType):
    """Values of a type whose bytes go to files. Subclasses may override `encode` and `decode`.

    As in redun, the recorded hash is that of the path, and the hash as an argument that of the pickle.

    Parameters
    ----------
    folder
        Where the files go, as a path or URL that `File` takes.
    type_name
        The stored type name; None gives ``module.ClassName``.
    """

    def __init__(self, folder: str, type_name: str | None = None) -> None:
        super().__init__(type_name)
        self._folder = folder

    def encode(self, value: Any) -> bytes:
        """Return what goes into the file."""
        return dump_pickle(value)

    def decode(self, data: bytes) -> Any:
        """Return the value of a file's content."""
        return load_pickle(data)

    def serialize(self, value: Any) -> bytes:
        """Write the file unless it is there, and return its path; raises StorageError or OSError."""
        data = self.encode(value)
        path = posixpath.join(self._folder, hash_bytes(data))
        file = File(path)
        if not file.exists() or file.size() != len(data):
            with file.open("wb") as stream:
                stream.write(data)
        return path.encode()

    def hash(self, value: Any, data: bytes | None = None) -> str:
        """Return the id of `value`: of its path where that is at hand, else of its pickle."""
        return super().hash(value, dump_pickle(value) if data is None else data)

    def deserialize(self, data: bytes) -> Any:
        """Return the value whose path this is.

        Raises
        ------
        NotFoundError
            The file is gone (code ``value_file_gone``).
        IntegrityError
            Its content is not what its name says (``value_file_digest``).
        """
        path = data.decode()
        file = File(path)
        if not file.exists():
            raise NotFoundError(
                f"the file {path!r} was expected, which keeps a value, found none: restore it, or record the "
                "value again",
                code="value_file_gone",
                path=path,
            )
        with file.open("rb") as stream:
            content = stream.read()
        name = posixpath.basename(path)
        found = hash_bytes(content)
        if found != name or not _NAME.fullmatch(name):
            raise IntegrityError(
                f"the value named by its digest was expected in {path!r}, found content with digest {found}: "
                "restore the file, or record the value again",
                code="value_file_digest",
                path=path,
            )
        return self.decode(content)
