"""Rank the configurations of a sweep and pick its best trial: the single rule for all rankings.

Configurations are ranked, each by its judged trials:

1. A configuration has a rank once every seed of ``repeat``, or fold, completed.
2. Under ``confirm`` a configuration that completed with every fresh seed comes before all others, and is judged by
   those seeds alone: the search chose it for the values of its other trials.
3. A configuration's value is the mean of each objective over its judged trials.
4. The better value of the first objective comes first; ties are broken by the second, and so on. With several
   objectives the Pareto front comes first, then the front of the remaining configurations, and so on.
5. Equal configurations are ordered by creation.

The first judged trial represents a configuration: it was not selected by its value, so that value is not the
luckiest of several. The first place needs no fronts: no point that sorts before all others is dominated.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from agr_core.objective import Direction
from orchestrator.journal.events import Event, SweepStarted, TrialCreated, TrialEnded, TrialReopened
from orchestrator.stats.pareto import fronts, ordering


class Judged(Protocol):
    """Interface of a trial that the rule ranks."""

    @property
    def trial_id(self) -> str:
        """The trial's ID."""

    @property
    def seed(self) -> int:
        """The seed of its training."""

    @property
    def confirms(self) -> str | None:
        """ID of the trial whose configuration it trains again; None for a trial of the search."""

    @property
    def result(self) -> tuple[float, ...]:
        """The value of each objective; empty unless the trial completed."""


class CreatedTrial:
    """Base of trials that know their creation: what the rule asks of it."""

    created: TrialCreated

    @property
    def trial_id(self) -> str:
        """The trial's ID."""
        return self.created.trial_id

    @property
    def seed(self) -> int:
        """The seed of its training."""
        return int(self.created.config["seed"])

    @property
    def confirms(self) -> str | None:
        """ID of the trial whose configuration it trains again; None for a trial of the search."""
        return self.created.confirms


JudgedT = TypeVar("JudgedT", bound=Judged)


class Best(NamedTuple):
    """The trial that represents the best configuration, and the value that ranks the configuration."""

    trial_id: str
    point: tuple[float, ...]
    """Mean of each objective over the configuration's judged trials."""


@dataclass
class Configuration(Generic[JudgedT]):
    """The trials of one configuration, in order of creation."""

    seeds: int
    """Number of seeds that the search trains."""
    confirm_seeds: int = 0
    """Number of fresh seeds for confirmation; 0 without ``confirm``."""
    searched: list[JudgedT] = field(default_factory=list)
    confirmations: list[JudgedT] = field(default_factory=list)

    def add(self, trial: JudgedT) -> None:
        """Add the configuration's next trial."""
        (self.searched if trial.confirms is None else self.confirmations).append(trial)

    @property
    def complete(self) -> bool:
        """Whether the configuration has a rank: every seed of the search completed."""
        return len(self.searched) == self.seeds and all(trial.result for trial in self.searched)

    @property
    def confirmed(self) -> bool:
        """Whether every fresh seed completed."""
        return 0 < self.confirm_seeds == len({trial.seed for trial in self.confirmations if trial.result})

    @property
    def ranked_trials(self) -> list[JudgedT]:
        """The trials that share its rank, judged ones first; confirmations are included once all are completed."""
        return [*self.confirmations, *self.searched] if self.confirmed else list(self.searched)

    @property
    def judged(self) -> list[JudgedT]:
        """The completed trials that its value is the mean of."""
        return [trial for trial in (self.confirmations if self.confirmed else self.searched) if trial.result]

    @property
    def point(self) -> tuple[float, ...]:
        """Mean of each objective over ``judged``; empty if there is none."""
        return tuple(fmean(values) for values in zip(*(trial.result for trial in self.judged), strict=True))

    @property
    def best(self) -> Best:
        """Its representation as the best of the sweep; only for a complete configuration."""
        return Best(self.judged[0].trial_id, self.point)


ConfigurationT = TypeVar("ConfigurationT", bound=Configuration[Any])


