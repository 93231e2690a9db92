"""The ablation table: configurations as rows, means over seeds with intervals, differences to a base row.

A row is one configuration with all its seeds. Its difference to another row is paired by seed and, if its trials keep
predictions, by image (``paired``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agr_core.data.packed.joined import Join
from agr_core.errors import InputError
from agr_core.objective import BEST, Direction, objective_names
from agr_core.registry import did_you_mean
from orchestrator.journal.recorded_config import recorded_data_config
from orchestrator.journal.sweep_state import SweepState, TrialState
from orchestrator.results.evaluated_on import same_images
from orchestrator.results.paired import Figure, Figures, Pairing
from orchestrator.results.pooled import pooled_configurations
from orchestrator.results.trial_metrics import metric_direction, resolve_metric, trial_metrics
from orchestrator.results.wording import KEY_METRICS, short, trial_params
from orchestrator.spec.variants import FROM
from orchestrator.stats.intervals import Estimate, Verdict, mean_interval
from orchestrator.storage import layout
from orchestrator.storage.base import Storage

VARIANT = "variant"

_MOST_COLUMNS = 2
"""Metrics shown by default."""


@dataclass(frozen=True)
class Column:
    """A metric, ``best/...`` or ``test/...``, and its direction."""

    metric: str
    direction: Direction


@dataclass(frozen=True)
class Cell:
    """A metric of a row: its mean over ``trials``, and the difference to the row's base."""

    estimate: Estimate
    difference: Estimate | None
    verdict: Verdict | None
    trials: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """One configuration. ``cells`` is by metric, without metrics that none of its completed trials has.

    ``epochs`` and ``seconds`` are totals over all its trials; stages count only for the trial that trained them.
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
    """A sweep's rows, all measured on one split, or trained on different data and tested on the same.

    Attributes:
        split_digest: The split; None if rows have different ones.
        shared_parts: The parts with the same images for all rows, if their splits differ: ``val``,
            ``test``, foreign test sets.
    """

    sweep_id: str
    split_digest: str | None
    row_names: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[TableRow, ...]
    test_reads: int = 0
    """Number of reads of the sealed test part for the sweep's trials."""
    shared_parts: tuple[str, ...] = ()
    folds: int = 0
    """Number of folds of each row; 0: one split, with several seeds."""

    def to_json(self) -> dict[str, Any]:
        """Return a plain JSON object."""
        return {
            "sweep_id": self.sweep_id,
            "split_digest": self.split_digest,
            "test_reads": self.test_reads,
            "shared_parts": list(self.shared_parts),
            "folds": self.folds,
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
    """Make the table of a sweep.

    Args:
        state: The sweep, over or not.
        rows: What distinguishes the rows: ``variant``, or one or several dotted paths of TrialConfig.
        columns: Metrics in short form (``age_mae``, ``test/gender_acc``); none: the objective and the known metrics.
        against: Label of the base of all other rows, instead of each row's own base.
        storage: Storage of the trials' predictions; None: differences are paired by seed alone.

    Raises:
        InputError: If trials were evaluated on different images and no column is of a part that they share, rows
            are not one configuration each, or a name is unknown.
        IntegrityError: If predictions contradict the metrics in the journal.
    """
    groups = _groups(state, tuple(rows))
    metrics = {trial_id: trial_metrics(trial, state.started) for trial_id, trial in state.trials.items()}
    named = _columns(state, columns, metrics)
    if against is not None and against not in groups:
        raise InputError(
            f"--against {against!r} is not a row.{did_you_mean(against, list(groups))} Rows: {', '.join(groups)}."
        )
    bases = {label: _base(label, groups, state) if against is None else against for label in groups}
    bases = {label: None if base == label else base for label, base in bases.items()}
    # Folds are compared fold by fold: each has images of its own.
    pairing = Pairing([state], None if state.started.folds else storage)
    pooled = pooled_configurations(state, storage)
    split, shared = _measured_on(state, named, storage)
    table_rows = []
    # The search selected a confirmed configuration by its search trials, so only its confirmations are unbiased.
    groups = {
        label: (keys, [trial for trial in trials if trial.created.confirms is not None] or trials)
        for label, (keys, trials) in groups.items()
    }
    for label, (keys, trials) in groups.items():
        base = bases[label]
        compared = named if base is None else _on_the_same_images(named, trials, groups[base][1], shared)
        table_rows.append(
            TableRow(
                label=label,
                keys=keys,
                base=base,
                seeds=max(state.started.seeds, len(trials)),
                completed=len(_completed(trials)),
                trials=tuple(trial.trial_id for trial in trials),
                epochs=sum(_epochs(trial) for trial in trials),
                seconds=sum(_seconds(trial) for trial in trials),
                cells=_cells(
                    state.started.sweep_id,
                    trials,
                    [] if base is None else groups[base][1],
                    named,
                    metrics,
                    pairing,
                    compared=compared,
                    pooled=pooled.get(trials[0].created.configuration, {}),
                    folds=state.started.folds > 0,
                ),
            )
        )
    return Table(
        state.started.sweep_id,
        split,
        tuple(rows),
        named,
        tuple(table_rows),
        test_reads=state.test_reads,
        shared_parts=shared,
        folds=state.started.folds,
    )


_Group = tuple[Mapping[str, Any], list[TrialState]]


def _groups(state: SweepState, names: tuple[str, ...]) -> dict[str, _Group]:
    """Return the trials of each row by its label, in order of the sweep file's variants, else of creation."""
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
                f"row {label!r} would mix {len(configurations)} configurations; a row is one configuration with its "
                f"seeds.{more}"
            )
    order = list(state.started.document.get("variants") or {})
    if names == (VARIANT,):
        return dict(sorted(groups.items(), key=lambda group: order.index(group[0])))
    return groups


