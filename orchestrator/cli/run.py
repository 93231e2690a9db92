"""``agr submit``, ``resume``, ``stop``, ``kill`` and ``rerun``: what starts, ends and repeats trials."""

from __future__ import annotations

import time
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
)

if TYPE_CHECKING:
    from orchestrator.mlflow_writer import MlflowWriter, ParentRun
    from orchestrator.ray_tune.driver import Engine, SweepResult
    from orchestrator.records import SweepStarted
    from orchestrator.settings import Settings
    from orchestrator.spec.load import Sweep
    from orchestrator.storage.base import Storage

_DELIVERY_S = 300.0

SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Change the document first; may be repeated.")
]
AddressOption = Annotated[
    str | None, typer.Option("--address", help="Ray cluster to run on; default: RAY_ADDRESS, else this machine.")
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
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a sweep file, with live progress.

    Ctrl-C keeps the state; `agr resume` goes on. Example: agr submit sweeps/quickstart.yaml --set search.trials=8
    """
    with errors_in_one_line():
        from orchestrator.spec.load import load_sweep
        from orchestrator.warm_start import with_trials_written_out

        sweep = load_sweep(file, profile=profile, overrides=settings or [])
        for warning in sweep.warnings:
            say(f"warning: {warning}")
        place, engine = _engine(storage, address)
        sweep = with_trials_written_out(sweep, engine.storage)
        code = _run_new(sweep, _started(sweep), place, engine, as_json=as_json)
    raise typer.Exit(code)


def resume(
    sweep: Annotated[str, typer.Argument(help="Sweep ID, or a unique beginning of one.")],
    address: AddressOption = None,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Finish a sweep that was interrupted; no trial is repeated or doubled."""
    with errors_in_one_line():
        from orchestrator.journal import read_state
        from orchestrator.lookup import find_sweep
        from orchestrator.ownership import refuse_if_driven
        from orchestrator.ray_tune.driver import resume_sweep

        place, engine = _engine(storage, address)
        sweep_id = find_sweep(engine.storage, sweep)
        state = read_state(engine.storage, sweep_id)
        refuse_if_driven(engine.storage, state)
        if state.status == "completed":
            say(f"sweep {sweep_id} is completed: nothing to resume. `agr leaderboard {sweep_id}` shows it.")
            raise typer.Exit(0)
        watch = _Watch(place, engine, state.started)
        for trial in state.trials.values():
            watch.progress.recall(trial)
        with watch:
            result = resume_sweep(sweep_id, watch.engine, on_begin=watch.begin)
        code = watch.end(result, as_json=as_json)
    raise typer.Exit(code)


def stop(
    sweep: Annotated[str, typer.Argument(help="Sweep ID, or a unique beginning of one.")],
    storage: StorageOption = None,
) -> None:
    """Ask a sweep's driver to end it: running trials are closed as interrupted."""
    with errors_in_one_line():
        from orchestrator import control
        from orchestrator.lookup import find_sweep

        place = _storage(storage)
        sweep_id = find_sweep(place, sweep)
        control.send(place, sweep_id, "stop")
        say(f"asked sweep {sweep_id} to stop; its driver looks every few seconds. `agr status {sweep_id}` shows it.")


def kill(
    trial: Annotated[str, typer.Argument(help="Trial ID, or a unique beginning of one.")],
    storage: StorageOption = None,
) -> None:
    """Ask a sweep's driver to end one trial, which is closed as interrupted; the sweep goes on."""
    with errors_in_one_line():
        from orchestrator import control
        from orchestrator.lookup import find_trial

        place = _storage(storage)
        sweep_id, trial_id = find_trial(place, trial)
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

        place, engine = _engine(storage, address)
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
        started = _started(sweep, rerun_of=trial_id, stop_after_epochs=epochs)
        code = _run_new(sweep, started, place, engine, as_json=False, quiet=True)
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
                "metrics": again.best_figures(again.reports_of(trial), objective),
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


# ---- shared


def _storage(uri: str | None) -> Storage:
    from orchestrator.settings import Settings
    from orchestrator.storage import open_storage

    return open_storage(uri or Settings.from_environment().storage)


def _engine(storage: str | None, address: str | None) -> tuple[Settings, Engine]:
    from orchestrator.ray_tune.driver import Engine
    from orchestrator.settings import Settings
    from orchestrator.storage import open_storage
    from orchestrator.tracking import open_tracker

    settings = Settings.from_environment()
    settings = replace(settings, storage=storage or settings.storage, ray_address=address or settings.ray_address)
    open_tracker(settings.tracking_uri, settings.mlflow_artifacts).check()
    place = open_storage(settings.storage)
    place.exists("sweeps/probe")  # a storage that is not there is told now, and not after the data is packed
    return settings, Engine(settings=settings, storage=place)


def _started(sweep: Sweep, *, rerun_of: str | None = None, stop_after_epochs: int | None = None) -> SweepStarted:
    from orchestrator.ids import new_sweep_id
    from orchestrator.provenance import collect
    from orchestrator.records import SweepStarted

    spec = sweep.spec
    return SweepStarted(
        time=time.time(),
        sweep_id=new_sweep_id(spec.name),
        name=spec.name,
        experiment=spec.experiment or spec.name,
        description=spec.description,
        tags=spec.tags,
        objective=spec.objective,
        keep=spec.keep,
        document=sweep.document,
        provenance=collect(),
        profile=sweep.profile,
        rerun_of=rerun_of,
        stop_after_epochs=stop_after_epochs,
    )


class _Watch:
    """What goes on around a driver: the MLflow writer, the progress, the last words."""

    def __init__(self, settings: Settings, engine: Engine, started: SweepStarted, planned: int | None = None) -> None:
        from orchestrator.cli.progress import Progress

        self._settings = settings
        self._started = started
        self.progress = Progress(started.objective, planned)
        self.engine = replace(engine, listener=self._heard)
        self._writer: MlflowWriter | None = None
        self._linked = False

    def __enter__(self) -> None:
        self.progress.__enter__()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        from orchestrator.errors import StorageError

        self.progress.__exit__(kind, error, trace)
        if self._writer is not None and isinstance(error, StorageError):
            say(f"what is stored of sweep {self._started.sweep_id} is kept; `agr resume` goes on with it")

    def begin(self) -> None:
        """The journal exists: say where everything is, and start to write MLflow."""
        from orchestrator.mlflow_writer import MlflowWriter
        from orchestrator.tracking.base import without_credentials

        say(f"sweep    {self._started.sweep_id}")
        say(f"storage  {self.engine.storage.uri}")
        say(f"mlflow   {without_credentials(self._settings.tracking_uri)}")
        self._writer = MlflowWriter(self.engine.storage, self._started.sweep_id, self._settings)

    def _heard(self, event: Any) -> None:
        if self._writer is not None and not self._linked:
            parent = self._writer.parent_run(0.0)
            if parent is not None:
                self._linked = True
                web = parent.link.startswith("http")
                say(f"board    {parent.link if web else '`agr ui` opens it in the browser'}")
        self.progress(event)

    def end(self, result: SweepResult, *, as_json: bool, quiet: bool = False) -> int:
        """Wait for MLflow, print the result, and give the exit code."""
        parent = self._deliver()
        if as_json:
            print_json(_json(result, parent))
        elif not quiet:
            self._print(result)
        if result.status == "interrupted":
            say(f"interrupted; the state is kept. Go on with: agr resume {result.sweep_id}")
            return EXIT_INTERRUPTED
        done = result.status in ("completed", "stopped") and result.counts["completed"] > 0
        return 0 if done else EXIT_FAILED

    def _deliver(self) -> ParentRun | None:
        assert self._writer is not None, "begin was called"
        if not self._writer.finish(5.0):
            say("delivering to MLflow ...")
            if not self._writer.finish(_DELIVERY_S):
                say(
                    f"MLflow has not taken everything after {_DELIVERY_S:.0f} s; the writer goes on. "
                    f"`agr sync {self.engine.storage.uri}` delivers the rest at any time (log: {self._writer.log})."
                )
        return self._writer.parent_run(0.0)

    def _print(self, result: SweepResult) -> None:
        from orchestrator.cli.results import baseline_lines
        from orchestrator.journal import read_state

        shown = ", ".join(f"{count} {outcome}" for outcome, count in result.counts.items() if count)
        typer.echo(f"{result.sweep_id}: {result.status} in {result.wall_s:.0f} s; {shown or 'no trial ended'}")
        if result.reason:
            typer.echo(f"because: {result.reason}")
        if result.best is not None:
            typer.echo(f"best: {result.best[0]} with {self._started.objective.name} {result.best[1]:.5g}")
            for line in baseline_lines(read_state(self.engine.storage, result.sweep_id)):
                typer.echo(line)
            typer.echo(f"next: agr leaderboard {result.sweep_id}")


def _run_new(
    sweep: Sweep, started: SweepStarted, settings: Settings, engine: Engine, *, as_json: bool, quiet: bool = False
) -> int:
    from orchestrator.ray_tune.driver import start_sweep

    seeds = 1 if sweep.spec.repeat is None else sweep.spec.repeat.seeds
    trials = None if sweep.spec.search is None else sweep.spec.search.trials
    confirmations = 0 if sweep.spec.confirm is None else sweep.spec.confirm.trials
    planned = None if trials is None else trials * seeds + confirmations
    watch = _Watch(settings, engine, started, planned=planned)
    with watch:
        result = start_sweep(sweep, started, watch.engine, on_begin=watch.begin)
    return watch.end(result, as_json=as_json, quiet=quiet)


def _json(result: SweepResult, parent: ParentRun | None) -> dict[str, Any]:
    return {
        "sweep_id": result.sweep_id,
        "status": result.status,
        "trials": result.counts,
        "best": None if result.best is None else {"trial_id": result.best[0], "value": result.best[1]},
        "mlflow": {
            "tracking_uri": None if parent is None else parent.tracking_uri,
            "experiment_id": None if parent is None else parent.experiment_id,
            "run_id": None if parent is None else parent.run_id,
        },
        "wall_s": round(result.wall_s, 3),
    }
