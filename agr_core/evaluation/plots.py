"""Pictures of a trial's results as PNG. Matplotlib is imported at the first picture: importing it takes a while.

Figures are made without pyplot, whose global state would keep them open and is not safe in threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from agr_core.evaluation.pictures import DPI, cut_png
from agr_core.objective import Objective, objective_names
from agr_core.reporting import EpochReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARGIN = 3.0  # inches, for the part of a title that is wider than what it stands above
_TRAIN_COLOR, _VAL_COLOR, _BEST_COLOR = "#8a97a6", "#1f5fa8", "#c2410c"


def curves_png(reports: Sequence[EpochReport], objectives: Sequence[Objective], title: str) -> bytes:
    """Learning curves: the train and val loss, and beside them the objectives that are other metrics.

    Args:
        reports: The reports of one trial, in order of their epochs.
        objectives: What the trial is ranked by; a dot marks the epoch that is best by the first of them.
        title: Words above the picture.
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
    """Images side by side.

    Args:
        rows: Images (H, W, 3) or (H, W, 1) of each row, by the words to the left of it.
        columns: Words above each column.
        title: Words above the picture.
    """
    figure = empty_figure(width=1.15 * len(columns) + 1.2, height=1.15 * len(rows) + 0.8)
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    for axes_of_row, (name, images) in zip(grid, rows.items(), strict=True):
        for axes, image in zip(axes_of_row, images, strict=True):
            axes.imshow(image, cmap="gray", vmin=0, vmax=255)  # the last two are for luminance alone
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
        # Markers, because a trial that was stopped after one epoch has no line.
        axes.plot(*zip(*points, strict=True), marker=".", color=color, label=metric)


def empty_figure(*, width: float, height: float) -> Figure:
    """An empty figure of a size in inches, with a margin to its left and right, which ``png`` cuts off."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    whole = width + 2 * _MARGIN
    layout = ConstrainedLayoutEngine(rect=(_MARGIN / whole, 0.0, width / whole, 1.0))
    return Figure(figsize=(whole, height), dpi=DPI, layout=layout)


def png(figure: Figure) -> bytes:
    """The figure as PNG bytes, cut to what is drawn; a figure without pyplot is drawn by Agg, which needs no display.

    It is drawn once and the picture is cut: ``savefig(bbox_inches="tight")`` draws it twice, to measure it first.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return cut_png(Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba()).convert("RGB"))
