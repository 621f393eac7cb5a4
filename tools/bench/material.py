"""What a generated history is made of: identifiers, a table of tasks, and pickles of realistic sizes.

All of it comes from one seeded random generator, and all hashes are the true ones, so a generated history
could be read by an engine. Nothing here knows about jobs or order.
"""

from __future__ import annotations

import hashlib
import math
import pickle
import random
from collections.abc import Iterable
from dataclasses import dataclass

from eventstore.hashing import hash_struct

__all__ = ["Material", "Task", "Value", "arguments_hash_of", "call_hash_of", "eval_hash_of", "value_hash_of"]

TASKS = 36
_WORDS = (
    *("align", "sample", "reads", "score", "depth", "variant", "merge", "report", "count", "filter"),
    *("index", "region", "panel", "quality", "fetch", "split", "train", "model", "fold", "batch"),
    *("metric", "label", "export", "cohort", "sort", "trim", "plate", "well", "image", "mask"),
)
_NAMESPACES = ("", "genomics", "lab.imaging", "ml.train")


@dataclass(frozen=True, slots=True)
class Task:
    """A task of the table: `layer` 0 is called by nobody, 3 calls nobody; `fields` shape its results."""

    name: str
    namespace: str
    layer: int
    source: str
    version: str | None
    task_hash: str
    fields: tuple[str, ...]
    keywords: tuple[str, ...]

    @property
    def full_name(self) -> str:
        """Name with namespace, as call nodes state it."""
        return f"{self.namespace}.{self.name}" if self.namespace else self.name


@dataclass(frozen=True, slots=True)
class Value:
    """Serialized bytes with what names them; `path` only for files."""

    value_hash: str
    type_name: str
    data: bytes
    path: str | None = None


# `eventstore.hashing` unrolled for the shapes that come by the million; a test keeps the two equal.


def value_hash_of(data: bytes) -> str:
    """`hash_tagged_bytes` of a plain value's pickle."""
    return hashlib.sha512(b"l5:Valuee" + data).hexdigest()[:40]


def arguments_hash_of(positional: Iterable[str], keyword: Iterable[tuple[str, str]]) -> str:
    """`hash_arguments`; `keyword` pairs are sorted, and their keys ASCII."""
    places = "".join([f"40:{value}" for value in positional])
    keys = "".join([f"{len(key)}:{key}40:{value}" for key, value in keyword])
    return hashlib.sha512(f"l13:TaskArgumentsl{places}ed{keys}ee".encode()).hexdigest()[:40]


def eval_hash_of(task_hash: str, args_hash: str) -> str:
    """`hash_eval`."""
    return hashlib.sha512(f"l4:Eval40:{task_hash}40:{args_hash}e".encode()).hexdigest()[:40]


def call_hash_of(task_hash: str, args_hash: str, value_hash: str, children: Iterable[str]) -> str:
    """`hash_call`."""
    below = "".join([f"40:{child}" for child in sorted(children)])
    text = f"l8:CallNode40:{task_hash}40:{args_hash}40:{value_hash}l{below}ee"
    return hashlib.sha512(text.encode()).hexdigest()[:40]


