"""The search: propose configurations, over an Optuna study.

The study is a function of its calls (``propose`` or ``restore``, ``report``, ``finish``, in order), and each proposal
 draws from a sampler of its own, seeded by (search seed, configuration number). So a search restored from the
journal proposes exactly what the undisturbed one would have proposed. Numbers count configurations from 0.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from agr_core.objective import Direction
from orchestrator.journal.events import KnownTrial
from orchestrator.journal.outcome import Outcome
from orchestrator.search.nsga2 import BranchedNsga2, population_for
from orchestrator.search.predicted_ends import DIVERGED, PredictedStudy
from orchestrator.search.ranges import distribution_of
from orchestrator.spec.load import Sweep
from orchestrator.spec.space import VARIANT, Domain, Label, Proposal, Space
from orchestrator.stats.pareto import fronts, ordering

HISTORY = 500
"""Number of finished configurations at which the history is halved: the best of all and the newest remain. A TPE
proposal costs time in proportion to its history (67 ms at 2,000), so an unbounded one would make the ten-thousandth
proposal cost far more than the thousandth."""

optuna.logging.set_verbosity(optuna.logging.WARNING)

STARTUP = 10
"""Configurations drawn at random before TPE or a Gaussian process models anything; Optuna's default."""


@dataclass(frozen=True)
class Suggestion:
    """A proposal and the record that restores it (plain JSON, for the journal)."""

    proposal: Proposal
    record: dict[str, Any]


