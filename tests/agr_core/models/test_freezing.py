from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from agr_core.config import TrialConfig
from agr_core.errors import ConfigError
from agr_core.models import build_model
from agr_core.models.freezing import layers_in_order
from agr_core.models.task_model import FaceModel


def _build(model: dict[str, Any], *, size: int = 32) -> FaceModel:
    config = TrialConfig.from_document({"model": model, "image": {"size": size}, "head": {"hidden": [4]}})
    return build_model(config, age_outputs=7, num_genders=2, num_races=5)


CNN: dict[str, Any] = {"name": "basic_cnn", "conv_layers": 2, "base_features": 4, "hidden": 8}
LAYERS = ["layers.0", "layers.2", "layers.4", "layers.6", "layers.9"]  # conv, norm, conv, norm, hidden


def _frozen(model: FaceModel) -> set[str]:
    return {name.rpartition(".")[0] for name, each in model.backbone.named_parameters() if not each.requires_grad}


@pytest.mark.parametrize(
    ("rule", "frozen"),
    [
        ("none", []),
        ("backbone", LAYERS),
        ({"first": 3}, LAYERS[:3]),
        ({"first": 5}, LAYERS),
        ({"all_but_last": 1}, LAYERS[:4]),
        ({"all_but_last": 4}, LAYERS[:1]),
    ],
)
def test_the_rule_says_which_layers_have_no_gradient(rule: Any, frozen: list[str]) -> None:
    model = _build({**CNN, "freeze": rule})
    assert _frozen(model) == set(frozen)
    assert all(parameter.requires_grad for parameter in model.heads.parameters())
    model(torch.randn(2, 3, 32, 32))["age"].sum().backward()
    without = {name.rpartition(".")[0] for name, each in model.backbone.named_parameters() if each.grad is None}
    assert without == set(frozen)


def test_frozen_batch_norms_keep_their_statistics_and_others_do_not() -> None:
    model = _build({**CNN, "freeze": {"first": 2}}).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items() if "running_mean" in name}
    model(torch.randn(4, 3, 32, 32))
    after = model.state_dict()
    assert torch.equal(after["backbone.layers.2.running_mean"], before["backbone.layers.2.running_mean"])
    assert not torch.equal(after["backbone.layers.6.running_mean"], before["backbone.layers.6.running_mean"])


def test_a_frozen_backbone_has_no_dropout_and_its_heads_have() -> None:
    config = {"model": {**CNN, "freeze": "backbone"}, "image": {"size": 32}, "head": {"dropout": 0.5}}
    model = build_model(TrialConfig.from_document(config), age_outputs=7, num_genders=2, num_races=5).train()
    images = torch.randn(8, 3, 32, 32)
    assert torch.equal(model.backbone(images), model.backbone(images))
    assert not torch.equal(model(images)["age"], model(images)["age"])


def test_layers_are_counted_in_the_order_an_image_reaches_them() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(4, 4)
            self.scale = nn.Parameter(torch.ones(4))
            self.attention = nn.MultiheadAttention(4, 1, batch_first=True)
            self.first = nn.Conv2d(3, 4, 2)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            tokens = self.first(images).flatten(2).transpose(1, 2) * self.scale
            seen: torch.Tensor = self.last(self.attention(tokens, tokens, tokens)[0].mean(1))
            return seen

    names = [name for name, _ in layers_in_order(Backwards(), torch.zeros(1, 3, 4, 4))]
    assert names == ["", "first", "attention", "attention.out_proj", "last"]


def test_the_reports_layers_of_inception_v3_are_its_stem_and_first_blocks() -> None:
    model = _build({"name": "inception_v3", "freeze": {"first": 31}}, size=96)
    blocks = {name.partition(".")[0] for name in _frozen(model)}
    assert blocks == {"Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3", "Mixed_5b",
                      "Mixed_5c"}  # fmt: skip


def test_the_log_says_what_is_frozen(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="agr_core"):
        _build({**CNN, "freeze": {"first": 2}})
    assert "2 of the backbone's 5 layers, layers.0 to layers.2, with 120 of its" in caplog.text
    assert "the frozen layers keep random weights" in caplog.text


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"first": 6}, r"freeze={'first': 6}, but the backbone has 5 layers .* smaller number, backbone"),
        ({"all_but_last": 5}, r"freeze={'all_but_last': 5}, but the backbone has 5 layers .* smaller number, none"),
    ],
)
def test_more_layers_than_there_are_is_refused(rule: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        _build({**CNN, "freeze": rule})


@pytest.mark.parametrize("rule", [{}, {"first": 1, "all_but_last": 1}])
def test_a_rule_is_one_of_two(rule: Any) -> None:
    with pytest.raises(ValidationError, match=r"give one of them, such as \{first: 31\}"):
        _build({**CNN, "freeze": rule})
