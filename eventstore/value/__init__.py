"""The value contract: what a Python object is called, how it becomes bytes, and which hash names it.

Type names, bytes and hashes are redun's to the bit; docs/redun.md lists what is not, and why. Knows no log
and no storage.
"""

from eventstore.pickling import dump_pickle, load_pickle
from eventstore.value.contract import Described, Value, ValueType
from eventstore.value.function import source_of
from eventstore.value.nested import iter_leaves, iter_values, map_leaves
from eventstore.value.plain import is_plain
from eventstore.value.problems import (
    UnstableValueWarning,
    UnstorableValueError,
    find_unstable,
    not_picklable,
)
from eventstore.value.registry import ValueTypes, default_types

__all__ = [
    "Described",
    "UnstableValueWarning",
    "UnstorableValueError",
    "Value",
    "ValueType",
    "ValueTypes",
    "default_types",
    "dump_pickle",
    "find_unstable",
    "is_plain",
    "iter_leaves",
    "iter_values",
    "load_pickle",
    "map_leaves",
    "not_picklable",
    "source_of",
]
