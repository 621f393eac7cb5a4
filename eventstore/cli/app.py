"""The program `eventstore`: its verbs, in the order in which a newcomer meets them."""

from __future__ import annotations

from typing import Annotated

import typer

from eventstore.cli import render
from eventstore.cli.commands.append import append
from eventstore.cli.commands.changes import changes
from eventstore.cli.commands.clean import clean
from eventstore.cli.commands.compact import compact
from eventstore.cli.commands.demo import demo
from eventstore.cli.commands.diff import diff
from eventstore.cli.commands.events import events
from eventstore.cli.commands.export import export
from eventstore.cli.commands.import_ import import_
from eventstore.cli.commands.info import info
from eventstore.cli.commands.pull import pull
from eventstore.cli.commands.push import push
from eventstore.cli.commands.query import query
from eventstore.cli.commands.rebuild import rebuild, refresh
from eventstore.cli.commands.seal import seal
from eventstore.cli.commands.subscriptions import subscriptions
from eventstore.cli.commands.verify import verify
from eventstore.cli.exits import VerbGroup

__all__ = ["app", "main"]

app = typer.Typer(
    name="eventstore",
    cls=VerbGroup,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,  # a traceback with local variables could show credentials
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _print_version(value: bool) -> None:
    if value:
        from eventstore.store import software_name

        typer.echo(software_name().replace("/", " "))
        raise typer.Exit


@app.callback()
def root(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Durable, provable, queryable history for workflows, without a database server.

    New here? `eventstore demo` records a real workflow and shows what can be asked of it.
    """
    render.listen_to_logging()


for verb in (
    *(demo, info, append, import_, events, subscriptions, rebuild, refresh, query, changes, diff, verify),
    *(seal, compact, clean, push, pull, export),
):
    app.command(verb.__name__.rstrip("_"))(verb)  # import is a word of Python


def main() -> None:
    """Run the program."""
    app(prog_name="eventstore")
