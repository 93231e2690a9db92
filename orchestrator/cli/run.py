"""``agr submit``, ``resume``, ``stop``, ``kill`` and ``rerun``: what starts, ends and repeats trials."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.common import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    JsonOption,
    ProfileOption,
    StorageOption,
    errors_in_one_line,
    print_json,
    say,
    storage_at,
)
from orchestrator.cli.driving import Watch, engine_of, run_new, started_of
from orchestrator.cli.remote import resume_on_head, submit_to_head

if TYPE_CHECKING:
    from orchestrator.storage.base import Storage

_DRIVEN = ("running", "lost")
"""Statuses of a sweep whose driver may hear a command; one that is silent may come back."""

SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Change the document first; may be repeated.")
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        help="Ray cluster to run on: HOST:PORT from one of its nodes, http://HEAD:8265 from anywhere, where the driver "
        "then runs on the head; default: RAY_ADDRESS, else this machine.",
    ),
]
DetachOption = Annotated[
    bool, typer.Option("--detach", help="With an http address: return as soon as the sweep has begun on the head.")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
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

    Ctrl-C keeps the state; `agr resume` goes on. Example: agr submit sweeps/quickstart.yaml --set search.trials=8
    """
    with errors_in_one_line():
        head = _head(address, detach=detach)
        from orchestrator.spec.load import load_sweep
        from orchestrator.warm_start import with_trials_written_out

        sweep = load_sweep(file, profile=profile, overrides=settings or [])
        for warning in sweep.warnings:
            say(f"warning: {warning}")
        if head is not None:
            there = storage_at(storage)
            code = submit_to_head(with_trials_written_out(sweep, there), there, head, detach=detach, as_json=as_json)
            raise typer.Exit(code)
        place, engine = engine_of(storage, address)
        sweep = with_trials_written_out(sweep, engine.storage)
        code = run_new(sweep, started_of(sweep), place, engine, as_json=as_json)
    raise typer.Exit(code)


def resume(
    sweep: Annotated[str, typer.Argument(help="Sweep ID, or a unique beginning of one.")],
    address: AddressOption = None,
    detach: DetachOption = False,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Finish a sweep that was interrupted; no trial is repeated or doubled."""
    with errors_in_one_line():
        head = _head(address, detach=detach)
        if head is not None:
            raise typer.Exit(resume_on_head(sweep, storage_at(storage), head, detach=detach, as_json=as_json))
        from orchestrator.journal import read_state
        from orchestrator.lookup import find_sweep
        from orchestrator.ownership import refuse_if_driven

        found = storage_at(storage)
        sweep_id = find_sweep(found, sweep)
        state = read_state(found, sweep_id)
        refuse_if_driven(found, state)
        if state.status == "completed":
            say(f"sweep {sweep_id} is completed: nothing to resume. `agr leaderboard {sweep_id}` shows it.")
            raise typer.Exit(0)
        from orchestrator.ray_tune.driver import resume_sweep  # with Ray, for which a wrong ID need not wait

        settings, engine = engine_of(storage, address)
        watch = Watch(settings, engine, state.started)
        for trial in state.trials.values():
            watch.progress.recall(trial)
        with watch:
            result = resume_sweep(sweep_id, watch.engine, on_begin=watch.begin)
        code = watch.end(result, as_json=as_json)
    raise typer.Exit(code)


def _head(address: str | None, *, detach: bool) -> str | None:
    """Where the driver is to be a job; None: it runs in this process."""
    from agr_core.errors import InputError
    from orchestrator.cluster.jobs import is_head_url
    from orchestrator.settings import Settings

    address = address or Settings.from_environment().ray_address
    if is_head_url(address):
        return address
    if detach:
        raise InputError(
            "--detach needs the address of a cluster's head, such as --address http://10.0.0.1:8265; a driver in this "
            "process ends with it."
        )
    return None


def stop(
    sweep: Annotated[str, typer.Argument(help="Sweep ID, or a unique beginning of one.")],
    storage: StorageOption = None,
) -> None:
    """Ask a sweep's driver to end it: running trials are closed as interrupted."""
    with errors_in_one_line():
        import time

        from agr_core.errors import InputError
        from orchestrator import control
        from orchestrator.errors import NotFoundError
        from orchestrator.lookup import find_sweep, read_summary

        place = storage_at(storage)
        sweep_id = find_sweep(place, sweep)
        try:
            status = read_summary(place, sweep_id, now=time.time())["status"]
        except NotFoundError:  # its driver has only just begun
            status = "running"
        if status not in _DRIVEN:
            raise InputError(f"sweep {sweep_id} is {status}: no driver runs it, so there is nothing to stop.")
        control.send(place, sweep_id, "stop")
        say(f"asked sweep {sweep_id} to stop; its driver looks every few seconds. `agr status {sweep_id}` shows it.")


def kill(
    trial: Annotated[str, typer.Argument(help="Trial ID, or a unique beginning of one.")],
    storage: StorageOption = None,
) -> None:
    """Ask a sweep's driver to end one trial, which is closed as interrupted; the sweep goes on."""
    with errors_in_one_line():
        from agr_core.errors import InputError
        from orchestrator import control
        from orchestrator.journal import read_state
        from orchestrator.lookup import find_trial

        place = storage_at(storage)
        sweep_id, trial_id = find_trial(place, trial)
        found = read_state(place, sweep_id).trials.get(trial_id)
        if found is not None and found.outcome not in (None, "interrupted"):
            raise InputError(f"trial {trial_id} of sweep {sweep_id} is {found.outcome}: there is nothing to end.")
        control.send(place, sweep_id, "kill", {"trial_id": trial_id})
        say(f"asked sweep {sweep_id} to end trial {trial_id}.")


def rerun(
    trial: Annotated[
        str,
        typer.Argument(
            help="Trial ID, a unique beginning of one, or its MLflow run ID; TRIAL@LABEL for an epoch that it keeps."
        ),
    ],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="Change the trial: a fork, which is not compared."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse when versions, hardware or data differ.")] = False,
    address: AddressOption = None,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a trial again and compare every figure of every epoch; exit 1 if one differs."""
    with errors_in_one_line():
        from orchestrator import rerun as again
        from orchestrator.errors import SweepFailedError
        from orchestrator.journal import read_state
        from orchestrator.lookup import find_trial, label_of

        place, engine = engine_of(storage, address)
        sweep_id, trial_id = find_trial(engine.storage, trial)
        original = again.find_original(engine.storage, read_state(engine.storage, sweep_id), trial_id)
        sweep = again.rerun_sweep(original, settings or [])
        drift = again.drift(original, engine.storage, place)
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
        code = run_new(sweep, started, place, engine, as_json=False, quiet=True)
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
    from orchestrator.journal import read_state
    from orchestrator.trial_metrics import reports_of

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
    else:
        typer.echo(
            f"trial {trial.trial_id} differs from {original.trial.trial_id} (largest: {comparison.max_abs_diff}):"
        )
        for line in comparison.differences[:20]:
            typer.echo(f"  {line}")
    if fork:
        return 0 if trial.outcome == "completed" else EXIT_FAILED
    return 0 if identical else EXIT_FAILED
