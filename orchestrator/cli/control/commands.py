"""``agr pause``, ``extend``, ``enqueue``, ``retry``, ``continue``, ``narrow`` and ``set``: control of a sweep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.common import JsonOption, StorageOption, SweepArgument, TrialArgument, errors_in_one_line, say
from orchestrator.cli.control.sending import Target, send_or_take_up
from orchestrator.cli.run import AddressOption, DetachOption

if TYPE_CHECKING:
    from orchestrator.journal.sweep_state import SweepState

AssignmentsArgument = Annotated[list[str], typer.Argument(metavar="PATH=VALUE...", help="TrialConfig paths.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module to ``app``."""
    app.command()(pause)
    app.command()(extend)
    app.command()(enqueue)
    app.command()(retry)
    app.command("continue")(continue_trial)
    app.command()(narrow)
    app.command("set")(set_values)


def pause(sweep: SweepArgument, storage: StorageOption = None) -> None:
    """Pause a sweep: suspend its trials at their checkpoints and propose none; `agr resume` continues it.

    Example: agr pause quickstart
    """
    with errors_in_one_line():
        from agr_core.errors import InputError

        target = Target.of(sweep, storage)
        if not target.driven:
            raise InputError(
                f"sweep {target.sweep_id} is {target.status}: no driver runs it, so there is nothing to pause."
            )
        target.send("pause", {}, done="to pause")


