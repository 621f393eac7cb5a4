"""Proof that nothing was altered, read from the files."""

from eventstore.log.verify.report import Finding, Severity, VerifyReport
from eventstore.log.verify.store import verify_store

__all__ = ["Finding", "Severity", "VerifyReport", "verify_store"]
