"""A data set in shards as one value: a folder of Parquet, CSV, JSON-lines or ORC files, on any filesystem.

The hash is that of the path and of the shards' names, as redun has it: shards that come or go change it, a
shard that is rewritten under its name does not. The readers are imported when asked for: only pyarrow comes
with this package in every case.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from itertools import takewhile
from typing import IO, TYPE_CHECKING, Any, ClassVar, Self

from eventstore.errors import FileMissingError, InvalidEventError
from eventstore.file.failures import shown
from eventstore.file.file import File, checked_path
from eventstore.file.places import place_of
from eventstore.file.shards import FORMATS, arrow_reader, as_arrow, encode_shard, partitions, unreadable
from eventstore.hashing import hash_struct
from eventstore.pickling import stores_as
from eventstore.value import Value

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

__all__ = ["ShardedDataset"]


@stores_as("redun.file.ShardedS3Dataset")
class ShardedDataset(Value):
    """All files of one format in a folder.

    Parameters
    ----------
    path
        Of the folder; slashes at its end are dropped.
    format
        The shards' ending: parquet, csv, json (one object a line) and orc can be read, others be named.
    recurse
        Take in shards in folders below.
    """

    type_name: ClassVar[str] = "redun.ShardedS3Dataset"

    def __init__(self, path: str | os.PathLike[str], format: str = "parquet", recurse: bool = True) -> None:  # noqa: A002
        if format not in FORMATS:
            raise InvalidEventError(
                f"a format of {sorted(FORMATS)} was expected, found {format!r}; nothing was read",
                code="bad_format",
            )
        self.path = checked_path(path).rstrip("/")
        self.shard_format = format
        self.recurse = recurse
        self._hash: str | None = None
        self._filenames = self._gather()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r}, {self.shard_format!r}, recurse={self.recurse})"

    def __getstate__(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "format": self.shard_format,
            "recurse": self.recurse,
            "hash": self.hash,
            "files": self._filenames,
        }

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.path, self.shard_format = checked_path(state["path"]), state["format"]
        self.recurse, self._hash, self._filenames = state["recurse"], state["hash"], list(state["files"])

    # as a value ------------------------------------------------------------------------------------------

    def _gather(self) -> list[str]:
        depth = "/**/" if self.recurse else "/"
        place = place_of(self.path)
        patterns = {f"{self.path}/*.{self.shard_format}", f"{self.path}{depth}*.{self.shard_format}"}
        return sorted({found.path for pattern in patterns for found in place.found(pattern)})

    def _now(self) -> str:
        self._filenames = self._gather()
        return hash_struct(["ShardedS3Dataset", self.path, *self._filenames])

    @property
    def filenames(self) -> list[str]:
        """Paths of the shards as last looked at, sorted."""
        return list(self._filenames)

    @property
    def hash(self) -> str:
        """The hash of the shards' names as they were when last looked at."""
        if self._hash is None:
            self._hash = self._now()
        return self._hash

    @property
    def own_hash(self) -> str:
        """The same, as the value's id."""
        return self.hash

    def refresh(self) -> None:
        """Look for the shards again, so that `hash` is that of now."""
        self._hash = self._now()

    def is_valid(self) -> bool:
        """Whether there are just the shards that there were."""
        before = self.hash
        return self._now() == before

    def postprocess(self, call: Mapping[str, Any]) -> Self:  # noqa: ARG002 - every call
        """Look again: the task that returns it has just written it."""
        self.refresh()
        return self

    def iter_subvalues(self) -> Iterator[Value]:
        """Yield each shard as a file."""
        return (File(path) for path in self._filenames)

    # reading -----------------------------------------------------------------------------------------------

    def load_arrow(self, max_shards: int = -1) -> pa.Table:
        """Return the rows of the shards, in the order of their names, as an Arrow table.

        Parameters
        ----------
        max_shards
            Read only so many, the first; -1 reads all.

        Raises
        ------
        FileMissingError
            There is no shard (code ``no_shards``).
        InvalidEventError
            Shards of this format cannot be read here (code ``bad_format``).
        """
        import pyarrow as pa

        return pa.concat_tables(
            self._load(arrow_reader(self.shard_format), max_shards), promote_options="default"
        )

    def load_polars(self, max_shards: int = -1) -> pl.DataFrame:
        """Return the same as a polars frame."""
        import polars as pl

        readers: dict[str, Callable[[IO[bytes]], pl.DataFrame]] = {
            "csv": pl.read_csv,
            "json": pl.read_ndjson,
            "orc": lambda stream: pl.DataFrame(arrow_reader("orc")(stream)),
            "parquet": pl.read_parquet,
        }
        shards: list[pl.DataFrame] = self._load(self._reader(readers), max_shards)
        return pl.concat(shards, how="vertical_relaxed")

    def load_pandas(self, max_shards: int = -1) -> pd.DataFrame:
        """Return the same as a pandas frame; rows keep the index that they have in their shard."""
        import pandas as pd

        return pd.concat(self.load_pandas_shards(max_shards))

    def load_pandas_shards(self, max_shards: int = -1) -> list[pd.DataFrame]:
        """Return each shard as a pandas frame, in the order of their names."""
        import pandas as pd

        readers: dict[str, Callable[[IO[bytes]], Any]] = {
            "csv": pd.read_csv,
            "json": lambda stream: pd.read_json(stream, lines=True),
            "orc": pd.read_orc,
            "parquet": pd.read_parquet,
        }
        return self._load(self._reader(readers), max_shards)

    def _reader(self, readers: Mapping[str, Callable[[IO[bytes]], Any]]) -> Callable[[IO[bytes]], Any]:
        reader = readers.get(self.shard_format)
        if reader is None:
            raise unreadable(self.shard_format)
        return reader

    def _load(self, reader: Callable[[IO[bytes]], Any], max_shards: int) -> list[Any]:
        self.refresh()
        wanted = self._filenames if max_shards < 0 else self._filenames[:max_shards]
        if not wanted:
            raise FileMissingError(
                f"shards *.{self.shard_format} were expected in {shown(self.path)!r}, found none to read; "
                "correct the path or the format",
                code="no_shards",
                path=shown(self.path),
            )
        # Whole, as the readers seek and cannot all read a stream from elsewhere.
        return [reader(BytesIO(File(path).read("rb"))) for path in wanted]

    # making ------------------------------------------------------------------------------------------------

    @classmethod
    def from_files(
        cls,
        files: Sequence[File],
        format: str | None = None,  # noqa: A002
        allow_additional_files: bool = False,
    ) -> Self:
        """Return the data set whose shards are `files`, at the deepest folder that has all of them.

        Parameters
        ----------
        format
            None takes it from the files' endings, which must agree.
        allow_additional_files
            Let the folder have more files of this format.

        Raises
        ------
        FileMissingError
            One of the files is not there.
        InvalidEventError
            They are no data set (code ``bad_shards``).
        """
        paths = [file.path for file in files]
        for file in files:
            if not file.exists():
                raise FileMissingError(
                    f"the shard {shown(file.path)!r} was expected, found none; write it first",
                    path=shown(file.path),
                )
        roots = {path.rpartition("/")[0] for path in paths}
        endings = {path.rpartition("/")[2].rpartition(".")[2] for path in paths}
        root = _common_folder(roots)
        if not root or root.endswith(("/", ":")):
            raise _bad_shards(f"files in one folder, found {len(paths)} in {len(roots)} that share none")
        if format is None and len(endings) != 1:
            raise _bad_shards(f"files with one ending, found {sorted(endings)}")
        made = cls(root, format or endings.pop())
        extra = set(made._filenames) - set(paths)
        if extra and not allow_additional_files:
            raise _bad_shards(f"no other file of this format in {shown(root)!r}, found {len(extra)} more")
        return made

    @classmethod
    def from_data(
        cls,
        dataset: Any,
        output_path: str,
        format: str = "parquet",  # noqa: A002
        *,
        partition_keys: Sequence[str] = (),
        max_rows: int = 1_000_000,
    ) -> Self:
        """Write a table into a folder as new shards beside those that are there, and return the data set.

        Parameters
        ----------
        dataset
            A frame of polars or pandas, or an Arrow table.
        format
            parquet or csv.
        partition_keys
            Columns whose values become folders ``<column>=<value>``, and leave the shards.
        max_rows
            Most rows of a shard.
        """
        table = as_arrow(dataset)
        missing = [key for key in partition_keys if key not in table.column_names]
        if missing:
            raise InvalidEventError(
                f"columns {table.column_names} are there to partition by, found {missing}",
                code="bad_partition",
            )
        root = checked_path(output_path).rstrip("/")
        for folder, rows in partitions(table, partition_keys):
            for first in range(0, max(rows.num_rows, 1), max_rows):
                path = f"{root}{folder}/part-{first // max_rows:05d}-{secrets.token_hex(8)}.{format}"
                File(path).write(encode_shard(rows.slice(first, max_rows), format))
        return cls(root, format, recurse=bool(partition_keys))


def _common_folder(folders: Iterable[str]) -> str:
    split = [folder.split("/") for folder in folders]
    shared = takewhile(lambda parts: len(set(parts)) == 1, zip(*split, strict=False))
    return "/".join(parts[0] for parts in shared)


def _bad_shards(expected: str) -> InvalidEventError:
    return InvalidEventError(f"for a data set were expected {expected}; name the folder", code="bad_shards")
