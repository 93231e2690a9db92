"""Learning curves: one trial by task, and several trials in one plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from agr_core.errors import InputError
from agr_core.evaluation.plots import empty_figure, png
from agr_core.reporting import EpochReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_TRIALS = 20
"""Maximum number of curves in one plot; more could not be distinguished."""

_COLORS = 10  # length of Matplotlib's colour cycle
_TRAIN, _VAL = "#8a97a6", "#1f5fa8"
_TASKS = ("age", "gender", "race", "attributes")
_FIGURES = ("age_mae", "age_interval_mae", "gender_acc", "race_acc", "attributes_acc")


def task_curves_png(reports: Sequence[EpochReport], title: str) -> bytes:
    """Plot train against val of one trial: losses on top, each task's error or accuracy below.

    Args:
        reports: Reports of the trial, in order of epochs.
        title: Title of the plot.
    """
    reported = {name for report in reports for name in report.metrics}
    losses = [name for name in ("loss", *(f"{task}_loss" for task in _TASKS)) if f"val/{name}" in reported]
    figures = [name for name in _FIGURES if f"val/{name}" in reported]
    columns = max(len(losses), len(figures), 1)
    figure = empty_figure(width=3.4 * columns, height=5.6)
    for row, names in enumerate((losses, figures)):
        for column, name in enumerate(names):
            axes = figure.add_subplot(2, columns, 1 + row * columns + column)
            for part, color in (("train", _TRAIN), ("val", _VAL)):
                _draw(axes, reports, f"{part}/{name}", part, color=color)
            _finish(axes, name)
    figure.suptitle(title, fontsize=11)
    return png(figure)


def overlay_png(trials: Mapping[str, Sequence[EpochReport]], metric: str, title: str) -> bytes:
    """Plot one metric of several trials by epoch.

    Args:
        trials: Reports of each trial, in order of epochs, by its name in the legend.
        metric: Full name of the metric, such as ``val/loss``.
        title: Title of the plot.

    Raises:
        InputError: If there are more than ``MOST_TRIALS`` trials, or none reported the metric.
    """
    if len(trials) > MOST_TRIALS:
        raise InputError(
            f"{len(trials)} curves in one picture cannot be told apart; give at most {MOST_TRIALS} trials."
        )
    if not any(metric in report.metrics for reports in trials.values() for report in reports):
        raise InputError(f"none of the {len(trials)} trials reported {metric!r}; `agr show TRIAL` lists what one did.")
    figure = empty_figure(width=8.0, height=4.6)
    axes = figure.add_subplot()
    for number, (name, reports) in enumerate(trials.items()):
        _draw(axes, reports, metric, name, color=f"C{number % _COLORS}", style="-" if number < _COLORS else "--")
    _finish(axes, metric)
    axes.set_title(title, fontsize=11)
    return png(figure)


def mean_change(reports: Sequence[EpochReport], metric: str) -> float | None:
    """Return the mean absolute change of a metric between epochs (curve roughness); None below two epochs."""
    values = [report.metrics[metric] for report in reports if metric in report.metrics]
    steps = [abs(after - before) for before, after in pairwise(values)]
    return sum(steps) / len(steps) if steps else None


def _draw(axes: Axes, reports: Sequence[EpochReport], metric: str, label: str, *, color: str, style: str = "-") -> None:
    points = [(report.epoch, report.metrics[metric]) for report in reports if metric in report.metrics]
    if points:  # the train part reports fewer metrics than the val part
        axes.plot(*zip(*points, strict=True), marker=".", label=label, color=color, linestyle=style, linewidth=1.3)


def _finish(axes: Axes, name: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("epoch")
    axes.set_ylabel(name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
