"""A model in numbers, against published ones."""

from __future__ import annotations

from typing import Any

import pytest

from agr_core.config import TrialConfig
from agr_core.models import build_model
from agr_core.models.info import ModelInfo, model_info


def info_of(model: dict[str, Any], *, size: int, color: str = "rgb") -> ModelInfo:
    document = {"model": model, "image": {"size": size, "color": color}, "tasks": ["gender"]}
    built = build_model(TrialConfig.from_document(document), age_outputs=1, num_genders=2, num_races=0)
    return model_info(built, channels=3 if color == "rgb" else 1, size=size)


def test_resnet18_has_its_published_size_and_cost() -> None:
    # torchvision: 11,689,512 parameters, 513,000 of them in the classifier; 1.81 GMAC at 224 px, two operations each.
    info = info_of({"name": "resnet18"}, size=224)
    assert info.backbone_parameters == 11_689_512 - 513_000
    assert info.parameters == info.trainable == info.backbone_parameters + 512 * 2 + 2
    assert info.layers == 20 + 1  # 17 convolutions on the way and 3 on shortcuts; our head
    assert info.gflops == pytest.approx(2 * 1.81, rel=0.01)


def test_a_small_networks_numbers_by_hand() -> None:
    # Grey 16 x 16; convolutions 1 -> 4 -> 8 of side 3, each with batch norm and a pool of 2; 8 x 4 x 4 -> 6 -> 2.
    model = {"name": "basic_cnn", "conv_layers": 2, "base_features": 4, "kernel_size": 3, "hidden": 6}
    info = info_of(model, size=16, color="grey")
    convolutions = (9 * 4 + 4 + 8) + (9 * 4 * 8 + 8 + 16)
    assert info.backbone_parameters == convolutions + 128 * 6 + 6
    assert info.parameters == info.backbone_parameters + 6 * 2 + 2
    assert info.layers == 4
    products = 16 * 16 * 9 * 4 + 8 * 8 * 9 * 4 * 8 + 128 * 6 + 6 * 2
    assert info.gflops == pytest.approx(2 * products / 1e9)
