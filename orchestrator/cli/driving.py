"""Environment of a driver on this machine: settings, MLflow writer, progress and printed result."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from orchestrator.cli.common import EXIT_FAILED, EXIT_INTERRUPTED, console, print_json, say
from orchestrator.cli.process.interrupts import interrupts_explained

if TYPE_CHECKING:
    from orchestrator.errors import TrackerError
    from orchestrator.journal.events import Event, SweepStarted
    from orchestrator.notify.notifier import Notifier
    from orchestrator.ray_tune.driver import Engine, SweepResult
    from orchestrator.settings import Settings
    from orchestrator.spec.load import Sweep
    from orchestrator.storage.base import Storage
    from orchestrator.tracking.writer_process import MlflowWriter, ParentRun

CTRL_C = (
    "interrupted: closing the running trials and storing the state, about 10 s; Ctrl-C again ends at once",
    "ended at once; the stored state is kept, and `agr resume` continues from it",
)
"""Messages of a driver at the first and second Ctrl-C."""

_DELIVERY_S = 300.0
_DELIVERY_AFTER_CTRL_C_S = 15.0


def engine_of(storage: str | None, address: str | None) -> tuple[Settings, Engine]:
    """Check cluster, MLflow and storage; return the settings and the engine of a command.

    Raises:
        InputError: If nothing answers at the address of the cluster; Ray itself would retry for minutes.
        StorageError: If the storage lacks an operation that a sweep needs.
        TrackerError: If MLflow does not answer.
    """
    from orchestrator.ray_tune.driver import Engine
    from orchestrator.ray_tune.machine import check_machine
    from orchestrator.settings import Settings
    from orchestrator.storage import open_patiently, open_storage
    from orchestrator.storage.check import prove_storage
    from orchestrator.tracking import open_tracker

    settings = Settings.from_environment()
    settings = replace(settings, storage=storage or settings.storage, ray_address=address or settings.ray_address)
    check_cluster(settings.ray_address, "RAY_ADDRESS" if address is None else "--address")
    check_machine(settings)
    open_tracker(settings.tracking_uri, settings.mlflow_artifacts).check()
    opened = open_storage(settings.storage)
    prove_storage(opened)  # before the data is packed and uploaded
    return settings, Engine(settings=settings, storage=open_patiently(settings.storage))


def check_cluster(address: str | None, given_by: str) -> None:
    """Refuse an address of a cluster where nothing answers.

    Raises:
        InputError: If so; Ray itself would retry for minutes.
    """
    from agr_core.errors import InputError
    from orchestrator.listening import ANSWER_S, answers

    host, _, port = (address or "").rpartition(":")
    if not port.isdigit() or "/" in host:
        return  # Ray's own keywords, such as `auto`
    if not answers(host, int(port)):
        raise InputError(
            f"{given_by} {address}: no answer within {ANSWER_S:.0f} s. Check that the head runs (`agr cluster status` "
            "there), that this is its address, and that its firewall admits this machine. Without "
            f"{given_by} the sweep runs on this machine."
        )


def started_of(
    sweep: Sweep, *, sweep_id: str | None = None, rerun_of: str | None = None, stop_after_epochs: int | None = None
) -> SweepStarted:
    """Return the first event of a sweep, with a new ID unless ``sweep_id`` is given."""
    from orchestrator.catalog.control import sender
    from orchestrator.catalog.ids import new_sweep_id
    from orchestrator.journal.events import SweepStarted
    from orchestrator.provenance import collect

    return SweepStarted.of(
        sweep,
        time=time.time(),
        sweep_id=sweep_id or new_sweep_id(sweep.spec.name),
        provenance=collect(),
        rerun_of=rerun_of,
        stop_after_epochs=stop_after_epochs,
        started_by=sender(),
    )


def notifier_of(settings: Settings, sweep_id: str) -> Notifier | None:
    """Return the notifier for the addresses of ``AGR_NOTIFY``; None without addresses.

    Raises:
        InputError: If the addresses are invalid.
    """
    if settings.notify is None:
        return None
    from orchestrator.notify.notifier import Addresses, Notifier

    return Notifier(Addresses(settings.notify), sweep_id, warn=say)


class Watch:
    """MLflow writer, progress display and final output of a driver."""

    def __init__(self, settings: Settings, engine: Engine, started: SweepStarted, planned: int | None = None) -> None:
        from orchestrator.cli.render.progress import Progress

        self._settings = settings
        self._started = started
        self.progress = Progress(started, planned)
        self._notifier = notifier_of(settings, started.sweep_id)
        self.engine = replace(engine, listener=self._heard, doing=self.progress.doing)
        self._writer: MlflowWriter | None = None
        self._linked = False
        self._heard_early: list[Event] = []  # events that arrive before the header is printed

    def __enter__(self) -> None:
        self.progress.__enter__()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        from orchestrator.errors import StorageError

        self.progress.__exit__(kind, error, trace)
        if self._notifier is not None:
            self._notifier.close()
        if self._writer is not None and isinstance(error, StorageError):
            say(f"the stored state of sweep {self._started.sweep_id} is kept; `agr resume` continues it")

    def begin(self) -> None:
        """Print where results are and start the MLflow writer, once the journal exists."""
        from orchestrator.tracking.address import without_credentials
        from orchestrator.tracking.writer_process import MlflowWriter

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
        if self._notifier is not None:
            self._notifier(event)

    def end(self, result: SweepResult, *, as_json: bool, quiet: bool = False) -> int:
        """Wait for MLflow, print the result and return the exit code.

        Raises:
            TrackerError: If the MLflow writer failed; the result is printed first.
        """
        assert self._writer is not None, "begin was called"
        undelivered = self._deliver(
            self._writer, _DELIVERY_AFTER_CTRL_C_S if result.status == "interrupted" else _DELIVERY_S
        )
        parent = self._writer.parent_run(0.0)
        if as_json:
            print_json(result_document(result, parent))
        elif not quiet:
            print_result(result, self.engine.storage)
        if result.status == "interrupted":
            say(f"interrupted; the state is kept. Continue with: agr resume {result.sweep_id}")
        if undelivered is not None:
            raise undelivered
        return exit_code_of(result)

    def _deliver(self, writer: MlflowWriter, within_s: float) -> TrackerError | None:
        """Wait for MLflow; return the error of a failed writer, else None."""
        from orchestrator.errors import TrackerError

        try:
            if not writer.finish(5.0):
                full = writer.full_disk()
                if full is not None:
                    say(
                        f"cannot write to MLflow: {full}. Free space; then `agr sync {self.engine.storage.uri}` "
                        f"delivers the rest (log: {writer.log})."
                    )
                    return None
                say(f"delivering to MLflow, at most {within_s:.0f} s ...")
                if not writer.finish(within_s):
                    say(
                        f"MLflow has not received everything after {within_s:.0f} s; the writer continues. "
                        f"`agr sync {self.engine.storage.uri}` delivers the rest at any time (log: {writer.log})."
                    )
        except TrackerError as error:
            return error
        return None


def exit_code_of(result: SweepResult) -> int:
    """Return 0 if at least one trial completed and the sweep ended as requested."""
    if result.status == "interrupted":
        return EXIT_INTERRUPTED
    done = result.status in ("completed", "stopped") and result.counts["completed"] > 0
    return 0 if done else EXIT_FAILED


def print_result(result: SweepResult, storage: Storage) -> None:
    """Print the result of a sweep as text."""
    from agr_core.objective import objective_names
    from orchestrator.cli.render.costs import spent_words
    from orchestrator.cli.results import baseline_lines
    from orchestrator.journal.segments import read_state
    from orchestrator.results.leaderboard import rows

    out = console()

    def say_line(line: str) -> None:
        out.print(line, highlight=False, soft_wrap=not out.is_terminal)  # a terminal wraps lines between words

    shown = ", ".join(f"{count} {outcome}" for outcome, count in result.counts.items() if count)
    say_line(f"{result.sweep_id}: {result.status} in {result.wall_s:.0f} s; {shown or 'no trial ended'}")
    if result.reason:
        say_line(f"reason: {result.reason}")
    spent = result.spent
    if spent is not None and (spent.usd is not None or spent.gpu_hours):
        say_line(f"spent: {spent_words(spent)}")
    if result.best is not None:
        state = read_state(storage, result.sweep_id)
        figures = zip(objective_names(state.started.objectives), result.best[1], strict=True)
        winner = state.winner()
        seeds = 1 if winner is None else len(winner.judged)
        of_seeds = f" (mean of {seeds} {state.started.trained_over})" if seeds > 1 else ""
        say_line(f"best: {result.best[0]} with {', '.join(f'{name} {value:.5g}' for name, value in figures)}{of_seeds}")
        if state.started.further:
            front = [row.trial_id for row in rows([state]) if row.front == 1]
            say_line(f"front: {len(front)} non-dominated trials: {', '.join(front)}")
        for line in baseline_lines(state):
            say_line(line)
        say_line(f"next: agr leaderboard {result.sweep_id}")


def run_new(
    sweep: Sweep, started: SweepStarted, settings: Settings, engine: Engine, *, as_json: bool, quiet: bool = False
) -> int:
    """Drive a new sweep to its end; return the exit code."""
    from orchestrator.ray_tune.driver import start_sweep

    trials = None if sweep.spec.search is None else sweep.spec.search.trials
    confirmations = 0 if sweep.spec.confirm is None else sweep.spec.confirm.trials
    planned = None if trials is None else trials * sweep.spec.trainings + confirmations
    watch = Watch(settings, engine, started, planned=planned)
    with interrupts_explained(*CTRL_C):
        with watch:
            result = start_sweep(sweep, started, watch.engine, on_begin=watch.begin)
        return watch.end(result, as_json=as_json, quiet=quiet)


def result_document(result: SweepResult, parent: ParentRun | None) -> dict[str, Any]:
    """Return the JSON document of ``agr submit``."""
    from orchestrator.catalog.summary import BestTrial

    return {
        "sweep_id": result.sweep_id,
        "status": result.status,
        "trials": result.counts,
        "best": None if result.best is None else BestTrial.of(*result.best).model_dump(mode="json"),
        "mlflow": {
            "tracking_uri": None if parent is None else parent.tracking_uri,
            "experiment_id": None if parent is None else parent.experiment_id,
            "run_id": None if parent is None else parent.run_id,
        },
        "wall_s": round(result.wall_s, 3),
    }