class Material:
    """A source of identifiers, tasks and values.

    Parameters
    ----------
    rng
        Where all randomness comes from; equal states give equal material.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._random = rng.random
        self._noise = rng.randbytes(1 << 18)
        self._serial = 0
        self.tasks = [self._task(number) for number in range(TASKS)]

    def uuid(self) -> str:
        """A UUID of version 4, in text."""
        digits = f"{self._rng.getrandbits(128):032x}"
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"

    def pick(self, items: list[str] | tuple[str, ...]) -> str:
        """One of `items`."""
        return items[int(self._random() * len(items))]

    # tasks -----------------------------------------------------------------------------------------------

    def _task(self, number: int) -> Task:
        layer = 0 if number < 4 else 1 if number < 9 else 2 if number < 16 else 3
        name = f"{self.pick(_WORDS)}_{self.pick(_WORDS)}_{number}"
        return self._stated(name, self.pick(_NAMESPACES), layer, "1" if number % 9 == 5 else None)

    def _stated(self, name: str, namespace: str, layer: int, version: str | None) -> Task:
        lines = [f"def {name}(sample: str, depth: int) -> dict:"]
        for _ in range(3 + int(self._random() * 28)):
            left, call, right = self.pick(_WORDS), self.pick(_WORDS), self.pick(_WORDS)
            lines.append(f"    {left} = {call}({right}, {self._rng.getrandbits(9)})")
        source = "\n".join(lines) + "\n"
        full_name = f"{namespace}.{name}" if namespace else name
        told = ["version", version] if version else ["source", source]
        names = tuple(dict.fromkeys(self.pick(_WORDS) for _ in range(12)))
        return Task(
            name=name,
            namespace=namespace,
            layer=layer,
            source=source,
            version=version,
            task_hash=hash_struct(["Task", full_name, *told]),
            fields=names,
            keywords=names[:3],
        )

    def edited(self, task: Task) -> Task:
        """The task after someone changed its source, or raised its version."""
        version = str(int(task.version) + 1) if task.version else None
        return self._stated(task.name, task.namespace, task.layer, version)

    # values ----------------------------------------------------------------------------------------------

    def result(self, task: Task) -> Value:
        """A new result of a task; sizes as README.md says."""
        draw = self._random()
        if draw < 0.05:
            return self._file()
        self._serial += 1
        if draw < 0.15:
            return self._plain(f"{task.name}:{self._serial}", "builtins.str")
        # The long tail: log-normal, in fields of about 18 bytes; beyond the named fields one blob.
        count = int(math.exp(2.3 + 1.0 * self._rng.gauss(0, 1)))
        record: dict[str, object] = {name: self._random() for name in task.fields[: count + 1]}
        extra = count - len(task.fields)
        if extra > 0:
            length = min(extra * extra * 3, 50_000)
            start = int(self._random() * (len(self._noise) - length))
            # Half noise and half text: what arrays and tables of text come to.
            record["table"] = self._noise[start : start + length // 2] + b"chr1\t1000\tA\tG\n" * (
                length // 30
            )
        record["id"] = f"S{self._serial:08d}"
        return self._plain(record, "builtins.dict")

    def argument(self) -> Value:
        """A new argument: a number, a name or a small record."""
        self._serial += 1
        draw = self._random()
        if draw < 0.1:
            return self._plain(self._serial * 1009, "builtins.int")
        if draw < 0.5:
            return self._plain(f"s3://lab-bucket/cohort-4/S{self._serial:07d}_R1.fastq.gz", "builtins.str")
        lane = self._serial % 8
        return self._plain(
            {"sample": f"S{self._serial:07d}", "lane": lane, "cut": self._random(), "genome": "hg38"},
            "builtins.dict",
        )

    def constant(self, number: int) -> Value:
        """One of the values that come again and again: None, booleans, small numbers, settings."""
        plain: object = (
            (None, True, False, 0, 1, 30, 0.05, "hg38", "default")[number]
            if number < 9
            else {"threads": number, "mode": _WORDS[number % len(_WORDS)], "cut": number / 8}
        )
        name = type(plain).__name__
        return self._plain(plain, f"builtins.{name}")

    def expression(self, task: Task) -> Value:
        """What a task that calls others reduces to: an unevaluated call, some hundred bytes."""
        self._serial += 1
        calls = [(task.full_name, self._serial, self.pick(_WORDS)) for _ in range(4 + self._serial % 14)]
        return self._plain(calls, "redun.expression.TaskExpression")

    def error(self, task: Task) -> Value:
        """A failure: message and trace, some KB."""
        self._serial += 1
        frames = [(f"{task.name}.py", line, self.pick(_WORDS)) for line in range(20 + self._serial % 30)]
        return self._plain((f"ValueError: sample {self._serial}", frames), "redun.ErrorValue")

    def handle(self, key: str) -> Value:
        """A connection to the outside world."""
        self._serial += 1
        return self._plain({"uri": "warehouse", "key": key, "serial": self._serial}, "lab.Warehouse")

    def of_task(self, task: Task) -> Value:
        """The value record of a task."""
        data = pickle.dumps({"name": task.full_name, "version": task.version}, protocol=3)
        return Value(task.task_hash, "redun.Task", data)

    def large(self, length: int) -> bytes:
        """Serialized bytes of about `length`, unlike any others."""
        self._serial += 1
        pieces = [self._noise] * (length // len(self._noise)) + [self._noise[: length % len(self._noise)]]
        return pickle.dumps((self._serial, b"".join(pieces)), protocol=3)

    def _file(self) -> Value:
        self._serial += 1
        path = f"s3://lab-bucket/run-{self._serial // 500:05d}/{self.pick(_WORDS)}/{self._serial:09d}.bam"
        etag = f"{self._rng.getrandbits(128):032x}"
        data = pickle.dumps({"path": path, "hash": etag, "size": self._serial * 4096}, protocol=3)
        return Value(hash_struct(["File", "s3", path, etag]), "redun.File", data, path)

    def _plain(self, value: object, type_name: str) -> Value:
        data = pickle.dumps(value, protocol=3)
        return Value(value_hash_of(data), type_name, data)
