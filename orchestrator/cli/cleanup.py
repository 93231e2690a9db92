"""``agr gc`` and ``agr rm``: free storage and delete sweeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.common import StorageOption, SweepArgument, errors_in_one_line, say, storage_at, warn

if TYPE_CHECKING:
    from orchestrator.journal.sweep_state import SweepState
    from orchestrator.storage.base import Storage


def register(app: typer.Typer) -> None:
    """Add the commands of this module to ``app``."""
    app.command()(gc)
    app.command()(rm)


def gc(
    keep: Annotated[
        int | None,
        typer.Option("--keep", min=1, help="Number of best configurations to keep; default: as each sweep file sets."),
    ] = None,
    shared: Annotated[
        bool,
        typer.Option(
            "--unreferenced", help="Also remove data sets, splits, stages and initial weights that no sweep uses."
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Remove nothing; print what would be freed.")] = False,
    storage: StorageOption = None,
) -> None:
    """Remove checkpoints and weights that are no longer needed; ended sweeps keep those of their best trials.

    Journals, metrics and logs stay, and `agr rerun` can train any trial again. Data sets, splits, stages and initial
    weights that no sweep of this storage references are listed; --unreferenced removes them.

    Example: agr gc --dry-run
    """
    with errors_in_one_line():
        from agr_core.errors import IntegrityError
        from orchestrator.catalog.ownership import refuse_if_driven
        from orchestrator.cleanup.retention import not_needed, remove
        from orchestrator.errors import SweepOwnedError
        from orchestrator.journal.segments import is_journalled, read_state
        from orchestrator.spec.model import KEEP_CHECKPOINTS
        from orchestrator.storage import layout

        opened = storage_at(storage)
        total = 0
        unreadable = []
        for sweep_id in opened.folders(layout.SWEEPS):
            if not is_journalled(opened, sweep_id):
                continue  # being removed, or not started
            try:
                state = read_state(opened, sweep_id)
                refuse_if_driven(opened, state)
            except SweepOwnedError:
                say(f"{sweep_id} is running; skipped")
                continue
            except IntegrityError as error:  # other sweeps may be intact
                say(f"{sweep_id} skipped: {error}")
                unreadable.append(sweep_id)
                continue
            over = state.ended is not None and state.ended.status in ("completed", "stopped", "failed")
            kept = keep or state.started.document.get("keep_checkpoints", KEEP_CHECKPOINTS)
            unneeded = not_needed(state, opened.list(layout.trials(sweep_id)), keep=kept, over=over)
            size = sum(info.size for info in unneeded) if dry_run else remove(opened, unneeded)
            total += size
            if size:
                typer.echo(f"{sweep_id}  {size / 1e6:.1f} MB")
        if not unreadable:
            total += _unreferenced(opened, remove=shared and not dry_run, counts=shared)
        typer.echo(f"{total / 1e6:.1f} MB {'could be freed' if dry_run else 'freed'} in {opened.uri}")
        if unreadable:
            raise IntegrityError(
                f"{len(unreadable)} sweeps cannot be read: {', '.join(unreadable)}. The data sets, splits, "
                "stages and weights that they use are unknown, so none of those was removed."
            )


def _unreferenced(storage: Storage, *, remove: bool, counts: bool) -> int:
    """List unreferenced objects and, with ``remove``, delete them; return their bytes with ``counts``, else 0."""
    from orchestrator.cleanup.unreferenced import KINDS, remove_unreferenced, unreferenced

    objects = remove_unreferenced(storage) if remove else unreferenced(storage)
    for kind, called in KINDS.items():
        of_kind = [item for item in objects if item.kind == kind]
        if of_kind:
            digests = ", ".join(item.digest[:12] for item in of_kind)
            size = sum(item.size for item in of_kind)
            typer.echo(f"unreferenced {called}  {size / 1e6:.1f} MB  {digests}")
    if objects and not counts:
        say("unreferenced data sets, splits, stages and weights are kept; `agr gc --unreferenced` removes them")
    return sum(item.size for item in objects) if counts else 0


def rm(
    sweep: SweepArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Skip the confirmation.")] = False,
    storage: StorageOption = None,
) -> None:
    """Delete a sweep permanently: its journal, weights, logs and MLflow runs. Data sets stay.

    Example: agr rm quickstart-20260102-030405-abcd
    """
    with errors_in_one_line():
        from orchestrator.catalog.find import find_sweep_exactly
        from orchestrator.catalog.ownership import refuse_if_driven
        from orchestrator.errors import DamagedError
        from orchestrator.integrity.repair import readable_state, refuse_if_written_lately
        from orchestrator.journal.segments import read_state

        opened = storage_at(storage)
        sweep_id = find_sweep_exactly(opened, sweep)
        state: SweepState | None
        try:
            state = read_state(opened, sweep_id)
        except DamagedError as error:
            warn(f"{error} Removing it nevertheless.")
            refuse_if_written_lately(opened, sweep_id)
            state = readable_state(opened, sweep_id)
        if state is not None:
            refuse_if_driven(opened, state)
        if not yes:
            trials = "" if state is None else f" with {len(state.trials)} trials"
            typer.confirm(f"Remove sweep {sweep_id}{trials} permanently?", abort=True, err=True)
        if state is None:
            warn("the MLflow experiment of its runs is unknown; the runs stay.")
        runs = 0 if state is None else _remove_from_mlflow(state)
        freed = _remove_from_storage(opened, sweep_id)
        typer.echo(f"removed sweep {sweep_id}: {freed / 1e6:.1f} MB in {opened.uri}, {runs} runs in MLflow")


def _remove_from_mlflow(state: SweepState) -> int:
    """Delete the sweep's MLflow runs; return their number.

    This comes first: after a failure the journal is still there, so the command can be repeated.
    """
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
    """Delete the sweep's objects; return the number of bytes freed.

    The driver's submission and start objects are deleted first: without a journal they would look like a sweep about
    to start. The journal is deleted last, newest segment first, so that it stays readable after an interruption.
    """
    from orchestrator.cleanup.retention import remove
    from orchestrator.storage import layout

    journal = f"{layout.journal(sweep_id)}/"
    for left in (layout.submission(sweep_id), layout.start(sweep_id)):
        storage.delete(left)
    objects = list(storage.list(layout.sweep(sweep_id)))
    events = [info for info in objects if info.key.startswith(journal)]
    others = [info for info in objects if not info.key.startswith(journal)]
    return remove(storage, others) + remove(storage, reversed(events))
