"""One shard of a data set: its format, its bytes as a table and back, and the folder that it belongs into."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote

from eventstore.errors import InvalidEventError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["FORMATS", "arrow_reader", "as_arrow", "encode_shard", "partitions", "unreadable"]

FORMATS = frozenset({"avro", "csv", "grokLog", "ion", "json", "orc", "parquet", "xml"})
"""Formats that a data set may have, as in redun; what can be read here is fewer."""


def unreadable(found: str) -> InvalidEventError:
    """Return the error for a format that has a name and no reader here."""
    return InvalidEventError(
        f"shards that can be read here are parquet, csv, json and orc, found {found!r}; read the files "
        "of `filenames` by a library for it",
        code="bad_format",
    )


def arrow_reader(format_name: str) -> Callable[[IO[bytes]], Any]:
    """Return what reads a shard as an Arrow table; raises InvalidEventError (``bad_format``)."""
    if format_name == "parquet":
        from pyarrow.parquet import read_table

        return lambda stream: read_table(stream)
    if format_name == "csv":
        from pyarrow.csv import read_csv

        return lambda stream: read_csv(stream)
    if format_name == "json":
        from pyarrow.json import read_json

        return lambda stream: read_json(stream)
    if format_name == "orc":
        from pyarrow.orc import read_table as read_orc

        return lambda stream: read_orc(stream)
    raise unreadable(format_name)


def as_arrow(data: Any) -> pa.Table:
    """Return a frame as an Arrow table; raises InvalidEventError (``bad_data``)."""
    import pyarrow as pa

    if isinstance(data, pa.Table):
        return data
    module = type(data).__module__.partition(".")[0]
    if module == "polars":
        return data.to_arrow()
    if module == "pandas":
        return pa.Table.from_pandas(data, preserve_index=False)
    raise InvalidEventError(
        f"a frame of polars or pandas or an Arrow table was expected, found {type(data).__name__}",
        code="bad_data",
    )


def partitions(table: pa.Table, keys: Sequence[str]) -> Iterator[tuple[str, pa.Table]]:
    """Yield the folder of each combination of keys' values, and its rows without the keys."""
    import pyarrow.compute as pc

    if not keys:
        yield "", table
        return
    for values in table.group_by(list(keys), use_threads=False).aggregate([]).to_pylist():
        chosen = table
        for key, value in values.items():
            column = chosen[key]
            chosen = chosen.filter(pc.is_null(column) if value is None else pc.equal(column, value))
        names = [
            "__HIVE_DEFAULT_PARTITION__" if v is None else quote(str(v), safe="") for v in values.values()
        ]
        folder = "".join(f"/{quote(key, safe='')}={name}" for key, name in zip(values, names, strict=True))
        yield folder, chosen.drop_columns(keys)


def encode_shard(table: pa.Table, format_name: str) -> bytes:
    """Return a table as the bytes of one shard; raises InvalidEventError (``bad_format``)."""
    stream = BytesIO()
    if format_name == "parquet":
        from pyarrow.parquet import write_table

        write_table(table, stream, compression="zstd")
    elif format_name == "csv":
        from pyarrow.csv import write_csv

        write_csv(table, stream)
    else:
        raise InvalidEventError(
            f"shards are written as parquet or csv, found {format_name!r}; write the files yourself and use "
            "from_files",
            code="bad_format",
        )
    return stream.getvalue()