class Search:
    """Proposer of configurations by ``random``, ``grid``, ``tpe``, ``nsga2``, ``gp`` or ``branched_gp``.

    ``directions`` are those of the objectives. ``limit`` is the number of configurations asked for; grid proposes every
    point once, in order. ``start`` are the points proposed first; a domain that one leaves out is drawn. ``population``
    is the size of a generation of nsga2.
    """

    def __init__(
        self,
        space: Space,
        *,
        algorithm: str,
        seed: int,
        directions: Sequence[Direction],
        limit: int | None,
        start: Sequence[Mapping[str, Any]] = (),
        population: int | None = None,
    ) -> None:
        self._space = self._whole = space
        self._choices = _choices(space)
        """Initial labels of each choice: Optuna does not accept a changed choice."""
        self._narrowed: dict[str, tuple[Label, ...]] = {}
        """Remaining labels of the narrowed choices."""
        self._algorithm = algorithm
        self._seed = seed
        self._directions = tuple(directions)
        self._population = population or population_for(limit)
        self._start = start
        self._points = list(space.points()) if algorithm == "grid" else None
        self.limit = len(self._points) if self._points is not None else limit
        # Reporting and telling by number needs no live Optuna trial, which a restored search could not have.
        self._trial_ids: dict[int, tuple[int, int]] = {}  # configuration -> Optuna's (id, number)
        self._study = self._new_study()
        self._finished_since_bound = 0

    @classmethod
    def of(cls, sweep: Sweep) -> Search:
        """Return the search that a loaded sweep asks for."""
        search = sweep.spec.search
        assert search is not None, "a loaded sweep has a search"
        return cls(
            sweep.space,
            algorithm=search.algorithm,
            seed=search.seed,
            directions=[objective.direction for objective in sweep.spec.objectives],
            limit=search.trials,
            start=sweep.start,
            population=search.population,
        )

    def _new_study(self) -> optuna.Study:
        return optuna.create_study(directions=self._directions, sampler=RandomSampler(seed=0))

    def _seed_of(self, number: int) -> int:
        return int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])

    def _sampler(self, number: int) -> BaseSampler:
        seed = self._seed_of(number)
        if self._algorithm == "tpe":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)  # group: pinned by tests/seams
                return TPESampler(
                    seed=seed, n_startup_trials=STARTUP, multivariate=True, group=True, constant_liar=True
                )
        if self._algorithm == "nsga2":
            return BranchedNsga2(population=self._population, seed=seed)
        if self._algorithm == "gp":
            from optuna.samplers import GPSampler

            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                return GPSampler(seed=seed, n_startup_trials=STARTUP)
        return RandomSampler(seed=seed)

    def _seen_by(self, sampler: BaseSampler) -> optuna.Study:
        """Return the study as the sampler is to see it."""
        if isinstance(sampler, TPESampler) and len(self._directions) == 1:
            return PredictedStudy(self._study, sampler)
        self._study.sampler = sampler
        return self._study

    def exhausted(self, number: int) -> bool:
        """Return whether configuration ``number`` exceeds the requested number."""
        return self.limit is not None and number >= self.limit

    @property
    def algorithm(self) -> str:
        """Its name, as in a sweep file."""
        return self._algorithm

    @property
    def space(self) -> Space:
        """The space that it proposes from now."""
        return self._space

    def extend(self, configurations: int) -> None:
        """Add configurations to the requested number. Does nothing if only a budget ends the sweep."""
        if self.limit is not None:
            self.limit += configurations

    def narrow(self, space: Space, number: int) -> None:
        """Propose from a smaller ``space`` from configuration ``number`` on; known trials outside it are kept."""
        self._space = space
        left = _choices(space)
        self._narrowed = {name: labels for name, labels in left.items() if labels != self._choices[name]}
        if self._points is not None:
            inside = list(space.points())
            self._points[number:] = [point for point in self._points[number:] if point in inside]
            self.limit = len(self._points)

    def propose(self, number: int, point: Mapping[str, Any] | None = None) -> Suggestion:
        """Propose configuration ``number``: the user's ``point``, or a chosen one. Call once per number, ascending."""
        if self._points is not None:
            point = self._points[number]
            return Suggestion(self._space.build(lambda name, _: point[name]), {"point": number})
        chosen = self._chosen(number) if point is None else point
        drawn = self._drawn(number)
        if chosen is not None or drawn:
            self._study.enqueue_trial({**drawn, **(chosen or {})})
        trial = self._seen_by(self._sampler(number)).ask()
        proposal = self._space.build(lambda name, domain: suggest(trial, name, domain, self._choices.get(name)))
        self._trial_ids[number] = (trial._trial_id, trial.number)
        frozen = self._study._storage.get_trial(trial._trial_id)
        record = {
            "params": frozen.params,
            "distributions": {name: distribution_to_json(dist) for name, dist in frozen.distributions.items()},
            "system_attrs": frozen.system_attrs,
        }
        return Suggestion(proposal, record)

    def _drawn(self, number: int) -> dict[str, Label]:
        """Draw a label of each narrowed choice, all equally likely: a sampler would draw from all former labels."""
        generator = random.Random(f"narrowed/{self._seed}/{number}")  # noqa: S311 - not for secrets
        return {name: labels[generator.randrange(len(labels))] for name, labels in self._narrowed.items()}

    def _chosen(self, number: int) -> Mapping[str, Any] | None:
        """Return the values of configuration ``number`` that no Optuna sampler draws; None: all are drawn."""
        if number < len(self._start):
            return self._start[number]
        if self._algorithm != "branched_gp":
            return None
        trials = self._study.get_trials(deepcopy=False)
        if len(trials) < STARTUP:
            return None
        from orchestrator.search.branched_gp import BranchedGp  # here: scikit-learn takes a second

        branched = BranchedGp(self._space, whole=self._whole, direction=self._directions[0], seed=self._seed_of(number))
        return branched.propose(trials)

    def restore(self, number: int, record: Mapping[str, Any]) -> None:
        """Restore configuration ``number`` as running, from the record of ``propose``.

        Does nothing if it is running already, as in the search that proposed it.
        """
        if self._points is not None or number in self._trial_ids:
            return
        self._add(
            number,
            create_trial(
                state=TrialState.RUNNING,
                params=dict(record["params"]),
                distributions={name: json_to_distribution(text) for name, text in record["distributions"].items()},
                system_attrs=dict(record["system_attrs"]),
            ),
        )
        sampler = self._sampler(number)
        if isinstance(sampler, BranchedNsga2):
            sampler.choose_parents(self._study, record["system_attrs"])

    def _add(self, number: int, trial: FrozenTrial) -> None:
        self._study.add_trial(trial)
        added = self._study.get_trials(deepcopy=False)[-1]
        self._trial_ids[number] = (added._trial_id, added.number)

    def learn(self, trials: Sequence[KnownTrial]) -> None:
        """Add the trials of an earlier sweep as if they had been proposed here. Call before the first proposal."""
        domains = {varied.name: varied.domain for varied in self._space.domains()}
        domains[VARIANT] = Domain("categorical", self._space.variants)
        for earlier in trials:
            completed = earlier.outcome == "completed"
            several = len(self._directions) > 1
            self._study.add_trial(
                create_trial(
                    state=TrialState.COMPLETE if completed else TrialState.PRUNED,
                    values=list(earlier.values) if completed else None,
                    params=dict(earlier.point),
                    distributions={name: distribution_of(domains[name]) for name in earlier.point},
                    intermediate_values={} if several else dict(earlier.epochs),
                    user_attrs={DIVERGED: True} if earlier.outcome == "diverged" else {},
                    system_attrs=BranchedNsga2.first_generation() if completed and self._algorithm == "nsga2" else {},
                )
            )
            self._count_finished()

    def report(self, number: int, epoch: int, value: float) -> None:
        """Report the objective of one epoch of a running configuration; several objectives go to ``finish`` only."""
        if number in self._trial_ids and len(self._directions) == 1:
            trial_id, _ = self._trial_ids[number]
            self._study._storage.set_trial_intermediate_value(trial_id, epoch, value)

    def finish(self, number: int, outcome: Outcome, values: Sequence[float]) -> None:
        """End a configuration; ``values`` are its objectives at its best epoch, none if it reported no epoch.

        A pruned one keeps the values of its epochs, and TPE ranks it by its predicted end (``predicted_ends``). A
        diverged one is pruned too, as the worst: as a failure it would be ignored and proposed again. Failed and
        interrupted ones are ignored.
        """
        if number not in self._trial_ids:
            return
        trial_id, optuna_number = self._trial_ids.pop(number)
        if outcome == "completed" and values:
            self._study.tell(optuna_number, list(values))
        elif outcome in ("pruned", "diverged"):
            if outcome == "diverged":
                self._study._storage.set_trial_user_attr(trial_id, DIVERGED, True)
            self._study.tell(optuna_number, state=TrialState.PRUNED)
        else:
            self._study.tell(optuna_number, state=TrialState.FAIL)
        self._count_finished()

    def _count_finished(self) -> None:
        self._finished_since_bound += 1
        if self._finished_since_bound >= HISTORY and self._algorithm != "nsga2":  # it reads two generations only
            self._bound_history()

    def _bound_history(self) -> None:
        """Forget finished configurations beyond ``HISTORY / 2``: keep the better half and the newest."""
        trials = self._study.get_trials(deepcopy=False)
        ended = [t for t in trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
        keep_best = HISTORY // 4
        complete = [t for t in ended if t.state == TrialState.COMPLETE]
        front_numbers = fronts([t.values for t in complete], self._directions)
        ranked = sorted(
            zip(front_numbers, complete, strict=True),
            key=lambda ranked: (ranked[0], ordering(ranked[1].values, self._directions), ranked[1].number),
        )
        best = {t.number for _, t in ranked[:keep_best]}
        newest = {t.number for t in ended[-(HISTORY // 2 - keep_best) :]}
        numbers = {optuna_number: number for number, (_, optuna_number) in self._trial_ids.items()}
        self._study = self._new_study()
        self._trial_ids.clear()
        for trial in trials:
            if trial.number in numbers:
                self._add(numbers[trial.number], trial)
            elif trial.number in best or trial.number in newest:
                self._study.add_trial(trial)
        self._finished_since_bound = 0


def _choices(space: Space) -> dict[str, tuple[Label, ...]]:
    """Return the labels of each choice of a space, by name."""
    return {varied.name: varied.domain.choices for varied in space.domains() if varied.domain.kind == "categorical"}


def suggest(trial: optuna.Trial, name: str, domain: Domain, choices: Sequence[Label] | None = None) -> Any:
    """Suggest a value of ``domain`` by an Optuna trial; both ends are included, as in the sweep grammar.

    ``choices`` are all former labels of a narrowed choice; the remaining one is fixed beforehand.
    """
    if domain.kind == "categorical":
        return trial.suggest_categorical(name, choices or domain.choices)
    if domain.kind == "int":
        return trial.suggest_int(name, int(domain.low), int(domain.high), step=int(domain.step or 1), log=domain.log)
    return trial.suggest_float(name, float(domain.low), float(domain.high), step=domain.step, log=domain.log)
