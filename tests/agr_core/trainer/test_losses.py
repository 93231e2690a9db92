from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from agr_core.config import LossConfig, LossWeights, OnehotAge, RegressionAge, Task
from agr_core.data.batch import Labels
from agr_core.labels.encodings import build_encoding
from agr_core.trainer.losses import MultiTaskLoss, mean_cross_entropy

AGES = torch.tensor([1.0, 20.0, math.nan, 70.0])
LABELS = Labels(
    age=AGES,
    age_low=AGES,
    age_high=AGES,
    gender=torch.tensor([0, -1, 1, 1]),
    race=torch.tensor([2, 0, 1, -1]),
)


def _logits(age_outputs: int = 7) -> dict[Task, Tensor]:
    draw = torch.Generator().manual_seed(1)
    outputs: dict[Task, int] = {"age": age_outputs, "gender": 2, "race": 3}
    return {task: torch.randn(4, count, generator=draw, requires_grad=True) for task, count in outputs.items()}


def _by_hand(logits: Tensor, classes: Tensor, smoothing: float) -> float:
    """Mean of -sum(q log p) over known rows, q = (1 - s) onehot + s / K, in plain float64."""
    losses = []
    for row, true in zip(logits.double(), classes.tolist(), strict=True):
        if true < 0:
            continue
        log_p = (row - row.exp().sum().log()).tolist()
        q = [smoothing / len(log_p) + (1 - smoothing) * (place == true) for place in range(len(log_p))]
        losses.append(-sum(share * log for share, log in zip(q, log_p, strict=True)))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_averages_over_the_known_labels_only(smoothing: float) -> None:
    logits = _logits()["race"].detach()
    loss = mean_cross_entropy(logits, LABELS.race, label_smoothing=smoothing)
    assert loss.item() == pytest.approx(_by_hand(logits, LABELS.race, smoothing), rel=1e-6)
    assert loss.item() == pytest.approx(
        functional.cross_entropy(logits, LABELS.race, ignore_index=-1, label_smoothing=smoothing).item(), rel=1e-6
    )


def test_cross_entropy_of_a_batch_without_a_known_label_is_zero_with_zero_gradient() -> None:
    logits = torch.randn(3, 5, requires_grad=True)
    loss = mean_cross_entropy(logits, torch.full((3,), -1))
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros(3, 5))


def test_the_total_is_the_weighted_sum_of_the_tasks() -> None:
    encoding = build_encoding(OnehotAge(encoding="onehot"))
    config = LossConfig(weights=LossWeights(age=0.5, gender=2.0, race=3.0))
    total, losses = MultiTaskLoss(config, encoding)(_logits(), LABELS, smooth=False)
    expected = 0.5 * losses["age"] + 2.0 * losses["gender"] + 3.0 * losses["race"]
    assert total.item() == pytest.approx(expected.item(), rel=1e-6)
    assert losses["gender"].item() == pytest.approx(_by_hand(_logits()["gender"], LABELS.gender, 0.0), rel=1e-6)
    assert losses["age"].item() == pytest.approx(_by_hand(_logits()["age"], torch.tensor([0, 3, -1, 6]), 0.0), rel=1e-6)


def test_a_task_of_weight_zero_takes_no_part_even_with_an_infinite_loss() -> None:
    encoding = build_encoding(RegressionAge(encoding="regression"))
    config = LossConfig(weights=LossWeights(age=0.0))
    logits = _logits(age_outputs=1)
    logits["age"] = torch.full((4, 1), math.inf, requires_grad=True)
    total, losses = MultiTaskLoss(config, encoding)(logits, LABELS, smooth=False)
    total.backward()
    assert math.isfinite(total.item())
    assert not math.isfinite(losses["age"].item())
    assert logits["age"].grad is None


def test_labels_are_smoothed_in_training_only() -> None:
    loss = MultiTaskLoss(LossConfig(label_smoothing=0.2), build_encoding(OnehotAge(encoding="onehot")))
    _, smooth = loss(_logits(), LABELS, smooth=True)
    _, plain = loss(_logits(), LABELS, smooth=False)
    for task, classes in {"age": torch.tensor([0, 3, -1, 6]), "gender": LABELS.gender, "race": LABELS.race}.items():
        logits = _logits()[task]
        assert smooth[task].item() == pytest.approx(_by_hand(logits, classes, 0.2), rel=1e-6)
        assert plain[task].item() == pytest.approx(_by_hand(logits, classes, 0.0), rel=1e-6)


def test_losses_of_low_precision_logits_are_float32() -> None:
    logits = {task: outputs.detach().bfloat16() for task, outputs in _logits().items()}
    total, losses = MultiTaskLoss(LossConfig(), build_encoding(OnehotAge(encoding="onehot")))(
        logits, LABELS, smooth=False
    )
    assert total.dtype == torch.float32
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
