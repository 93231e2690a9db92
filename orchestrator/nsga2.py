"""NSGA-II (Deb et al. 2002) over a space with branches.

Optuna's NSGAIISampler keeps the generations and selects the elite that breeds the next one. But it crosses only what
every configuration has: in a space with branches all that stands on one of them would be drawn at random for ever, and
its random numbers begin alike for crossing and drawing. So how a child comes from its parents is said here: it takes a
branch together with what one of its parents has on that branch.
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
from orchestrator.pareto import crowding, fronts
from orchestrator.ranges import share_of, value_at

CROSSED = 0.9
"""Share of the children that have two parents (Deb et al. 2002)."""

BEYOND = 0.25
"""A number of two parents is drawn between theirs and so much of their distance beyond (BLX-alpha, Eshelman and
Schaffer 1993)."""

STEP = 0.2
"""Standard deviation of a mutated number, as a share of its range."""

_TRIES = 20
"""So many children are bred before one is taken that repeats a known configuration."""


def population_for(trials: int | None) -> int:
    """Configurations of a generation, where the sweep file does not say: a tenth of all, 10 to 50 of them."""
    return 50 if trials is None else min(50, max(10, trials // 10))


class BranchedNsga2(NSGAIISampler):
    """Proposes one configuration; make a new one for each, with its own seed.

    Only completed trials are of a generation. A failed, diverged or interrupted one leaves a gap, which the next
    proposal of the same generation fills. A generation's parents are chosen at its first proposal and stay, whoever of
    the generation before completes later.
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
        """Everything that a completed configuration has, on whatever branch."""
        known: dict[str, BaseDistribution] = {}
        for each in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            known |= each.distributions
        return known

    @classmethod
    def first_generation(cls) -> dict[str, Any]:
        """System attributes of a trial that counts as one of the first generation."""
        return {cls._get_generation_key(): 0}

    def choose_parents(self, study: optuna.Study, record: Mapping[str, Any]) -> None:
        """Choose the parents of a generation where the proposal of ``record`` (system attributes) did so.

        They depend on who had completed by then, so a study that is restored must choose at the same point.
        """
        generation = record.get(self._get_generation_key())
        if generation is not None:
            self.get_parent_population(study, generation)

    def _child(
        self, study: optuna.Study, space: dict[str, BaseDistribution], parents: list[FrozenTrial]
    ) -> dict[str, Any]:
        known = [trial.params for trial in study.get_trials(deepcopy=False) if trial.params]
        child: dict[str, Any] = {}
        for _ in range(_TRIES):
            child = self._bred(study, space, parents)
            if not any(params.items() <= child.items() for params in known):
                break
        return child

    def _bred(
        self, study: optuna.Study, space: Mapping[str, BaseDistribution], parents: Sequence[FrozenTrial]
    ) -> dict[str, Any]:
        """Values for every name that a parent has: only those on the child's own branches will be asked for."""
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
            # A branch that neither is on: as somebody on it does.
            holders = holders or [self._one_of([parent for parent in parents if name in parent.params])]
            child[name] = self._inherited(space[name], [parent.params[name] for parent in holders])
            if self._random.random() < mutation:
                child[name] = self._mutated(space[name], child[name])
        return child

    def _tournaments(
        self, parents: Sequence[FrozenTrial], directions: Sequence[Direction]
    ) -> tuple[FrozenTrial, FrozenTrial]:
        """Two parents, each the better of two: of the better front, within one front the lonelier."""
        places = fronts([parent.values for parent in parents], directions)
        fitness: dict[int, tuple[int, float]] = {}
        for place in set(places):
            members = [index for index, of in enumerate(places) if of == place]
            alone = crowding([parents[index].values for index in members])
            fitness |= {index: (place, -distance) for index, distance in zip(members, alone, strict=True)}

        def one() -> FrozenTrial:
            candidates = self._random.choice(len(parents), size=2)
            return parents[min(candidates, key=lambda index: fitness[int(index)])]

        return one(), one()

    def _one_of(self, trials: Sequence[FrozenTrial]) -> FrozenTrial:
        return trials[int(self._random.integers(len(trials)))]

    def _inherited(self, distribution: BaseDistribution, values: Sequence[Any]) -> Any:
        if isinstance(distribution, CategoricalDistribution) or len(values) == 1:
            return values[int(self._random.integers(len(values)))]
        one, other = (share_of(distribution, value) for value in values)
        return self._within(distribution, lambda: one + (other - one) * self._random.uniform(-BEYOND, 1 + BEYOND))

    def _mutated(self, distribution: BaseDistribution, value: Any) -> Any:
        if isinstance(distribution, CategoricalDistribution):
            others = [choice for choice in distribution.choices if choice != value]
            return others[int(self._random.integers(len(others)))] if others else value
        at = share_of(distribution, value)
        return self._within(distribution, lambda: at + STEP * self._random.normal())

    def _within(self, distribution: BaseDistribution, draw: Any) -> Any:
        """The value at the first share of the range that falls inside."""
        while True:
            share = draw()
            if 0 <= share <= 1:
                return value_at(distribution, share)
