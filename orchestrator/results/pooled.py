"""Metrics over the pooled test parts of all folds: each image is predicted by the one model that never saw it.

A mean over images or a score of a confusion matrix then covers all images of the data set. The mean over folds would
weigh small folds like large ones and score few images of a class at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from agr_core.evaluation.per_image import image_values
from agr_core.evaluation.predictions import Classified, Predictions
from agr_core.objective import BEST
from orchestrator.errors import NotFoundError
from orchestrator.journal.sweep_state import SweepState, TrialState, attempt_folder
from orchestrator.stats.intervals import Estimate, mean_interval
from orchestrator.storage import layout
from orchestrator.storage.base import Storage

_TEST = "test"


def pooled_configurations(state: SweepState, storage: Storage | None) -> dict[int, dict[str, Estimate]]:
    """Return ``pooled_figures`` by configuration number, for configurations whose folds all have test reads.

    Empty without ``storage``.
    """
    if storage is None or not state.started.folds:
        return {}
    by_configuration = {}
    for configuration in state.configurations():
        trials = configuration.judged
        if configuration.complete and all(BEST in trial.tests for trial in trials):
            by_configuration[trials[0].created.configuration] = pooled_figures(state.started.sweep_id, trials, storage)
    return by_configuration


def pooled_figures(sweep_id: str, trials: Sequence[TrialState], storage: Storage) -> dict[str, Estimate]:
    """Return metrics ``test/...`` over the test images of all trials, from their stored predictions.

    Losses and metrics of single groups, which predictions do not determine, are left out; the result is empty if a
    trial keeps no predictions. The interval accounts for other images; a score that is no mean over images has the
    jackknife's.

    Args:
        sweep_id: The sweep.
        trials: The trials of one configuration, a fold each, whose test part was read.
        storage: The sweep's storage.

    Raises:
        IntegrityError: If a file does not hold predictions.
    """
    predictions = []
    for trial in trials:
        folder, epoch = attempt_folder(sweep_id, trial), trial.kept_epochs.get(BEST)
        if folder is None or epoch is None:
            return {}
        key = layout.predictions(folder, _TEST, epoch)
        try:
            predictions.append(Predictions.from_parquet(storage.read(key), source=f"{storage.uri}/{key}"))
        except NotFoundError:  # they were deleted
            return {}
    together = joined(predictions)
    figures = {}
    for name in trials[0].tests[BEST].metrics:
        part, _, figure = name.partition("/")
        values = image_values(together, figure) if part == _TEST else None
        defined = None if values is None else values[~np.isnan(values)]
        if defined is not None and len(defined):
            over_images = mean_interval(defined.tolist())
            figures[name] = Estimate(float(defined.mean()), over_images.margin, len(trials), images=len(defined))
    return figures


def joined(predictions: Sequence[Predictions]) -> Predictions:
    """Concatenate predictions of several parts, sorted by image, for the tasks that all of them predict."""
    first = predictions[0]
    classes: Mapping[str, Classified] = {
        task: Classified(
            task_predictions.classes,
            np.concatenate([part.classes[task].true for part in predictions]),
            np.concatenate([part.classes[task].predicted for part in predictions]),
        )
        for task, task_predictions in first.classes.items()
    }
    return Predictions(
        sample_ids=tuple(sample_id for part in predictions for sample_id in part.sample_ids),
        years={
            name: np.concatenate([part.years[name] for part in predictions])
            for name in first.years
            if all(name in part.years for part in predictions)  # earlier versions stored no deviation
        },
        classes=classes,
    )
