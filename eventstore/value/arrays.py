"""Arrays of numpy as values: npy files, and a hash of dtype, shape and elements. Nothing is pickled."""

from __future__ import annotations

import hashlib
import io
import math
import warnings
from typing import TYPE_CHECKING, Any

from eventstore.errors import IntegrityError
from eventstore.hashing import hash_struct
from eventstore.value.problems import UnstorableValueError
from eventstore.value.tables import TabularType

if TYPE_CHECKING:
    import numpy as np

__all__ = ["NPY_FORMAT", "ArrayValues", "describe_npy"]

NPY_FORMAT = "application/x-npy"
_NUMBERED = "biufcSUMmV"
"""Kinds of dtypes whose elements are bytes of one length."""


class ArrayValues(TabularType):
    """Arrays of exactly ``numpy.ndarray``; byte order and memory order do not matter, all NaNs are alike."""

    library = "numpy"
    class_name = "ndarray"
    format = NPY_FORMAT

    def _import(self) -> type:
        import numpy as np

        return np.ndarray

    def serialize(self, value: np.ndarray[Any, Any]) -> bytes:
        """Return an npy file.

        Raises
        ------
        UnstorableValueError
            The elements are Python objects, or of a type whose bytes differ between machines (code
            ``unstorable_array``).
        """
        import numpy as np

        _check(value.dtype)
        sink = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of version 3, which is refused below
            np.lib.format.write_array(sink, value, allow_pickle=False)
        data = sink.getvalue()
        if data[6] > 2:
            raise _unstorable("names of fields in Latin-1", value.dtype)
        return data

    def hash(self, value: np.ndarray[Any, Any], data: bytes | None = None) -> str:  # noqa: ARG002 - content
        """Return the id of an array; raises like `serialize`."""
        _check(value.dtype)
        digest = hashlib.sha512()
        _feed(digest, value)
        shape = list(value.shape)
        return hash_struct(
            ["Value.array", self.name(object), _facts(value.dtype), shape, digest.hexdigest()[:40]]
        )

    def hash_of_bytes(self, data: bytes) -> str | None:
        """Return the id of the array that these bytes hold; raises like `deserialize`."""
        return self.hash(self.deserialize(data))

    def deserialize(self, data: bytes) -> Any:
        """Return the array of an npy file.

        Raises
        ------
        NotFoundError
            numpy is not installed (code ``library_missing``).
        IntegrityError
            It is no npy file, shorter than it says, or needs pickle (``bad_table``).
        """
        self.kind()
        try:
            shape, dtype, order, elements = _parsed(data)
            return _elements(shape, dtype, elements, order=order)
        except Exception as error:  # numpy parses the header as Python text, and fails in many ways
            raise IntegrityError(
                f"an npy file of version 1 or 2 was expected in the {len(data)} bytes of a value, found what "
                f"does not read ({error}); run `eventstore verify`, and record the value again",
                code="bad_table",
            ) from error


def describe_npy(data: bytes) -> str | None:
    """Return dtype and shape that an npy file states; None if it is none, or numpy is not installed."""
    try:
        shape, dtype, _, _ = _parsed(data)
    except Exception:  # as above
        return None
    return f"<array of {dtype} with shape {shape}>"


def _parsed(data: bytes) -> tuple[tuple[int, ...], np.dtype[Any], str, memoryview]:
    import numpy as np

    stream = io.BytesIO(data)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[np.lib.format.read_magic(stream)]
    shape, fortran, dtype = read(stream)
    return shape, dtype, "F" if fortran else "C", memoryview(data)[stream.tell() :]


def _elements(shape: tuple[int, ...], dtype: np.dtype[Any], data: memoryview, *, order: str) -> Any:
    import numpy as np

    count = math.prod(shape)
    if dtype.hasobject or count * dtype.itemsize != len(data):
        raise ValueError(f"shape {shape} and dtype {dtype} for {len(data)} bytes")
    if not data:
        return np.empty(shape, dtype)
    return np.frombuffer(data, dtype, count).reshape(shape, order=order).copy(order="K")  # type: ignore[call-overload]


def _check(dtype: np.dtype[Any]) -> None:
    """Refuse what has no bytes of its own, or other ones on another machine."""
    if dtype.names is not None:
        for name in dtype.names:
            _check(dtype[name])
    elif dtype.subdtype is not None:
        _check(dtype.subdtype[0])
    elif (
        dtype.hasobject
        or dtype.kind not in _NUMBERED
        or (dtype.kind, dtype.itemsize) in (("f", 16), ("c", 32))
    ):
        raise _unstorable("elements of one length that are the same on every machine", dtype)


def _unstorable(expected: str, dtype: Any) -> UnstorableValueError:
    return UnstorableValueError(
        f"an array with {expected} was expected, found dtype {dtype}: convert it with astype()",
        code="unstorable_array",
    )


def _facts(dtype: np.dtype[Any]) -> Any:
    """Return what a hash says of a dtype: text, or a list for one with fields."""
    if dtype.names is not None:
        return ["struct", [[name, _facts(dtype[name])] for name in dtype.names]]
    if dtype.subdtype is not None:
        return ["array", list(dtype.subdtype[1]), _facts(dtype.subdtype[0])]
    return dtype.newbyteorder("<").str


def _feed(digest: Any, array: np.ndarray[Any, Any]) -> None:
    """Feed elements in C order, field by field, little-endian."""
    import numpy as np

    dtype = array.dtype
    if dtype.names is not None:
        for name in dtype.names:
            _feed(digest, array[name])
        return
    flat = np.ascontiguousarray(array, dtype.newbyteorder("<")).reshape(-1)
    if dtype.kind == "c":
        flat = flat.view(f"<f{dtype.itemsize // 2}")
    if dtype.kind in "fc" and (unequal := np.isnan(flat)).any():
        flat = np.where(unequal, np.array(np.nan, flat.dtype), flat)
    if flat.nbytes:
        digest.update(flat.view(np.uint8).data)
