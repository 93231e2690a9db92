"""Lines of a sweep's live view, which fit 60 columns: progress, best, time left, one line per running trial.

All functions are pure functions of the rows, which ``orchestrator.cli.render.progress`` maintains.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from rich.text import Text

from orchestrator.journal.best import CreatedTrial
from orchestrator.journal.events import TrialCreated
from orchestrator.journal.steering_events import BudgetName
from orchestrator.results.wording import constants, setting, trial_name

OUTCOME_STYLE = {
    "completed": "green",
    "pruned": "yellow",
    "diverged": "red",
    "failed": "red",
    "interrupted": "magenta",
}
_UNITS: dict[BudgetName, str] = {"wall": "", "usd": " $", "gpu_hours": " GPU-hours"}
_BAR = 20
_SPARK = "▁▂▃▄▅▆▇█"
_SPARK_EPOCHS = 12
_SHOWN_RUNNING = 12


@dataclass
class TrialRow(CreatedTrial):
    """Trial in the live view."""

    created: TrialCreated
    epochs: int
    """Number of epochs without early stopping."""
    curve: list[float] = field(default_factory=list)
    """First objective at each epoch."""
    epoch: int = 0
    value: tuple[float, ...] = ()
    """Objectives at the last epoch."""
    best: tuple[float, ...] = ()
    """Objectives at the epoch with the best first objective."""
    outcome: str | None = None
    started: bool = False
    """Whether an attempt is running."""

    @property
    def result(self) -> tuple[float, ...]:
        """Value of each objective; empty unless it completed."""
        return self.best if self.outcome == "completed" else ()

    @property
    def state(self) -> Literal["ended", "running", "starting", "queued"]:
        """``queued``: no worker yet; ``starting``: on a worker, no epoch done; ``running``: at least one epoch done."""
        if self.outcome is not None:
            return "ended"
        if not self.started:
            return "queued"
        return "running" if self.epoch else "starting"


@dataclass(frozen=True, kw_only=True)
class View:
    """Contents of the live view besides the rows."""

    planned: int | None
    elapsed_s: float
    metrics: Sequence[str]
    """Names of the objectives."""
    baseline: float | None = None
    """First objective of a predictor that ignores the image."""
    costs: Sequence[str] = ()
    """Amount spent of each budget, and what is left of it."""
    left_s: float | None = None
    """Estimated remaining time, in seconds."""
    doing: str | None = None
    """Activity before the first epoch or after the last."""


def lines(rows: Sequence[TrialRow], best: Sequence[TrialRow], view: View, width: int) -> list[Text]:
    """Return the lines of the live view.

    Args:
        rows: All trials, in order of creation.
        best: The best trials, best first.
        view: The other contents.
        width: Line width, in characters.
    """
    shown = [_bar(rows, view, width), _counts(rows)]
    if best:
        shown += _best_lines(best[0], view, width, without=constants([row.created.params for row in rows]))
    shown += [Text(line, style="dim") for line in _times(view, width)]
    if view.doing is not None:
        shown.append(Text(view.doing, style="cyan"))
    live = [row for row in rows if row.state in ("running", "starting")]
    shown += [_trial_line(row, width) for row in live[:_SHOWN_RUNNING]]
    if len(live) > _SHOWN_RUNNING:
        shown.append(Text(f"... and {len(live) - _SHOWN_RUNNING} more running", style="dim"))
    return shown


def best_lines(rows: Sequence[TrialRow], best: Iterable[TrialRow], width: int) -> list[Text]:
    """Return the final lines on the best trials: rank, trial, values, settings that vary among all ``rows``."""
    without = constants([row.created.params for row in rows])
    shown = []
    for rank, row in enumerate(best, start=1):
        values = " ".join(f"{value:.4g}" for value in row.best)
        head = f"{rank}  {row.trial_id}  {values:<7}  "
        shown.append(
            Text(
                head + within(setting(row.created, without=without), width - len(head)),
                style="bold" if rank == 1 else "",
            )
        )
    return shown


def spark(values: Sequence[float], epochs: int = _SPARK_EPOCHS) -> str:
    """Draw the last ``epochs`` values as a sparkline, scaled from their minimum to their maximum."""
    last = values[-epochs:]
    if not last:
        return ""
    low, high = min(last), max(last)
    steps = len(_SPARK) - 1
    return "".join(_SPARK[round((value - low) / (high - low) * steps) if high > low else 0] for value in last)


def duration(seconds: float) -> str:
    """Format a duration: ``0:42``, ``12:05``, ``3:07:00``."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


