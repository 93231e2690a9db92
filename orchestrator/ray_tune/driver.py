"""Run a sweep on Ray: start or join a cluster, run its trials by Tune, read the sealed test part at the end.

Ray stores nothing of a sweep: its storage path is a temporary folder, its checkpoints and restore are not used. The
journal and our own checkpoints are the record (docs/structure.md).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from agr_core.config import DataConfig, ModelConfig, drawn_by
from agr_core.errors import AgrError, InputError
from orchestrator import provenance
from orchestrator.assets.audits import audit_split
from orchestrator.assets.datasets import prepare_data
from orchestrator.assets.weights import resolve_weights
from orchestrator.catalog.ownership import refuse_if_driven
from orchestrator.catalog.references import starting
from orchestrator.errors import StorageError, SweepFailedError, SweepOwnedError
from orchestrator.journal.best import Best
from orchestrator.journal.events import DataRef, Event, Spent, SweepStarted
from orchestrator.journal.outcome import OUTCOMES, SweepStatus
from orchestrator.journal.segments import JournalWriter, read_events
from orchestrator.journal.sweep_state import SweepState
from orchestrator.ray_tune.sealed import read_sealed_parts
from orchestrator.ray_tune.session import last_line, ray_for, terminate_as_interrupt, tune_environment
from orchestrator.search.history import read_history
from orchestrator.search.search import Search
from orchestrator.settings import Settings
from orchestrator.spec.checks.check import packages_of
from orchestrator.spec.checks.models import check_models
from orchestrator.spec.folds import at_fold
from orchestrator.spec.load import Sweep, sweep_from_document
from orchestrator.spec.space import Domain
from orchestrator.storage.base import Storage
from orchestrator.sweep.conclude import conclude_sweep, tidy_sweep
from orchestrator.sweep.halving import EarlyStopping, early_stopping
from orchestrator.sweep.live_state import LiveTrial
from orchestrator.sweep.run import SweepRun
from orchestrator.sweep.settings import SweepSettings
from orchestrator.tracking.runs import trial_of_run
from orchestrator.worker.scratch import Scratch


@dataclass(frozen=True)
class SweepResult:
    """Result of a driver: how the sweep ended or was left."""

    sweep_id: str
    status: SweepStatus
    reason: str
    counts: dict[str, int]
    best: Best | None
    wall_s: float
    spent: Spent | None = None


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Environment and options of a driver's run."""

    settings: Settings
    storage: Storage
    listener: Callable[[Event], None] = lambda _: None
    prepare: Callable[[DataConfig], DataRef] | None = None
    """Replaces the look-up of a trial's data; a re-run uses its original's data."""
    prepare_weights: Callable[[ModelConfig], str | None] | None = None
    """Replaces the look-up of a trial's initial weights in the same way."""
    trainable: type | None = None
    """Replaces the training, for benchmarks."""
    read_sealed: bool = True
    """Whether to read the test part when the sweep is over."""
    doing: Callable[[str], None] = lambda _: None
    """Called with a progress line during long steps that have no events."""


def start_sweep(sweep: Sweep, started: SweepStarted, engine: Engine, *, on_begin: Callable[[], None]) -> SweepResult:
    """Run a new sweep to its end. ``on_begin`` is called when its journal exists.

    Raises:
        InputError: If its data, a model, or an earlier sweep in ``search.history``, cannot be used.
        StorageError: If the storage does not answer.
        SweepFailedError: If Ray does not start.
    """
    run = build_run(sweep, started, engine, next_segment=1)
    if engine.trainable is None:
        check_models(sweep.space, file=sweep.spec.name)
    first = sweep.space.build(_first).config
    if sweep.spec.folds is not None:
        first = at_fold(first, 0, folds=sweep.spec.folds)
    with contextlib.ExitStack() as session:
        with starting(engine.storage, started.sweep_id):
            engine.doing(f"preparing {_described(first.data)}")
            # Refuse unusable data, weights, earlier sweeps or Ray before the sweep exists.
            data = run.prepare(first.data)
            if run.audit is not None:
                run.audit(data)
            if not run.proposals.prepare_stages(first):
                run.prepare_weights(first.model)
            history = read_history(sweep, engine.storage, split_digest=data.split_digest)
            session.enter_context(_session(engine, sweep))
            run.begin(history)
        on_begin()
        return _drive(run, sweep, engine, session, replay=None)


