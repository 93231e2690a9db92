"""``agr repair``: truncate a damaged journal to its intact part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.common import StorageOption, SweepArgument, errors_in_one_line, say, storage_at

if TYPE_CHECKING:
    from orchestrator.integrity.repair import Plan


def register(app: typer.Typer) -> None:
    """Add the command of this module to ``app``."""
    app.command()(repair)


def repair(
    sweep: SweepArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Skip the confirmation.")] = False,
    storage: StorageOption = None,
) -> None:
    """Truncate a sweep's damaged journal to its last intact segment and rewrite its summary.

    Lists the losses and asks for confirmation first. Removed segments are kept in the sweep's folder, below cut/.

    Example: agr repair quickstart-20260102-030405-abcd
    """
    with errors_in_one_line():
        from orchestrator.catalog.find import find_sweep_exactly
        from orchestrator.integrity import repair as repairs

        opened = storage_at(storage)
        sweep_id = find_sweep_exactly(opened, sweep)
        repair_plan = repairs.plan(opened, sweep_id)
        if repair_plan.is_empty:
            typer.echo(f"{sweep_id}: journal and summary are intact; nothing to repair")
            return
        _say(repair_plan)
        if not yes:
            typer.confirm("Repair it this way?", abort=True, err=True)
        repairs.repair(opened, repair_plan)
        typer.echo(f"{sweep_id}: repaired; {len(repair_plan.kept)} segments are kept, {len(repair_plan.cut)} were cut")
        if repair_plan.state.status not in ("completed", "stopped", "failed"):
            say(f"Continue with: agr resume {sweep_id}")


def _say(plan: Plan) -> None:
    if plan.damage is not None:
        say(plan.damage)
        say(f"kept: {len(plan.kept)} segments, {len(plan.state.trials)} trials")
        gone = f", {plan.missing} were already missing" if plan.missing else ""
        say(f"lost: {len(plan.cut)} segments{gone}")
    if plan.lost_ends:
        say(f"lost: the end of {len(plan.lost_ends)} trials: {', '.join(plan.lost_ends)}")
    if plan.lost_trials:
        say(f"lost: {len(plan.lost_trials)} trials: {', '.join(plan.lost_trials)}")
    if plan.summary_problem is not None:
        say(plan.summary_problem)
