"""``agr``: the commands, gathered. Each module of this package holds the commands of one subject.

Start-up stays quick: heavy packages (torch, ray, mlflow, boto3, pandas) are imported inside the commands.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from orchestrator.cli import (
    bins,
    cleanup,
    cluster,
    compare,
    data,
    predict,
    remote,
    results,
    run,
    serve,
    show,
    stack,
    sync,
    table,
    validate,
    weights,
)
from orchestrator.cli.common import set_debug

app = typer.Typer(
    name="agr",
    help="Sweeps of face age / gender / race models: submit one YAML file, browse the leaderboard, re-run any trial.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"agr {version('agr')}")
        raise typer.Exit


@app.callback()
def _root(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks instead of one-line errors.")] = False,
    _: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    set_debug(debug)


data.register(app)
stack.register(app)
cluster.register(app)

results.register(app)
table.register(app)
show.register(app)
compare.register(app)
bins.register(app)
weights.register(app)
predict.register(app)
serve.register(app)
run.register(app)
remote.register(app)
cleanup.register(app)
sync.register(app)
validate.register(app)


def main() -> None:
    """Entry point of the console script."""
    app()


if __name__ == "__main__":
    main()
