from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional

from agr_core.batch import Labels
from agr_core.config import LossConfig, LossWeights, OnehotAge, RegressionAge, Task, TrialConfig
from agr_core.labels.encodings import build_encoding
from agr_core.trainer.image_weights import ImageWeights
from agr_core.trainer.losses import MultiTaskLoss, mean_cross_entropy
from agr_core.trainer.mixup import Mix

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
    total, losses = MultiTaskLoss(config, encoding)(_logits(), LABELS)
    expected = 0.5 * losses["age"] + 2.0 * losses["gender"] + 3.0 * losses["race"]
    assert total.item() == pytest.approx(expected.item(), rel=1e-6)
    assert losses["gender"].item() == pytest.approx(_by_hand(_logits()["gender"], LABELS.gender, 0.0), rel=1e-6)
    assert losses["age"].item() == pytest.approx(_by_hand(_logits()["age"], torch.tensor([0, 3, -1, 6]), 0.0), rel=1e-6)


def test_a_task_of_weight_zero_takes_no_part_even_with_an_infinite_loss() -> None:
    encoding = build_encoding(RegressionAge(encoding="regression"))
    config = LossConfig(weights=LossWeights(age=0.0))
    logits = _logits(age_outputs=1)
    logits["age"] = torch.full((4, 1), math.inf, requires_grad=True)
    total, losses = MultiTaskLoss(config, encoding)(logits, LABELS)
    total.backward()
    assert math.isfinite(total.item())
    assert not math.isfinite(losses["age"].item())
    assert logits["age"].grad is None


def test_labels_are_smoothed_in_training_only() -> None:
    loss = MultiTaskLoss(LossConfig(label_smoothing=0.2), build_encoding(OnehotAge(encoding="onehot")))
    _, smooth = loss.in_training(_logits(), LABELS, epoch=0)
    _, plain = loss(_logits(), LABELS)
    for task, classes in {"age": torch.tensor([0, 3, -1, 6]), "gender": LABELS.gender, "race": LABELS.race}.items():
        logits = _logits()[task]
        assert smooth[task].item() == pytest.approx(_by_hand(logits, classes, 0.2), rel=1e-6)
        assert plain[task].item() == pytest.approx(_by_hand(logits, classes, 0.0), rel=1e-6)


def test_losses_of_low_precision_logits_are_float32() -> None:
    logits = {task: outputs.detach().bfloat16() for task, outputs in _logits().items()}
    total, losses = MultiTaskLoss(LossConfig(), build_encoding(OnehotAge(encoding="onehot")))(logits, LABELS)
    assert total.dtype == torch.float32
    assert {loss.dtype for loss in losses.values()} == {torch.float32}


def loss_of(document: dict[str, Any], *, weights: ImageWeights | None = None) -> MultiTaskLoss:
    config = TrialConfig.from_document({"schedule": {"name": "constant", "epochs": 20}, "loss": document})
    return MultiTaskLoss(config.loss, build_encoding(config.age), tasks=config.tasks, weights=weights)


# Phases --------------------------------------------------------------------------------------------------------------


def test_phases_change_the_factors_from_their_epoch_on_and_leave_the_others() -> None:
    # S1-L2: gender 4 at first, 0.9 once it is high enough; here also race from the 11th epoch on
    phases = [{"from_epoch": 5, "weights": {"gender": 0.9}}, {"from_epoch": 11, "weights": {"race": 0.0}}]
    loss = loss_of({"weights": {"gender": 4.0}, "phases": phases})
    _, losses = loss(_logits(), LABELS)
    age, gender, race = (losses[task].item() for task in ("age", "gender", "race"))
    expected = {
        1: age + 4 * gender + race,
        4: age + 4 * gender + race,
        5: age + 0.9 * gender + race,
        11: age + 0.9 * gender,
    }
    for epoch, total in expected.items():
        assert loss.in_training(_logits(), LABELS, epoch=epoch - 1)[0].item() == pytest.approx(total, rel=1e-6), epoch


