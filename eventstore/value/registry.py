"""The registry: which type speaks for a Python object, and for the bytes of a stored one."""

from __future__ import annotations

import datetime as dt
import enum
import hashlib
import importlib
import pickle
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType
from typing import Any, Literal, Self

from eventstore.errors import IntegrityError, NotFoundError, StateError
from eventstore.pickling import OURS, PICKLE_FORMAT, PICKLE_PROTOCOL, under_stored_names
from eventstore.value.arrays import ArrayValues
from eventstore.value.builtin import BoolValues, DatetimeValues, EnumValues, OwnValues, SetValues
from eventstore.value.contract import Described, Value, ValueType, own_class
from eventstore.value.function import FunctionValues
from eventstore.value.nested import iter_leaves, map_leaves
from eventstore.value.problems import UnstableValueWarning, find_unstable
from eventstore.value.tables import PandasTables, PolarsTables, PyarrowTables, TabularType

__all__ = ["ValueTypes", "default_types"]

_CHECKED_BYTES = 1 << 20
"""Longer values are not looked at for parts that pickle differently each time."""
_PREFIX = b"l5:Valuee"
"""Bencode of ``["Value"]``."""
_SMALL = 4096
"""Up to this length, a prefix is cheaper to put before the bytes than to hash by itself."""
_NEW_LINE = 10
_dumps, _sha512, _described = pickle.dumps, hashlib.sha512, tuple.__new__


class _Pace:
    """When a value of a type is looked at more closely: the 1st, 2nd, 4th, 8th, ...; and its type name."""

    __slots__ = ("left", "step", "type_name")

    def __init__(self, type_name: str) -> None:
        self.type_name = type_name
        self.left = self.step = 1


