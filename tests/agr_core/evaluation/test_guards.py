"""Collapsed heads: report S2's collapsed models are found, and its sound ones are not."""

from __future__ import annotations

import pytest
import torch
from parts import config_of, labels_of, logits_of, part_of

from agr_core.batch import Labels
from agr_core.evaluation.guards import collapsed_heads, warnings

# Validation accuracies of race and gender (docs/seeds.md, S2-M1 to M6); 41 % of its faces are White, 53 % male.
S2_COLLAPSED = {"VGG19": (0.41, 0.52), "ResNet50": (0.40, 0.53), "MobileNet-Transformer": (0.40, 0.52)}


def figures(task: str, *, acc: float, majority: float, constancy: float) -> dict[str, float]:
    return {f"{task}_acc": acc, f"{task}_majority": majority, f"{task}_constancy": constancy}


@pytest.mark.parametrize("model", S2_COLLAPSED)
def test_report_s2s_collapsed_models_are_found(model: str) -> None:
    race, gender = S2_COLLAPSED[model]
    metrics = figures("race", acc=race, majority=0.41, constancy=0.9)
    metrics |= figures("gender", acc=gender, majority=0.53, constancy=0.9)
    assert collapsed_heads(metrics).keys() == {"race", "gender"}


def test_a_head_that_learned_something_has_not_collapsed() -> None:
    metrics = figures("race", acc=0.70, majority=0.41, constancy=0.5)
    metrics |= figures("gender", acc=0.985, majority=0.98, constancy=0.97)  # a quarter of the rare class is found
    assert collapsed_heads(metrics) == {}


def test_heads_that_answer_all_images_alike_are_found_by_their_predictions() -> None:
    config = config_of("regression")
    labels, logits = labels_of(300, kind="exact"), logits_of(config, 300)
    metrics, _ = part_of(config, labels, logits, kind="exact")
    assert "age" not in collapsed_heads(metrics)

    logits["age"] = 0.01 * logits["age"]  # years between 34 and 36
    logits["gender"] = torch.tensor([[0.0, 1.0]]).expand(300, 2)
    metrics, _ = part_of(config, labels, logits, kind="exact")
    found = collapsed_heads(metrics)
    assert "100.0% of the images ages within a year" in found["age"]
    assert "100.0% of the images the same answer" in found["gender"]
    said = warnings({f"val/{name}": value for name, value in metrics.items()})
    assert [words.startswith("collapsed: the ") for words in said] == [True] * len(found)


def test_a_part_with_one_class_only_says_nothing() -> None:
    config = config_of(tasks=("gender",))
    labels = labels_of(50, kind="exact")
    labels = Labels(**{**vars(labels), "gender": torch.zeros(50, dtype=torch.int64)})
    metrics, _ = part_of(config, labels, {"gender": torch.tensor([[1.0, 0.0]]).expand(50, 2)}, kind="exact")
    assert collapsed_heads(metrics) == {}


def test_impossible_groups_are_warned_of() -> None:
    metrics = {"val/age_mae": 9.0, "val/images": 2.0, "val/images.by_race.White": 2.0, "val/age_mae.by_race.White": 3.0}
    (words,) = warnings(metrics)
    assert words.startswith("impossible: age_mae is 9")
    assert warnings({**metrics, "val/age_mae": 3.0}) == []
