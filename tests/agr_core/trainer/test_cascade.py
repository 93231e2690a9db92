"""A cascade in training: what it reports, with every encoding."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from agr_core.config import TrialConfig
from agr_core.labels.encodings import AGE_ENCODINGS
from agr_core.objective import Objective
from agr_core.trainer.build import part_metrics
from agr_core.trainer.loop import Training
from agr_core.trainer.steps import evaluate

from .conftest import announced

MakeConfig = Callable[..., TrialConfig]


def test_a_cascade_reports_its_routing_and_what_its_experts_would_reach(
    make_config: MakeConfig, data: Any, objective: Objective
) -> None:
    base = {"name": "basic_cnn", "conv_layers": 2, "base_features": 4, "hidden": 16, "dropout": 0.0}
    config = make_config(model={"name": "cascade", "base": base}, optimizer={"name": "adam", "lr": 0.01})
    training = Training(config, data, objective)
    reports = [training.run_epoch() for _ in range(3)]
    names = announced(config, vocabulary=data.vocabulary)
    assert set(reports[0].metrics) <= names
    assert all(".by_age." in name for name in names - set(reports[0].metrics)), "a group without an image"
    last = reports[-1].metrics
    assert last["val/routing_acc"] == last["val/gender_acc"]
    of_all = {"age_mae", "age_acc", "age_f1", "race_acc", "race_f1"}
    of_groups = {f"{figure}.by_gender.{gender}" for figure in of_all - {"race_f1"} for gender in ("male", "female")}
    assert {name for name in last if "oracle" in name} == {f"val/oracle_{name}" for name in of_all | of_groups}
    assert reports[-1].metrics["val/loss"] < reports[0].metrics["val/loss"]


def test_the_oracle_of_a_cascade_whose_routing_is_right_is_the_cascade(
    make_config: MakeConfig, data: Any, objective: Objective
) -> None:
    base = {"name": "basic_cnn", "conv_layers": 2, "base_features": 4, "hidden": 16, "dropout": 0.0}
    config = make_config(model={"name": "cascade", "base": base})
    training = Training(config, data, objective)
    router = training._predictor.model.router
    for gender in (0, 1):
        always = torch.tensor([1.0 - gender, float(gender)])
        with torch.no_grad():
            router.heads["gender"][-1].weight.zero_()
            router.heads["gender"][-1].bias.copy_(always)
        metrics = part_metrics(config, data, training._predictor)
        part = list(data.batches("val"))
        own = [replace(batch, labels=batch.labels.take(batch.labels.gender == gender)) for batch in part]
        kept = [
            replace(each, images=batch.images[batch.labels.gender == gender])
            for each, batch in zip(own, part, strict=True)
        ]
        figures, _ = evaluate(training._predictor, kept, metrics)
        assert figures["routing_acc"] == 1.0
        assert figures["oracle_age_mae"] == figures["age_mae"]
        other, _ = evaluate(training._predictor, part, part_metrics(config, data, training._predictor))
        assert other["oracle_age_mae"] != other["age_mae"]


@pytest.mark.parametrize("encoding", AGE_ENCODINGS.names())
def test_every_encoding_can_be_told_by_experts(
    make_config: MakeConfig, data: Any, objective: Objective, encoding: str
) -> None:
    base = {"name": "basic_cnn", "conv_layers": 1, "base_features": 2, "hidden": 4}
    model = {"name": "cascade", "by": "race", "base": base}
    config = make_config(model=model, tasks=["age", "gender", "race"], age={"encoding": encoding})
    metrics = Training(config, data, objective).run_epoch().metrics
    assert math.isfinite(metrics["val/age_mae"])
    assert set(metrics) <= announced(config, vocabulary=data.vocabulary)