def test_evaluation_keeps_the_first_factors_in_every_phase() -> None:
    # So report S1's validation loss (S1-L1) has gender at 1 while training has it at 9.6.
    loss = loss_of({"phases": [{"from_epoch": 1, "weights": {"gender": 9.6}}]})
    total, losses = loss(_logits(), LABELS)
    trained, _ = loss.in_training(_logits(), LABELS, epoch=0)
    assert total.item() == pytest.approx(sum(each.item() for each in losses.values()), rel=1e-6)
    assert trained.item() == pytest.approx(total.item() + 8.6 * losses["gender"].item(), rel=1e-6)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (
            {"phases": [{"from_epoch": 21, "weights": {"age": 2.0}}]},
            "from_epoch=21 is never reached",
        ),
        (
            {"phases": [{"from_epoch": n, "weights": {}} for n in (4, 2)]},
            r"phases start at from_epoch=\[4, 2\]; they must ascend",
        ),
        (
            {"phases": [{"from_epoch": 2, "weights": {"age": 0.0, "gender": 0.0, "race": 0.0}}]},
            "from epoch 2 on the weights are 0 for every task",
        ),
        ({"balance": "uncertainty", "weights": {"age": 3.0}}, "learns the weights, but weights of 3 are given"),
        (
            {"balance": "uncertainty", "phases": [{"from_epoch": 2, "weights": {}}]},
            "learns the weights, but phases are given: leave phases out",
        ),
    ],
)
def test_weights_that_contradict_each_other_are_refused(document: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        loss_of(document)


# Learned weights -----------------------------------------------------------------------------------------------------


def test_uncertainty_starts_at_the_plain_sum_and_evaluates_to_it() -> None:
    loss = loss_of({"balance": "uncertainty", "weights": {"race": 0.0}})
    assert set(dict(loss.named_parameters())) == {"log_variances.age", "log_variances.gender"}
    plain = loss_of({"weights": {"race": 0.0}})(_logits(), LABELS)[0]
    assert loss.in_training(_logits(), LABELS, epoch=0)[0].item() == pytest.approx(plain.item(), rel=1e-6)
    with torch.no_grad():
        loss.log_variances["age"] += 2.0
    assert loss(_logits(), LABELS)[0].item() == plain.item()
    assert loss.learned_weights() == pytest.approx({"weight.age": math.exp(-2), "weight.gender": 1.0})


def test_uncertainty_rests_at_weights_of_one_over_twice_the_loss() -> None:
    # exp(-s) L + s / 2 is least at exp(-s) = 1 / (2 L).
    loss = loss_of({"balance": "uncertainty"})
    logits = {task: outputs.detach() for task, outputs in _logits().items()}
    plain = loss(logits, LABELS)[1]
    for above in (0.0, 0.5, -0.5):
        with torch.no_grad():
            for task, s in loss.log_variances.items():
                s.copy_((2 * plain[task]).log() + above)
        loss.zero_grad()
        loss.in_training(logits, LABELS, epoch=0)[0].backward()
        for s in loss.log_variances.values():
            assert s.grad.item() == pytest.approx((1 - math.exp(-above)) / 2, abs=1e-6)


# Weights of images ---------------------------------------------------------------------------------------------------


def test_weights_of_images_count_in_training_only_and_as_torch_weighs_classes() -> None:
    by_class: dict[Task, Tensor] = {"gender": torch.tensor([0.5, 2.0]), "race": torch.tensor([1.0, 3.0, 0.2])}
    weighted = loss_of({}, weights=ImageWeights(by_year=None, by_class=by_class))
    _, plain = weighted(_logits(), LABELS)
    _, trained = weighted.in_training(_logits(), LABELS, epoch=0)
    assert plain["race"].item() == pytest.approx(_by_hand(_logits()["race"], LABELS.race, 0.0), rel=1e-6)
    assert trained["age"].item() == plain["age"].item()
    for task, weights in by_class.items():
        classes = getattr(LABELS, task)
        known = classes[classes >= 0]
        # torch divides by the sum of the weights instead of by the images
        theirs = functional.cross_entropy(_logits()[task], classes, weight=weights, ignore_index=-1)
        assert trained[task].item() == pytest.approx(theirs.item() * weights[known].sum().item() / len(known), rel=1e-5)


# MixUp ---------------------------------------------------------------------------------------------------------------


def test_mixed_losses_are_those_of_mixed_onehot_labels() -> None:
    loss, mix = loss_of({}), Mix(share=0.7, partners=torch.tensor([3, 0, 1, 2]))
    everybody = replace(LABELS, gender=torch.tensor([0, 1, 1, 0]))
    _, losses = loss.in_training(_logits(), everybody, epoch=0, mix=mix)
    onehot = functional.one_hot(everybody.gender, 2).double()
    mixed = 0.7 * onehot + 0.3 * onehot[mix.partners]
    entropy = -(mixed * _logits()["gender"].double().log_softmax(dim=1)).sum(dim=1).mean()
    assert losses["gender"].item() == pytest.approx(entropy.item(), rel=1e-5)


def test_mixing_every_image_with_itself_changes_nothing() -> None:
    for document in ({}, {"balance": "uncertainty"}, {"label_smoothing": 0.1, "weights": {"age": 2.0}}):
        loss, nobody = loss_of(document), Mix(share=0.6, partners=torch.arange(4))
        mixed, _ = loss.in_training(_logits(), LABELS, epoch=0, mix=nobody)
        assert mixed.item() == pytest.approx(loss.in_training(_logits(), LABELS, epoch=0)[0].item(), rel=1e-6)


def test_a_phase_begins_once_a_metric_was_reached_and_does_not_end() -> None:
    config = TrialConfig.from_document(
        {"loss": {"phases": [{"once": {"metric": "val/gender_acc", "at_least": 0.8}, "weights": {"gender": 0.5}}]}}
    ).loss
    before: list[dict[str, float]] = []
    factors = []
    for value in (0.7, 0.8, 0.6):
        factors.append(config.weights_in(len(before) + 1, before).gender)
        before.append({"val/gender_acc": value})
    factors.append(config.weights_in(4, before).gender)
    assert factors == [1.0, 1.0, 0.5, 0.5]
    below = {"once": {"metric": "val/loss", "at_most": 0.3}, "weights": {"age": 2}}
    config = TrialConfig.from_document({"loss": {"phases": [below]}}).loss
    assert [config.weights_in(2, [{"val/loss": value}]).age for value in (0.31, 0.3)] == [1.0, 2.0]
