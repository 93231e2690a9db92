"""Entry point and global options of ``agr``. Each module of this package holds the commands of one subject.

To keep start-up fast, a command's module is imported when the command is used (``orchestrator.cli.lazy``), and heavy
packages (torch, ray, mlflow, boto3, pandas) are imported inside the commands.
"""

from __future__ import annotations

import gc
from typing import Annotated

import typer

from orchestrator.cli.common import set_debug
from orchestrator.cli.lazy import LazyGroup

_COLLECTED_AFTER = (50_000, 10, 10)
"""Thresholds of Python's garbage collector. The state of a sweep is millions of objects without cycles; looking through
them again and again while it is read took a third of the time of a command."""

app = typer.Typer(
    cls=LazyGroup,
    name="agr",
    help="Sweeps of face age / gender / race models: submit one YAML file, browse the leaderboard, re-run any trial.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        from orchestrator.provenance import DISTRIBUTION

        typer.echo(f"agr {version(DISTRIBUTION)}")
        raise typer.Exit


@app.callback()
def _root(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks instead of one-line errors.")] = False,
    _: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    set_debug(debug)


def main() -> None:
    """Run the console script."""
    from orchestrator.settings import prepare_process

    prepare_process()
    gc.set_threshold(*_COLLECTED_AFTER)
    app()


if __name__ == "__main__":
    main()
