"""The search: which configuration to try next, over an Optuna study.

The study is a function of what it was told (``propose`` or ``restore``, ``report``, ``finish``, in order), and each
proposal draws from a sampler of its own, seeded by (search seed, configuration number). So a search restored from the
journal proposes exactly what the undisturbed one would have proposed. Numbers count configurations from 0.
"""

from __future__ import annotations

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
from orchestrator.nsga2 import BranchedNsga2, population_for
from orchestrator.outcome import Outcome
from orchestrator.pareto import fronts, ordering
from orchestrator.predicted_ends import DIVERGED, PredictedStudy
from orchestrator.ranges import distribution_of
from orchestrator.records import KnownTrial
from orchestrator.spec.space import VARIANT, Domain, Proposal, Space

HISTORY = 500
"""After so many finished configurations the history is cut to half of it: the best of them all and the newest. A TPE
proposal costs time in proportion to its history (67 ms at 2,000), so an unbounded one would make the ten-thousandth
proposal cost far more than the thousandth."""

optuna.logging.set_verbosity(optuna.logging.WARNING)

STARTUP = 10
"""Configurations drawn at random before TPE or a Gaussian process models anything; Optuna's default."""


@dataclass(frozen=True)
class Suggestion:
    """A proposal and what the search needs to restore it (plain JSON, for the journal)."""

    proposal: Proposal
    record: dict[str, Any]


class Search:
    """Proposes configurations of a space by ``random``, ``grid``, ``tpe``, ``nsga2``, ``gp`` or ``branched_gp``.

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
        self._space = space
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
        """The study as a sampler is to see it."""
        if isinstance(sampler, TPESampler) and len(self._directions) == 1:
            return PredictedStudy(self._study, sampler)
        self._study.sampler = sampler
        return self._study

    def exhausted(self, number: int) -> bool:
        """Whether configuration ``number`` is beyond what was asked for."""
        return self.limit is not None and number >= self.limit

    def propose(self, number: int) -> Suggestion:
        """Configuration ``number``. Call once for each number, ascending."""
        if self._points is not None:
            point = self._points[number]
            return Suggestion(self._space.build(lambda name, _: point[name]), {"point": number})
        chosen = self._chosen(number)
        if chosen is not None:
            self._study.enqueue_trial(dict(chosen))
        trial = self._seen_by(self._sampler(number)).ask()
        proposal = self._space.build(lambda name, domain: suggest(trial, name, domain))
        self._trial_ids[number] = (trial._trial_id, trial.number)
        frozen = self._study._storage.get_trial(trial._trial_id)
        record = {
            "params": frozen.params,
            "distributions": {name: distribution_to_json(dist) for name, dist in frozen.distributions.items()},
            "system_attrs": frozen.system_attrs,
        }
        return Suggestion(proposal, record)

    def _chosen(self, number: int) -> Mapping[str, Any] | None:
        """Values of configuration ``number`` that no sampler of Optuna's draws; None: all are drawn."""
        if number < len(self._start):
            return self._start[number]
        if self._algorithm != "branched_gp":
            return None
        trials = self._study.get_trials(deepcopy=False)
        if len(trials) < STARTUP:
            return None
        from orchestrator.branched_gp import BranchedGp  # here: scikit-learn takes a second

        return BranchedGp(self._space, direction=self._directions[0], seed=self._seed_of(number)).propose(trials)

    def restore(self, number: int, record: Mapping[str, Any]) -> None:
        """Put configuration ``number`` back as running, from the record ``propose`` gave."""
        if self._points is not None:
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
        """Know the trials of an earlier sweep, as if they had been proposed here. Call before the first proposal."""
        domains = {varied.name: varied.domain for varied in self._space.domains()}
        domains[VARIANT] = Domain("categorical", self._space.variants)
        for known in trials:
            completed = known.outcome == "completed"
            several = len(self._directions) > 1
            self._study.add_trial(
                create_trial(
                    state=TrialState.COMPLETE if completed else TrialState.PRUNED,
                    values=list(known.values) if completed else None,
                    params=dict(known.point),
                    distributions={name: distribution_of(domains[name]) for name in known.point},
                    intermediate_values={} if several else dict(known.epochs),
                    user_attrs={DIVERGED: True} if known.outcome == "diverged" else {},
                    system_attrs=BranchedNsga2.first_generation() if completed and self._algorithm == "nsga2" else {},
                )
            )
            self._count_finished()

    def report(self, number: int, epoch: int, value: float) -> None:
        """The objective of one epoch of a running configuration; several objectives are told at the end only."""
        if number in self._trial_ids and len(self._directions) == 1:
            trial_id, _ = self._trial_ids[number]
            self._study._storage.set_trial_intermediate_value(trial_id, epoch, value)

    def finish(self, number: int, outcome: Outcome, values: Sequence[float]) -> None:
        """A configuration is over; ``values`` are its objectives at its best epoch, none where it reported no epoch.

        A pruned one keeps the values of its epochs, by which TPE ranks it (``predicted_ends``) and not as if it had
        ended well. A diverged one is pruned too, as the worst there is: as a failure it would be forgotten and proposed
        again. Failed and interrupted ones say nothing.
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
        if self._finished_since_bound >= HISTORY and self._algorithm != "nsga2":  # it looks at two generations only
            self._bound_history()

    def _bound_history(self) -> None:
        """Forget finished configurations beyond ``HISTORY / 2``: the better half of those kept and the newest."""
        trials = self._study.get_trials(deepcopy=False)
        ended = [t for t in trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
        keep_best = HISTORY // 4
        complete = [t for t in ended if t.state == TrialState.COMPLETE]
        places = fronts([t.values for t in complete], self._directions)
        ranked = sorted(
            zip(places, complete, strict=True),
            key=lambda each: (each[0], ordering(each[1].values, self._directions), each[1].number),
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


def suggest(trial: optuna.Trial, name: str, domain: Domain) -> Any:
    """A value of ``domain`` by an Optuna trial; both ends are included, as the sweep grammar says."""
    if domain.kind == "categorical":
        return trial.suggest_categorical(name, domain.choices)
    if domain.kind == "int":
        return trial.suggest_int(name, int(domain.low), int(domain.high), step=int(domain.step or 1), log=domain.log)
    return trial.suggest_float(name, float(domain.low), float(domain.high), step=domain.step, log=domain.log)