def about(seconds: float) -> str:
    """Format an estimated duration, rounded: ``40 s``, ``7 min``, ``3.2 h``."""
    if seconds < 60:
        return f"{max(10, round(seconds, -1)):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _bar(rows: Sequence[TrialRow], view: View, width: int) -> Text:
    ended = sum(row.outcome is not None for row in rows)
    if view.planned is None:
        return Text(f"{ended} trials ended  {duration(view.elapsed_s)}", style="bold")
    words = f" {ended}/{view.planned} trials ended  {duration(view.elapsed_s)}"
    length = max(0, min(_BAR, width - len(words)))
    full = round(length * min(1.0, ended / view.planned)) if view.planned else length
    return Text("█" * full, style="green").append("░" * (length - full), style="dim").append(words, style="bold")


def _counts(rows: Sequence[TrialRow]) -> Text:
    counts = {name: sum(row.outcome == name for row in rows) for name in OUTCOME_STYLE}
    counts |= {state: sum(row.state == state for row in rows) for state in ("running", "starting", "queued")}
    shown = [(name, count) for name, count in counts.items() if count]
    text = Text()
    for number, (name, count) in enumerate(shown):
        text.append(", " if number else "").append(f"{count} {name}", style=OUTCOME_STYLE.get(name, "cyan"))
    return text


def _best_lines(row: TrialRow, view: View, width: int, *, without: Collection[str]) -> list[Text]:
    """Return lines on the best trial: its values beside the baseline's, then its varied settings."""
    values = "  ".join(f"{name} {value:.4g}" for name, value in zip(view.metrics, row.best, strict=True))
    baseline = "" if view.baseline is None else f"  (baseline {view.baseline:.4g})"
    text = Text("best ").append(row.trial_id, style="bold").append(f"  {values}")
    if len(text) + len(baseline) <= width:
        text.append(baseline, style="dim")
        baseline = ""
    shown = [text]
    if baseline:
        shown.append(Text(f"     {baseline.strip()}", style="dim"))
    words: list[str] = []
    for word in setting(row.created, without=without).split():
        if words and len(words[-1]) + 1 + len(word) <= width - 5:
            words[-1] += f" {word}"
        else:
            words.append(word)
    return [*shown, *(Text(f"     {line}") for line in words)]


def _times(view: View, width: int) -> list[str]:
    """Return the estimated time to the end and the costs, in as few lines as the width allows."""
    shown: list[str] = []
    for part in ([] if view.left_s is None else [f"about {about(view.left_s)} to the end"]) + list(view.costs):
        if shown and len(shown[-1]) + len(part) + 2 <= width:
            shown[-1] += f"; {part}"
        else:
            shown.append(part)
    return shown


def cost_words(spent: Mapping[BudgetName, float], limits: Mapping[BudgetName, float]) -> list[str]:
    """Return what is spent and left of each budget, and the dollars and GPU-hours spent without one.

    Args:
        spent: Seconds, GPU-hours and dollars so far; without dollars if a price is unknown.
        limits: The budgets of the sweep.
    """
    shown = []
    for name, unit in _UNITS.items():
        used, limit = spent.get(name), limits.get(name)
        words = duration if name == "wall" else "{:.3g}".format
        if used is not None and limit is not None:
            shown.append(f"budget {words(used)} of {words(limit)}{unit}, {words(max(0.0, limit - used))} left")
        elif used and name != "wall":  # the bar has the time
            shown.append(f"{words(used)}{unit} spent")
    return shown


def _trial_line(row: TrialRow, width: int) -> Text:
    value = " ".join(f"{value:.4g}" for value in row.value) or ("starting" if row.state == "starting" else "")
    head = f"{row.trial_id}  {row.epoch:>{len(str(row.epochs))}}/{row.epochs}  {value:<8}"
    curve = spark(row.curve)
    text = Text(head).append(f"  {curve}" if curve else "", style="cyan")
    return text.append(f"  {within(trial_name(row.created), width - len(text) - 2)}", style="dim")


def within(words: str, width: int) -> str:
    """Return the longest prefix of whole words that fits."""
    shown = ""
    for word in words.split():
        longer = f"{shown} {word}" if shown else word
        if len(longer) > width:
            break
        shown = longer
    return shown
