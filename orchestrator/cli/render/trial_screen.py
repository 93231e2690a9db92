"""Overview of one trial on one screen: value and rank, settings, eight figures, worst group, next commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from agr_core.evaluation.names import better_direction
from agr_core.objective import objective_names, weighted_sums
from orchestrator.cli.render.fitted_table import Column, print_table
from orchestrator.cli.render.live_view import spark
from orchestrator.cli.render.terminal import Terminal
from orchestrator.journal.sweep_state import SweepState, TrialState
from orchestrator.results.leaderboard import Row, rows
from orchestrator.results.wording import KEY_METRICS, by_importance, short
from orchestrator.stats.intervals import Estimate

_FIGURES = 8
_SPARK = 40
_GROUPED = ("age_mae", "age_interval_mae", "gender_acc", "race_acc")
"""Figures for the worst group, by priority; the first with groups is used."""


def print_screen(
    out: Terminal,
    state: SweepState,
    trial: TrialState,
    parts: Mapping[str, Mapping[str, float]],
    label: str,
    pooled: Mapping[str, Estimate],
) -> None:
    """Print the overview of a trial.

    Args:
        out: Terminal to print to.
        state: Its sweep.
        trial: The trial.
        parts: Figures of train, val and test at the label's epoch, names without prefixes.
        label: Label of the kept epoch: ``best``, or a label of ``keep``.
        pooled: Figures ``test/...`` of the test images of all folds of its configuration together.
    """
    for line in _standing(state, trial):
        out.print(line, highlight=False, soft_wrap=True)
    curve = [report.value for report in trial.reports]
    if len(curve) > 1:
        ends = f"{curve[0]:.4g} {spark(curve, _SPARK)} {curve[-1]:.4g}"
        out.print(f"{state.started.objective.name} over {len(curve)} epochs: {ends}", highlight=False)
    params = trial.created.params
    if params:
        out.print("\nvaried settings", style="bold")
        width = max(map(len, params))
        for path in by_importance(params):
            out.print(f"  {path:<{width}}  {short(params[path])}", highlight=False, soft_wrap=True)
    _print_figures(out, state, parts, {name.removeprefix("test/"): each for name, each in pooled.items()})
    if (worst := worst_group(parts.get("val", {}))) is not None:
        out.print(worst, highlight=False, soft_wrap=True)
    _print_next(out, state, trial, label)


def _standing(state: SweepState, trial: TrialState) -> list[Text]:
    """Return lines on value, rank, and distance to the best trial and to a predictor that ignores the image."""
    objectives = state.started.objectives
    names = objective_names(objectives)
    ranked = [row for row in rows([state]) if row.rank is not None]
    row = next((row for row in ranked if row.trial_id == trial.trial_id), None)
    value = row.value if row is not None else _value(trial)
    if value is None:
        return [Text("no value: it reported no epoch")]
    point = trial.ended.point if trial.ended is not None and trial.ended.point else (value,)
    figures = "  ".join(f"{name} {figure:.5g}" for name, figure in zip(names, point, strict=False))
    count = max((ranked_row.rank or 0 for ranked_row in ranked), default=0)
    rank = f"rank {row.rank} of {count}" if row is not None else f"no rank: {trial.outcome or 'running'}"
    lines = [Text(f"{figures}   {rank}", style="bold")]
    if (against := _against_others(ranked, trial.trial_id, value)) is not None:
        lines.append(Text(f"  {against}"))
    baseline = state.baselines.get(trial.created.split_digest, {})
    baseline_value = {**weighted_sums(objectives, baseline), **baseline}.get(names[0])
    if baseline_value is not None:
        sign = 1 if objectives[0].direction == "minimize" else -1
        words = "better" if sign * (baseline_value - value) >= 0 else "worse"
        lines.append(
            Text(
                f"  {abs(baseline_value - value):.4g} {words} than the mean / majority predictor ({baseline_value:.4g})"
            )
        )
    return lines


def _value(trial: TrialState) -> float | None:
    if trial.ended is not None:
        return trial.ended.value
    return trial.reports[-1].value if trial.reports else None


def _against_others(ranked: Sequence[Row], trial_id: str, value: float) -> str | None:
    """Describe the distance to the best trial; for the best trial, to the second; None without a ranked trial."""
    best = next((row for row in ranked if row.rank == 1 and row.value is not None), None)
    if best is None or best.value is None:
        return None
    if best.trial_id != trial_id:
        return f"{abs(value - best.value):.4g} behind the best, {best.trial_id} ({best.value:.5g})"
    second = next((row for row in ranked if row.rank == 2 and row.value is not None), None)
    if second is None or second.value is None:
        return "the best, and the only one that has a rank"
    return f"the best, {abs(second.value - value):.4g} ahead of {second.trial_id} ({second.value:.5g})"


def _print_figures(
    out: Terminal, state: SweepState, parts: Mapping[str, Mapping[str, float]], pooled: Mapping[str, Estimate]
) -> None:
    """Print eight figures, those of the objectives first, with a column for each evaluated part.

    ``pooled`` is the last column: the test images of all folds, with the 95 % interval.
    """
    objectives = [name.removeprefix("val/") for name in objective_names(state.started.objectives)]
    wanted = dict.fromkeys([*objectives, *KEY_METRICS, "loss", "age_loss", "gender_loss", "race_loss"])
    names = [name for name in wanted if any(name in part for part in parts.values())][:_FIGURES]
    shown = {part: figures for part, figures in parts.items() if any(name in figures for name in names)}
    if not names:
        return
    out.print()
    columns = [Column("", names)]
    for rank, (part, figures) in enumerate(shown.items()):
        cells = [f"{figures[name]:.4g}" if name in figures else "" for name in names]
        columns.append(Column(part, cells, right=True, rank=0 if part in ("val", "test") else rank + 1))
    if pooled:
        cells = [_with_margin(pooled[name]) if name in pooled else "" for name in names]
        columns.append(Column(f"test of {state.started.folds} folds", cells, right=True, rank=0))
    print_table(columns, out)


def _with_margin(estimate: Estimate) -> str:
    margin = "" if estimate.margin is None else f" ± {estimate.margin:.2g}"
    return f"{estimate.mean:.4g}{margin}"


def worst_group(figures: Mapping[str, float]) -> str | None:
    """Describe the group with the worst value of the first figure reported by group; None without groups."""
    for metric in _GROUPED:
        groups: dict[str, float] = {
            name.removeprefix(f"{metric}.by_"): value
            for name, value in figures.items()
            if name.startswith(f"{metric}.by_")
        }
        if groups:
            pick: Any = max if better_direction(f"val/{metric}") == "minimize" else min
            group = pick(groups, key=groups.__getitem__)
            kind, _, name = group.partition(".")
            images = figures.get(f"images.by_{group}")
            count = "" if images is None else f", {images:.0f} images"
            return f"worst group: {name} ({kind}): {metric} {groups[group]:.4g}{count}; of all {figures[metric]:.4g}"
    return None


def _print_next(out: Terminal, state: SweepState, trial: TrialState, label: str) -> None:
    at = trial.trial_id if label == "best" else f"{trial.trial_id}@{label}"
    best = state.best()
    commands = {f"agr show {at} --all": "all figures, groups and classes, provenance"}
    if best is not None and best.trial_id != trial.trial_id:
        commands[f"agr compare {trial.trial_id} {best.trial_id}"] = "side by side with the best"
    if trial.outcome == "completed":
        commands[f"agr predict photos/ --model {at}"] = "age, gender and race of faces"
    if trial.reports:
        commands[f"agr rerun {trial.trial_id}"] = "retrain it and compare every bit"
    elif trial.attempts:
        commands[f"agr logs {trial.trial_id}"] = "its log"
    out.print("\nnext", style="bold")
    for command, words in list(commands.items())[:3]:
        out.print(Text(f"  {command}").append(f"   {words}", style="dim"), soft_wrap=True)
