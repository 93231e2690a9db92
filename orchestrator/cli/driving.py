"""What goes on around a driver on this machine: its settings, the MLflow writer, the progress, the last words."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import typer

from orchestrator.cli.common import EXIT_FAILED, EXIT_INTERRUPTED, print_json, say
from orchestrator.cli.terminal import harmless

if TYPE_CHECKING:
    from orchestrator.errors import TrackerError
    from orchestrator.mlflow_writer import MlflowWriter, ParentRun
    from orchestrator.ray_tune.driver import Engine, SweepResult
    from orchestrator.records import Event, SweepStarted
    from orchestrator.settings import Settings
    from orchestrator.spec.load import Sweep
    from orchestrator.storage.base import Storage

_DELIVERY_S = 300.0


def engine_of(storage: str | None, address: str | None) -> tuple[Settings, Engine]:
    """Settings and storage of a command, with both MLflow and the storage known to answer."""
    from orchestrator.ray_tune.driver import Engine
    from orchestrator.settings import Settings
    from orchestrator.storage import open_patiently, open_storage
    from orchestrator.tracking import open_tracker

    settings = Settings.from_environment()
    settings = replace(settings, storage=storage or settings.storage, ray_address=address or settings.ray_address)
    open_tracker(settings.tracking_uri, settings.mlflow_artifacts).check()
    place = open_storage(settings.storage)
    place.exists("sweeps/probe")  # a storage that is not there is told now, and not after the data is packed
    return settings, Engine(settings=settings, storage=open_patiently(settings.storage))


def started_of(
    sweep: Sweep, *, sweep_id: str | None = None, rerun_of: str | None = None, stop_after_epochs: int | None = None
) -> SweepStarted:
    """The first event of a sweep, under a new ID unless it has one already."""
    from orchestrator.ids import new_sweep_id
    from orchestrator.provenance import collect
    from orchestrator.records import SweepStarted

    spec = sweep.spec
    return SweepStarted(
        time=time.time(),
        sweep_id=sweep_id or new_sweep_id(spec.name),
        name=spec.name,
        experiment=spec.experiment or spec.name,
        description=spec.description,
        tags=spec.tags,
        objective=spec.objectives[0],
        further=spec.objectives[1:],
        keep=spec.keep,
        document=sweep.document,
        provenance=collect(),
        profile=sweep.profile,
        rerun_of=rerun_of,
        stop_after_epochs=stop_after_epochs,
    )


class Watch:
    """What goes on around a driver: the MLflow writer, the progress, the last words."""

    def __init__(self, settings: Settings, engine: Engine, started: SweepStarted, planned: int | None = None) -> None:
        from orchestrator.cli.progress import Progress

        self._settings = settings
        self._started = started
        self.progress = Progress(started.objectives, planned)
        self.engine = replace(engine, listener=self._heard)
        self._writer: MlflowWriter | None = None
        self._linked = False
        self._heard_early: list[Event] = []  # before the lines that come first

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
        from orchestrator.tracking.address import without_credentials

        say(f"sweep    {self._started.sweep_id}")
        say(f"storage  {self.engine.storage.uri}")
        say(f"mlflow   {without_credentials(self._settings.tracking_uri)}")
        self._writer = MlflowWriter(self.engine.storage, self._started.sweep_id, self._settings)
        for event in self._heard_early:
            self._heard(event)

    def _heard(self, event: Event) -> None:
        if self._writer is None:
            self._heard_early.append(event)
            return
        if not self._linked:
            parent = self._writer.parent_run(0.0)
            if parent is not None:
                self._linked = True
                web = parent.link.startswith("http")
                say(f"board    {parent.link if web else '`agr ui` opens it in the browser'}")
        self.progress(event)

    def end(self, result: SweepResult, *, as_json: bool, quiet: bool = False) -> int:
        """Wait for MLflow, print the result, and give the exit code.

        Raises:
            TrackerError: If the MLflow writer failed; the result is printed all the same.
        """
        assert self._writer is not None, "begin was called"
        undelivered = self._deliver(self._writer)
        parent = self._writer.parent_run(0.0)
        if as_json:
            print_json(result_document(result, parent))
        elif not quiet:
            print_result(result, self.engine.storage)
        if result.status == "interrupted":
            say(f"interrupted; the state is kept. Go on with: agr resume {result.sweep_id}")
        if undelivered is not None:
            raise undelivered
        return exit_code_of(result)

    def _deliver(self, writer: MlflowWriter) -> TrackerError | None:
        """Wait for MLflow; the error of a writer that failed."""
        from orchestrator.errors import TrackerError

        try:
            if not writer.finish(5.0):
                say("delivering to MLflow ...")
                if not writer.finish(_DELIVERY_S):
                    say(
                        f"MLflow has not taken everything after {_DELIVERY_S:.0f} s; the writer goes on. "
                        f"`agr sync {self.engine.storage.uri}` delivers the rest at any time (log: {writer.log})."
                    )
        except TrackerError as error:
            return error
        return None


def exit_code_of(result: SweepResult) -> int:
    """0 if a trial completed and the sweep ended as asked."""
    if result.status == "interrupted":
        return EXIT_INTERRUPTED
    done = result.status in ("completed", "stopped") and result.counts["completed"] > 0
    return 0 if done else EXIT_FAILED


def print_result(result: SweepResult, storage: Storage) -> None:
    """How a sweep ended, for people."""
    from agr_core.objective import objective_names
    from orchestrator.cli.results import baseline_lines
    from orchestrator.journal import read_state
    from orchestrator.leaderboard import rows

    shown = ", ".join(f"{count} {outcome}" for outcome, count in result.counts.items() if count)
    typer.echo(f"{result.sweep_id}: {result.status} in {result.wall_s:.0f} s; {shown or 'no trial ended'}")
    if result.reason:
        typer.echo(harmless(f"because: {result.reason}"))
    if result.best is not None:
        state = read_state(storage, result.sweep_id)
        figures = zip(objective_names(state.started.objectives), result.best[1], strict=True)
        typer.echo(f"best: {result.best[0]} with {', '.join(f'{name} {value:.5g}' for name, value in figures)}")
        if state.started.further:
            front = [row.trial_id for row in rows([state]) if row.front == 1]
            typer.echo(f"front: {len(front)} trials that no other beats: {', '.join(front)}")
        for line in baseline_lines(state):
            typer.echo(line)
        typer.echo(f"next: agr leaderboard {result.sweep_id}")


def run_new(
    sweep: Sweep, started: SweepStarted, settings: Settings, engine: Engine, *, as_json: bool, quiet: bool = False
) -> int:
    """Drive a new sweep to its end; returns the exit code."""
    from orchestrator.ray_tune.driver import start_sweep

    seeds = 1 if sweep.spec.repeat is None else sweep.spec.repeat.seeds
    trials = None if sweep.spec.search is None else sweep.spec.search.trials
    confirmations = 0 if sweep.spec.confirm is None else sweep.spec.confirm.trials
    planned = None if trials is None else trials * seeds + confirmations
    watch = Watch(settings, engine, started, planned=planned)
    with watch:
        result = start_sweep(sweep, started, watch.engine, on_begin=watch.begin)
    return watch.end(result, as_json=as_json, quiet=quiet)


def result_document(result: SweepResult, parent: ParentRun | None) -> dict[str, Any]:
    """The JSON of ``agr submit``."""
    from orchestrator.pareto import plain

    return {
        "sweep_id": result.sweep_id,
        "status": result.status,
        "trials": result.counts,
        "best": None if result.best is None else {"trial_id": result.best[0], "value": plain(result.best[1])},
        "mlflow": {
            "tracking_uri": None if parent is None else parent.tracking_uri,
            "experiment_id": None if parent is None else parent.experiment_id,
            "run_id": None if parent is None else parent.run_id,
        },
        "wall_s": round(result.wall_s, 3),
    }
