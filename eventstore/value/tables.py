"""Tables of polars, pandas and pyarrow as values: Arrow IPC files, and a hash of their content alone.

Nothing is pickled. The hash covers names, types and values of the columns, and an index; chunking, metadata
and the version of the library do not enter it. The libraries are imported when one of their tables is met.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa

from eventstore.errors import IntegrityError, NotFoundError
from eventstore.hashing import canonical_json, hash_struct
from eventstore.value.columns import column_digest, type_facts
from eventstore.value.contract import ValueType
from eventstore.value.problems import UnstorableValueError

if TYPE_CHECKING:
    import polars as pl

__all__ = ["ARROW_FORMAT", "PandasTables", "PolarsTables", "PyarrowTables", "TabularType", "read_arrow"]

ARROW_FORMAT = "application/vnd.apache.arrow.file"
_FACTS = b"eventstore.table"
"""Key of the schema's metadata under which the facts are that the hash covers besides the columns."""


class TabularType(ValueType):
    """Values of exactly one class of a library that may not be installed; subclasses of it are others."""

    library: ClassVar[str]
    class_name: ClassVar[str]

    def __init__(self) -> None:
        super().__init__(f"{self.library}.{self.class_name}")

    def kind(self) -> type:
        """Import the library and return the class.

        Raises
        ------
        NotFoundError
            It is not installed (code ``library_missing``).
        """
        try:
            return self._import()
        except ImportError as error:
            raise NotFoundError(
                f"{self.library} was expected, which makes a {self.class_name}, and is not installed: "
                f"pip install {self.library}",
                code="library_missing",
                library=self.library,
            ) from error

    @abstractmethod
    def _import(self) -> type: ...

    def speaks_for(self, kind: type) -> bool:
        """Whether `kind` is the class itself: a subclass may hold more than a table."""
        return kind is self.kind()


class _Tables(TabularType):
    format = ARROW_FORMAT

    def serialize(self, value: Any) -> bytes:
        """Return the bytes that are stored; raises like `dump`."""
        return write_arrow(self._arrow(value))

    def hash(self, value: Any, data: bytes | None = None) -> str:  # noqa: ARG002 - the content decides
        """Return the id of a table; raises like `dump`."""
        return self._hash(self._arrow(value))

    def dump(self, value: Any) -> tuple[str, bytes]:
        """Return hash and bytes of a table.

        Raises
        ------
        UnstorableValueError
            A column has no stable form (code ``unstorable_table``).
        """
        table = self._arrow(value)
        return self._hash(table), write_arrow(table)

    def hash_of_bytes(self, data: bytes) -> str | None:
        """Return the id of the table that these bytes hold; raises like `read_arrow`."""
        return self._hash(read_arrow(data))

    def deserialize(self, data: bytes) -> Any:
        """Return the table of these bytes; raises like `kind` and `read_arrow`."""
        self.kind()
        table = read_arrow(data)
        metadata = dict(table.schema.metadata or {})
        try:
            facts = json.loads(metadata.pop(_FACTS, b"{}"))
            value = self._from_arrow(table.replace_schema_metadata(metadata or None), facts)
            same = self._facts(value, table) == facts
        except (pa.ArrowException, ValueError, TypeError, LookupError, AttributeError) as error:
            raise _damaged(data, str(error)) from error
        if not same:
            raise _damaged(data, "the facts beside the columns are those of another table")
        return value

    def _arrow(self, value: Any) -> pa.Table:
        try:
            table = self._to_arrow(value)
            facts = canonical_json(self._facts(value, table)).encode()
        except (pa.ArrowException, TypeError, ValueError, NotImplementedError) as error:
            raise UnstorableValueError(
                f"a table whose columns Arrow can hold was expected, found one where that fails ({error}): "
                "give each column one type, or keep the table as a file and record the file",
                code="unstorable_table",
            ) from error
        return table.replace_schema_metadata({**(table.schema.metadata or {}), _FACTS: facts})

    def _hash(self, table: pa.Table) -> str:
        columns = [
            [field.name, type_facts(field.type), column_digest(table.column(place))]
            for place, field in enumerate(table.schema)
        ]
        facts = (table.schema.metadata or {}).get(_FACTS, b"")
        return hash_struct(["Value.table", self.name(object), table.num_rows, columns, facts])

    @abstractmethod
    def _facts(self, value: Any, table: pa.Table) -> Any:
        """Return what belongs to the content and is in no column, as JSON can say it."""

    @abstractmethod
    def _to_arrow(self, value: Any) -> pa.Table: ...

    @abstractmethod
    def _from_arrow(self, table: pa.Table, facts: Any) -> Any: ...


