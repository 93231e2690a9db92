"""Leaderboard as a text table: one row per configuration, only varied settings, as many columns as fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from rich.text import Text

from orchestrator.cli.render.fitted_table import Column
from orchestrator.journal.annotations import tag_words
from orchestrator.results.leaderboard import Row
from orchestrator.results.wording import KEY_METRICS, by_importance, short

OUTCOME_STYLE = {
    "completed": "green",
    "pruned": "yellow",
    "diverged": "red",
    "failed": "red",
    "interrupted": "magenta",
    "running": "cyan",
}

STOPPED_EARLY = "*"
WARNED = " !"
"""Mark of a trial with warnings, after its outcome, and of one that ended by its own early stopping, after epochs."""

_PARAMS_FIRST = 3
_METRICS_FIRST = 2
_EPOCHS = "epochs"


def leaderboard_columns(
    rows: Sequence[Row], *, value_titles: Sequence[str], params: Sequence[str], ended: Collection[str] = ()
) -> tuple[list[Column], list[str | None]]:
    """Return all columns of the table, each with its importance, and the style of each row.

    Rank, trial, values and outcome are always shown. The three most important varied settings come next, then two
    figures of the best epoch, then the rest.

    Args:
        rows: Rows in order; a repeated or confirmed configuration is shown by its first row, with means.
        value_titles: Names of the ranking criteria: one metric, or several objectives.
        params: Paths of the varied settings.
        ended: IDs of sweeps that have ended; their open trials do not run.
    """
    shown = _one_per_configuration(rows)
    titles = param_titles(params)
    figures = _metric_names(shown, value_titles)
    telling = by_importance(params)
    order = [*telling[:_PARAMS_FIRST], *figures[:_METRICS_FIRST], _EPOCHS, *telling[_PARAMS_FIRST:]]
    importance = {name: rank for rank, name in enumerate([*order, *figures[_METRICS_FIRST:]], start=1)}
    left, values = _fixed_columns(shown, value_titles)
    outcomes = [Text(_outcome(row, ended), style=OUTCOME_STYLE[row.outcome or "running"]) for row in shown]
    columns = [
        *left,
        *(Column(titles[path], [_param(row, path) for row in shown], rank=importance[path]) for path in telling),
        *values,
        *(Column(_title(name), [_metric(row, name) for row in shown], True, importance[name]) for name in figures),
        Column("epochs", [_epochs(row) for row in shown], right=True, rank=importance[_EPOCHS]),
        Column("outcome", outcomes),
    ]
    if any(row.tags for row in shown):
        columns.append(Column("tags", [", ".join(tag_words(row.tags)) for row in shown], rank=1))
    return columns, ["bold" if row.rank == 1 or row.front == 1 else None for row in shown]


def param_titles(params: Sequence[str]) -> dict[str, str]:
    """Return short column titles: ``model.name`` is ``model``; ``optimizer.lr`` is ``lr`` if no other path ends so."""
    titles = {}
    for path in params:
        *parents, last = path.split(".")
        titles[path] = parents[-1] if last in ("name", "encoding") and parents else last
    counts = Counter(titles.values())
    return {path: title if counts[title] == 1 else path for path, title in titles.items()}


def _one_per_configuration(rows: Sequence[Row]) -> list[Row]:
    first: dict[tuple[str, int], Row] = {}
    for row in rows:
        first.setdefault((row.sweep_id, row.configuration), row)
    return list(first.values())


def _fixed_columns(rows: Sequence[Row], value_titles: Sequence[str]) -> tuple[list[Column], list[Column]]:
    """Return the columns shown at any width: the trial's identity and its values."""
    left = [Column("#", ["" if row.rank is None else str(row.rank) for row in rows], right=True)]
    if any(row.front is not None for row in rows):
        left.append(Column("front", ["" if row.front is None else str(row.front) for row in rows], right=True))
    left.append(Column("trial", [row.trial_id for row in rows]))
    if len({row.sweep_id for row in rows}) > 1:
        left.append(Column("sweep", [row.sweep_id for row in rows]))
    if any(row.variant for row in rows):
        left.append(Column("variant", [row.variant or "" for row in rows]))
    title, *_ = value_titles
    values = [Column(_title(title), [_value(row) for row in rows], right=True)]
    if len(value_titles) > 1:
        values = [
            Column(_title(name), [_of_point(row, index) for row in rows], right=True)
            for index, name in enumerate(value_titles)
        ]
    if any(row.usd is not None for row in rows):
        values.append(Column("$", ["" if row.usd is None else f"{row.usd:.3g}" for row in rows], right=True))
    return left, values


def _metric_names(rows: Sequence[Row], value_titles: Sequence[str]) -> list[str]:
    reported = {name for row in rows for name in row.metrics}
    objectives = [title.rsplit("/", 1)[-1] for title in value_titles]
    names = [
        *(f"test/{name}" for name in objectives),
        *(f"best/{name}" for name in KEY_METRICS if name not in objectives),
    ]
    return [name for name in names if name in reported and name not in value_titles]


def _title(name: str) -> str:
    """Return the title of a figure, without the prefix of the best epoch."""
    return name.removeprefix("best/")


def _param(row: Row, path: str) -> str:
    return short(row.params[path]) if path in row.params else ""


def _metric(row: Row, name: str) -> str:
    """Format a metric; for a configuration with several seeds, its mean."""
    value = row.means[name].mean if name in row.means else row.metrics.get(name)
    return "" if value is None else f"{value:#.3g}"


def _epochs(row: Row) -> str:
    return f"{row.epochs}{STOPPED_EARLY if row.stopped_early else ''}"


def _outcome(row: Row, ended: Collection[str]) -> str:
    open_trial = "to resume" if row.sweep_id in ended else "running"
    return f"{row.note or row.outcome or open_trial}{WARNED if row.warnings else ''}"


def _value(row: Row) -> str:
    if row.seeds > 1 or row.confirmed:
        if row.mean is None:
            return ""
        return f"{row.mean:#.4g}" + ("" if row.margin is None else f" ± {row.margin:.2g}")
    return "" if row.value is None else f"{row.value:#.4g}"


def _of_point(row: Row, index: int) -> str:
    return f"{row.point[index]:#.4g}" if row.point else ""
