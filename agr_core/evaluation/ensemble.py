"""Ensembles: the averaged predictions of several models for the same images.

Each class probability is the mean of the models' (a "linear opinion pool", Stone 1961; for networks Lakshminarayanan
et al. 2017), and the predicted class is the likeliest of these means. N: images; K: classes or bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from agr_core.bins import Bins
from agr_core.evaluation.predictions import AgeShares, Classified, Predictions

BinDecode = Literal["argmax", "median"]
"""How one bin is chosen from a distribution over bins; its centre is the age."""


def tasks_of(predictions: Predictions) -> tuple[str, ...]:
    """Return the tasks of stored predictions: ``age``, ``gender``, ``race``."""
    return (*(("age",) if predictions.years else ()), *predictions.classes)


def selected(predictions: Predictions, order: NDArray[np.int64], tasks: Sequence[str]) -> Predictions:
    """Return the predictions of some tasks for the images at ``order`` (N,), in that order."""
    shares = predictions.age_shares if "age" in tasks else None
    return Predictions(
        sample_ids=tuple(predictions.sample_ids[row] for row in order),
        years={name: values[order] for name, values in predictions.years.items()} if "age" in tasks else {},
        classes={
            task: replace(
                each,
                true=each.true[order],
                predicted=each.predicted[order],
                probabilities=None if each.probabilities is None else each.probabilities[order],
            )
            for task, each in predictions.classes.items()
            if task in tasks
        },
        age_shares=None if shares is None else replace(shares, probabilities=shares.probabilities[order]),
    )


def averaged(members: Sequence[Predictions], decode: BinDecode | None = None) -> Predictions:
    """Return the ensemble of several models' predictions.

    Ages are decoded from the mean distribution if ``decode`` names how; otherwise they are the means of the models'
    years, which is the same for models that decode by expectation.

    Args:
        members: Predictions of the same tasks, images and labels, in one order, with probabilities of each class.
        decode: Decoding of all members' ages, if all have distributions over the same bins.
    """
    first = members[0]
    years, shares = dict(first.years), None
    if years:
        del years["age_predicted"]
        years.pop("age_std", None)
        if decode is None:
            each = [member.years["age_predicted"].astype(np.float64) for member in members]
            predicted = np.mean(each, axis=0)
        else:
            shares = _mean_shares(members)
            predicted = _decoded(shares, decode)
        years["age_predicted"] = predicted.astype(np.float32)
    return Predictions(first.sample_ids, years, {task: _mean_classes(members, task) for task in first.classes}, shares)


def _mean_classes(members: Sequence[Predictions], task: str) -> Classified:
    first = members[0].classes[task]
    probabilities = _mean([member.classes[task].probabilities for member in members])
    return replace(first, predicted=probabilities.argmax(axis=1), probabilities=probabilities.astype(np.float32))


def _mean_shares(members: Sequence[Predictions]) -> AgeShares:
    shares = [member.age_shares for member in members if member.age_shares is not None]
    assert len(shares) == len(members), "every member has a distribution"
    assert len({each.edges for each in shares}) == 1, "over the same bins"
    return AgeShares(shares[0].edges, _mean([each.probabilities for each in shares]).astype(np.float32))


def _decoded(shares: AgeShares, decode: BinDecode) -> NDArray[np.float64]:
    """Return the centre of the likeliest bin, or of the bin in which half of the probability is reached (N,)."""
    if decode == "argmax":
        chosen = shares.probabilities.argmax(axis=1)
    else:
        below = shares.probabilities.astype(np.float64).cumsum(axis=1) < 0.5
        chosen = below.sum(axis=1).clip(max=len(shares.edges) - 1)
    return np.asarray(Bins(shares.edges).centers[chosen], dtype=np.float64)


def _mean(probabilities: Sequence[NDArray[np.float32] | None]) -> NDArray[np.float64]:
    known = [each.astype(np.float64) for each in probabilities if each is not None]
    assert len(known) == len(probabilities), "every member has probabilities"
    return np.asarray(np.mean(known, axis=0), dtype=np.float64)
