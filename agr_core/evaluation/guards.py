"""What in a part's figures deserves a warning: heads that look at no image, groups that cannot be.

A head has *collapsed* when it gives nearly every image the same answer, or is right no more often than that would be.
Three of report S2's six models had (S2-M1, M2, M6): .40 and .52 where 41 % are White and 53 % male.
"""

from __future__ import annotations

from agr_core.evaluation.groups import impossible_groups
from agr_core.reporting import Metrics

SAME_ANSWER = 0.99
"""Share of images with one and the same answer (ages: within a year of the median) from which a head has collapsed."""

LEAST_GAIN = 0.02
"""Share of what the commonest answer gets wrong that a classifier must get right beyond it."""


def collapsed_heads(metrics: Metrics) -> dict[str, str]:
    """The tasks whose heads have collapsed, each with the reason in words.

    A part in which all images have the same label says nothing of that task.

    Args:
        metrics: The figures of one part, without its prefix.
    """
    found = {}
    for task in ("age", "gender", "race", "attributes"):
        majority, constancy = metrics.get(f"{task}_majority"), metrics.get(f"{task}_constancy")
        if majority is None or constancy is None or majority >= SAME_ANSWER:
            continue
        right = metrics.get(f"{task}_acc") if task != "age" else None
        if constancy >= SAME_ANSWER:
            answer = "ages within a year of each other" if task == "age" else "the same answer"
            found[task] = f"the {task} head gives {constancy:.1%} of the images {answer}"
        elif right is not None and right - majority < LEAST_GAIN * (1 - majority):
            found[task] = f"the {task} head is right for {right:.1%}, the commonest answer alone for {majority:.1%}"
    return found


def warnings(metrics: Metrics, *, part: str = "val") -> list[str]:
    """What to say of an epoch's figures, a line each; nothing to say: [].

    Args:
        metrics: All figures of the epoch, with their prefixes.
        part: The part that is looked at.
    """
    own = {name.removeprefix(f"{part}/"): value for name, value in metrics.items() if name.startswith(f"{part}/")}
    collapsed = (f"collapsed: {words} ({part})." for words in collapsed_heads(own).values())
    return [*collapsed, *(f"impossible: {words}" for words in impossible_groups(own))]
