"""The leaderboard: trials of one or several sweeps, ranked by the objective or another reported metric.

With several objectives the non-dominated trials come first (the Pareto front), then those that only the first front
dominates, and so on; within a front the first objective orders them.

Rows are a pure function of the sweeps' states. Under ``repeat`` configurations are ranked, by the mean over their
seeds; each seed is a row of its own. Under ``confirm`` the confirmed configurations come first, ranked by the mean over
their fresh seeds alone, because the search selected them by their other trials.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from agr_core.errors import InputError
from agr_core.evaluation.guards import warnings
from agr_core.evaluation.names import is_of_one_group
from agr_core.objective import BEST, Direction
from orchestrator.journal.best import Configuration, ranking
from orchestrator.journal.events import SweepStarted, TrialReported
from orchestrator.journal.outcome import OUTCOMES, Outcome
from orchestrator.journal.sweep_state import SweepState, TrialState
from orchestrator.results.paired import Figure, Figures, Pairing
from orchestrator.results.pooled import pooled_configurations
from orchestrator.results.trial_metrics import kept_report, metric_direction, resolve_metric, trial_metrics
from orchestrator.stats.intervals import Estimate, Verdict, mean_interval
from orchestrator.storage.base import Storage


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One trial. ``outcome`` is None while it runs; ``rank`` is None unless all seeds of its configuration completed.

    ``value`` is the ranked metric, the first of several objectives; ``point`` is all of them, empty with one; ``front``
    is the Pareto front of a ranked trial with several objectives, from 1.
    ``metrics`` holds ``best/...`` of the best epoch and ``test/...`` where it was read;
    ``mean`` and ``std`` (sample deviation, None for one seed) are over the ``seeds`` of the configuration, ``margin``
    is half of the mean's 95 % interval; ``means`` are those of the metrics, but for the figures of single groups.
    ``confirms``: the trial whose configuration this one trained again; ``confirmed``: the configuration has all its
    fresh seeds, and all means are over those; ``difference`` is to the first of the confirmed (``paired``), and
    ``against_first`` its verdict.
    ``folds``: number of folds of its configuration, 0 without; ``pooled``: metrics over the test parts of all folds
    together (``orchestrator.results.pooled``), which ``means`` has too.
    ``stopped_early``: by its own early stopping; ``reported``: all metrics of the best epoch.
    """

    rank: int | None
    sweep_id: str
    trial_id: str
    number: int
    configuration: int
    variant: str | None
    seed: int
    confirms: str | None = None
    outcome: Outcome | None
    value: float | None
    point: tuple[float, ...] = ()
    front: int | None = None
    epochs: int
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    mean: float | None = None
    std: float | None = None
    margin: float | None = None
    means: Mapping[str, Estimate] = field(default_factory=dict)
    seeds: int = 1
    confirmed: bool = False
    difference: Estimate | None = None
    against_first: Verdict | None = None
    note: str | None = None
    best_epoch: int | None = None
    usd: float | None = None
    """Dollars; None if the nodes' prices are unknown."""
    stopped_early: bool = False
    reported: Mapping[str, float] = field(default_factory=dict, repr=False)
    folds: int = 0
    pooled: Mapping[str, Estimate] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    """By ``agr tag``."""

    @property
    def warnings(self) -> list[str]:
        """Warnings about the best epoch, one line each; thousands of rows are ranked whose warnings nobody asks for."""
        return warnings(self.reported)

    @property
    def result(self) -> tuple[float, ...]:
        """The value of each objective that ranks it; empty unless it completed with a value."""
        if self.outcome != "completed" or self.value is None:
            return ()
        return self.point or (self.value,)

    @property
    def ranked_by(self) -> str | None:
        """The value that gave the rank; None without one."""
        if self.rank is None:
            return None
        return "mean of fresh seeds" if self.confirmed else "value" if self.seeds == 1 else "mean"

    def to_json(self, run_id: str | None = None) -> dict[str, Any]:
        """Return a plain JSON object; ``run_id`` is the trial's run in MLflow."""
        document = {
            "rank": self.rank,
            "trial_id": self.trial_id,
            "run_id": run_id,
            "outcome": self.outcome,
            "value": list(self.point) if self.point else self.value,
            "epochs": self.epochs,
            "params": dict(self.params),
            "metrics": dict(self.metrics),
            "sweep_id": self.sweep_id,
            "number": self.number,
            "variant": self.variant,
            "configuration": self.configuration,
            "best_epoch": self.best_epoch,
            "stopped_early": self.stopped_early,
            "warnings": self.warnings,
        }
        if self.tags:
            document["tags"] = dict(self.tags)
        if self.usd is not None:
            document["usd"] = round(self.usd, 6)
        if self.point:
            document["front"] = self.front
        if self.confirms is not None:
            document["confirms"] = self.confirms
        if self.confirmed:
            document |= {"confirmed": True, "against_first": self.against_first}
            document["difference"] = None if self.difference is None else self.difference.to_json()
        if self.seeds > 1:
            document |= {"mean": self.mean, "std": self.std, "margin": self.margin}
            document |= {"folds" if self.folds else "seeds": self.seeds, "note": self.note}
            document["ranked_by"] = self.ranked_by
            document["means"] = {name: estimate.to_json() for name, estimate in self.means.items()}
        return document


