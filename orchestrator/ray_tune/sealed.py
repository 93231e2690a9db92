"""The sealed test part, read once a sweep is over, and the baseline its figures are held against.

Nothing reads the test part before. It is read for the winner (with several objectives: for every trial of the front;
under ``repeat``: for every seed of the best configuration; under ``confirm``: for every fresh seed of the confirmed
winner, and for nothing else), and for every completed trial of an ablation without early stopping. Each read is
journalled before it is made, and counted.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import fmean
from typing import Any

from ray.exceptions import RayError, RayTaskError

from agr_core.data.split_file import read_split
from agr_core.objective import Objective, weighted_sums
from orchestrator.errors import SweepFailedError
from orchestrator.journal import read_state
from orchestrator.pareto import fronts
from orchestrator.ray_tune.trainable import Job
from orchestrator.settings import Settings
from orchestrator.spec.model import NoScheduler, SweepSpec
from orchestrator.state import SweepState, TrialState
from orchestrator.storage import layout, open_patiently
from orchestrator.storage.base import Storage
from orchestrator.sweep_run import SweepRun


def read_sealed_parts(run: SweepRun, spec: SweepSpec, storage: Storage, settings: Settings) -> None:
    """Read the test part for whom it is due, where trials run, and journal the figures."""
    import ray

    run.flush()
    state = read_state(storage, run.sweep_id)
    due = [] if state.started.rerun_of is not None else winners(state, spec)
    # One process reads, however many have trained.
    read = ray.remote(num_cpus=spec.resources.cpus, num_gpus=min(spec.resources.gpus, 1), max_retries=2)(evaluate)
    has_test = {trial.created.split_digest: False for trial in due}
    for digest in has_test:
        has_test[digest] = _has_test(digest, storage)
    pending = {}
    for trial in due:
        for epoch, labels in unread(trial).items():
            if has_test[trial.created.split_digest]:
                run.test_opened(trial.trial_id, epoch, labels)
                run.flush()
            job = Job.of(trial.created, run.started, storage=storage.uri).to_json()
            started = read.remote(job, _attempt(run.sweep_id, trial), epoch, str(settings.cache))
            pending[started] = trial, labels
    while pending:
        done, _ = ray.wait(list(pending))
        for reference in done:
            trial, labels = pending.pop(reference)
            test, baseline = _result(reference, trial.trial_id)
            split = trial.created.split_digest
            if split not in state.baselines:
                state.baselines[split] = baseline
                run.baseline_measured(split, baseline)
            if test is not None:
                for label in labels:
                    run.test_read(trial.trial_id, label, test["metrics"], test["tables"])


def _has_test(split_digest: str, storage: Storage) -> bool:
    """Whether a split has a test part, or a data set that only tests."""
    with tempfile.TemporaryDirectory(prefix="agr-split-") as folder:
        path = Path(folder, "split.parquet")
        storage.download(layout.split(split_digest), path)
        split = read_split(path)
    return len(split.rows("test")) > 0 or bool(split.foreign)


def _result(reference: Any, trial_id: str) -> tuple[dict[str, Any] | None, dict[str, float]]:
    import ray

    try:
        result: tuple[dict[str, Any] | None, dict[str, float]] = ray.get(reference)
    except RayError as error:
        cause = error.cause if isinstance(error, RayTaskError) else error
        raise SweepFailedError(
            f"the test part could not be read for trial {trial_id}: {type(cause).__name__}: {cause}. All trials have "
            "ended and are kept; `agr resume` tries again."
        ) from error
    return result


def winners(state: SweepState, spec: SweepSpec) -> list[TrialState]:
    """Trials whose test figures are due."""
    completed = [t for t in state.trials.values() if t.outcome == "completed" and t.best_report is not None]
    if not completed:
        return []
    if spec.confirm is not None:
        best = state.best()
        return [t for t in completed if best is not None and t.created.confirms == best.created.confirms is not None]
    if spec.variants and isinstance(spec.scheduler, NoScheduler):
        return completed
    if state.started.further:
        points = [trial.ended.point for trial in completed if trial.ended is not None]
        places = fronts(points, state.started.directions)
        return [trial for trial, place in zip(completed, places, strict=True) if place == 1]
    seeds = 1 if spec.repeat is None else spec.repeat.seeds
    by_configuration: dict[int, list[TrialState]] = {}
    for trial in completed:
        by_configuration.setdefault(trial.created.configuration, []).append(trial)
    whole = {c: trials for c, trials in by_configuration.items() if len(trials) == seeds}
    return _best(whole or by_configuration, state.started.objective)


def _best(by_configuration: dict[int, list[TrialState]], objective: Objective) -> list[TrialState]:
    best: list[TrialState] = []
    value: float | None = None
    for _, trials in sorted(by_configuration.items()):
        mean = fmean(t.ended.value for t in trials if t.ended is not None and t.ended.value is not None)
        if objective.better(mean, value):
            best, value = trials, mean
    return best


def unread(trial: TrialState) -> dict[int, list[str]]:
    """The labels whose test figures are due, by the epoch whose weights are kept for them."""
    unread: dict[int, list[str]] = {}
    for label, epoch in trial.kept_epochs.items():
        if label not in trial.tests:
            unread.setdefault(epoch, []).append(label)
    return unread


def _attempt(sweep_id: str, trial: TrialState) -> str:
    ended = trial.ended
    assert ended is not None, "only completed trials are read"
    assert ended.attempt is not None, "a completed trial has reported"
    return layout.attempt(sweep_id, trial.trial_id, ended.attempt)


def evaluate(job_json: str, attempt: str, epoch: int, cache: str) -> tuple[dict[str, Any] | None, dict[str, float]]:
    """Test figures of an epoch's weights (None where the split has no test part) and the baseline. Runs in a worker.

    What they said of each image is stored beside the weights.
    """
    from agr_core.config import TrialConfig
    from agr_core.data.trial_data import TrialData
    from agr_core.trainer.loop import evaluate_part, majority_baseline
    from orchestrator.datasets import DataRef, room_of, stage

    job = Job.from_json(job_json)
    storage = open_patiently(job.storage)
    config = TrialConfig.from_document(job.config)
    ref = DataRef(data_uri=job.data_uri, data_digest=job.data_digest, split_digest=job.split_digest)
    staged = stage(ref, storage=storage, cache=Path(cache))
    node = Path(cache)
    data = TrialData.open(config, packed=staged.packed, split=staged.split, cache=node, room=room_of(node))
    try:
        baseline = majority_baseline(data)
        parts = [part for part in ("test", *data.foreign) if data.num_rows(part) > 0]
        if not parts:
            return None, baseline
        with tempfile.TemporaryDirectory(prefix="agr-test-") as folder:
            weights = Path(folder) / "weights.safetensors"
            storage.download(layout.best_weights(attempt, epoch), weights)
            reports = [evaluate_part(config, data, weights, part) for part in parts]
    finally:
        data.close()
    for report in reports:
        storage.write(layout.predictions(attempt, report.part, epoch), report.predictions.to_parquet())
    objectives = [Objective.model_validate(objective) for objective in (job.objective, *job.further)]
    metrics: dict[str, float] = {}
    for report in reports:
        metrics |= {**report.metrics, **weighted_sums(objectives, report.metrics, part=report.part)}
    tables = {name: table for report in reports for name, table in report.tables.items()}
    return {"metrics": metrics, "tables": tables}, baseline
