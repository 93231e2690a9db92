"""Figures outside of a training: stored weights on a part, and what looks at no image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from agr_core.config import TrialConfig
from agr_core.errors import CheckpointError
from agr_core.evaluation.baseline import baseline
from agr_core.evaluation.names import own_bin_metrics
from agr_core.evaluation.predictions import Predictions
from agr_core.reporting import Metrics
from agr_core.trainer.build import build_predictor, part_metrics
from agr_core.trainer.checkpoint import load_weights
from agr_core.trainer.source import TrainingData
from agr_core.trainer.steps import evaluate

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class PartReport:
    """The figures of one part; ``metrics`` and ``tables`` are named ``<part>/...``, and what they were made of."""

    part: str
    metrics: Metrics
    tables: Mapping[str, Any]
    predictions: Predictions


def evaluate_part(config: TrialConfig, data: TrainingData, weights: Path, part: str) -> PartReport:
    """The figures of stored weights on a part: the sealed test part, a foreign one, or val once more.

    Where the trial's bins cut age ranges of a foreign part, nobody knows the right bin: the losses and scores in the
    trial's own bins are then absent.

    Raises:
        CheckpointError: If the weights cannot be read or are of another model.
        DivergedError: If a loss or an estimate is not finite.
    """
    predictor = build_predictor(config, data, untrained=True)
    try:
        predictor.model.load_state_dict(load_weights(weights))
    except RuntimeError as error:
        raise CheckpointError(f"weights {weights} are of another model: {error}") from error
    foreign = data.foreign.get(part)
    collected = part_metrics(config, data, predictor, ages=foreign)
    metrics, tables = evaluate(predictor, data.batches(part), collected)
    bins = predictor.encoding.bins
    if foreign is not None and bins is not None and any(bins.splits_range(*ages) for ages in foreign.ranges):
        undefined = own_bin_metrics()
        metrics = {name: value for name, value in metrics.items() if f"val/{name}" not in undefined}
    return PartReport(
        part=part,
        metrics=prefixed(part, metrics),
        tables=prefixed(part, tables),
        predictions=collected.predictions(data.sample_ids(part)),
    )


def majority_baseline(data: TrainingData) -> dict[str, float]:
    """Val figures of the training part's mean age and its most frequent gender and race."""
    return baseline(
        data.labels("train"),
        data.labels("val"),
        tasks=("age", "gender", "race", "attributes"),
        label_kind=data.label_kind,
    )


def prefixed(part: str, figures: Mapping[str, T]) -> dict[str, T]:
    """The same figures, named ``<part>/...``."""
    return {f"{part}/{name}": value for name, value in figures.items()}
