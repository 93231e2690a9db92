"""Importance of settings for being among the best trials: PED-ANOVA (Watanabe et al. 2023) over a sweep.

Optuna's evaluator compares the distribution of a setting among the best trials with that among all of them. A setting
that exists on one branch alone is judged on that branch, weighted by the branch's share (conditional PED-ANOVA). A
stopped or running trial counts with its predicted end (``predicted_ends``); otherwise a sweep that stops most of its
trials would be judged by the few that were not stopped.
"""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState, create_trial

from agr_core.objective import Direction
from orchestrator.journal.outcome import Outcome
from orchestrator.search.predicted_ends import DIVERGED, predicted_ends

optuna.logging.set_verbosity(optuna.logging.WARNING)

FEWEST = 8
"""Minimum number of trials with a value: with fewer, the best quarter would be a single one."""

MOST = 500
"""Maximum number of trials in the computation; of more, evenly spaced ones in order of creation."""

RESAMPLES = 20
"""Number of bootstrap samples that the intervals are taken from."""

_QUANTILE = 0.25
_LOG_FROM = 20.0
"""A positive range whose ends differ by this factor is compared on a logarithmic scale."""


@dataclass(frozen=True)
class Tried:
    """Input for importance: one trial."""

    params: Mapping[str, Any]
    """What varies, by dotted path; a path that the trial's branch lacks is absent."""
    epochs: Sequence[tuple[int, float]]
    """The first objective of each reported epoch."""
    outcome: Outcome | None


@dataclass(frozen=True)
class Importance:
    """A setting's share of the importance of all settings, with the 95 % range over bootstrap samples of the trials."""

    path: str
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Judged:
    """Importance of all settings, and the number of trials behind it."""

    settings: tuple[Importance, ...]
    """Settings by importance, descending; empty with fewer than ``FEWEST`` trials, or if nothing varies."""
    trials: int
    """Number of trials in the computation."""
    predicted: int
    """Number of those with a predicted end."""


def importance(tried: Sequence[Tried], direction: Direction, *, seed: int = 0) -> Judged:
    """Compute the importance of the settings of some trials; equal arguments give equal results.

    Trials that diverged, failed, or reported no epoch are left out.
    """
    stride = max(1, -(-len(tried) // MOST))
    chosen = [trial for trial in tried[::stride] if trial.epochs and trial.outcome not in ("diverged", "failed")]
    distributions = _distributions(chosen)
    trials, predicted = _ended(chosen, distributions, direction)
    if len(trials) < FEWEST or not distributions:
        return Judged((), len(trials), predicted)
    names = list(distributions)
    study = optuna.create_study(direction=direction)
    shares = _shares(study, trials, names)
    generator = np.random.default_rng(seed)
    samples = np.array(
        [
            _shares(study, [trials[i] for i in generator.integers(len(trials), size=len(trials))], names)
            for _ in range(RESAMPLES)
        ]
    )
    low, high = np.quantile(samples, (0.025, 0.975), axis=0)
    importances = [
        Importance(name, float(share), float(min(share, below)), float(max(share, above)))
        for name, share, below, above in zip(names, shares, low, high, strict=True)
    ]
    return Judged(tuple(sorted(importances, key=lambda setting: -setting.share)), len(trials), predicted)


def _distributions(tried: Sequence[Tried]) -> dict[str, BaseDistribution]:
    """Return the tried range of each setting that varies, by path."""
    values: dict[str, list[Any]] = {}
    for trial in tried:
        for path, value in trial.params.items():
            values.setdefault(path, []).append(value)
    distributions: dict[str, BaseDistribution] = {}
    for path, seen in values.items():
        distinct = list(dict.fromkeys(map(_plain, seen)))
        if len(distinct) == 1:  # a constant of one branch adds no information to the branch
            continue
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in seen):
            low, high = min(seen), max(seen)
            log = low > 0 and high / low >= _LOG_FROM
            integers = all(isinstance(value, int) for value in seen)
            distributions[path] = (
                IntDistribution(low, high, log=log) if integers else FloatDistribution(low, high, log=log)
            )
        else:
            distributions[path] = CategoricalDistribution(distinct)
    return distributions


def _plain(value: Any) -> Any:
    """Return a value as a choice that Optuna accepts."""
    return value if value is None or isinstance(value, bool | int | float | str) else json.dumps(value)


def _ended(
    tried: Sequence[Tried], distributions: Mapping[str, BaseDistribution], direction: Direction
) -> tuple[list[FrozenTrial], int]:
    """Return the trials with a value, all as completed, and the number of predicted values."""
    best = min if direction == "minimize" else max
    trials = []
    for number, trial in enumerate(tried):
        params = {path: trial.params[path] for path in distributions if path in trial.params}
        plain = {
            path: _plain(value) if isinstance(distributions[path], CategoricalDistribution) else value
            for path, value in params.items()
        }
        completed = trial.outcome == "completed"
        frozen = create_trial(
            state=TrialState.COMPLETE if completed else TrialState.PRUNED,
            value=best(value for _, value in trial.epochs) if completed else None,
            params=plain,
            distributions={path: distributions[path] for path in plain},
            intermediate_values=dict(trial.epochs),
            user_attrs={DIVERGED: True} if trial.outcome == "diverged" else {},
        )
        frozen.number = number
        trials.append(frozen)
    ends = predicted_ends(trials, minimize=direction == "minimize")
    for frozen in trials:
        if frozen.number in ends:
            frozen.state, frozen.values = TrialState.COMPLETE, [ends[frozen.number]]
    return [trial for trial in trials if trial.state == TrialState.COMPLETE], len(ends)


class _Sample(optuna.Study):
    """A study over given trials."""

    def __init__(self, study: optuna.Study, trials: list[FrozenTrial]) -> None:
        super().__init__(study.study_name, study._storage)
        self._given = trials

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        del deepcopy, use_cache
        return [trial for trial in self._given if states is None or trial.state in states]

    def get_trials(self, deepcopy: bool = True, states: Container[TrialState] | None = None) -> list[FrozenTrial]:
        """Return the given trials."""
        return self._get_trials(deepcopy, states)


def _shares(study: optuna.Study, trials: Sequence[FrozenTrial], names: Sequence[str]) -> list[float]:
    """Return the importance of each setting, 1 in total; 0 for an absent one, all 0 if nothing separates the best."""
    numbered = []
    for number, trial in enumerate(trials):  # a sample may hold a trial twice
        twin = copy.copy(trial)
        twin._trial_id = twin.number = number
        numbered.append(twin)
    present = [name for name in names if any(name in trial.params for trial in trials)]  # a sample may lack a branch
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = PedAnovaImportanceEvaluator(target_quantile=_QUANTILE)
        importances = evaluator.evaluate(_Sample(study, numbered), params=present)
    total = sum(importances.values())
    return [importances.get(name, 0.0) / total if total > 0 else 0.0 for name in names]
