"""What stopped configurations would have come to: so TPE ranks them among those that trained to their end.

Optuna's TPE ranks every completed trial above every pruned one, and pruned ones by the epochs they reached. With early
stopping that misleads: the first trials go far because there is nothing to compare them with, and then count as the
best there is, whatever came after them (docs/search.md has the figures).
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
"""User attribute of a trial whose early values say nothing of its end."""


_UNENDED = (TrialState.PRUNED, TrialState.RUNNING)


def predicted_ends(trials: Sequence[FrozenTrial], *, minimize: bool) -> dict[int, float]:
    """The value that each trial stopped early, or still running, would have reached, by its number.

    A trial's value is the best of its epochs. To the end it would have improved as much as the completed trials did
    after that epoch, in the median. Diverged trials, and those that reported no epoch, are left out.
    """
    best = min if minimize else max
    completed = [t for t in trials if t.state == TrialState.COMPLETE and t.intermediate_values]
    improvements: dict[int, float] = {}

    def improvement(epoch: int) -> float:
        """By how much completed trials changed after ``epoch``; 0 while there are none."""
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
    """A study as a sampler sees it for one proposal: pruned trials have completed, with their predicted values.

    What remains pruned, the diverged, ranks below all of them.
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
