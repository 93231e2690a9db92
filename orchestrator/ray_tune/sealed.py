"""Read the sealed test part once a sweep is over, and measure the baseline where no trial has reported it.

The test part is never read before. ``orchestrator.sweep.sealed`` selects the trials; Ray workers read it for them. Each
read is journalled and counted before it happens.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from ray.exceptions import RayError, RayTaskError

from agr_core.data.splits.split_file import read_split
from orchestrator.errors import SweepFailedError
from orchestrator.journal.segments import read_state
from orchestrator.journal.sweep_state import TrialState
from orchestrator.settings import Settings
from orchestrator.spec.model import SweepSpec
from orchestrator.storage import layout
from orchestrator.storage.base import Storage
from orchestrator.sweep.run import SweepRun
from orchestrator.sweep.sealed import unread, winners
from orchestrator.worker.evaluate import evaluate
from orchestrator.worker.job import Job


def read_sealed_parts(run: SweepRun, spec: SweepSpec, storage: Storage, settings: Settings) -> None:
    """Read the test part for the selected trials, on Ray workers, and journal the metrics."""
    import ray

    run.flush()
    state = read_state(storage, run.sweep_id)
    due = [] if state.started.rerun_of is not None else winners(state, spec)
    # One process evaluates, even if several trained.
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
            attempt = _attempt(run.sweep_id, trial)
            sha256 = trial.recorded_sha256(layout.best_weights(attempt, epoch))
            started = read.remote(job, attempt, epoch, str(settings.cache), sha256)
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
                    run.test_read(trial.trial_id, label, test["metrics"], test["tables"], test["files"])


def _has_test(split_digest: str, storage: Storage) -> bool:
    """Return whether a split has a test part, or a test-only data set."""
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
            "ended and are kept; `agr resume` retries."
        ) from error
    return result


def _attempt(sweep_id: str, trial: TrialState) -> str:
    ended = trial.ended
    assert ended is not None, "only completed trials are read"
    assert ended.attempt is not None, "a completed trial has reported"
    return layout.attempt(sweep_id, trial.trial_id, ended.attempt)
