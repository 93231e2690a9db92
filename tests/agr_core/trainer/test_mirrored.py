"""``image.mirrored``: outside of training, the outputs are the means over an image and its mirror image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from agr_core.config import TrialConfig
from agr_core.objective import Objective
from agr_core.trainer.build import build_predictor
from agr_core.trainer.loop import Training

MakeConfig = Callable[..., TrialConfig]


def test_an_image_and_its_mirror_image_are_one_to_it(make_config: MakeConfig, data: Any) -> None:
    plain = make_config()
    mirrored = TrialConfig.from_document(
        plain.to_document() | {"image": plain.image.model_dump(mode="json") | {"mirrored": True}}
    )
    images = next(data.batches("val")).images
    outputs = {}
    for name, config in (("plain", plain), ("mirrored", mirrored)):
        predictor = build_predictor(config, data)
        predictor.model.eval()
        with torch.inference_mode():
            outputs[name] = [
                predictor.logits(predictor.normalize(each))["gender"] for each in (images, images.flip(-1))
            ]
    one, other = outputs["plain"]
    assert not torch.allclose(one, other)
    for found in outputs["mirrored"]:
        assert torch.allclose(found, (one + other) / 2, atol=1e-6)


def test_training_is_the_same_with_it_and_validation_is_not(
    make_config: MakeConfig, data: Any, objective: Objective
) -> None:
    plain = make_config()
    reports, weights = [], []
    for mirrored in (False, True):
        image = plain.image.model_dump(mode="json") | {"mirrored": mirrored}
        training = Training(TrialConfig.from_document(plain.to_document() | {"image": image}), data, objective)
        reports.append(training.run_epoch().metrics)
        weights.append(training._predictor.model.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert reports[0]["train/loss"] == reports[1]["train/loss"]
    assert reports[0]["val/loss"] != reports[1]["val/loss"]


def test_a_cascade_refuses_it() -> None:
    with pytest.raises(ValidationError, match=r"image\.mirrored averages outputs, and model=cascade by gender"):
        TrialConfig.from_document({"model": {"name": "cascade"}, "image": {"size": 32, "mirrored": True}})