@dataclass
class _Group(Configuration[Row]):
    """The trials of one configuration."""

    over: str = "seeds"
    pooled: Mapping[str, Estimate] = field(default_factory=dict)

    @property
    def values(self) -> list[float]:
        """Their values."""
        return [row.value for row in self.judged if row.value is not None]

    @property
    def means(self) -> dict[str, Estimate]:
        """Means of their metrics; of ``test/...`` over the trials with a read test part."""
        names = dict.fromkeys(name for row in self.judged for name in row.metrics if not is_of_one_group(name))
        means = {
            name: mean_interval([row.metrics[name] for row in self.judged if name in row.metrics]) for name in names
        }
        return {**means, **self.pooled}

    def against(self, first: _Group, metric: str, pairing: Pairing) -> Estimate | None:
        """Return the difference to the first, over the fresh seeds that both have."""
        if first is self or not (first.confirmed and self.confirmed):
            return None
        return pairing.difference(metric, _by_seed(self.confirmations), _by_seed(first.confirmations))

    def ranked(
        self, rank: int | None, difference: Estimate | None = None, direction: Direction = "minimize"
    ) -> list[Row]:
        """Return the rows with the figures of the whole configuration, judged trials first."""
        means = self.means if self.seeds > 1 or self.confirmed else {}
        if self.confirmed:
            estimate = mean_interval(self.values)
            against_first = None if difference is None else difference.verdict(direction)
            verdict_text = "" if difference is None else f", {against_first or 'no interval'}"
            return [
                replace(
                    row,
                    rank=rank,
                    mean=estimate.mean,
                    std=statistics.stdev(self.values),
                    margin=estimate.margin,
                    means=means,
                    seeds=self.confirm_seeds,
                    note=f"confirmed{verdict_text}",
                    confirmed=True,
                    difference=difference,
                    against_first=against_first,
                )
                for row in self.ranked_trials
            ]
        if self.seeds == 1:
            done = f"{len(_by_seed(self.confirmations))} of {self.confirm_seeds} confirmations completed"
            searched = [replace(row, rank=rank, note=done if self.confirmations else None) for row in self.searched]
            return [*searched, *self.confirmations]
        values = self.values
        note = None if self.complete else f"{len(values)} of {self.seeds} {self.over} completed"
        if not values:
            return [replace(row, rank=rank, means=means, seeds=self.seeds, note=note) for row in self.searched]
        estimate = mean_interval(values)
        std = statistics.stdev(values) if len(values) > 1 else None
        return [
            replace(
                row,
                rank=rank,
                mean=estimate.mean,
                std=std,
                margin=estimate.margin,
                means=means,
                seeds=self.seeds,
                note=note,
                folds=self.seeds if self.over == "folds" else 0,
                pooled=self.pooled,
            )
            for row in self.searched
        ]


