"""``python -m eventstore.file copy [--recursive] SOURCE TARGET``: what rendered shell commands call.

``-`` is standard input or output. An error is one line on standard error, and exit status 1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from eventstore.errors import EventStoreError
from eventstore.file.copying import copy_by_path

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m eventstore.file", description="Copy files between places."
    )
    copy = parser.add_subparsers(required=True, metavar="copy").add_parser(
        "copy", help="copy a file or folder"
    )
    copy.add_argument("source", help="path or URL; - for standard input")
    copy.add_argument("target", help="path or URL; - for standard output")
    copy.add_argument("--recursive", action="store_true", help="copy a folder with all that is in it")
    given = parser.parse_args(arguments)
    source, target = (None if path == "-" else path for path in (given.source, given.target))
    try:
        copy_by_path(source, target, recursive=given.recursive)
    except (EventStoreError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)  # noqa: T201 - a command
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
