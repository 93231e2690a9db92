"""``agr gc`` and ``agr rm``: storage freed, and sweeps removed for good."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.common import StorageOption, errors_in_one_line, say, storage_at

if TYPE_CHECKING:
    from orchestrator.state import SweepState
    from orchestrator.storage.base import Storage


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(gc)
    app.command()(rm)


def gc(
    keep: Annotated[
        int | None,
        typer.Option("--keep", min=1, help="Of how many of the best configurations; default: as each sweep says."),
    ] = None,
    shared: Annotated[
        bool,
        typer.Option("--unreferenced", help="Also data sets, splits, stages and initial weights of no sweep here."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Remove nothing, only say how much there is.")] = False,
    storage: StorageOption = None,
) -> None:
    """Remove checkpoints and weights that nothing needs: of sweeps that are over, all but those of the best trials.

    Journals, metrics and logs stay, and any trial can be trained again by `agr rerun`. Data sets, splits, stages and
    initial weights to which no sweep of this storage refers are listed, and removed with --unreferenced.
    """
    with errors_in_one_line():
        from agr_core.errors import IntegrityError
        from orchestrator.errors import SweepOwnedError
        from orchestrator.journal import read_state
        from orchestrator.ownership import refuse_if_driven
        from orchestrator.retention import not_needed, remove
        from orchestrator.spec.model import KEEP_CHECKPOINTS
        from orchestrator.storage import layout

        place = storage_at(storage)
        total = 0
        unreadable = []
        for sweep_id in place.folders(layout.SWEEPS):
            if not place.exists(layout.segment(sweep_id, 1)):
                continue  # being removed, or not begun
            try:
                state = read_state(place, sweep_id)
                refuse_if_driven(place, state)
            except SweepOwnedError:
                say(f"{sweep_id} is running and is left alone")
                continue
            except IntegrityError as error:  # the other sweeps may be fine
                say(f"{sweep_id} is left alone: {error}")
                unreadable.append(sweep_id)
                continue
            over = state.ended is not None and state.ended.status in ("completed", "stopped", "failed")
            kept = keep or state.started.document.get("keep_checkpoints", KEEP_CHECKPOINTS)
            found = not_needed(state, place.list(layout.trials(sweep_id)), keep=kept, over=over)
            size = sum(info.size for info in found) if dry_run else remove(place, found)
            total += size
            if size:
                typer.echo(f"{sweep_id}  {size / 1e6:.1f} MB")
        if not unreadable:
            total += _unreferenced(place, remove=shared and not dry_run, counts=shared)
        typer.echo(f"{total / 1e6:.1f} MB {'could be freed' if dry_run else 'freed'} in {place.uri}")
        if unreadable:
            raise IntegrityError(
                f"{len(unreadable)} sweeps cannot be read: {', '.join(unreadable)}. Nobody knows what data sets, "
                "splits, stages and weights they refer to, so none of those was removed."
            )


def _unreferenced(place: Storage, *, remove: bool, counts: bool) -> int:
    """List what no sweep refers to, and remove it where asked; returns its bytes, where they count."""
    from orchestrator.shared_objects import KINDS, remove_unreferenced, unreferenced

    found = remove_unreferenced(place) if remove else unreferenced(place)
    for kind, called in KINDS.items():
        of_kind = [each for each in found if each.kind == kind]
        if of_kind:
            digests = ", ".join(each.digest[:12] for each in of_kind)
            size = sum(each.size for each in of_kind)
            typer.echo(f"{called} of no sweep here  {size / 1e6:.1f} MB  {digests}")
    if found and not counts:
        say("data sets, splits, stages and weights of no sweep here stay; agr gc --unreferenced removes them")
    return sum(each.size for each in found) if counts else 0


def rm(
    sweep: Annotated[str, typer.Argument(help="Sweep ID, or a unique beginning of one.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    storage: StorageOption = None,
) -> None:
    """Remove a sweep for good: its journal, weights and logs, and its runs in MLflow. Data sets stay."""
    with errors_in_one_line():
        from orchestrator.journal import read_state
        from orchestrator.lookup import find_sweep
        from orchestrator.ownership import refuse_if_driven

        place = storage_at(storage)
        sweep_id = find_sweep(place, sweep)
        state = read_state(place, sweep_id)
        refuse_if_driven(place, state)
        if not yes:
            typer.confirm(f"Remove sweep {sweep_id} with {len(state.trials)} trials for good?", abort=True, err=True)
        runs = _remove_from_mlflow(state)
        freed = _remove_from_storage(place, sweep_id)
        typer.echo(f"removed sweep {sweep_id}: {freed / 1e6:.1f} MB in {place.uri}, {runs} runs in MLflow")


def _remove_from_mlflow(state: SweepState) -> int:
    """First, so that a failure leaves the journal, and the command can be given again."""
    from orchestrator.settings import Settings
    from orchestrator.tracking import open_tracker
    from orchestrator.tracking.describe import SWEEP_ID

    settings = Settings.from_environment()
    tracker = open_tracker(settings.tracking_uri, settings.mlflow_artifacts)
    experiment_id = tracker.find_experiment(state.started.experiment)
    if experiment_id is None:
        return 0
    runs = tracker.runs(experiment_id, {SWEEP_ID: state.started.sweep_id})
    for run in runs:
        tracker.delete_run(run.run_id)
    return len(runs)


def _remove_from_storage(storage: Storage, sweep_id: str) -> int:
    """The journal goes last and from its end, so that what is left of an interrupted removal can still be read.

    What was left for its driver goes first: without a journal it would look like a sweep about to start.
    """
    from orchestrator.retention import remove
    from orchestrator.storage import layout

    journal = f"{layout.journal(sweep_id)}/"
    for left in (layout.submission(sweep_id), layout.start(sweep_id)):
        storage.delete(left)
    objects = list(storage.list(layout.sweep(sweep_id)))
    events = [info for info in objects if info.key.startswith(journal)]
    others = [info for info in objects if not info.key.startswith(journal)]
    return remove(storage, others) + remove(storage, reversed(events))