class ValueTypes:
    """Which `ValueType` speaks for which Python type: by exact type, then its bases, then plain.

    Tables and arrays are plain pickles until `use_tables` says otherwise; reading knows them always.
    """

    trusts_pickle: bool = True
    """Whether `load` unpickles."""

    def __init__(self) -> None:
        self._types: dict[type, ValueType] = {
            type(None): ValueType("builtins.NoneType"),
            bool: BoolValues("builtins.bool"),
            set: SetValues("builtins.set"),
            enum.Enum: EnumValues("enum.Enum"),
            dt.datetime: DatetimeValues("datetime.datetime"),
            FunctionType: FunctionValues("builtins.function"),
        }
        self._tabular: dict[str, TabularType] = {
            each.library: each for each in (PolarsTables(), PandasTables(), PyarrowTables(), ArrayValues())
        }
        self._named = {value_type.name(kind): value_type for kind, value_type in self._types.items()}
        self._named |= {each.name(object): each for each in self._tabular.values()}
        self._unknown = ValueType()
        self._found: dict[type, ValueType] = {}
        self._plain: dict[type, _Pace] = {}
        self._looked_at: dict[type, _Pace] = {}

    # who speaks ------------------------------------------------------------------------------------------

    def register(self, kind: type, value_type: ValueType) -> None:
        """Let `value_type` speak for the values of `kind` and of its subclasses."""
        self._types[kind] = value_type
        self._named[value_type.name(kind)] = value_type
        self._found.clear()
        self._plain.clear()

    def use_tables(self, *libraries: str) -> None:
        """From now on, keep tables or arrays of these libraries by their content, in an open format.

        Parameters
        ----------
        libraries
            Of ``polars``, ``pandas`` and ``pyarrow`` (tables, as Arrow IPC) and ``numpy`` (arrays, as npy).

        Raises
        ------
        KeyError
            Another name.
        NotFoundError
            The library is not installed (code ``library_missing``).
        """
        for name in libraries:
            value_type = self._tabular[name]
            self.register(value_type.kind(), value_type)

    def without_pickle(self) -> Self:
        """Return the same types, of which `load` refuses whatever would be unpickled.

        What is registered later, with either, is known to both.
        """
        other = type(self).__new__(type(self))
        other.__dict__ = {**self.__dict__, "trusts_pickle": False}
        return other

    def of(self, kind: type) -> ValueType:
        """Return what speaks for values of `kind`."""
        found = self._found.get(kind)
        if found is None:
            known = (self._types[base] for base in type.mro(kind) if base in self._types)
            speaker = next((each for each in known if each.speaks_for(kind)), None)
            found = speaker or (OwnValues(kind) if issubclass(kind, Value) else self._unknown)
            self._found[kind] = found
        return found

    def named(self, type_name: str, *, imports: bool = False) -> ValueType | None:
        """Return what speaks for values that are stored under `type_name`; None if nobody knows.

        Parameters
        ----------
        imports
            Import the module that the name begins with, if need be: that runs the module.
        """
        found = self._named.get(type_name)
        if found is not None:
            return found
        own = own_class(type_name)
        if own is not None:
            return self.of(own)
        module, _, name = type_name.rpartition(".")
        if imports and module not in sys.modules:
            try:
                importlib.import_module(module)
            except (ImportError, ValueError):
                return None
            return self.named(type_name)
        # Not getattr: a module may answer that by importing others.
        kind = getattr(sys.modules.get(module), "__dict__", {}).get(name)
        return self.of(kind) if isinstance(kind, type) else None

    def type_name(self, value: Any) -> str:
        """Return the stored type name of `value`."""
        return self.of(type(value)).name(type(value))

    # from values to bytes --------------------------------------------------------------------------------

    def describe(self, value: Any) -> Described:
        """Serialize and hash `value`; the exceptions of pickling pass through.

        The 1st, 2nd, 4th, 8th, ... value of a type is looked at more closely, with an `UnstableValueWarning`
        that names a part which pickles differently each time.

        Raises
        ------
        UnstorableValueError
            A set that cannot be sorted, a local function, a table that has no stable form; see its code.
        """
        kind = type(value)
        pace = self._plain.get(kind)
        if pace is None:
            return self._describe(value, kind)
        data = _dumps(value, PICKLE_PROTOCOL)
        # The name of a class ends with a new line, and looking for a byte takes no time.
        if _NEW_LINE in data and data.rfind(OURS) >= 0:
            data = under_stored_names(data)
        size = len(data)
        if size < _SMALL:
            digest = _sha512(_PREFIX + data)
        else:
            digest = _sha512(_PREFIX)
            digest.update(data)
        pace.left -= 1
        if not pace.left:
            self._look_at(value, pace, size)
        return _described(Described, (digest.hexdigest()[:40], pace.type_name, PICKLE_FORMAT, data, None))

    def _describe(self, value: Any, kind: type) -> Described:
        value_type = self.of(kind)
        type_name = value_type.name(kind)
        if _is_plain(value_type):
            self._plain[kind] = _Pace(type_name)
            return self.describe(value)
        value_hash, data = value_type.dump(value)
        pace = self._looked_at.setdefault(kind, _Pace(type_name))
        pace.left -= 1
        if not pace.left and value_type.format == PICKLE_FORMAT and not isinstance(value, Value):
            self._look_at(value, pace, len(data))
        path = value.file_path if isinstance(value, Value) else None
        return Described(value_hash, type_name, value_type.format, data, path)

    def _look_at(self, value: Any, pace: _Pace, size_bytes: int) -> None:
        pace.left = pace.step
        pace.step *= 2
        found = find_unstable(value) if size_bytes <= _CHECKED_BYTES else None
        if found is not None:
            warnings.warn(
                f"{found}; a cache will not find such a {pace.type_name} again: give sorted lists in place "
                "of sets, and leave times, counters and random numbers out of the state",
                UnstableValueWarning,
                stacklevel=4,
            )

    def hash(self, value: Any) -> str:
        """Return the id of `value`, as an argument has it; nothing is written anywhere."""
        if isinstance(value, Value) and (own := value.own_hash) is not None:
            return own
        return self.of(type(value)).hash(value)

    def iter_subvalues(self, value: Any) -> Iterator[Value]:
        """Yield the values inside `value`, with those inside them; each is recorded with it."""
        if isinstance(value, Value):
            yield from value.iter_subvalues()
            return
        for leaf in iter_leaves(value):
            if isinstance(leaf, Value):
                yield leaf
                yield from leaf.iter_subvalues()

    # from bytes to values --------------------------------------------------------------------------------

    def load(
        self, type_name: str, data: bytes, media_type: str = PICKLE_FORMAT, *, value_hash: str | None = None
    ) -> Any:
        """Return the value of stored bytes. **Unpickles**, so it runs what the bytes name.

        An unknown type name means a plain pickle. The exceptions of the classes in it pass through.

        Parameters
        ----------
        type_name, data, media_type
            As they were recorded.
        value_hash
            The id that the value was recorded under, to be checked: before anything is unpickled where the
            bytes decide, else afterwards. None checks nothing.

        Raises
        ------
        StateError
            It would unpickle, and these types do not (code ``pickle_not_trusted``).
        NotFoundError
            A class or its module is gone (``type_gone``), a library is not installed (``library_missing``),
            a function reads otherwise (``function_changed``), a file that kept the value is gone
            (``value_file_gone``), or values of this type are stored otherwise here (``unknown_format``).
        IntegrityError
            The bytes are not those of the value with this hash (``value_hash``), or no table
            (``bad_table``).
        """
        if media_type == PICKLE_FORMAT and not self.trusts_pickle:
            raise StateError(
                f"the {type_name} is a pickle, and reading it runs code that it names; this store was opened "
                "with trust_pickle=False: preview_value() shows it without, and a store that is opened "
                "with trust_pickle=True reads it",
                code="pickle_not_trusted",
                type_name=type_name,
            )
        known = self.named(type_name, imports=self.trusts_pickle and media_type != PICKLE_FORMAT)
        value_type = known or self._unknown
        if value_type.format != media_type:
            raise NotFoundError(
                f"a {type_name} was expected as {value_type.format}, which is how its values are stored, "
                f"found {media_type}: import the module that defines the type, or register() one",
                code="unknown_format",
                type_name=type_name,
            )
        if value_hash is None or known is None:
            return value_type.deserialize(data)
        expected = value_type.hash_of_bytes(data)
        if expected is not None and expected != value_hash:
            raise _other_value(type_name, value_hash, expected)
        value = value_type.deserialize(data)
        if value_type.rehash and (found := value_type.hash(value)) != value_hash:
            raise _other_value(type_name, value_hash, found)
        return value

    # around a call ---------------------------------------------------------------------------------------

    def is_valid(self, nested: Any) -> bool:
        """Whether all that is in `nested`, which comes from the cache, may still be used."""
        return all(self.of(type(leaf)).is_valid(leaf) for leaf in iter_leaves(nested))

    def preprocess(self, nested: Any, call: Mapping[str, Any]) -> Any:
        """Return `nested` with each value in it prepared for a call; the same object if none asks for it.

        Parameters
        ----------
        call
            What the hooks are told of the call; see who calls this.
        """
        return self.process("preprocess", nested, lambda _: call)

    def postprocess(self, nested: Any, call: Mapping[str, Any]) -> Any:
        """Return `nested`, a result, with each value in it finished; parameters as in `preprocess`."""
        return self.process("postprocess", nested, lambda _: call)

    def process(
        self,
        hook: Literal["preprocess", "postprocess"],
        nested: Any,
        call_of: Callable[[Any], Mapping[str, Any]],
    ) -> Any:
        """Return `nested` with `hook` done to each value in it that has one; the same object if none has.

        Parameters
        ----------
        call_of
            Gives what the hook of one value is told of the call.
        """
        if not any(self._has(hook, leaf) for leaf in iter_leaves(nested)):
            return nested

        def process(leaf: Any) -> Any:
            if not self._has(hook, leaf):
                return leaf
            return getattr(self.of(type(leaf)), hook)(leaf, call_of(leaf))

        return map_leaves(process, nested)

    def _has(self, hook: str, leaf: Any) -> bool:
        if isinstance(leaf, Value):
            return getattr(type(leaf), hook) is not getattr(Value, hook)
        return getattr(type(self.of(type(leaf))), hook) is not getattr(ValueType, hook)

    def parse_arg(self, kind: type, text: str) -> Any:
        """Return the value of `kind` that `text`, an argument of a command line, stands for.

        Raises
        ------
        ValueError
            It stands for none; an InvalidEventError (code ``bad_argument``) for the types that are known.
        """
        return self.of(kind).parse_arg(kind, text)


def _is_plain(value_type: ValueType) -> bool:
    """Whether a type leaves bytes and hash as they are, so that the short way leads to the same."""
    kind = type(value_type)
    same = all(getattr(kind, name) is getattr(ValueType, name) for name in ("serialize", "hash", "dump"))
    return same and value_type.format == PICKLE_FORMAT


def _other_value(type_name: str, expected: str, found: str) -> IntegrityError:
    return IntegrityError(
        f"the bytes of the {type_name} with hash {expected} were expected, found those of {found}; run "
        "`eventstore verify`, and record the value again",
        code="value_hash",
        value_hash=expected,
        type_name=type_name,
    )


default_types = ValueTypes()
"""The types that recording uses unless it is given others."""