def extend(
    sweep: SweepArgument,
    trials: Annotated[int | None, typer.Option("--trials", help="Additional configurations.")] = None,
    usd: Annotated[float | None, typer.Option("--usd", help="Additional dollars for `budget.usd`.")] = None,
    gpu_hours: Annotated[
        float | None, typer.Option("--gpu-hours", help="Additional hours for `budget.gpu_hours`.")
    ] = None,
    wall: Annotated[str | None, typer.Option("--wall", help="Additional time for `budget.wall`, such as 2h.")] = None,
    address: AddressOption = None,
    detach: DetachOption = False,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add trials, dollars, GPU-hours or time to a sweep; a completed sweep continues with its full history.

    Without a running driver, this process drives the sweep, as in `agr resume`. Example: agr extend quickstart
    --trials 50
    """
    with errors_in_one_line():
        from orchestrator.sweep.command_checks import check_extend

        target = Target.of(sweep, storage)
        given = {"trials": trials, "usd": usd, "gpu_hours": gpu_hours, "wall": _seconds(wall)}
        arguments = {name: value for name, value in given.items() if value is not None}
        check_extend(arguments, target.extent())
        code = send_or_take_up(target, "extend", arguments, address, detach=detach, as_json=as_json)
    raise typer.Exit(code)


def enqueue(
    sweep: SweepArgument,
    assignments: AssignmentsArgument,
    address: AddressOption = None,
    detach: DetachOption = False,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Queue a configuration as the next trial; the search draws the values that it leaves open.

    It adds to the planned trials. Example: agr enqueue quickstart model.name=resnet10t optimizer.lr=3e-4
    """
    with errors_in_one_line():
        from orchestrator.spec.narrow import assignments as parsed
        from orchestrator.spec.start import entry_of
        from orchestrator.sweep.command_checks import check_enqueue

        target = Target.of(sweep, storage)
        entry = entry_of(parsed(assignments, example="optimizer.lr=3e-4"))
        check_enqueue(target.algorithm, target.space(), entry)
        code = send_or_take_up(target, "enqueue", {"config": entry}, address, detach=detach, as_json=as_json)
    raise typer.Exit(code)


def retry(
    sweep: SweepArgument,
    trials: Annotated[list[str] | None, typer.Argument(metavar="[TRIAL]...", help="Trial IDs; default: all.")] = None,
    outcome: Annotated[
        str, typer.Option("--outcome", help="Without trial IDs: retry trials of these outcomes, separated by commas.")
    ] = "failed,interrupted",
    address: AddressOption = None,
    detach: DetachOption = False,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Retry failed or terminated trials within the sweep; earlier attempts stay in the journal.

    Example: agr retry quickstart --outcome failed
    """
    with errors_in_one_line():
        from orchestrator.catalog.ids import match_prefix
        from orchestrator.sweep.command_checks import to_retry

        target = Target.of(sweep, storage)
        ids = [match_prefix(given, target.state.trials, kind="trial", where=target.sweep_id) for given in trials or []]
        chosen = [trial.trial_id for trial in to_retry(target.state, ids, outcome.split(","))]
        code = send_or_take_up(target, "retry", {"trials": chosen}, address, detach=detach, as_json=as_json)
    raise typer.Exit(code)


def continue_trial(
    trial: TrialArgument,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Total number of epochs.")],
    address: AddressOption = None,
    detach: DetachOption = False,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a trial up to a total number of epochs, with the result of a trial planned that long from the start.

    Refused where the learning rate of the first epochs depends on their total. Example: agr continue 8f3a --epochs 40
    """
    with errors_in_one_line():
        from orchestrator.catalog.find import find_trial
        from orchestrator.cleanup.retention import checkpoint_epoch
        from orchestrator.cli.common import storage_at
        from orchestrator.sweep.command_checks import to_continue
        from orchestrator.tracking.runs import trial_of_run

        sweep_id, trial_id = find_trial(storage_at(storage), trial, trial_of_run)
        target = Target.of(sweep_id, storage)
        to_continue(target.state, trial_id, epochs)
        reached = checkpoint_epoch(target.storage, target.state, trial_id)
        if reached is not None:
            say(f"trial {trial_id} goes on from its checkpoint after epoch {reached}.")
        else:
            why = _why_gone(target.state, trial_id)
            say(
                f"trial {trial_id} has no checkpoint any more ({why}), so it trains from the start, to the same result."
            )
        arguments = {"trial_id": trial_id, "epochs": epochs}
        code = send_or_take_up(target, "continue", arguments, address, detach=detach, as_json=as_json)
    raise typer.Exit(code)


def _why_gone(state: SweepState, trial_id: str) -> str:
    """Return why a trial's checkpoint was removed."""
    if state.trials[trial_id].outcome != "completed":
        return "only completed trials keep theirs"
    return "keep_checkpoints: once a sweep is over, only its best trials keep theirs"


def narrow(sweep: SweepArgument, assignments: AssignmentsArgument, storage: StorageOption = None) -> None:
    """Restrict further proposals to smaller ranges or choices; results outside them still inform the search.

    A path applies to every branch that has it; optimizer[sgd].lr applies to one. Example: agr narrow quickstart
    optimizer.lr='{loguniform: [1e-4, 1e-3]}'
    """
    with errors_in_one_line():
        from orchestrator.spec.narrow import assignments as parsed
        from orchestrator.sweep.command_checks import check_narrow

        target = Target.of(sweep, storage)
        domains = parsed(assignments, example="optimizer.lr='{loguniform: [1e-4, 1e-3]}'")
        check_narrow(target.algorithm, target.space(), domains)
        target.send("narrow", {"domains": domains}, done=f"to narrow {', '.join(domains)}")


def set_values(
    sweep: SweepArgument,
    assignments: Annotated[list[str], typer.Argument(metavar="concurrency=N", help="A number, or a share as 50%.")],
    storage: StorageOption = None,
) -> None:
    """Set the number of concurrent trials; excess trials are suspended at their checkpoints until a slot is free.

    Example: agr set quickstart concurrency=50%
    """
    with errors_in_one_line():
        from orchestrator.spec.narrow import assignments as parsed
        from orchestrator.sweep.command_checks import check_set

        target = Target.of(sweep, storage)
        values = parsed(assignments, example="concurrency=4")
        check_set(values)
        target.send("set", values, done=f"to set concurrency to {values['concurrency']}")


def _seconds(wall: str | None) -> Any:
    from agr_core.errors import InputError
    from orchestrator.spec.model import seconds

    if wall is None:
        return None
    try:
        return float(wall) if wall.replace(".", "", 1).isdigit() else seconds(wall)
    except ValueError as error:
        raise InputError(f"--wall: {error}") from error
