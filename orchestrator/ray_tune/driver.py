"""Run a sweep on Ray: start or join a cluster, hand the sweep run to Tune, read the sealed test part at the end.

Ray is a throwaway here. Its storage path is a temporary folder, its checkpoints and its restore are not used: what a
sweep is lies in our journal and our checkpoints (see DESIGN, "Who writes what").
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any

from agr_core.config import DataConfig, ModelConfig
from agr_core.errors import InputError
from orchestrator.datasets import DataRef, prepare_data
from orchestrator.errors import SweepFailedError
from orchestrator.history import read_history
from orchestrator.journal import JournalWriter, read_events, read_state
from orchestrator.outcome import OUTCOMES, SweepStatus
from orchestrator.ray_tune.scratch import Scratch
from orchestrator.ray_tune.sealed import read_sealed_parts
from orchestrator.ray_tune.warm import fill_up_nodes
from orchestrator.records import Event, SweepStarted
from orchestrator.retention import tidy
from orchestrator.search import Search
from orchestrator.settings import Settings
from orchestrator.shared_objects import starting
from orchestrator.spec.load import Sweep, sweep_from_document
from orchestrator.spec.model import AshaSpec, HyperbandSpec, NoScheduler
from orchestrator.spec.space import Domain
from orchestrator.standing import LiveTrial
from orchestrator.storage.base import Storage
from orchestrator.sweep_run import SweepRun
from orchestrator.sweep_settings import SweepSettings
from orchestrator.weights import resolve_weights

if TYPE_CHECKING:
    from orchestrator.ray_tune.adapters import PolledFifo, PolledHalving

_OBJECT_STORE_BYTES = 200 * 2**20  # trials exchange nothing through it
_STARTS = 3
_TOO_SLOW = "timed out during startup"  # Ray's words; it raises a bare Exception

_TUNE_ENVIRONMENT = {
    # Read while ray.tune runs in this process; see FACTS, "Ray Tune".
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "100000",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_MAX_PENDING_TRIALS_PG": "1024",  # SweepSearch decides how many trials are pending
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # the old output can be replaced by a silent one
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}


@dataclass(frozen=True)
class SweepResult:
    """How a driver left its sweep."""

    sweep_id: str
    status: SweepStatus
    reason: str
    counts: dict[str, int]
    best: tuple[str, tuple[float, ...]] | None
    wall_s: float


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Where and how trials run."""

    settings: Settings
    storage: Storage
    listener: Callable[[Event], None] = lambda _: None
    prepare: Callable[[DataConfig], DataRef] | None = None
    """Replaces the look-up of a trial's data; a re-run takes what its original was trained on."""
    prepare_weights: Callable[[ModelConfig], str | None] | None = None
    """Replaces the look-up of a trial's initial weights in the same way."""
    trainable: type | None = None
    """Replaces the training by something else; for benchmarks."""
    read_sealed: bool = True
    """Read the test part when the sweep is over."""


def start_sweep(sweep: Sweep, started: SweepStarted, engine: Engine, *, on_begin: Callable[[], None]) -> SweepResult:
    """Run a new sweep to its end. ``on_begin`` is called when its journal exists.

    Raises:
        InputError: If its data, or an earlier sweep in ``search.history``, cannot be used.
        StorageError: If the storage does not answer.
    """
    run = build_run(sweep, started, engine, next_segment=1)
    first = sweep.space.build(_first).config
    with starting(engine.storage, started.sweep_id):
        data = run.prepare(first.data)  # unusable data, or weights, are refused before there is a sweep
        if not run.proposals.prepare_stages(first):
            run.prepare_weights(first.model)
        run.begin(read_history(sweep, engine.storage, split_digest=data.split_digest))
    on_begin()
    return _drive(run, sweep, engine, replay=None)


def resume_sweep(sweep_id: str, engine: Engine, *, on_begin: Callable[[], None]) -> SweepResult:
    """Take over an unfinished sweep from its journal and run it to its end.

    Raises:
        NotFoundError: If there is no such sweep.
        SweepOwnedError: If another driver still runs it.
    """
    events, last = read_events(engine.storage, sweep_id)
    started = events[0]
    assert isinstance(started, SweepStarted), "read_events begins with the start"
    sweep = sweep_from_document(started.document)
    run = build_run(sweep, started, engine, next_segment=last + 1)
    return _drive(run, sweep, engine, replay=events, on_replayed=on_begin)


def _first(_: str, domain: Domain) -> Any:
    return domain.choices[0] if domain.kind == "categorical" else domain.low


