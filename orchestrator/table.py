"""The table of a paper: configurations as rows, means over seeds with intervals, differences to what they build on.

A row is one configuration with all its seeds. Its difference to another row is taken seed by seed and, where its trials
keep what they said of each image, image by image (``paired``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agr_core.errors import InputError
from agr_core.objective import Direction, objective_names
from agr_core.registry import did_you_mean
from orchestrator.intervals import Estimate, Verdict, mean_interval
from orchestrator.paired import Figure, Figures, Pairing
from orchestrator.spec.variants import FROM
from orchestrator.state import SweepState, TrialState
from orchestrator.storage.base import Storage
from orchestrator.tracking.describe import KEY_METRICS, short, trial_params
from orchestrator.trial_metrics import metric_direction, resolve_metric, trial_metrics

VARIANT = "variant"

_MOST_COLUMNS = 2
"""Metrics shown unless somebody names them."""


@dataclass(frozen=True)
class Column:
    """A metric, ``best/...`` or ``test/...``, and which way it is better."""

    metric: str
    direction: Direction


@dataclass(frozen=True)
class Cell:
    """A metric of a row: its mean over ``trials``, and the difference to the row that it builds on."""

    estimate: Estimate
    difference: Estimate | None
    verdict: Verdict | None
    trials: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """One configuration. ``cells`` is by metric, without those that none of its completed trials has.

    ``epochs`` and ``seconds`` are what all its trials spent, on stages only where they trained those themselves.
    """

    label: str
    keys: Mapping[str, Any]
    base: str | None
    seeds: int
    completed: int
    trials: tuple[str, ...]
    epochs: int
    seconds: float
    cells: Mapping[str, Cell]


@dataclass(frozen=True)
class Table:
    """A sweep's rows, all measured on one split."""

    sweep_id: str
    split_digest: str
    row_names: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[TableRow, ...]
    test_reads: int = 0
    """How often the sealed test part was read for the sweep's trials."""

    def to_json(self) -> dict[str, Any]:
        """A plain JSON object."""
        return {
            "sweep_id": self.sweep_id,
            "split_digest": self.split_digest,
            "test_reads": self.test_reads,
            "columns": [{"metric": column.metric, "direction": column.direction} for column in self.columns],
            "rows": [
                {
                    "label": row.label,
                    "keys": dict(row.keys),
                    "from": row.base,
                    "seeds": row.seeds,
                    "completed": row.completed,
                    "epochs": row.epochs,
                    "seconds": round(row.seconds, 3),
                    "trials": list(row.trials),
                    "cells": {metric: _cell_json(cell) for metric, cell in row.cells.items()},
                }
                for row in self.rows
            ],
        }


def make_table(
    state: SweepState,
    *,
    rows: Sequence[str] = (VARIANT,),
    columns: Sequence[str] = (),
    against: str | None = None,
    storage: Storage | None = None,
) -> Table:
    """The table of a sweep.

    Args:
        state: The sweep, over or not.
        rows: What tells the rows apart: ``variant``, or dotted paths of TrialConfig, or several of them.
        columns: Metrics as people type them (``age_mae``, ``test/gender_acc``); none: the objective and what is known.
        against: Label of the row that all others are compared with, instead of the one that each builds on.
        storage: Where the trials keep predictions; None takes differences over the seeds alone.

    Raises:
        InputError: If trials were validated on different splits, rows are not one configuration each, or a name is
            unknown.
        IntegrityError: If predictions do not give the figures of the journal.
    """
    groups = _groups(state, tuple(rows))
    metrics = {trial_id: trial_metrics(trial, state.started) for trial_id, trial in state.trials.items()}
    named = _columns(state, columns, metrics)
    if against is not None and against not in groups:
        raise InputError(
            f"--against {against!r} is no row.{did_you_mean(against, list(groups))} Rows: {', '.join(groups)}."
        )
    bases = {label: _base(label, groups, state) if against is None else against for label in groups}
    bases = {label: None if base == label else base for label, base in bases.items()}
    pairing = Pairing([state], storage)
    found = []
    # What the search saw of a confirmed configuration chose it, so its confirmations speak for it.
    groups = {
        label: (keys, [trial for trial in trials if trial.created.confirms is not None] or trials)
        for label, (keys, trials) in groups.items()
    }
    for label, (keys, trials) in groups.items():
        base = bases[label]
        found.append(
            TableRow(
                label=label,
                keys=keys,
                base=base,
                seeds=max(state.seeds, len(trials)),
                completed=len(_completed(trials)),
                trials=tuple(trial.trial_id for trial in trials),
                epochs=sum(_epochs(trial) for trial in trials),
                seconds=sum(_seconds(trial) for trial in trials),
                cells=_cells(
                    state.started.sweep_id, trials, [] if base is None else groups[base][1], named, metrics, pairing
                ),
            )
        )
    return Table(
        state.started.sweep_id, _the_split(state), tuple(rows), named, tuple(found), test_reads=state.test_reads
    )


_Group = tuple[Mapping[str, Any], list[TrialState]]