def _key(trial: TrialState, name: str, state: SweepState) -> Any:
    if name == VARIANT:
        if trial.created.variant is None:
            paths = sorted({path for trial in state.trials.values() for path in trial.created.params})
            way_out = f"; name what varies instead: --rows {','.join(paths)}" if paths else ""
            raise InputError(f"sweep {state.started.sweep_id} has no variants{way_out}.")
        return trial.created.variant
    params = trial_params(trial.created)
    if name in params:
        return params[name]
    everywhere = {path for trial in state.trials.values() for path in trial_params(trial.created)}
    if name in everywhere:  # a field of another branch
        return None
    raise InputError(f"no trial has a field {name!r}.{did_you_mean(name, sorted(everywhere))} Name variant, or paths.")


def _measured_on(
    state: SweepState, columns: Sequence[Column], storage: Storage | None
) -> tuple[str | None, tuple[str, ...]]:
    """Return the common split of all trials; or None and the parts with the same images for all.

    Raises:
        InputError: If the splits differ and no column is of such a part.
    """
    used: dict[str, list[str]] = {}
    for trial in state.trials.values():
        used.setdefault(trial.created.split_digest, []).append(trial.trial_id)
    if len(used) == 1:
        return next(iter(used)), ()
    if state.started.folds:
        return None, ()
    shared = _shared_parts(state, storage)
    if any(_part(column.metric) in shared for column in columns):
        return None, shared
    shown = ", ".join(f"{split[:8]} ({len(trials)} trials, {trials[0]} first)" for split, trials in used.items())
    way_out = (
        f"choose metrics of the shared data, {' or '.join(shared)}, with --cols"
        if shared
        else "submit a sweep for each split, or test all on one data set (data.sources, data.test)"
    )
    raise InputError(
        f"these trials were validated on different splits: {shown}. Metrics on different images are not comparable: "
        f"{way_out}."
    )


def _shared_parts(state: SweepState, storage: Storage | None) -> tuple[str, ...]:
    """Return ``val``, ``test`` and foreign test sets, ``test.<name>``, with the same images for every trial."""
    contents = [_foreign_contents(trial, storage) for trial in state.trials.values()]
    foreign = (part for part in contents[0] if all(by_part.get(part) == contents[0][part] for by_part in contents))
    return (*same_images(state.trials.values(), storage), *foreign)


def _foreign_contents(trial: TrialState, storage: Storage | None) -> dict[str, Any]:
    """Return by foreign test set what determines its images: the data set's content, and the ages in use."""
    data = recorded_data_config(trial.created)
    digests: dict[str, str] = dict(data.sources)
    if storage is not None and data.test:
        key = layout.join(trial.created.data_digest)
        join = Join.from_bytes(storage.read(key), f"{storage.uri}/{key}")
        digests = {member.name: member.digest for member in join.members}
    return {f"test.{name}": (digests[name], data.ages, data.races) for name in data.test}


def _part(metric: str) -> str:
    """Return a metric's part: ``test.utkface`` of ``best.age.test.utkface/age_mae``; ``val`` of ``best/age_mae``."""
    of = metric.partition("/")[0].split(".")
    if of[0] == BEST:
        of = of[2:] if len(of) > 2 else []
    return ".".join(of) or "val"


def _on_the_same_images(
    columns: Sequence[Column], trials: Sequence[TrialState], base: Sequence[TrialState], shared: Sequence[str]
) -> tuple[Column, ...]:
    """Return the columns that were measured on the same images in two rows."""
    ours, theirs = ({trial.created.split_digest for trial in side} for side in (trials, base))
    return tuple(column for column in columns if ours == theirs or _part(column.metric) in shared)


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
    """Return the base row of a variant, with all else equal: its ``from``, else the variant of the bare trial."""
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
    *,
    compared: Sequence[Column],
    pooled: Mapping[str, Estimate],
    folds: bool,
) -> dict[str, Cell]:
    cells = {}
    for column in columns:
        ours, theirs = (_by_seed(sweep_id, side, column, metrics, folds=folds) for side in (trials, base))
        if not ours:
            continue
        difference = pairing.difference(column.metric, ours, theirs) if column in compared else None
        cells[column.metric] = Cell(
            estimate=pooled.get(column.metric) or mean_interval([figure.value for figure in ours.values()]),
            difference=difference,
            verdict=None if difference is None else difference.verdict(column.direction),
            trials=tuple(t.trial_id for t in _completed(trials) if column.metric in metrics[t.trial_id]),
        )
    return cells


def _by_seed(
    sweep_id: str,
    trials: Sequence[TrialState],
    column: Column,
    metrics: Mapping[str, Mapping[str, float]],
    *,
    folds: bool,
) -> Figures:
    """Return a metric of the completed trials by seed, or by fold."""
    return {
        trial.created.repeat if folds else trial.created.config["seed"]: Figure(
            sweep_id, trial.trial_id, metrics[trial.trial_id][column.metric]
        )
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
