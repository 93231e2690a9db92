"""``agr submit``, ``resume``, ``stop``, ``kill`` and ``rerun``: start, end and repeat trials."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.catalog import control
from orchestrator.cli.common import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    JsonOption,
    ProfileOption,
    StorageOption,
    SweepArgument,
    TrialArgument,
    errors_in_one_line,
    print_json,
    say,
    storage_at,
    sweep_of,
    warn,
)
from orchestrator.cli.driving import CTRL_C, Watch, engine_of, run_new, started_of
from orchestrator.cli.process.interrupts import interrupts_explained
from orchestrator.cli.remote import resume_in_background, resume_on_head, submit_in_background, submit_to_head

if TYPE_CHECKING:
    from orchestrator.journal.sweep_state import SweepState
    from orchestrator.storage.base import Storage

_DRIVEN = ("running", "paused", "lost")
"""Statuses of a sweep whose driver may receive a command; a silent driver may come back."""

SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Override a value of the sweep file; repeatable."),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        help="Ray cluster to run on: HOST:PORT from one of its nodes, or http://HEAD:8265 from any machine, which runs "
        "the driver on the head; default: RAY_ADDRESS, else this machine.",
    ),
]
DetachOption = Annotated[
    bool,
    typer.Option(
        "--detach",
        help="Return once the sweep has started; its driver continues without this terminal: on the head with an http "
        "address, else in the background on this machine.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module to ``app``."""
    app.command()(submit)
    app.command()(resume)
    app.command()(stop)
    app.command()(kill)
    app.command()(rerun)