def rows(
    states: Sequence[SweepState],
    *,
    metric: str | None = None,
    top: int | None = None,
    storage: Storage | None = None,
) -> list[Row]:
    """Return all trials as rows: ranked ones first, then the others by outcome.

    Args:
        states: The sweeps; several must have one objective and one split.
        metric: Rank by this metric instead of the objective: ``age_cs5`` (of the best epoch) or ``test/age_mae``.
        top: Maximum number of ranks; unranked rows are then left out.
        storage: Storage of the trials' predictions; None: the confirmed are compared by seed alone.

    Raises:
        InputError: If the sweeps cannot be compared, or no trial reported the metric.
        IntegrityError: If predictions contradict the metrics in the journal.
    """
    check_comparable(states)
    all_rows = []
    for state in states:
        usd = state.spending.usd_of_trials(state.spending.last)
        for trial in state.trials.values():
            all_rows.append(_row(state, trial, usd.get(trial.trial_id)))
    started = states[0].started
    direction = started.objective.direction
    if metric is None:
        value_name = f"{BEST}/{started.objective.name.removeprefix('val/')}"
    else:
        value_name = metric = resolve_metric(metric, {name for row in all_rows for name in row.metrics})
        direction = metric_direction(metric, started.objectives)
        all_rows = [replace(row, value=row.metrics.get(metric), point=()) for row in all_rows]

    seeds = {state.started.sweep_id: state.started.seeds for state in states}
    confirm_seeds = {state.started.sweep_id: state.started.confirm_seeds for state in states}
    over = {state.started.sweep_id: state.started.trained_over for state in states}
    groups: dict[tuple[str, int], _Group] = {}
    for row in all_rows:
        new = _Group(seeds[row.sweep_id], confirm_seeds[row.sweep_id])
        groups.setdefault((row.sweep_id, row.configuration), new).add(row)
    for state in states:
        for number, figures in pooled_configurations(state, storage).items():
            groups[state.started.sweep_id, number].pooled = figures
    for (sweep_id, _), group in groups.items():
        group.over = over[sweep_id]
    sign = 1 if direction == "minimize" else -1
    configurations = ranking(groups.values(), started.directions if metric is None else (direction,))
    pairing = Pairing(states, storage)
    ranked = [
        row if place.front is None else replace(row, front=place.front)
        for place in configurations[:top]
        for row in place.configuration.ranked(
            place.rank, place.configuration.against(configurations[0].configuration, value_name, pairing), direction
        )
    ]
    if top is not None:
        return ranked
    rest = [row for group in groups.values() if not group.complete for row in group.ranked(None)]
    order = {outcome: position for position, outcome in enumerate((*OUTCOMES, None))}
    rest.sort(key=lambda row: (order[row.outcome], row.value is None, sign * (row.value or 0.0)))
    return ranked + rest


def of_first_configurations(rows: Sequence[Row], most: int) -> list[Row]:
    """Return the leading rows up to and with the ``most``-th configuration, whose seeds are adjacent."""
    seen: set[tuple[str, int]] = set()
    for number, row in enumerate(rows):
        seen.add((row.sweep_id, row.configuration))
        if len(seen) > most:
            return list(rows[:number])
    return list(rows)


def _by_seed(rows: Iterable[Row]) -> Figures:
    """Return the values of the completed trials of one configuration."""
    return {
        row.seed: Figure(row.sweep_id, row.trial_id, row.value)
        for row in rows
        if row.outcome == "completed" and row.value is not None
    }


def check_comparable(states: Sequence[SweepState]) -> None:
    """Refuse to rank sweeps that were measured differently.

    Raises:
        InputError: If several sweeps differ in objective or in the split their trials were validated on.
    """
    if len(states) < 2:
        return
    objectives = {
        state.started.sweep_id: ", ".join(
            f"{objective.direction} {objective.formula}" for objective in state.started.objectives
        )
        for state in states
    }
    if any(state.started.objectives != states[0].started.objectives for state in states):
        raise InputError(
            "these sweeps have different objectives and no common leaderboard: "
            + ", ".join(f"{sweep} ({objective})" for sweep, objective in objectives.items())
            + ". Show them one by one."
        )
    if all(state.started.folds and state.splits == states[0].splits for state in states):
        return
    used: dict[str, list[str]] = defaultdict(list)
    for state in states:
        for split in state.splits:
            used[split].append(state.started.sweep_id)
    if len(used) > 1:
        raise InputError(
            "these sweeps were validated on different splits and have no common leaderboard: "
            + ", ".join(f"{split[:8]} ({', '.join(sweeps)})" for split, sweeps in used.items())
            + ". Show them one by one."
        )


def _row(state: SweepState, trial: TrialState, usd: float | None) -> Row:
    created, ended = trial.created, trial.ended
    report = kept_report(trial, state.started)
    last_epoch = trial.reports[-1].epoch if trial.reports else 0
    return Row(
        rank=None,
        sweep_id=state.started.sweep_id,
        trial_id=trial.trial_id,
        number=created.number,
        configuration=created.configuration,
        variant=created.variant,
        seed=created.config["seed"],
        confirms=created.confirms,
        outcome=trial.outcome,
        value=ended.value if ended is not None else (None if report is None else report.value),
        point=_point(trial, report, state.started),
        epochs=ended.epochs if ended is not None else last_epoch,
        params=created.params,
        metrics=trial_metrics(trial, state.started),
        best_epoch=None if report is None else report.epoch,
        usd=usd,
        tags=state.annotations.tags_of(trial.trial_id),
        stopped_early=ended is not None and ended.stopped_early,
        reported={} if report is None else report.metrics,
    )


def _point(trial: TrialState, report: TrialReported | None, sweep: SweepStarted) -> tuple[float, ...]:
    """Return several objectives at the best epoch (so far); empty with one objective, or before the first epoch."""
    if not sweep.further:
        return ()
    if trial.ended is not None:
        return trial.ended.point
    return () if report is None else tuple(objective.value(report.metrics) for objective in sweep.objectives)
