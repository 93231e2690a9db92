"""``agr verify``: check a storage against the recorded digests."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.common import (
    EXIT_FAILED,
    JsonOption,
    StorageOption,
    errors_in_one_line,
    print_json,
    say,
    storage_at,
    sweep_of,
)

if TYPE_CHECKING:
    from orchestrator.integrity.verify import SweepCheck


def register(app: typer.Typer) -> None:
    """Add the command of this module to ``app``."""
    app.command()(verify)


def verify(
    sweep: Annotated[str | None, typer.Argument(help="Sweep ID or a unique prefix; default: all sweeps.")] = None,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the contents of a storage with their recorded digests; exit 1 on any difference.

    Checks journals, summaries, files of trials, data sets, splits, stages and weights. Changes nothing.

    Example: agr verify quickstart
    """
    with errors_in_one_line():
        from orchestrator.integrity.verify import Verifier
        from orchestrator.storage import layout

        opened = storage_at(storage)
        sweep_ids = opened.folders(layout.SWEEPS) if sweep is None else (sweep_of(opened, sweep),)
        verifier = Verifier(opened)
        checks = []
        for sweep_id in sweep_ids:
            check = verifier.sweep(sweep_id)
            checks.append(check)
            if not as_json:
                _print(check)
        damaged = [check.sweep_id for check in checks if check.problems]
        if as_json:
            print_json(
                {
                    "storage": opened.uri,
                    "ok": not damaged,
                    "sweeps": [{**asdict(check), "ok": not check.problems} for check in checks],
                }
            )
        elif not checks:
            say(f"no sweeps in {opened.uri}")
        if damaged:
            say(
                f"error: {len(damaged)} of {len(checks)} sweeps differ from their recorded digests: "
                f"{', '.join(damaged)}"
            )
            raise typer.Exit(EXIT_FAILED)


def _print(check: SweepCheck) -> None:
    from orchestrator.cli.render.terminal import harmless

    proven = f"{check.segments} segments, {check.files} files of trials, {check.shared} shared"
    unproven = f"; {check.unproven} trials of older versions without digests of files" if check.unproven else ""
    typer.echo(harmless(f"{check.sweep_id}  {'damaged' if check.problems else 'ok'}  {proven}{unproven}"))
    for problem in check.problems:
        typer.echo(harmless(f"  {problem.key}: {problem.text}"))
