"""What the replays say: epochs until the goal is reached, the best so far, as a table and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Summary:
    """Best so far by contender, (seeds, epochs), and the value that is to be reached."""

    best: Mapping[str, NDArray[np.float64]]
    goal: float

    @classmethod
    def of(cls, traces: Mapping[str, Sequence[Sequence[float]]], *, random: str) -> Summary:
        """``random`` names the contender the median of whose last values is the goal."""
        best = {name: np.asarray(of_seeds) for name, of_seeds in traces.items()}
        return cls(best, float(np.median(best[random][:, -1])))

    def reached(self, name: str) -> NDArray[np.float64]:
        """Epochs until the goal was reached, of each seed; infinite where it was not (seeds,)."""
        hit = self.best[name] <= self.goal
        return np.where(hit.any(axis=1), hit.argmax(axis=1) + 1.0, np.inf)

    @property
    def epochs(self) -> int:
        """Epochs that each replay had."""
        return int(next(iter(self.best.values())).shape[1])

    def quartiles(self, name: str) -> tuple[float, float, float]:
        """Epochs until the goal: lower quartile, median, upper quartile over the seeds."""
        ordered = np.sort(self.reached(name))
        # Of few seeds some may be infinite, between which nothing can be interpolated.
        low, middle, high = (float(np.quantile(ordered, q, method="higher")) for q in (0.25, 0.5, 0.75))
        return low, middle, high


def _count(epochs: float, most: int) -> str:
    return f"{epochs:.0f}" if np.isfinite(epochs) else f"> {most}"


def markdown(summary: Summary) -> str:
    """A row a contender, the soonest first."""
    most = summary.epochs
    lines = [
        f"Goal: {summary.goal:.3f} years, the median of random search's best after {most} epochs.",
        "",
        "| | epochs to the goal, median | quartiles | share of random's | best after a quarter, median | quartiles |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name in sorted(summary.best, key=lambda name: (summary.quartiles(name)[1], summary.reached(name).mean())):
        low, middle, high = summary.quartiles(name)
        share = f"{middle / most:.2f}" if np.isfinite(middle) else "> 1"
        quarter = np.quantile(summary.best[name][:, most // 4 - 1], [0.25, 0.5, 0.75])
        lines.append(
            f"| {name} | {_count(middle, most)} | {_count(low, most)} to {_count(high, most)} | {share} "
            f"| {quarter[1]:.3f} | {quarter[0]:.3f} to {quarter[2]:.3f} |"
        )
    return "\n".join(lines)


_COLOURS = 10
"""Matplotlib's, after which they come again."""


def draw(summary: Summary, path: Path) -> None:
    """The median of the best so far against epochs spent, of the first contender with its quartiles."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 5.2), dpi=100)
    epochs = np.arange(1, summary.epochs + 1)
    for index, (name, best) in enumerate(summary.best.items()):
        low, middle, high = np.quantile(best, [0.25, 0.5, 0.75], axis=0)
        if index == 0:
            axes.plot(epochs, middle, label=f"{name}, with quartiles", color="black", linewidth=2.6, zorder=3)
            axes.fill_between(epochs, low, high, color="black", alpha=0.12, linewidth=0)
        else:
            axes.plot(epochs, middle, label=name, linewidth=1.4, linestyle="-" if index <= _COLOURS else "--")
    axes.axhline(summary.goal, color="black", linewidth=0.8, linestyle=":")
    axes.axvline(summary.epochs / 4, color="black", linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    axes.set_xlim(20, summary.epochs)
    axes.set_xticks([20, 40, 80, summary.epochs // 4, 270, summary.epochs])
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.minorticks_off()
    medians = np.concatenate([np.median(best[:, 30:], axis=0) for best in summary.best.values()])
    axes.set_ylim(medians.min() - 0.1, medians.max())
    axes.set_xlabel("epochs spent, all workers")
    axes.set_ylabel("best validation error of the age so far, years")
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