@dataclass(frozen=True)
class Place(Generic[ConfigurationT]):
    """A configuration's place in the ranking."""

    rank: int
    """Rank, from 1."""
    front: int | None
    """Its Pareto front, from 1; None with one objective."""
    configuration: ConfigurationT


def configurations(
    trials: Iterable[tuple[Hashable, JudgedT]], *, seeds: int, confirm_seeds: int
) -> list[Configuration[JudgedT]]:
    """Group trials, each given with its configuration's key, into configurations in order of their first trials."""
    by_key: dict[Hashable, Configuration[JudgedT]] = {}
    for key, trial in trials:
        by_key.setdefault(key, Configuration(seeds, confirm_seeds)).add(trial)
    return list(by_key.values())


def order(configuration: Configuration[Any], directions: Sequence[Direction]) -> tuple[bool, tuple[float, ...]]:
    """Return the sort key of a complete configuration, ignoring fronts."""
    return not configuration.confirmed, ordering(configuration.point, directions)


def ranking(given: Iterable[ConfigurationT], directions: Sequence[Direction]) -> list[Place[ConfigurationT]]:
    """Rank the complete configurations, best first; ``given`` is in order of creation."""
    complete = sorted(
        (configuration for configuration in given if configuration.complete),
        key=lambda configuration: order(configuration, directions),
    )
    if len(directions) == 1:
        return [Place(rank, None, configuration) for rank, configuration in enumerate(complete, start=1)]
    by_front = sorted(
        zip(fronts([configuration.point for configuration in complete], directions), complete, strict=True),
        key=lambda pair: pair[0],
    )
    return [Place(rank, front, configuration) for rank, (front, configuration) in enumerate(by_front, start=1)]


def winner(given: Iterable[ConfigurationT], directions: Sequence[Direction]) -> ConfigurationT | None:
    """Return the first place of ``ranking``; None if no configuration is complete."""
    complete = (configuration for configuration in given if configuration.complete)
    return min(complete, key=lambda configuration: order(configuration, directions), default=None)


@dataclass(slots=True)
class JudgedTrial:
    """What the rule asks of a trial, and nothing else of it: there may be thousands."""

    trial_id: str
    seed: int
    confirms: str | None
    result: tuple[float, ...] = ()


@dataclass
class Leader:
    """The best configuration of a running sweep, from its events.

    A configuration's place only ever improves: it stays complete once it is, and may be confirmed later. So each
    trial end is compared with the leader alone.
    """

    started: SweepStarted
    best: Best | None = field(default=None, init=False)
    """None until a configuration is complete."""
    _configurations: dict[int, tuple[int, Configuration[JudgedTrial]]] = field(default_factory=dict, init=False)
    """Configurations by number, each with its position in order of creation."""
    _trials: dict[str, tuple[int, JudgedTrial]] = field(default_factory=dict, init=False)
    _key: tuple[Any, ...] = field(default=(), init=False)

    def apply(self, event: Event) -> None:
        """Apply a journalled event."""
        match event:
            case TrialCreated():
                trial = JudgedTrial(event.trial_id, event.config["seed"], event.confirms)
                self._trials[event.trial_id] = event.configuration, trial
                new = Configuration[JudgedTrial](self.started.seeds, self.started.confirm_seeds)
                created_and_configuration = self._configurations.setdefault(
                    event.configuration, (len(self._configurations), new)
                )
                created_and_configuration[1].add(trial)
            case TrialEnded(outcome="completed"):
                number, trial = self._trials[event.trial_id]
                trial.result = event.point
                self._compare(*self._configurations[number])
            case TrialReopened():
                _, trial = self._trials[event.trial_id]
                if trial.result:
                    trial.result = ()
                    self._compare_all()
            case _:
                pass

    def _compare_all(self) -> None:
        """Determine the leader anew: one of its trials may no longer count."""
        self.best, self._key = None, ()
        for created, configuration in self._configurations.values():
            self._compare(created, configuration)

    def _compare(self, created: int, configuration: Configuration[JudgedTrial]) -> None:
        if not configuration.complete:
            return
        key = (*order(configuration, self.started.directions), created)
        if self.best is None or key < self._key:
            self._key, self.best = key, configuration.best
