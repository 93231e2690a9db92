"""NSGA-II search (Deb et al. 2002) over a space with branches.

Optuna's NSGAIISampler keeps the generations and selects the parents of the next one. But it crosses only settings that
every configuration has: settings on a branch would always be drawn at random, and its random numbers start alike for
crossing and drawing. So crossover is implemented here: a child takes a branch together with the settings that one of
its parents has on that branch.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import NSGAIISampler
from optuna.trial import FrozenTrial, TrialState

from agr_core.objective import Direction
from orchestrator.search.ranges import share_of, value_at
from orchestrator.stats.pareto import crowding, fronts

CROSSED = 0.9
"""Share of the children that have two parents (Deb et al. 2002)."""

BEYOND = 0.25
"""A child's number is drawn between its parents' and this share of their distance beyond (BLX-alpha, Eshelman and
Schaffer 1993)."""

STEP = 0.2
"""Standard deviation of a mutated number, as a share of its range."""

_TRIES = 20
"""Number of children bred before one that repeats a known configuration is accepted."""


def population_for(trials: int | None) -> int:
    """Return the default size of a generation: a tenth of all configurations, between 10 and 50."""
    return 50 if trials is None else min(50, max(10, trials // 10))


class BranchedNsga2(NSGAIISampler):
    """Proposer of one configuration; each proposal needs a new instance with its own seed.

    Only completed trials belong to a generation. A failed, diverged or interrupted one leaves a gap, which the next
    proposal of the same generation fills. A generation's parents are chosen at its first proposal and stay, even if
    more trials of the generation before complete later.
    """

    def __init__(self, *, population: int, seed: int) -> None:
        drawn, bred = np.random.SeedSequence(seed).generate_state(2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # the strategy: pinned by tests/seams
            super().__init__(population_size=population, seed=int(drawn), child_generation_strategy=self._child)
        self._random = np.random.default_rng(int(bred))

    def infer_relative_search_space(
        self,
        study: optuna.Study,
        trial: FrozenTrial,  # noqa: ARG002 - Optuna's signature
    ) -> dict[str, BaseDistribution]:
        """Return every setting of any completed configuration, on all branches."""
        distributions: dict[str, BaseDistribution] = {}
        for completed in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            distributions |= completed.distributions
        return distributions

    @classmethod
    def first_generation(cls) -> dict[str, Any]:
        """Return the system attributes of a trial in the first generation."""
        return {cls._get_generation_key(): 0}

    def choose_parents(self, study: optuna.Study, record: Mapping[str, Any]) -> None:
        """Choose the parents of a generation if the proposal of ``record`` (system attributes) did so.

        They depend on the trials completed by then, so a restored study must choose at the same point.
        """
        generation = record.get(self._get_generation_key())
        if generation is not None:
            self.get_parent_population(study, generation)

    def _child(
        self, study: optuna.Study, space: dict[str, BaseDistribution], parents: list[FrozenTrial]
    ) -> dict[str, Any]:
        known_params = [trial.params for trial in study.get_trials(deepcopy=False) if trial.params]
        child: dict[str, Any] = {}
        for _ in range(_TRIES):
            child = self._bred(study, space, parents)
            if not any(params.items() <= child.items() for params in known_params):
                break
        return child

    def _bred(
        self, study: optuna.Study, space: Mapping[str, BaseDistribution], parents: Sequence[FrozenTrial]
    ) -> dict[str, Any]:
        """Return values for every setting of a parent; only those on the child's own branches are used."""
        directions: list[Direction] = [
            "minimize" if direction == optuna.study.StudyDirection.MINIMIZE else "maximize"
            for direction in study.directions
        ]
        chosen = self._tournaments(parents, directions)
        couple = chosen if self._random.random() < CROSSED else (chosen[0], chosen[0])
        names = dict.fromkeys(name for parent in parents for name in parent.params)
        mutation = 1 / max(1, len(couple[0].params))
        child = {}
        for name in names:
            holders = [parent for parent in couple if name in parent.params]
            # A branch of neither parent: take it from a configuration that has it.
            holders = holders or [self._one_of([parent for parent in parents if name in parent.params])]
            child[name] = self._inherited(space[name], [parent.params[name] for parent in holders])
            if self._random.random() < mutation:
                child[name] = self._mutated(space[name], child[name])
        return child

    def _tournaments(
        self, parents: Sequence[FrozenTrial], directions: Sequence[Direction]
    ) -> tuple[FrozenTrial, FrozenTrial]:
        """Return two parents, each the better of two: by front, then by crowding distance."""
        front_numbers = fronts([parent.values for parent in parents], directions)
        fitness: dict[int, tuple[int, float]] = {}
        for front_number in set(front_numbers):
            members = [index for index, of in enumerate(front_numbers) if of == front_number]
            alone = crowding([parents[index].values for index in members])
            fitness |= {index: (front_number, -distance) for index, distance in zip(members, alone, strict=True)}

        def winner() -> FrozenTrial:
            candidates = self._random.choice(len(parents), size=2)
            return parents[min(candidates, key=lambda index: fitness[int(index)])]

        return winner(), winner()

    def _one_of(self, trials: Sequence[FrozenTrial]) -> FrozenTrial:
        return trials[int(self._random.integers(len(trials)))]

    def _inherited(self, distribution: BaseDistribution, values: Sequence[Any]) -> Any:
        if isinstance(distribution, CategoricalDistribution) or len(values) == 1:
            return values[int(self._random.integers(len(values)))]
        first, second = (share_of(distribution, value) for value in values)
        return self._within(distribution, lambda: first + (second - first) * self._random.uniform(-BEYOND, 1 + BEYOND))

    def _mutated(self, distribution: BaseDistribution, value: Any) -> Any:
        if isinstance(distribution, CategoricalDistribution):
            others = [choice for choice in distribution.choices if choice != value]
            return others[int(self._random.integers(len(others)))] if others else value
        at = share_of(distribution, value)
        return self._within(distribution, lambda: at + STEP * self._random.normal())

    def _within(self, distribution: BaseDistribution, draw: Any) -> Any:
        """Return the value at the first drawn share that falls inside the range."""
        while True:
            share = draw()
            if 0 <= share <= 1:
                return value_at(distribution, share)