def submit(
    file: Annotated[Path, typer.Argument(help="Sweep file, such as sweeps/quickstart.yaml.")],
    profile: ProfileOption = None,
    settings: SetOption = None,
    address: AddressOption = None,
    detach: DetachOption = False,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a sweep file, with live progress.

    Ctrl-C keeps the state; `agr resume` continues. Example: agr submit sweeps/quickstart.yaml --set search.trials=8
    """
    with errors_in_one_line():
        say(f"reading {file} ...")
        head = head_of(address)
        from orchestrator.search.warm_start import with_trials_written_out
        from orchestrator.spec.load import load_sweep
        from orchestrator.tracking.runs import trial_of_run

        sweep = load_sweep(file, profile=profile, overrides=settings or [])
        for warning in sweep.warnings:
            say(f"warning: {warning}")
        if head is not None:
            opened_storage = storage_at(storage)
            sweep = with_trials_written_out(sweep, opened_storage, trial_of_run)
            code = submit_to_head(sweep, opened_storage, head, detach=detach, as_json=as_json)
            raise typer.Exit(code)
        say("checking that MLflow and the storage answer ...")
        run_settings, engine = engine_of(storage, address)
        sweep = with_trials_written_out(sweep, engine.storage, trial_of_run)
        if detach:
            raise typer.Exit(submit_in_background(sweep, engine.storage, address, as_json=as_json))
        code = run_new(sweep, started_of(sweep), run_settings, engine, as_json=as_json)
    raise typer.Exit(code)


def resume(
    sweep: SweepArgument,
    address: AddressOption = None,
    detach: DetachOption = False,
    storage: StorageOption = None,
    as_json: JsonOption = False,
    restart: Annotated[int, typer.Option(hidden=True, help="Number of times that its driver died and restarted.")] = 0,
) -> None:
    """Resume an interrupted or paused sweep; no trial is repeated or duplicated.

    Example: agr resume quickstart
    """
    with errors_in_one_line():
        from orchestrator import provenance
        from orchestrator.catalog.ownership import refuse_if_driven
        from orchestrator.errors import SweepOwnedError
        from orchestrator.journal.segments import read_state

        head = head_of(address)
        opened = storage_at(storage)
        sweep_id = sweep_of(opened, sweep)
        state = read_state(opened, sweep_id)
        try:
            refuse_if_driven(opened, state)
        except SweepOwnedError:
            if not _is_paused(opened, sweep_id):
                raise
            control.send(opened, sweep_id, "resume")
            say(f"asked sweep {sweep_id} to resume; its driver checks every 2 s. `agr status {sweep_id}` shows it.")
            raise typer.Exit(0) from None
        if state.status == "completed" and not control.asks_for_work(opened, sweep_id, obeyed=state.obeyed):
            say(
                f"sweep {sweep_id} is completed: nothing to resume. `agr leaderboard {sweep_id}` shows it, and "
                f"`agr extend {sweep_id}` adds to it."
            )
            raise typer.Exit(0)
        if head is None:  # the head's own versions are in the output of its driver
            drift = provenance.drift(state.started.provenance, provenance.collect())
            for line in drift:
                say(f"drift since the sweep began: {line}")
            if drift:
                say("trials that run from here on are marked with it (`agr show`)")
        code = go_on(sweep_id, state, opened, address, head, detach=detach, as_json=as_json, restart=restart)
    raise typer.Exit(code)


def _is_paused(storage: Storage, sweep_id: str) -> bool:
    """Return whether a driver holds the sweep in the paused state."""
    from orchestrator.catalog.rebuilt import summary_of
    from orchestrator.errors import NotFoundError

    try:
        return summary_of(storage, sweep_id, warn=warn).status == "paused"
    except NotFoundError:  # its driver has only just started
        return False


def go_on(
    sweep_id: str,
    state: SweepState,
    storage: Storage,
    address: str | None,
    head: str | None,
    *,
    detach: bool,
    as_json: bool,
    restart: int = 0,
) -> int:
    """Continue a sweep without a driver, in this process or on the ``head``; return the exit code."""
    if head is not None:
        return resume_on_head(sweep_id, storage, head, detach=detach, as_json=as_json)
    if detach:
        engine_of(storage.uri, address)  # report unreachable services here, not in a log
        return resume_in_background(sweep_id, storage, address, as_json=as_json)
    from orchestrator.ray_tune.driver import resume_sweep  # imports Ray, too slow for the error of a wrong ID

    settings, engine = engine_of(storage.uri, address)
    watch = Watch(settings, engine, state.started)
    watch.progress.recall(state)
    watch.progress.wall_before_s = _wall_before(storage, sweep_id)
    with interrupts_explained(*CTRL_C):
        with watch:
            result = resume_sweep(sweep_id, watch.engine, on_begin=watch.begin, restart=restart)
        return watch.end(result, as_json=as_json)


def _wall_before(storage: Storage, sweep_id: str) -> float:
    """Return the run time of earlier drivers of a sweep, in seconds."""
    from orchestrator.catalog.summary import read_summary
    from orchestrator.errors import NotFoundError

    try:
        return read_summary(storage, sweep_id).wall_s
    except NotFoundError:  # killed before it wrote a summary
        return 0.0


def head_of(address: str | None) -> str | None:
    """Return the URL of the head that runs the driver as a job; None if it runs in this process."""
    from orchestrator.cluster.jobs import is_head_url
    from orchestrator.settings import Settings

    address = address or Settings.from_environment().ray_address
    return address if is_head_url(address) else None


def stop(
    sweep: SweepArgument,
    storage: StorageOption = None,
) -> None:
    """Stop a sweep through its driver; running trials are closed as interrupted.

    Example: agr stop quickstart
    """
    with errors_in_one_line():
        from agr_core.errors import InputError, IntegrityError
        from orchestrator.catalog.liveness import Silences
        from orchestrator.catalog.rebuilt import summary_of
        from orchestrator.errors import NotFoundError

        opened = storage_at(storage)
        sweep_id = sweep_of(opened, sweep)
        try:
            summary = summary_of(opened, sweep_id, warn=warn)
            status = summary.status_after(Silences(opened).of(sweep_id))
        except NotFoundError:  # its driver has only just started
            status = "running"
        except IntegrityError as error:  # a damaged record must not prevent stopping a sweep
            warn(f"{error} Whether a driver runs sweep {sweep_id} is not known.")
            status = "running"
        if status not in _DRIVEN:
            raise InputError(f"sweep {sweep_id} is {status}: no driver runs it, so there is nothing to stop.")
        control.send(opened, sweep_id, "stop")
        say(f"asked sweep {sweep_id} to stop; its driver checks every few seconds. `agr status {sweep_id}` shows it.")


def kill(
    trial: TrialArgument,
    storage: StorageOption = None,
) -> None:
    """End one trial through its sweep's driver, closed as interrupted; the sweep continues.

    Example: agr kill 1f3a
    """
    with errors_in_one_line():
        from agr_core.errors import InputError
        from orchestrator.catalog.find import find_trial
        from orchestrator.journal.segments import read_state
        from orchestrator.tracking.runs import trial_of_run

        opened = storage_at(storage)
        sweep_id, trial_id = find_trial(opened, trial, trial_of_run)
        trial_state = read_state(opened, sweep_id).trials.get(trial_id)
        if trial_state is not None and trial_state.outcome not in (None, "interrupted"):
            raise InputError(f"trial {trial_id} of sweep {sweep_id} is {trial_state.outcome}: there is nothing to end.")
        control.send(opened, sweep_id, "kill", {"trial_id": trial_id})
        say(f"asked sweep {sweep_id} to end trial {trial_id}.")


def rerun(
    trial: TrialArgument,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="PATH=VALUE", help="Change a setting; the trial is then a fork and not compared."
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse when versions, hardware or data differ.")] = False,
    address: AddressOption = None,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Retrain a trial and compare every figure of every epoch; exit 1 on any difference.

    Example: agr rerun best --strict
    """
    with errors_in_one_line():
        from orchestrator import rerun as again
        from orchestrator.catalog.find import find_trial, label_of
        from orchestrator.errors import SweepFailedError
        from orchestrator.journal.segments import read_state
        from orchestrator.tracking.runs import trial_of_run

        opened, engine = engine_of(storage, address)
        sweep_id, trial_id = find_trial(engine.storage, trial, trial_of_run)
        original = again.find_original(engine.storage, read_state(engine.storage, sweep_id), trial_id)
        sweep = again.rerun_sweep(original, settings or [])
        drift = again.drift(original, engine.storage, opened)
        for line in drift:
            say(f"drift: {line}")
        if drift and strict:
            raise SweepFailedError(f"--strict: {len(drift)} things differ from when trial {trial_id} was trained.")
        if not any(setting.startswith(("data", "init")) for setting in settings or []):
            engine = replace(engine, prepare=again.recorded_data(original))
        weights = again.initial_weights(original)
        if weights is not None and not any(setting.startswith(("model", "init")) for setting in settings or []):
            engine = replace(engine, prepare_weights=lambda _: weights)
        epochs = None if settings else original.reports[-1].epoch
        started = started_of(sweep, rerun_of=trial_id, stop_after_epochs=epochs)
        code = run_new(sweep, started, opened, engine, as_json=False, quiet=True)
        if code == EXIT_INTERRUPTED:
            raise typer.Exit(code)
        code = _say_rerun(
            engine.storage,
            started.sweep_id,
            original,
            drift,
            label=label_of(trial),
            fork=bool(settings),
            as_json=as_json,
        )
    raise typer.Exit(code)


def _say_rerun(
    storage: Storage, sweep_id: str, original: Any, drift: list[str], *, label: str, fork: bool, as_json: bool
) -> int:
    from agr_core.objective import BEST
    from orchestrator import rerun as again
    from orchestrator.journal.segments import read_state
    from orchestrator.results.trial_metrics import reports_of

    state = read_state(storage, sweep_id)
    trial = next(iter(state.trials.values()))
    objective = state.started.objective if label == BEST else state.started.keep[label]
    comparison = again.compare(original, trial)
    identical = comparison.identical and not fork
    if as_json:
        print_json(
            {
                "trial_id": trial.trial_id,
                "rerun_of": original.trial.trial_id,
                "sweep_id": sweep_id,
                "outcome": trial.outcome,
                "fork": fork,
                "identical": identical,
                "max_abs_diff": comparison.max_abs_diff,
                "drift": drift,
                "differences": list(comparison.differences),
                "added": list(comparison.added),
                "metrics": again.best_figures(reports_of(trial), objective),
                "original_metrics": again.best_figures(original.reports, objective),
            }
        )
    elif fork:
        say(f"trial {trial.trial_id} is a fork of {original.trial.trial_id}: `agr show {trial.trial_id}`")
    elif identical:
        typer.echo(
            f"trial {trial.trial_id} equals {original.trial.trial_id}: every figure of every epoch, to the last bit."
        )
        if comparison.added:
            typer.echo(f"New in this version, so not compared: {', '.join(comparison.added)}.")
    else:
        typer.echo(
            f"trial {trial.trial_id} differs from {original.trial.trial_id} (largest: {comparison.max_abs_diff}):"
        )
        for line in comparison.differences[:20]:
            typer.echo(f"  {line}")
    if fork:
        return 0 if trial.outcome == "completed" else EXIT_FAILED
    return 0 if identical else EXIT_FAILED