def _groups(state: SweepState, names: tuple[str, ...]) -> dict[str, _Group]:
    """The trials of each row by its label, in order of the sweep file's variants, else of creation."""
    if not state.trials:
        raise InputError(f"sweep {state.started.sweep_id} has no trials yet.")
    groups: dict[str, _Group] = {}
    for trial in state.trials.values():
        keys = {name: _key(trial, name, state) for name in names}
        groups.setdefault(", ".join(short(value) for value in keys.values()), (keys, []))[1].append(trial)
    for label, (_, trials) in groups.items():
        configurations = {trial.created.configuration for trial in trials}
        if len(configurations) > 1:
            others = sorted({path for trial in trials for path in trial.created.params} - set(names))
            more = f" Add what else varies: --rows {','.join([*names, *others])}." if others else ""
            raise InputError(
                f"row {label!r} would mix {len(configurations)} configurations; a row is one, with its seeds.{more}"
            )
    order = list(state.started.document.get("variants") or {})
    if names == (VARIANT,):
        return dict(sorted(groups.items(), key=lambda group: order.index(group[0])))
    return groups


def _key(trial: TrialState, name: str, state: SweepState) -> Any:
    if name == VARIANT:
        if trial.created.variant is None:
            paths = sorted({path for each in state.trials.values() for path in each.created.params})
            way_out = f"; name what varies instead: --rows {','.join(paths)}" if paths else ""
            raise InputError(f"sweep {state.started.sweep_id} has no variants{way_out}.")
        return trial.created.variant
    params = trial_params(trial.created)
    if name in params:
        return params[name]
    everywhere = {path for each in state.trials.values() for path in trial_params(each.created)}
    if name in everywhere:  # a field of another branch
        return None
    raise InputError(f"no trial has a field {name!r}.{did_you_mean(name, sorted(everywhere))} Name variant, or paths.")


def _the_split(state: SweepState) -> str:
    used: dict[str, list[str]] = {}
    for trial in state.trials.values():
        used.setdefault(trial.created.split_digest, []).append(trial.trial_id)
    if len(used) > 1:
        shown = ", ".join(f"{split[:8]} ({len(trials)} trials, {trials[0]} first)" for split, trials in used.items())
        raise InputError(
            f"these trials were validated on different splits: {shown}. Figures of different images share no table; "
            "submit a sweep for each split."
        )
    return next(iter(used))


def _columns(state: SweepState, asked: Sequence[str], metrics: Mapping[str, Mapping[str, float]]) -> tuple[Column, ...]:
    reported = {name for of_trial in metrics.values() for name in of_trial}
    objectives = [name.removeprefix("val/") for name in objective_names(state.started.objectives)]
    if asked:
        names = [resolve_metric(name, reported) for name in asked]
    else:
        of_objectives = [f"{part}/{name}" for name in objectives for part in ("best", "test")]
        likely = (*of_objectives, *(f"best/{name}" for name in KEY_METRICS))
        names = [name for name in dict.fromkeys(likely) if name in reported][:_MOST_COLUMNS]
    return tuple(Column(name, metric_direction(name, state.started.objectives)) for name in dict.fromkeys(names))


def _base(label: str, groups: Mapping[str, _Group], state: SweepState) -> str | None:
    """The row that a variant builds on, with all else equal: its ``from``, else the variant that is the bare trial."""
    keys = groups[label][0]
    if VARIANT not in keys:
        return None
    variants = state.started.document["variants"]
    bare = next((name for name, changes in variants.items() if not changes), None)
    parent = variants[keys[VARIANT]].get(FROM, bare)
    wanted = {**keys, VARIANT: parent}
    return next((other for other, (theirs, _) in groups.items() if theirs == wanted), None)


def _cells(
    sweep_id: str,
    trials: list[TrialState],
    base: list[TrialState],
    columns: Sequence[Column],
    metrics: Mapping[str, Mapping[str, float]],
    pairing: Pairing,
) -> dict[str, Cell]:
    cells = {}
    for column in columns:
        ours, theirs = (_by_seed(sweep_id, each, column, metrics) for each in (trials, base))
        if not ours:
            continue
        difference = pairing.difference(column.metric, ours, theirs)
        cells[column.metric] = Cell(
            estimate=mean_interval([figure.value for figure in ours.values()]),
            difference=difference,
            verdict=None if difference is None else difference.verdict(column.direction),
            trials=tuple(t.trial_id for t in _completed(trials) if column.metric in metrics[t.trial_id]),
        )
    return cells


def _by_seed(
    sweep_id: str, trials: Sequence[TrialState], column: Column, metrics: Mapping[str, Mapping[str, float]]
) -> Figures:
    """A metric of the completed trials that have it, by seed; those of one configuration differ in their seed."""
    return {
        trial.created.config["seed"]: Figure(sweep_id, trial.trial_id, metrics[trial.trial_id][column.metric])
        for trial in _completed(trials)
        if column.metric in metrics[trial.trial_id]
    }


def _completed(trials: Sequence[TrialState]) -> list[TrialState]:
    return [trial for trial in trials if trial.outcome == "completed"]


def _epochs(trial: TrialState) -> int:
    trained = sum(stage.epochs for stage in trial.stages.values() if stage.kind == "stage_trained")
    return len(trial.reports) + trained


def _seconds(trial: TrialState) -> float:
    trained = sum(stage.seconds for stage in trial.stages.values() if stage.kind == "stage_trained")
    return sum(report.metrics.get("time/epoch_s", 0.0) for report in trial.reports) + trained


def _cell_json(cell: Cell) -> dict[str, Any]:
    difference = None if cell.difference is None else {**cell.difference.to_json(), "verdict": cell.verdict}
    return {**cell.estimate.to_json(), "trials": list(cell.trials), "difference": difference}