def build_run(sweep: Sweep, started: SweepStarted, engine: Engine, *, next_segment: int) -> SweepRun:
    """A sweep's run, before its journal is begun or replayed. Whatever drives it, Ray or a simulation, starts here."""
    spec = sweep.spec
    search = spec.search
    assert search is not None, "a loaded sweep has a search"
    assert len(sweep.start) == len(search.start), "trials in search.start are written out before (warm_start)"
    known: dict[str, DataRef] = {}

    def prepare(data: DataConfig) -> DataRef:
        if engine.prepare is not None:
            return engine.prepare(data)
        key = data.model_dump_json()
        if key not in known:
            known[key] = prepare_data(data, storage=engine.storage, cache=engine.settings.cache)
        return known[key]

    known_weights: dict[tuple[str, str | None, str | None], str | None] = {}

    def prepare_weights(model: ModelConfig) -> str | None:
        key = model.weights, model.weights_sha256, model.timm_name if model.weights == "timm" else None
        if key not in known_weights:
            known_weights[key] = resolve_weights(model, storage=engine.storage, settings=engine.settings)
        return known_weights[key]

    return SweepRun(
        started=started,
        storage=engine.storage,
        search=Search(
            sweep.space,
            algorithm=search.algorithm,
            seed=search.seed,
            directions=started.directions,
            limit=search.trials,
            start=sweep.start,
            population=search.population,
        ),
        settings=SweepSettings(
            seeds=spec.repeat.seeds if spec.repeat is not None else 1,
            retries=spec.retries,
            concurrency=spec.concurrency,
            wall_s=spec.budget.wall,
            confirm=spec.confirm,
            report_limit_s=spec.limits.report,
            out_of_memory=spec.out_of_memory,
            keep_checkpoints=spec.keep_checkpoints,
        ),
        prepare=prepare,
        prepare_weights=engine.prepare_weights or prepare_weights,
        writer=JournalWriter(engine.storage, started.sweep_id, next_segment=next_segment),
        listener=engine.listener,
    )


def _drive(
    run: SweepRun,
    sweep: Sweep,
    engine: Engine,
    *,
    replay: list[Event] | None,
    on_replayed: Callable[[], None] = lambda: None,
) -> SweepResult:
    os.environ.update(_TUNE_ENVIRONMENT)
    scheduler = build_scheduler(run, sweep)
    if replay is not None:
        run.replay(replay, scheduler)
        on_replayed()
    try:
        with run.recorder.beating(), _ray(engine.settings), _terminate_as_interrupt():
            _tune(run, sweep, engine, scheduler)
            if run.stop is not None:
                run.close_all()
            interrupted = bool(run.live) or not run.proposals_over
            over = not interrupted and (run.stop is None or run.stop.status != "failed")
            if over and engine.read_sealed:
                read_sealed_parts(run, sweep.spec, engine.storage, engine.settings)
            if over:
                run.flush()
                state = read_state(engine.storage, run.sweep_id)
                tidy(engine.storage, state, keep=sweep.spec.keep_checkpoints, over=True)
    except KeyboardInterrupt:
        interrupted = True
    except (InputError, SweepFailedError) as error:
        run.end("failed", str(error))
        raise
    if interrupted:
        ended = run.end("interrupted", "by a signal")
    elif run.stop is not None:
        ended = run.end(run.stop.status, run.stop.reason)
    elif run.counts["completed"] == 0:
        ended = run.end("failed", "no trial completed")
    else:
        ended = run.end("completed")
    return SweepResult(
        sweep_id=run.sweep_id,
        status=ended.status,
        reason=ended.reason,
        counts={outcome: run.counts[outcome] for outcome in OUTCOMES},
        best=run.best,
        wall_s=ended.wall_s,
    )


