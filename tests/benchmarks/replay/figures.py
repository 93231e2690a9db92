"""What the replays say: epochs until the goal is reached, the best so far, as a table and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats


@dataclass(frozen=True)
class Summary:
    """Best so far by contender, (seeds, epochs), the value that is to be reached, and the epochs that may cost."""

    best: Mapping[str, NDArray[np.float64]]
    goal: float
    epochs: int
    """What the trials of random search cost whose best is the goal; a replay may have had fewer."""

    @classmethod
    def of(cls, traces: Mapping[str, Sequence[Sequence[float]]], *, goal: float, epochs: int) -> Summary:
        """Of the best value after each epoch, for each seed of each contender."""
        return cls({name: np.asarray(of_seeds) for name, of_seeds in traces.items()}, goal, epochs)

    def reached(self, name: str) -> NDArray[np.float64]:
        """Epochs until the goal was reached, of each seed; infinite where it was not (seeds,)."""
        hit = self.best[name] <= self.goal
        return np.where(hit.any(axis=1), hit.argmax(axis=1) + 1.0, np.inf)

    def quartiles(self, name: str) -> tuple[float, float, float]:
        """Epochs until the goal: lower quartile, median, upper quartile over the seeds."""
        ordered = np.sort(self.reached(name))
        # Of few seeds some may be infinite, between which nothing can be interpolated.
        low, middle, high = (float(np.quantile(ordered, q, method="higher")) for q in (0.25, 0.5, 0.75))
        return low, middle, high

    def spent(self, name: str) -> NDArray[np.float64]:
        """Epochs until the goal, of each seed (seeds,); where it was not reached, all that the replay had."""
        return np.minimum(self.reached(name), self.best[name].shape[1])

    def ahead(self, name: str, other: str) -> tuple[float, float]:
        """By how many epochs less ``name`` needs than ``other``, on average, and the half width of the 95 % interval.

        Seeds of two contenders are independent (Welch 1947). Both must have had equally many epochs.
        """
        one, two = self.spent(name), self.spent(other)
        interval = stats.ttest_ind(two, one, equal_var=False).confidence_interval(0.95)
        middle = float(two.mean() - one.mean())
        return middle, float(interval.high) - middle


def verdict(summary: Summary, ours: str, *, share: float, random: str) -> list[str]:
    """What of the goal is missed, a sentence each: ``share`` of random search's epochs, and behind none."""
    missed = []
    median = summary.quartiles(ours)[1]
    if not median <= share * summary.epochs:
        missed.append(f"{ours} needs more than {share * summary.epochs:.0f} epochs in the median.")
    for other in summary.best:
        if other not in (ours, random):
            lead, half = summary.ahead(ours, other)
            if lead + half < 0:
                missed.append(f"{ours} is behind {other}: by {-lead:.0f} ± {half:.0f} epochs.")
    return missed


def _count(epochs: float, most: int) -> str:
    return f"{epochs:.0f}" if np.isfinite(epochs) else f"> {most}"


def markdown(summary: Summary) -> str:
    """A row a contender, the soonest first."""
    lines = [
        f"Goal: {summary.goal:.3f} years, which random search reaches in {summary.epochs} epochs half of the time.",
        "",
        "| | epochs to the goal, median | quartiles | share of random's | mean, 95 % interval "
        "| best after a quarter, median | quartiles |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name in sorted(summary.best, key=lambda name: (summary.quartiles(name)[1], summary.reached(name).mean())):
        low, middle, high = summary.quartiles(name)
        most = summary.best[name].shape[1]
        share = f"{middle / summary.epochs:.2f}" if np.isfinite(middle) else f"> {most / summary.epochs:g}"
        quarter = np.quantile(summary.best[name][:, summary.epochs // 4 - 1], [0.25, 0.5, 0.75])
        spent = summary.spent(name)
        half = stats.sem(spent) * stats.t.ppf(0.975, len(spent) - 1)
        lines.append(
            f"| {name} | {_count(middle, most)} | {_count(low, most)} to {_count(high, most)} | {share} "
            f"| {spent.mean():.0f} ± {half:.0f} "
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
    for index, (name, best) in enumerate(summary.best.items()):
        low, middle, high = np.quantile(best, [0.25, 0.5, 0.75], axis=0)
        epochs = np.arange(1, best.shape[1] + 1)
        if index == 0:
            axes.plot(epochs, middle, label=f"{name}, with quartiles", color="black", linewidth=2.6, zorder=3)
            axes.fill_between(epochs, low, high, color="black", alpha=0.12, linewidth=0)
        else:
            axes.plot(epochs, middle, label=name, linewidth=1.4, linestyle="-" if index <= _COLOURS else "--")
    axes.axhline(summary.goal, color="black", linewidth=0.8, linestyle=":")
    axes.axvline(summary.epochs / 4, color="black", linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    first = summary.epochs // 27
    axes.set_xlim(first, summary.epochs)
    axes.set_xticks([first, 2 * first, summary.epochs // 8, summary.epochs // 4, summary.epochs // 2, summary.epochs])
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.minorticks_off()
    medians = np.concatenate([np.median(best[:, first:], axis=0) for best in summary.best.values()])
    axes.set_ylim(medians.min() - 0.1, medians.max())
    axes.set_xlabel("epochs spent, all workers")
    axes.set_ylabel("best validation error of the age so far, years")
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
