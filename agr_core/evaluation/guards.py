"""Warnings about a part's metrics: collapsed heads and impossible group metrics.

A head has *collapsed* if it predicts the same for nearly every image, or is no more accurate than such a constant
prediction. Three of report S2's six models had collapsed (S2-M1, M2, M6): accuracies .40 and .52 where 41 % are White
and 53 % male.
"""

from __future__ import annotations

from agr_core.evaluation.groups import impossible_groups
from agr_core.reporting import Metrics

SAME_ANSWER = 0.99
"""Smallest share of images with the same prediction (ages: within a year of the median) that counts as collapse."""

LEAST_GAIN = 0.02
"""Share of the majority prediction's errors that a classifier must avoid."""


def collapsed_heads(metrics: Metrics) -> dict[str, str]:
    """Return the tasks whose heads have collapsed, with the reason of each.

    A task is not judged if all images of the part have the same label.

    Args:
        metrics: Metrics of one part, without its prefix.
    """
    reasons = {}
    for task in ("age", "gender", "race", "attributes"):
        majority, constancy = metrics.get(f"{task}_majority"), metrics.get(f"{task}_constancy")
        if majority is None or constancy is None or majority >= SAME_ANSWER:
            continue
        right = metrics.get(f"{task}_acc") if task != "age" else None
        if constancy >= SAME_ANSWER:
            answer = "ages within a year of each other" if task == "age" else "the same answer"
            reasons[task] = f"the {task} head gives {constancy:.1%} of the images {answer}"
        elif right is not None and right - majority < LEAST_GAIN * (1 - majority):
            reasons[task] = f"the {task} head is right for {right:.1%}, the commonest answer alone for {majority:.1%}"
    return reasons


def warnings(metrics: Metrics, *, part: str = "val") -> list[str]:
    """Return the warnings about an epoch's metrics, one line each; [] if there are none.

    Args:
        metrics: All metrics of the epoch, with their prefixes.
        part: The part to check.
    """
    own = {name.removeprefix(f"{part}/"): value for name, value in metrics.items() if name.startswith(f"{part}/")}
    collapsed = (f"collapsed: {words} ({part})." for words in collapsed_heads(own).values())
    return [*collapsed, *(f"impossible: {words}" for words in impossible_groups(own))]
