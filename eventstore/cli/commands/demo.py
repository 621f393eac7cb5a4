"""`eventstore demo`: a real workflow over real files, and what its history answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eventstore.cli import options

__all__ = ["demo"]


def demo(
    store: Annotated[
        str, typer.Option("--store", metavar="STORE", help="Folder or URL of the demo's store.")
    ] = "./demo-store",
    folder: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            show_default="Python's standard library",
            help="Measure the Python files below this folder.",
        ),
    ] = None,
    files: Annotated[int, typer.Option(metavar="N", min=1, help="Measure at most so many files.")] = 400,
    json: options.AsJson = False,
    _debug: options.Debug = False,
) -> None:
    """Record a real workflow and ask its history.

    Measures Python files with plain functions under @task: a job for each file, fan-in, tags, a job
    that fails, a handle that is rolled back. Runs it twice, so that the history answers the second
    time; then builds tables, asks with polars and in SQL, and verifies. Takes under a minute, reads
    your files and changes none, and may be run again on the same store.
    """
    from eventstore.cli.demo_show import show_demo, standard_library

    show_demo(store, folder=folder or standard_library(), most_files=files, json=json)
