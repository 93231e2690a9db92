"""Plots of a trial's results as PNG. Matplotlib is imported at the first plot, because the import is slow.

Figures do not use pyplot: its global state keeps them open and is not thread-safe.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agr_core.objective import Objective, objective_names
from agr_core.reporting import EpochReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = 120
_TRAIN_COLOR, _VAL_COLOR, _BEST_COLOR = "#8a97a6", "#1f5fa8", "#c2410c"


def confusion_png(table: Mapping[str, Any], title: str) -> bytes:
    """Plot a confusion matrix: colour and percentage show the share of the true class, with the count below.

    Args:
        table: ``{"labels": [K names], "counts": [K lists of K counts]}``, the true class in rows.
        title: Title of the plot.
    """
    return confusions_png([(table, title)])


def confusions_png(tables: Sequence[tuple[Mapping[str, Any], str]]) -> bytes:
    """Plot confusion matrices side by side; each is a table and a title as for ``confusion_png``."""
    side = 0.62 * max(len(table["labels"]) for table, _ in tables) + 1.0
    figure = empty_figure(width=len(tables) * (side + 2.0), height=side + 1.4)
    for number, (table, title) in enumerate(tables, start=1):
        _draw_confusion(figure.add_subplot(1, len(tables), number), table, title)
    return png(figure)


def _draw_confusion(axes: Axes, table: Mapping[str, Any], title: str) -> None:
    labels = [str(label) for label in table["labels"]]
    counts = np.asarray(table["counts"], dtype=np.int64)
    class_sizes = counts.sum(axis=1)
    shares = counts / np.maximum(class_sizes, 1)[:, np.newaxis]
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    for (row, column), share in np.ndenumerate(shares):
        text = f"{share:.0%}\n{counts[row, column]:,}" if counts[row, column] else "0"
        color = "white" if share > 0.55 else "#222222" if counts[row, column] else "#a0a0a0"
        axes.text(column, row, text, ha="center", va="center", fontsize=8, linespacing=1.25, color=color)
    names = [f"{label}  (n={size:,})" for label, size in zip(labels, class_sizes, strict=True)]
    axes.set_xticks(range(len(labels)), labels, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(labels)), names)
    axes.set_xlabel("predicted (% of the true class)")
    axes.set_ylabel("true")
    axes.set_title(title, fontsize=11)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def curves_png(reports: Sequence[EpochReport], objectives: Sequence[Objective], title: str) -> bytes:
    """Plot learning curves: train and val loss, and next to them the objectives that are other metrics.

    Args:
        reports: Reports of one trial, in order of epochs.
        objectives: Objectives of the trial; a dot marks the best epoch by the first of them.
        title: Title of the plot.
    """
    from matplotlib.ticker import MaxNLocator

    named = dict(zip(objective_names(objectives), objectives, strict=True))
    metrics = list(dict.fromkeys(("val/loss", *named)))
    best = objectives[0].best(reports)
    figure = empty_figure(width=4.6 * len(metrics), height=3.6)
    for position, metric in enumerate(metrics, start=1):
        axes = figure.add_subplot(1, len(metrics), position)
        name = metric.removeprefix("val/")
        _curve(axes, reports, f"train/{name}", _TRAIN_COLOR)
        _curve(axes, reports, metric, _VAL_COLOR)
        if best is not None and metric in named:
            value = named[metric].value(best.metrics)
            label = f"best: {value:.4g} at epoch {best.epoch}"
            axes.plot(best.epoch, value, "o", color=_BEST_COLOR, markersize=7, label=label, zorder=3)
        axes.set_xlabel("epoch")
        axes.set_ylabel(name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if reports:
            axes.set_xlim(reports[0].epoch - 0.5, reports[-1].epoch + 0.5)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.lines:
            axes.legend(frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=11)
    return png(figure)


def image_grid_png(rows: Mapping[str, Sequence[NDArray[np.uint8]]], columns: Sequence[str], title: str) -> bytes:
    """Plot images in a grid.

    Args:
        rows: Images (H, W, 3) or (H, W, 1) of each row, by the row's label.
        columns: Label of each column.
        title: Title of the plot.
    """
    figure = empty_figure(width=1.15 * len(columns) + 1.2, height=1.15 * len(rows) + 0.8)
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    for axes_of_row, (name, images) in zip(grid, rows.items(), strict=True):
        for axes, image in zip(axes_of_row, images, strict=True):
            axes.imshow(image, cmap="gray", vmin=0, vmax=255)  # cmap, vmin and vmax apply to luminance only
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        axes_of_row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    for axes, name in zip(grid[0], columns, strict=True):
        axes.set_title(name, fontsize=8)
    figure.suptitle(title, fontsize=11)
    return png(figure)


def _curve(axes: Axes, reports: Sequence[EpochReport], metric: str, color: str) -> None:
    points = [(report.epoch, report.metrics[metric]) for report in reports if metric in report.metrics]
    if points:
        # Markers: the curve of a trial stopped after one epoch has no line.
        axes.plot(*zip(*points, strict=True), marker=".", color=color, label=metric)


def empty_figure(*, width: float, height: float) -> Figure:
    """Return an empty figure; width and height in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=_DPI, layout="constrained")


def png(figure: Figure) -> bytes:
    """Return the figure as PNG bytes, drawn by Agg, which needs no display."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    return buffer.getvalue()