class PyarrowTables(_Tables):
    """Tables of pyarrow."""

    library = "pyarrow"
    class_name = "Table"

    def _import(self) -> type:
        return pa.Table  # type: ignore[no-any-return]

    def _facts(self, value: Any, table: pa.Table) -> Any:  # noqa: ARG002 - the columns say all
        return {}

    def _to_arrow(self, value: Any) -> pa.Table:
        return value

    def _from_arrow(self, table: pa.Table, facts: Any) -> Any:  # noqa: ARG002 - it has none
        return table


class PolarsTables(_Tables):
    """Data frames of polars. Categories are part of the type of an Enum, and not of that of a Categorical."""

    library = "polars"
    class_name = "DataFrame"

    def _import(self) -> type:
        import polars as pl

        return pl.DataFrame

    def _to_arrow(self, value: pl.DataFrame) -> pa.Table:
        objects = [name for name, kind in value.schema.items() if "Object" in repr(kind)]
        if objects:  # Arrow would get their addresses
            raise TypeError(f"Python objects in {objects[:10]}")
        return value.to_arrow()

    def _from_arrow(self, table: pa.Table, facts: Any) -> pl.DataFrame:  # noqa: ARG002 - the metadata says them too
        import polars as pl

        try:
            frame = pl.from_arrow(table)
        except (
            pl.exceptions.PanicException
        ) as error:  # no Exception: on metadata that it did not write itself
            raise ValueError(f"polars does not take it: {error}") from None
        return frame if isinstance(frame, pl.DataFrame) else frame.to_frame()

    def _facts(self, value: pl.DataFrame, table: pa.Table) -> Any:  # noqa: ARG002 - its own types say it
        enums = {name: _enums(kind) for name, kind in value.schema.items()}
        return {name: categories for name, categories in enums.items() if categories}


def _enums(kind: Any) -> list[Any]:
    """Return the categories of each Enum in a polars type, from outside to inside."""
    import polars as pl

    if isinstance(kind, pl.Enum):
        return [kind.categories.to_list()]
    if isinstance(kind, (pl.List, pl.Array)):
        return _enums(kind.inner)
    if isinstance(kind, pl.Struct):
        return [found for field in kind.fields for found in _enums(field.dtype)]
    return []


class PandasTables(_Tables):
    """Data frames of pandas with text as names of columns; the index is part of the content."""

    library = "pandas"
    class_name = "DataFrame"
    rehash: ClassVar[bool] = True
    """What pandas notes of a table beside its columns decides what it makes of them, and is in no hash."""

    def _import(self) -> type:
        import pandas as pd

        return pd.DataFrame  # type: ignore[no-any-return]

    def _to_arrow(self, value: Any) -> pa.Table:
        names = list(value.columns)
        if not all(type(name) is str for name in names) or len(set(names)) < len(names):
            raise TypeError(f"columns named by text, each once, and not {names[:10]!r}")
        return pa.Table.from_pandas(value)

    def _from_arrow(self, table: pa.Table, facts: Any) -> Any:  # noqa: ARG002 - the metadata says them too
        return table.to_pandas()

    def _facts(self, value: Any, table: pa.Table) -> Any:
        levels = [value.index.get_level_values(level).dtype for level in range(value.index.nlevels)]
        if any(hasattr(dtype, "na_value") and dtype.kind in "biuf" for dtype in levels):
            raise TypeError("an index of nullable numbers, which comes back as others: reset_index() first")
        (index, *_) = table.schema.pandas_metadata["index_columns"] or [None]
        return {
            "dtypes": [_dtype_facts(dtype) for dtype in value.dtypes],
            "index": [_dtype_facts(dtype) for dtype in levels],
            "index_names": list(value.index.names),
            "range": [index["start"], index["step"]] if isinstance(index, dict) else None,
        }


def _dtype_facts(dtype: Any) -> Any:
    if not hasattr(dtype, "categories"):
        return str(dtype)
    return ["category", bool(dtype.ordered), column_digest(pa.array(dtype.categories, from_pandas=True))]


def write_arrow(table: pa.Table) -> bytes:
    """Return a table as an Arrow IPC file, not compressed."""
    sink = pa.BufferOutputStream()
    # The file format has one dictionary a column.
    table = table.unify_dictionaries()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def read_arrow(data: bytes) -> pa.Table:
    """Return the table of an Arrow IPC file, all of it checked; runs nothing that the bytes name.

    Raises
    ------
    IntegrityError
        It is none, or damaged (code ``bad_table``).
    """
    try:
        with pa.ipc.open_file(pa.py_buffer(data)) as reader:
            table = reader.read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(data, str(error)) from error
    return table


def _damaged(data: bytes, why: str) -> IntegrityError:
    return IntegrityError(
        f"a table as an Arrow IPC file was expected in the {len(data)} bytes of a value, found what does not "
        f"read ({why[:500]}); run `eventstore verify`, and record the value again",
        code="bad_table",
    )