def resume_sweep(sweep_id: str, engine: Engine, *, on_begin: Callable[[], None], restart: int = 0) -> SweepResult:
    """Take over an unfinished sweep from its journal and run it to its end.

    ``restart``: number of times that its driver died and was restarted by itself.

    Raises:
        NotFoundError: If there is no such sweep.
        SweepOwnedError: If another driver still runs it.
        SweepFailedError: If Ray does not start; the journal is as it was.
    """
    events, last = read_events(engine.storage, sweep_id)
    state = SweepState.from_events(events)
    # By what was read here: the next segment, which takes the sweep, can be created only if nothing was added since.
    refuse_if_driven(engine.storage, state)
    started = state.started
    sweep = sweep_from_document(started.document)
    run = build_run(sweep, started, engine, next_segment=last + 1)
    run.about = {"restart": restart, "drift": tuple(provenance.drift(started.provenance, provenance.collect()))}
    with contextlib.ExitStack() as session:
        session.enter_context(_session(engine, sweep))
        return _drive(run, sweep, engine, session, replay=events, on_replayed=on_begin)


@contextlib.contextmanager
def _session(engine: Engine, sweep: Sweep) -> Iterator[None]:
    """Yield a Ray session in which the sweep can run.

    On an embedded Ray, a worker process has started; on a cluster, every node has the plug-ins that the sweep uses.
    """
    from orchestrator.ray_tune.probe import refuse_nodes_without, try_worker

    address = engine.settings.ray_address
    engine.doing("starting Ray" if address is None else f"joining the Ray cluster at {address}")
    with tune_environment(), ray_for(engine.settings):
        if address is None:  # the nodes of a cluster are probed each, and their waiting workers are for trials
            try_worker()
        refuse_nodes_without(packages_of(sweep.space))
        yield


def _described(data: DataConfig) -> str:
    """Return the data of a trial as readable text."""
    sources = [data.sources[name] for name in data.joined] or [data.source]
    drawn = [drawn_by(source, data.synthetic) for source in sources]
    return ", ".join(
        source if faces is None else f"{faces.images:,} drawn faces"
        for source, faces in zip(sources, drawn, strict=True)
    )


def _first(_: str, domain: Domain) -> Any:
    return domain.choices[0] if domain.kind == "categorical" else domain.low


def build_run(sweep: Sweep, started: SweepStarted, engine: Engine, *, next_segment: int) -> SweepRun:
    """Build a sweep's run before its journal is begun or replayed, for any driver, Ray or a simulation."""
    spec = sweep.spec
    assert spec.search is not None, "a loaded sweep has a search"
    assert len(sweep.start) == len(spec.search.start), "trials in search.start are written out before (warm_start)"
    refs: dict[str, DataRef] = {}

    def prepare(data: DataConfig) -> DataRef:
        if engine.prepare is not None:
            return engine.prepare(data)
        key = data.model_dump_json()
        if key not in refs:
            refs[key] = prepare_data(data, storage=engine.storage, cache=engine.settings.cache)
        return refs[key]

    audited: dict[DataRef, tuple[int, int]] = {}

    def audit(data: DataRef) -> tuple[int, int]:
        if data not in audited:
            audited[data] = audit_split(data, storage=engine.storage, cache=engine.settings.cache, strict=spec.strict)
        return audited[data]

    known_weights: dict[tuple[str, str | None, str | None], str | None] = {}

    def prepare_weights(model: ModelConfig) -> str | None:
        key = model.weights, model.weights_sha256, model.timm_name if model.weights == "timm" else None
        if key not in known_weights:
            known_weights[key] = resolve_weights(
                model, storage=engine.storage, settings=engine.settings, trial_of_run=trial_of_run
            )
        return known_weights[key]

    return SweepRun(
        started=started,
        storage=engine.storage,
        search=Search.of(sweep),
        settings=SweepSettings.of(spec, max_epochs=sweep.max_epochs),
        prepare=prepare,
        # A re-run trains on what its original was trained on, and benchmarks have no images.
        audit=None if engine.prepare is not None else audit,
        prepare_weights=engine.prepare_weights or prepare_weights,
        writer=JournalWriter(engine.storage, started.sweep_id, next_segment=next_segment),
        listener=engine.listener,
    )


