"""``agr attach``: live view of a sweep that another process drives, on this machine or another."""

from __future__ import annotations

import typer

from orchestrator.cli.common import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    StorageOption,
    SweepArgument,
    errors_in_one_line,
    say,
    storage_at,
    sweep_of,
)


def register(app: typer.Typer) -> None:
    """Add the command of this module to ``app``."""
    app.command()(attach)


def attach(sweep: SweepArgument, storage: StorageOption = None) -> None:
    """Show the live view of a sweep with a driver on any machine; Ctrl-C ends only the view.

    Example: agr attach quickstart
    """
    with errors_in_one_line():
        from orchestrator.cli.driving import exit_code_of, print_result
        from orchestrator.cli.process.follow import follow
        from orchestrator.cli.remote import result_of

        opened = storage_at(storage)
        sweep_id = sweep_of(opened, sweep)
        if not follow(opened, sweep_id):
            raise typer.Exit(EXIT_FAILED)
        result = result_of(opened, sweep_id)
        print_result(result, opened)
        code = exit_code_of(result)
        if code == EXIT_INTERRUPTED:
            say(f"interrupted; the state is kept. Continue with: agr resume {sweep_id}")
        raise typer.Exit(code)
