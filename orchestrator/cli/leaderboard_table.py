"""The leaderboard as a table for people: a row a configuration, only what varies, as much as fits the width."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table
from rich.text import Text

from orchestrator.leaderboard import Row
from orchestrator.tracking.describe import KEY_METRICS, short

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
"""Marks behind the epochs of a trial that its own early stopping ended, and behind the outcome of one with warnings."""

_PADDING = 2
_METRICS_FIRST = 2
_LONGEST_CELL = 12


@dataclass(frozen=True)
class _Column:
    title: str
    cell: Callable[[Row], str]
    right: bool = False

    def width(self, rows: Sequence[Row]) -> int:
        return max(len(self.title), *(len(self.cell(row)) for row in rows), 0) + _PADDING


def leaderboard_table(
    rows: Sequence[Row], *, value_titles: Sequence[str], params: Sequence[str], width: int
) -> tuple[Table, int]:
    """The table, and how many columns of it had to be left out.

    Args:
        rows: Rows in order; of a repeated or confirmed configuration the first one is shown, with means.
        value_titles: Names of what is ranked by: one metric, or several objectives.
        params: Paths of what varies, in the order of their columns.
        width: Characters there are.
    """
    shown = _one_per_configuration(rows)
    titles = param_titles(params)
    varied = {path: _Column(titles[path], _param(path)) for path in params}
    metrics = {name: _Column(_title(name), _metric(name), right=True) for name in _metric_names(shown, value_titles)}
    left, values, right = _fixed_columns(shown, value_titles)
    # Room goes first to the best epoch's figures, then to what varies in every row, names before numbers, then to the
    # rest: test figures, and what only some branches have.
    # Several objectives are figures enough.
    first = [name for name in metrics if name.startswith("best/")][: _METRICS_FIRST if len(value_titles) == 1 else 0]
    everywhere = [path for path in params if all(path in row.params for row in shown)]
    everywhere.sort(key=lambda path: not all(isinstance(row.params[path], str) for row in shown))
    room = width - sum(column.width(shown) for column in (*left, *values, *right))
    kept = set()
    for name in dict.fromkeys([*first, *everywhere, *metrics, *params]):
        room -= (varied | metrics)[name].width(shown)
        if room < 0:
            break
        kept.add(name)
    columns = [
        *left,
        *(column for path, column in varied.items() if path in kept),
        *values,
        *(column for name, column in metrics.items() if name in kept),
        *right,
    ]
    omitted = sum(path not in kept for path in params)

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column.title, justify="right" if column.right else "left", no_wrap=True)
    for row in shown:
        cells = [column.cell(row) for column in columns]
        style = OUTCOME_STYLE[row.outcome or "running"]
        table.add_row(
            *cells[:-1], Text(cells[-1], style=style), style="bold" if row.rank == 1 or row.front == 1 else None
        )
    return table, omitted


def param_titles(params: Sequence[str]) -> dict[str, str]:
    """Short column titles: ``model.name`` is ``model``, ``optimizer.lr`` is ``lr`` unless another path ends so too."""
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


def _fixed_columns(
    rows: Sequence[Row], value_titles: Sequence[str]
) -> tuple[list[_Column], list[_Column], list[_Column]]:
    """What no width takes away: who; then the values; then epochs and outcome."""
    left = [_Column("#", lambda row: "" if row.rank is None else str(row.rank), right=True)]
    if any(row.front is not None for row in rows):
        left.append(_Column("front", lambda row: "" if row.front is None else str(row.front), right=True))
    left.append(_Column("trial", lambda row: row.trial_id))
    if len({row.sweep_id for row in rows}) > 1:
        left.append(_Column("sweep", lambda row: row.sweep_id[-_LONGEST_CELL:]))
    if any(row.variant for row in rows):
        left.append(_Column("variant", lambda row: row.variant or ""))
    one, *_ = value_titles
    values = [_Column(_title(one), _value, right=True)]
    if len(value_titles) > 1:
        values = [_Column(_title(name), _of_point(place), right=True) for place, name in enumerate(value_titles)]
    epochs = _Column("epochs", _epochs, right=True)
    return left, values, [epochs, _Column("outcome", _outcome)]


def _metric_names(rows: Sequence[Row], value_titles: Sequence[str]) -> list[str]:
    reported = {name for row in rows for name in row.metrics}
    objectives = [title.rsplit("/", 1)[-1] for title in value_titles]
    names = [
        *(f"test/{name}" for name in objectives),
        *(f"best/{name}" for name in KEY_METRICS if name not in objectives),
    ]
    return [name for name in names if name in reported and name not in value_titles]


def _title(name: str) -> str:
    """The best epoch's figures need not say so in every title."""
    return name.removeprefix("best/")


def _param(path: str) -> Callable[[Row], str]:
    def cell(row: Row) -> str:
        text = short(row.params[path]) if path in row.params else ""
        return text if len(text) <= _LONGEST_CELL else text[: _LONGEST_CELL - 1] + "…"

    return cell


def _metric(name: str) -> Callable[[Row], str]:
    """Of a configuration with several seeds the mean."""

    def cell(row: Row) -> str:
        value = row.means[name].mean if name in row.means else row.metrics.get(name)
        return "" if value is None else f"{value:#.3g}"

    return cell


def _epochs(row: Row) -> str:
    return f"{row.epochs}{STOPPED_EARLY if row.stopped_early else ''}"


def _outcome(row: Row) -> str:
    return f"{row.note or row.outcome or 'running'}{WARNED if row.warnings else ''}"


def _value(row: Row) -> str:
    if row.seeds > 1 or row.confirmed:
        if row.mean is None:
            return ""
        return f"{row.mean:#.4g}" + ("" if row.margin is None else f" ± {row.margin:.2g}")
    return "" if row.value is None else f"{row.value:#.4g}"


def _of_point(place: int) -> Callable[[Row], str]:
    return lambda row: f"{row.point[place]:#.4g}" if row.point else ""
