"""Evaluate the sealed test part with a trial's kept weights."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any

from agr_core.config import TrialConfig
from agr_core.objective import Objective, weighted_sums
from orchestrator.assets.datasets import room_of, stage
from orchestrator.assets.recorded import download_recorded
from orchestrator.storage import layout, open_patiently
from orchestrator.worker.job import Job


def evaluate(
    job_json: str, attempt: str, epoch: int, cache: str, sha256: str | None = None
) -> tuple[dict[str, Any] | None, dict[str, float]]:
    """Return metrics of an epoch's weights on the test part and on the parts of ``evaluate``, and the baseline.

    The metrics are None if there is neither. Runs in a worker.

    Predictions are stored beside the weights. ``sha256`` is the journal's record of the weights; None if it has none.

    Raises:
        DamagedError: If the weights are not those of the journal.
    """
    from agr_core.data.loading.trial_data import TrialData
    from agr_core.trainer.evaluation import evaluate_part, further_parts, majority_baseline

    job = Job.from_json(job_json)
    storage = open_patiently(job.storage)
    config = TrialConfig.from_document(job.config)
    staged = stage(job.data, storage=storage, cache=Path(cache))
    node = Path(cache)
    data = TrialData.open(config, packed=staged.packed, split=staged.split, cache=node, room=room_of(node))
    try:
        baseline = majority_baseline(data)
        parts = [part for part in ("test", *data.foreign) if data.num_rows(part) > 0]
        further = further_parts(config.evaluate, ("val", *parts))
        if not parts and not further:
            return None, baseline
        with tempfile.TemporaryDirectory(prefix="agr-test-") as folder:
            weights = Path(folder) / "weights.safetensors"
            download_recorded(storage, layout.best_weights(attempt, epoch), weights, sha256)
            reports = [
                evaluate_part(config, data, weights, part, augmented=augmented)
                for part, augmented in (*((part, False) for part in parts), *further)
            ]
    finally:
        data.close()
    files: dict[str, str] = {}
    for report in reports:
        key, predictions = layout.predictions(attempt, report.part, epoch), report.predictions.to_parquet()
        storage.write(key, predictions)
        files[key.removeprefix(f"{attempt}/")] = hashlib.sha256(predictions).hexdigest()
    objectives = [Objective.model_validate(objective) for objective in (job.objective, *job.further)]
    metrics: dict[str, float] = {}
    for report in reports:
        metrics |= {**report.metrics, **weighted_sums(objectives, report.metrics, part=report.part)}
    tables = {name: table for report in reports for name, table in report.tables.items()}
    return {"metrics": metrics, "tables": tables, "files": files}, baseline