def _tune(run: SweepRun, sweep: Sweep, engine: Engine, scheduler: Any) -> None:
    import ray
    from ray import tune
    from ray.tune import CheckpointConfig

    from orchestrator.ray_tune import controller
    from orchestrator.ray_tune.adapters import Silence, SweepCallback, SweepSearch
    from orchestrator.ray_tune.needs import TEAM_HOLDER, Needs
    from orchestrator.ray_tune.placement import NearData, Placement, Slots
    from orchestrator.ray_tune.probe import ask_nodes
    from orchestrator.ray_tune.trainable import Job, TrialTrainable

    spec = sweep.spec
    processes = sweep.space.build(_first).config.compute.processes  # as in every trial: `agr validate` sees to it
    in_teams = processes > 1
    controller.install()

    def job(live: LiveTrial) -> Job:
        of_trial = Job.of(
            live.created,
            run.started,
            storage=engine.storage.uri,
            attempt=live.attempt,
            last_journalled_epoch=live.epoch,
        )
        if not in_teams:
            return of_trial
        return replace(of_trial, team=needs.of(live.trial_id), avoided=tuple(sorted(quarantined)))

    needs = Needs(spec.resources, processes=processes, held=lambda: run.standing.memory)
    quarantined = run.standing.health.quarantined
    slots = Slots(needs, at_most=spec.concurrency, leaving=scheduler.drain.hosts, avoided=quarantined)
    if slots.count() == 0:
        trial = needs.of_any()
        nodes = [{name: node["Resources"].get(name, 0.0) for name in trial} for node in ray.nodes() if node["Alive"]]
        raise InputError(
            f"resources: a trial asks for {trial}, and no node has that much: {nodes}. Lower them, or join a larger "
            "node."
        )
    held = ask_nodes(engine.storage, run.sweep_id)
    near_data = NearData(
        slots,
        needed=lambda: {live.created.data_digest for live in run.live.values()},
        held=lambda node_id: held.get(node_id, frozenset()) | run.standing.staged.get(node_id, set()),
    )

    def place(trial_id: str) -> Placement:
        if in_teams:  # this worker only waits for the processes, which Ray Train places
            return Placement(TEAM_HOLDER, quarantined)
        return Placement(needs.of(trial_id), quarantined, near_data.node)

    search = SweepSearch(run, slots, job, place, in_teams=in_teams)
    callback = SweepCallback(run, search, needs, job, place, scheduler.drain)
    scheduler.failed = callback.attempt_failed
    scheduler.place, scheduler.terms = place, slots.terms
    run.fits_elsewhere = slots.fits_elsewhere
    with contextlib.closing(Scratch("tune")) as scratch:
        try:
            tune.run(
                engine.trainable or TrialTrainable,
                name="sweep",
                storage_path=str(scratch.path),
                search_alg=search,
                scheduler=scheduler,
                callbacks=[callback, Silence()],
                resources_per_trial=Placement(needs.of_any()),
                reuse_actors=True,
                checkpoint_config=CheckpointConfig(checkpoint_at_end=False),
                max_failures=-1,
                raise_on_failed_trial=False,
                verbose=0,
            )
        except tune.TuneError as error:
            if run.fatal is not None:
                raise run.fatal from None
            last = str(error).strip().splitlines()[-1]
            raise SweepFailedError(f"Ray Tune gave up: {last}. The state is kept; --debug shows all of it.") from error


def build_scheduler(run: SweepRun, sweep: Sweep) -> PolledHalving | PolledFifo:
    """What stops a sweep's trials early: Tune's schedulers, which ``replay`` and simulations tell of trials by ID."""
    from orchestrator.ray_tune.adapters import PolledFifo, PolledHalving

    def among_searched(bracket_of: Callable[[int], int]) -> Callable[[int], int | None]:
        """Confirmations come after the search's trials and are stopped by nobody."""
        return lambda number: bracket_of(number) if run.search.limit is None or number < run.search.limit else None

    match sweep.spec.scheduler:
        case NoScheduler():
            return PolledFifo(run)
        case AshaSpec() as asha:
            return PolledHalving(run, asha, max_epochs=sweep.max_epochs, bracket_of=among_searched(lambda _: 0))
        case HyperbandSpec() as hyperband:
            assert sweep.spec.search is not None  # load_sweep fills it in
            bracket_of = partial(hyperband.bracket, max_epochs=sweep.max_epochs, seed=sweep.spec.search.seed)
            return PolledHalving(run, hyperband, max_epochs=sweep.max_epochs, bracket_of=among_searched(bracket_of))


def start_ray(**options: Any) -> None:
    """A Ray of this process's own. Ray gives its agents a fixed 15 s, so on a busy machine a start is tried again.

    Raises:
        SweepFailedError: If it comes too late three times.
    """
    import ray

    for attempt in range(_STARTS):
        try:
            # "local": a stale file of an earlier cluster would otherwise be taken for one to join.
            ray.init(address="local", include_dashboard=False, object_store_memory=_OBJECT_STORE_BYTES, **options)
            return
        except Exception as error:
            if _TOO_SLOW not in str(error):
                raise
            if attempt == _STARTS - 1:
                raise SweepFailedError(
                    "Ray does not start in time: this machine is too busy with other work. Try again when it is not."
                ) from error


@contextlib.contextmanager
def _ray(settings: Settings) -> Iterator[None]:
    """A Ray to run on: the one this process has, the cluster at ``RAY_ADDRESS``, or one of our own."""
    import ray

    logging.getLogger("ray").setLevel(logging.CRITICAL)
    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL, "configure_logging": True}
    if settings.ray_address is not None:
        try:
            ray.init(address=settings.ray_address, **quiet)
        except ConnectionError as error:
            raise InputError(
                f"RAY_ADDRESS is {settings.ray_address!r}, and no cluster answers there: {error}. "
                "Start one, or unset RAY_ADDRESS to use this machine."
            ) from error
    else:
        start_ray(**quiet)
    try:
        # Ray prints what the cluster tells its drivers, as of a node that died, on stdout, which is for results alone.
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        try:
            nodes = [] if settings.ray_address is None else ray.nodes()
        finally:
            ray.shutdown()
        fill_up_nodes(nodes)


@contextlib.contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """Let SIGTERM end the sweep as Ctrl-C does: Tune leaves its loop, and the state is kept."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_signum: int, _frame: FrameType | None) -> None:
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGTERM, interrupt)
    interrupts = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, interrupts)  # Tune leaves its own handler behind
