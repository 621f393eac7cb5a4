"""``python -m eventstore.redun ...``: redun's command line, with this package imported first.

The command ``redun`` imports it by ``setup_scheduler``. ``db``, ``push`` and ``pull`` make a backend before
they get there, and redun has no earlier place for a package to be named.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence

from redun.cli import RedunClient, RedunClientError, setup_backend_db

from eventstore.errors import EventStoreError
from eventstore.redun.backend import EventStoreBackend

__all__ = ["main"]


class _Client(RedunClient):
    """redun's commands; those on migrations say what a store has in their place."""

    def db_info_command(self, args: Namespace, extra_args: list[str], argv: list[str]) -> None:
        _check_is_sql(args)
        super().db_info_command(args, extra_args, argv)

    def db_migrate_command(
        self, direction: str, args: Namespace, extra_args: list[str], argv: list[str]
    ) -> None:
        _check_is_sql(args)
        super().db_migrate_command(direction, args, extra_args, argv)

    def db_versions_command(self, args: Namespace, extra_args: list[str], argv: list[str]) -> None:
        _check_is_sql(args)
        super().db_versions_command(args, extra_args, argv)


def _check_is_sql(args: Namespace) -> None:
    backend = setup_backend_db(args.config, args.repo)
    if isinstance(backend, EventStoreBackend):
        place = backend.settings.url or backend.db_uri
        raise RedunClientError(
            f"a SQL database was expected as db_uri, found the event store {place}, which has no migrations: "
            f"`eventstore info {place}` says its format, `eventstore verify {place}` whether it is sound"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; returns the exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    client = _Client(stdout=sys.stdout, stderr=sys.stderr)
    try:
        client.execute(["redun", *given])
    except (RedunClientError, EventStoreError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201 - a command
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