def _drive(
    run: SweepRun,
    sweep: Sweep,
    engine: Engine,
    session: contextlib.ExitStack,
    *,
    replay: list[Event] | None,
    on_replayed: Callable[[], None] = lambda: None,
) -> SweepResult:
    """Run what is left of a sweep within ``session``, which is closed before the sweep's end is journalled."""
    rule = early_stopping(sweep)
    if replay is not None:
        run.replay(replay, rule)
        on_replayed()
    try:
        with run.recorder.beating(), session, terminate_as_interrupt():
            from orchestrator.ray_tune.prices import note_end

            _tune(run, sweep, engine, rule)
            if run.stop is not None:
                run.close_all()
            interrupted = bool(run.live) or not run.proposals_over
            over = not interrupted and (run.stop is None or run.stop.status != "failed")
            if not interrupted:
                note_end(run.sweep_id, at=time.time())
            if over and engine.read_sealed:
                engine.doing("reading the test part with the best weights")
                read_sealed_parts(run, sweep.spec, engine.storage, engine.settings)
            if over:
                tidy_sweep(run)
    except KeyboardInterrupt:
        interrupted = True
    except (StorageError, SweepOwnedError):  # the journal cannot be written, or belongs to another driver now
        raise
    except AgrError as error:
        run.end("failed", str(error))
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {last_line(error)}"
        run.end("failed", reason)
        raise SweepFailedError(
            f"the driver of sweep {run.sweep_id} failed: {reason}. The state is kept; --debug shows the traceback."
        ) from error
    ended = conclude_sweep(run, interrupted=interrupted)
    return SweepResult(
        sweep_id=run.sweep_id,
        status=ended.status,
        reason=ended.reason,
        counts={outcome: run.counts[outcome] for outcome in OUTCOMES},
        best=run.best,
        wall_s=ended.wall_s,
        spent=ended.spent,
    )


def _tune(run: SweepRun, sweep: Sweep, engine: Engine, rule: EarlyStopping) -> None:
    import ray
    from ray import tune
    from ray.tune import CheckpointConfig

    from orchestrator.ray_tune.adapters import Polled, Silence, SweepCallback, SweepSearch
    from orchestrator.ray_tune.internals.tune import changed
    from orchestrator.ray_tune.needs import TEAM_HOLDER, Needs
    from orchestrator.ray_tune.placement import NearData, Placement, Placements, Slots
    from orchestrator.ray_tune.prices import Prices
    from orchestrator.ray_tune.probe import ask_nodes
    from orchestrator.ray_tune.trainable import TrialTrainable
    from orchestrator.worker.job import Job

    spec = sweep.spec
    processes = sweep.space.build(_first).config.compute.processes  # as in every trial: `agr validate` sees to it
    in_teams = processes > 1
    packages = packages_of(sweep.space)

    def job(live: LiveTrial) -> Job:
        of_trial = Job.of(
            live.created,
            run.started,
            storage=engine.storage.uri,
            attempt=live.attempt,
            last_journalled_epoch=live.epoch,
            packages=packages,
        )
        if not in_teams:
            return of_trial
        return replace(of_trial, team=needs.of(live.trial_id), avoided=tuple(sorted(quarantined)))

    scheduler = Polled(run, rule)
    needs = Needs(spec.resources, processes=processes, held=lambda: run.standing.memory)
    quarantined = run.standing.health.quarantined
    slots = Slots(
        needs,
        at_most=spec.concurrency if isinstance(spec.concurrency, int) else None,
        leaving=scheduler.drain.hosts,
        avoided=quarantined,
    )
    if slots.count() == 0:
        trial = needs.of_any()
        nodes = [{name: node["Resources"].get(name, 0.0) for name in trial} for node in ray.nodes() if node["Alive"]]
        raise InputError(
            f"resources: a trial requests {trial}, and no node has that much: {nodes}. Lower the resources, or join "
            "a larger node."
        )
    held = ask_nodes(engine.storage, run.sweep_id)
    near_data = NearData(
        slots,
        needed=lambda: {live.created.data_digest for live in run.live.values()},
        held=lambda node_id: held.get(node_id, frozenset()) | run.standing.staged.get(node_id, set()),
    )

    placements = Placements(quarantined, (lambda: None) if in_teams else near_data.node)

    def placement_of(trial_id: str) -> Placement:
        if in_teams:  # this worker only waits for the processes, which Ray Train places
            return placements.of(TEAM_HOLDER)
        return placements.of(needs.of(trial_id))

    search = SweepSearch(run, slots, job, placement_of, in_teams=in_teams)
    callback = SweepCallback(run, search, needs, job, placement_of, scheduler.drain)
    scheduler.failed = callback.attempt_failed
    scheduler.placement_of, scheduler.terms = placement_of, slots.terms
    run.fits_elsewhere = slots.fits_elsewhere
    prices = Prices(run, spec.resources)
    prices.begin()
    run.look_at_nodes = prices.look
    engine.doing("starting the workers, which import torch")
    with contextlib.closing(Scratch("tune")) as scratch, changed():
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
        except Exception as error:
            if run.fatal is not None:  # whatever Tune raised instead
                raise run.fatal from None
            if not isinstance(error, tune.TuneError):
                raise
            last = str(error).strip().splitlines()[-1]
            raise SweepFailedError(
                f"Ray Tune failed: {last}. The state is kept; --debug shows the traceback."
            ) from error
