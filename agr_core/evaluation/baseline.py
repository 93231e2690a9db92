"""Baseline metrics of constant predictions, which every trial must exceed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agr_core.batch import Labels
from agr_core.bins import LabelKind
from agr_core.config import Task
from agr_core.evaluation.names import ERROR_METRIC
from agr_core.evaluation.scores import range_distance


def baseline(train: Labels, val: Labels, *, tasks: Sequence[Task], label_kind: LabelKind) -> dict[str, float]:
    """Return val metrics of predicting the training part's mean age and most frequent gender and race.

    Args:
        train: Labels of the training part.
        val: Labels of the val part.
        tasks: Predicted tasks.
        label_kind: Kind of the age labels.

    Returns:
        ``val/age_mae`` or ``val/age_interval_mae`` in years, ``val/gender_acc``, ``val/race_acc``, and
        ``val/attributes_acc`` of predicting each attribute's majority value. A metric without known labels in both
        parts is absent.
    """
    figures: dict[str, float] = {}
    if "age" in tasks:
        train_ages = train.age.cpu().numpy().astype(np.float64)
        ages, low, high = (
            getattr(val, name).cpu().numpy().astype(np.float64) for name in ("age", "age_low", "age_high")
        )
        train_ages, known = train_ages[~np.isnan(train_ages)], ~np.isnan(ages)
        if train_ages.size and known.any():
            errors = range_distance(np.full(int(known.sum()), train_ages.mean()), low[known], high[known])
            figures[f"val/{ERROR_METRIC[label_kind]}"] = float(errors.mean())
    for task in ("gender", "race"):
        if task in tasks:
            train_classes, val_classes = (getattr(part, task).cpu().numpy() for part in (train, val))
            train_classes, val_classes = train_classes[train_classes >= 0], val_classes[val_classes >= 0]
            if train_classes.size and val_classes.size:
                majority = np.bincount(train_classes).argmax()
                figures[f"val/{task}_acc"] = float((val_classes == majority).mean())
    if "attributes" in tasks:
        trained, shown = (part.attributes.cpu().numpy() for part in (train, val))
        both = ~np.isnan(trained).all(axis=0) & ~np.isnan(shown).all(axis=0)
        if both.any():
            trained, shown = trained[:, both], shown[:, both]
            right = np.where(np.isnan(shown), np.nan, shown == (np.nanmean(trained, axis=0) > 0.5))
            figures["val/attributes_acc"] = float(np.nanmean(right, axis=0).mean())
    return figures
