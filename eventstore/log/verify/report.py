"""What a verification finds and how much it reads, and where its parts write that down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

import pyarrow as pa

from eventstore.errors import EventStoreError
from eventstore.filesystem import Storage

__all__ = ["Finding", "Inspection", "Severity", "VerifyReport"]


class Severity(StrEnum):
    """What a finding asks for."""

    ERROR = "error"
    """Something that was acknowledged is altered or gone."""
    WARNING = "warning"
    """Nothing is lost; something should be looked at, or waits to be done."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be, with the file and, where known, the first position."""

    code: str
    severity: Severity
    path: str
    position: int | None
    message: str


@dataclass(slots=True)
class VerifyReport:
    """What was found, and how much was read."""

    findings: list[Finding] = field(default_factory=list)
    seals: int = 0
    archives: int = 0
    snapshots: int = 0
    segments: int = 0
    events: int = 0
    replaced_segments: int = 0
    """Files that compaction has replaced and `clean` has not removed yet; they are not read."""
    unsealed_segments: int = 0
    journaled_events: int = 0
    values: int = 0
    bytes_read: int = 0
    seconds: float = 0.0
    size: int = 0
    root: bytes = b""

    @property
    def ok(self) -> bool:
        """Whether no finding is an error."""
        return not any(finding.severity is Severity.ERROR for finding in self.findings)


class Inspection:
    """One verification of one store: what its parts read from, and write down."""

    def __init__(
        self, storage: Storage, store_id: str, progress: Callable[[int, int], None] | None = None
    ) -> None:
        self.storage = storage
        self.store_id = store_id
        self.report = VerifyReport()
        self.progress = progress or (lambda _done, _all: None)
        self.digests: dict[str, tuple[int, int | None]] = {}
        """For each large value that events mention, its size, and the first position that does."""

    def found(
        self,
        error: EventStoreError,
        *,
        position: int | None = None,
        severity: Severity = Severity.ERROR,
    ) -> None:
        """Write down what an error says."""
        path = str(error.facts.get("path", ""))
        self.report.findings.append(Finding(error.code, severity, path, position, error.message))

    def read(self, path: str) -> bytes:
        """Read a file, and count its bytes."""
        raw = self.storage.read(path)
        self.report.bytes_read += len(raw)
        return raw

    def note_values(self, table: pa.Table, position: int | None) -> None:
        """Note which large values the rows mention; `position` is that of the first, where it has one."""
        column = table["data_digest"]
        if column.null_count == len(column):
            return
        for row, (digest, size) in enumerate(
            zip(column.to_pylist(), table["size_bytes"].to_pylist(), strict=True)
        ):
            if digest is not None:
                self.digests.setdefault(digest, (size, None if position is None else position + row))
