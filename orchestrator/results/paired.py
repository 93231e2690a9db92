"""Paired comparison of two configurations over shared seeds and, if predictions are stored, over shared images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agr_core.errors import IntegrityError
from agr_core.evaluation.per_image import image_values
from agr_core.evaluation.predictions import Predictions
from agr_core.objective import BEST, WEIGHTED, Objective
from orchestrator.assets.recorded import read_recorded
from orchestrator.errors import NotFoundError
from orchestrator.journal.sweep_state import SweepState, attempt_folder
from orchestrator.stats.intervals import Estimate, crossed_mean, paired_difference
from orchestrator.storage import layout
from orchestrator.storage.base import Storage


class Figure(NamedTuple):
    """A trial and one of its metrics."""

    sweep_id: str
    trial_id: str
    value: float


Figures = Mapping[int, Figure]
"""The figures of a configuration, by seed."""

_CLOSE = 1e-6
_OBJECTIVE = WEIGHTED.removeprefix("val/")


class Pairing:
    """Paired differences between trials, by seed and by image.

    Args:
        states: The sweeps of the trials, validated on one split.
        storage: Storage of the trials' predictions; None: paired by seed only.
    """

    def __init__(self, states: Iterable[SweepState], storage: Storage | None) -> None:
        self._states = {state.started.sweep_id: state for state in states}
        self._storage = storage
        self._read: dict[str, Predictions | None] = {}

    def difference(self, metric: str, ours: Figures, base: Figures) -> Estimate | None:
        """Return the mean of ``ours - base`` over the seeds that both have; None if they share none.

        With at least two shared seeds, all of whose trials keep predictions, the interval accounts for other seeds and
        other images (``crossed_mean``); otherwise for other seeds alone (``paired_difference``).

        Args:
            metric: ``best/...`` or ``test/...``, with or without a label.
            ours: The figures of a configuration.
            base: Those of the one it is compared with.

        Raises:
            IntegrityError: If predictions contradict the metric in the journal.
        """
        shared = [seed for seed in ours if seed in base]
        by_image = self._by_image(metric, [(ours[seed], base[seed]) for seed in shared]) if len(shared) > 1 else None
        if by_image is None or by_image.shape[1] < 2:
            return paired_difference(*({seed: figures[seed].value for seed in shared} for figures in (ours, base)))
        return crossed_mean(by_image)

    def _by_image(self, metric: str, pairs: Iterable[tuple[Figure, Figure]]) -> NDArray[np.float64] | None:
        """Return the differences (S, N) of the pairs over the images of the metric's part; None if unknown."""
        rows = []
        for ours, base in pairs:
            our_values, base_values = self._values(metric, ours), self._values(metric, base)
            if our_values is None or base_values is None:
                return None
            rows.append(our_values - base_values)
        differences = np.array(rows)
        return differences[:, ~np.isnan(differences).any(axis=0)]

    def _values(self, metric: str, figure: Figure) -> NDArray[np.float64] | None:
        """Return each image's contribution to a metric (N,), in the order of the sample IDs; None if unknown."""
        state = self._states[figure.sweep_id]
        label, part, name = _parsed(metric)
        predictions = self._predictions(state, figure.trial_id, label, part)
        if predictions is None:
            return None
        values = (
            _weighted(predictions, state.started.objective) if name == _OBJECTIVE else image_values(predictions, name)
        )
        if values is None:
            return None
        mean = float(np.nanmean(values))
        if abs(mean - figure.value) > _CLOSE * max(1.0, abs(figure.value)):
            raise IntegrityError(
                f"trial {figure.trial_id} reported {metric} {figure.value:.9g}, but its stored predictions give "
                f"{mean:.9g}: one of them was changed. `agr rerun {figure.trial_id}` shows which is right."
            )
        # A split may belong to the same data packed in another order.
        return np.asarray(values[np.argsort(np.array(predictions.sample_ids))], dtype=np.float64)

    def _predictions(self, state: SweepState, trial_id: str, label: str, part: str) -> Predictions | None:
        trial = state.trials[trial_id]
        folder = attempt_folder(state.started.sweep_id, trial)
        epoch = trial.kept_epochs.get(label)
        if self._storage is None or folder is None or epoch is None:
            return None
        key = layout.predictions(folder, part, epoch)
        if key not in self._read:
            try:
                content = read_recorded(self._storage, key, trial)
            except NotFoundError:  # trained before predictions were stored, or they were deleted
                self._read[key] = None
            else:
                self._read[key] = Predictions.from_parquet(content, source=f"{self._storage.uri}/{key}")
        return self._read[key]


def _parsed(metric: str) -> tuple[str, str, str]:
    """Split a metric into label, part and name: ``best.age.test/age_mae`` is of the weights kept for age, on test."""
    of, _, figure = metric.partition("/")
    if of.split(".")[0] != BEST:
        return BEST, of, figure
    label, _, part = of.removeprefix(BEST).removeprefix(".").partition(".")
    return label or BEST, part or "val", figure


def _weighted(predictions: Predictions, objective: Objective) -> NDArray[np.float64] | None:
    """Return each image's contribution to a weighted sum; None unless it contributes to every term."""
    total = np.zeros(len(predictions.sample_ids))
    for name, weight in objective.weights.items():
        values = image_values(predictions, name.removeprefix("val/"))
        if values is None or np.isnan(values).any():
            return None
        total += weight * values
    return total
