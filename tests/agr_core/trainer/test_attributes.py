"""The task of many attributes, from labels to figures."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from agr_core.batch import Labels
from agr_core.config import LossConfig, OnehotAge, TrialConfig
from agr_core.errors import ConfigError
from agr_core.evaluation.baseline import baseline
from agr_core.evaluation.metrics import PartMetrics
from agr_core.labels.attributes import Vocabulary
from agr_core.labels.encodings import build_encoding
from agr_core.objective import Objective
from agr_core.trainer.loop import Training
from agr_core.trainer.losses import MultiTaskLoss

from .conftest import announced

MakeConfig = Callable[..., TrialConfig]
VOCABULARY = Vocabulary(("male", "female"), ("White", "Black", "Asian"), ("Young", "Smiling", "Bald"))
NAN = math.nan


def _labels(attributes: list[list[float]]) -> Labels:
    count = len(attributes)
    unknown, nobody = torch.full((count,), NAN), torch.full((count,), -1)
    return Labels(unknown, unknown, unknown, nobody, nobody, attributes=torch.tensor(attributes))


LABELS = _labels([[1, 0, NAN], [1, NAN, NAN], [0, 1, NAN], [NAN, NAN, NAN]])
LOGITS = torch.tensor([[2.0, -1.0, 5.0], [-0.5, 3.0, 5.0], [1.0, 4.0, 5.0], [7.0, 7.0, 7.0]])


def test_the_loss_is_the_mean_binary_cross_entropy_of_the_known_attributes() -> None:
    loss = MultiTaskLoss(LossConfig(), build_encoding(OnehotAge(encoding="onehot")), tasks=["attributes"])
    logits = LOGITS.clone().requires_grad_()
    total, losses = loss({"attributes": logits}, LABELS)
    p = 1 / (1 + np.exp(-LOGITS.double().numpy()))
    known = [-np.log(p[0, 0]), -np.log(1 - p[0, 1]), -np.log(p[1, 0]), -np.log(1 - p[2, 0]), -np.log(p[2, 1])]
    assert losses["attributes"].item() == pytest.approx(np.mean(known), rel=1e-6)
    total.backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad != 0, ~torch.isnan(LABELS.attributes))


def test_without_a_known_attribute_the_loss_and_its_gradient_are_0() -> None:
    loss = MultiTaskLoss(LossConfig(), build_encoding(OnehotAge(encoding="onehot")), tasks=["attributes"])
    logits = LOGITS.clone().requires_grad_()
    total, _ = loss({"attributes": logits}, _labels([[NAN] * 3] * 4))
    total.backward()
    assert total.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_figures_are_means_over_the_attributes() -> None:
    part = PartMetrics(None, ["attributes"], VOCABULARY, "exact")
    part.update({"attributes": LOGITS}, LABELS, {"attributes": torch.tensor(0.5)}, torch.tensor(0.5))
    figures, _ = part.compute()
    # Young: right, wrong, wrong; Smiling: right, right; of Bald nothing is known.
    assert figures["attributes_acc"] == pytest.approx((1 / 3 + 2 / 2) / 2)
    assert figures["attributes_majority"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert figures["attributes_constancy"] == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_the_baseline_gives_each_attribute_its_majority_in_training() -> None:
    val = _labels([[1, 0, 1], [0, 0, NAN]])
    figures = baseline(LABELS, val, tasks=["attributes"], label_kind="exact")
    # In training two of three are young and one of two smiles, which is no majority; of Bald nothing is known.
    assert figures == {"val/attributes_acc": pytest.approx((1 / 2 + 2 / 2) / 2)}


def test_a_training_learns_attributes_and_reports_what_it_announces(
    make_config: MakeConfig, data: Any, objective: Objective
) -> None:
    data.vocabulary = VOCABULARY
    config = make_config(tasks=["attributes"], optimizer={"name": "adam", "lr": 0.01})
    training = Training(config, data, Objective(metric="val/attributes_acc", direction="maximize"))
    reports = [training.run_epoch() for _ in range(4)]
    assert reports[-1].metrics["val/attributes_acc"] > reports[-1].metrics["val/attributes_majority"]
    assert set(reports[0].metrics) <= announced(config, vocabulary=VOCABULARY)
    missing = announced(config, vocabulary=VOCABULARY) - set(reports[0].metrics)
    assert all(".by_" in name or ".gap_by_" in name for name in missing)
    assert training._predictor.model.heads["attributes"][-1].out_features == 3


def test_data_without_attributes_is_refused(make_config: MakeConfig, data: Any) -> None:
    with pytest.raises(ConfigError, match="the data set has no attributes labels; leave attributes out of tasks"):
        Training(make_config(tasks=["attributes"]), data, Objective(metric="val/loss", direction="minimize"))


def test_an_attribute_is_no_label_to_split_or_draw_by(make_config: MakeConfig) -> None:
    for parts in ({"data": {"split": {"by": ["attributes"]}}}, {"sampler": {"name": "weighted", "by": "attributes"}}):
        with pytest.raises(ValueError, match="Input should be 'age', 'gender' or 'race'"):
            make_config(**parts)
