"""Predict the final values of stopped configurations, so that TPE ranks them with the completed ones.

Optuna's TPE ranks every completed trial above every pruned one, and pruned ones by the epochs they reached. With early
stopping that is misleading: the first trials train long because there is nothing to compare them with, and then rank
high whatever comes after them (docs/search.md has measurements).
"""

from __future__ import annotations

import copy
from collections.abc import Container, Sequence
from statistics import median
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

DIVERGED = "diverged"
"""User attribute of a trial whose early values do not predict its end."""


_UNENDED = (TrialState.PRUNED, TrialState.RUNNING)


def predicted_ends(trials: Sequence[FrozenTrial], *, minimize: bool) -> dict[int, float]:
    """Return the predicted final value of each stopped or running trial, by its number.

    A trial's value is the best of its epochs. The prediction adds the median improvement of the completed trials
    after that epoch. Diverged trials, and those that reported no epoch, are left out.
    """
    best = min if minimize else max
    completed = [t for t in trials if t.state == TrialState.COMPLETE and t.intermediate_values]
    improvements: dict[int, float] = {}

    def improvement(epoch: int) -> float:
        """Return the median change of completed trials after ``epoch``; 0 while there are none."""
        if epoch not in improvements:
            changes = []
            for trial in completed:
                before = [value for step, value in trial.intermediate_values.items() if step <= epoch]
                if before:
                    changes.append(best(trial.intermediate_values.values()) - best(before))
            improvements[epoch] = median(changes) if changes else 0.0
        return improvements[epoch]

    return {
        trial.number: best(trial.intermediate_values.values()) + improvement(max(trial.intermediate_values))
        for trial in trials
        if trial.state in _UNENDED and trial.intermediate_values and DIVERGED not in trial.user_attrs
    }


class PredictedStudy(optuna.Study):
    """The study for one proposal of a sampler: pruned trials appear completed, with their predicted values.

    Diverged trials remain pruned and rank below all of them.
    """

    def __init__(self, study: optuna.Study, sampler: optuna.samplers.BaseSampler) -> None:
        super().__init__(study.study_name, study._storage, sampler=sampler)
        trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        ends = predicted_ends(trials, minimize=study.direction == StudyDirection.MINIMIZE)
        self._completed = {t.number: _completed(t, ends[t.number]) for t in trials if t.number in ends}

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        trials: list[Any] = super()._get_trials(deepcopy, None, use_cache)
        seen = [self._completed.get(trial.number, trial) for trial in trials]
        return [trial for trial in seen if states is None or trial.state in states]


def _completed(trial: FrozenTrial, value: float) -> FrozenTrial:
    completed = copy.copy(trial)
    completed.state = TrialState.COMPLETE
    completed.values = [value]
    return completed
