from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from agr_core.config import OWN_BACKBONE_NAMES, TrialConfig
from agr_core.errors import ConfigError
from agr_core.models import build_model
from agr_core.models.face_model import OWN_BACKBONES
from agr_core.models.task_model import FaceModel


def _build(*, age_outputs: int = 7, num_genders: int = 2, num_races: int = 5, **document: Any) -> FaceModel:
    config = TrialConfig.from_document(document)
    return build_model(config, age_outputs=age_outputs, num_genders=num_genders, num_races=num_races)


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_final_network_of_report_s4_has_its_14_8_million_parameters() -> None:
    model = _build(
        tasks=["age"],
        image={"size": 224, "color": "grey"},
        model={"name": "basic_cnn", "conv_layers": 4, "base_features": 64, "hidden": 132},
    )
    convolutions = sum(9 * given * made + made for given, made in [(1, 64), (64, 128), (128, 256), (256, 512)])
    norms = 2 * (64 + 128 + 256 + 512)
    hidden = 512 * 14 * 14 * 132 + 132
    assert _parameters(model) == convolutions + norms + hidden + 132 * 7 + 7 == 14_799_271


def test_basic_cnn_has_the_layers_of_report_s4_in_their_order() -> None:
    model = _build(
        tasks=["age"],
        image={"size": 32},
        model={"name": "basic_cnn", "conv_layers": 2, "input_batch_norm": True, "input_dropout": 0.1,
               "block_dropout": 0.2, "activation": "leaky_relu"},
    )  # fmt: skip
    block = [nn.Conv2d, nn.LeakyReLU, nn.BatchNorm2d, nn.MaxPool2d, nn.Dropout]
    expected = [nn.BatchNorm2d, nn.Dropout, *block, *block, nn.Flatten, nn.Linear, nn.LeakyReLU, nn.Dropout]
    layers = list(model.backbone.layers)
    assert [type(layer) for layer in layers] == expected
    assert [layer.p for layer in layers if isinstance(layer, nn.Dropout)] == [0.1, 0.2, 0.2, 0.6]


def test_basic_cnn_can_drop_before_its_activations() -> None:
    model = _build(
        tasks=["age"],
        image={"size": 32},
        model={"name": "basic_cnn", "conv_layers": 1, "block_dropout": 0.2, "activation": "sigmoid",
               "dropout_at": "before_activation"},
    )  # fmt: skip
    block = [nn.Conv2d, nn.Dropout, nn.Sigmoid, nn.BatchNorm2d, nn.MaxPool2d]
    layers = list(model.backbone.layers)
    assert [type(layer) for layer in layers] == [*block, nn.Flatten, nn.Linear, nn.Dropout, nn.Sigmoid]
    assert [layer.p for layer in layers if isinstance(layer, nn.Dropout)] == [0.2, 0.6]
    features = model.backbone(torch.rand(4, 3, 32, 32))
    dropped = features == 0.5  # the sigmoid of a neuron that was dropped
    assert 0.4 < dropped.float().mean() < 0.8


@pytest.mark.parametrize("conv_layers", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("size", [47, 48])
def test_basic_cnn_takes_images_whose_side_is_no_power_of_two(conv_layers: int, size: int) -> None:
    model = _build(
        image={"size": size},
        model={"name": "basic_cnn", "conv_layers": conv_layers, "base_features": 4, "kernel_size": 5},
    )
    logits = model(torch.zeros(2, 3, size, size))
    assert {task: tuple(outputs.shape) for task, outputs in logits.items()} == {
        "age": (2, 7),
        "gender": (2, 2),
        "race": (2, 5),
    }


def test_only_the_tasks_trained_have_a_head() -> None:
    model = _build(image={"size": 32}, tasks=["race", "age"], num_genders=0)
    assert list(model(torch.zeros(1, 3, 32, 32))) == ["race", "age"]


def test_a_task_without_classes_is_refused() -> None:
    with pytest.raises(ConfigError, match="the data set has no race labels; leave race out of tasks"):
        _build(image={"size": 32}, num_races=0)


def test_heads_are_built_as_configured() -> None:
    model = _build(
        image={"size": 32},
        tasks=["gender"],
        head={"hidden": [10, 6], "activation": "tanh", "batch_norm": True, "dropout": 0.25},
    )
    hidden = [nn.Dropout, nn.Linear, nn.BatchNorm1d, nn.Tanh]
    layers = list(model.heads["gender"])
    assert [type(layer) for layer in layers] == [*hidden, *hidden, nn.Dropout, nn.Linear]
    widths = [(layer.in_features, layer.out_features) for layer in layers if isinstance(layer, nn.Linear)]
    assert widths == [(132, 10), (10, 6), (6, 2)]


def test_shared_layers_stand_before_the_heads() -> None:
    model = _build(
        image={"size": 32},
        tasks=["age", "gender"],
        head={"shared": [9, 4], "shared_batch_norm": True, "shared_dropout": 0.3, "hidden": [5]},
    )
    shared = [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Dropout]
    assert [type(layer) for layer in model.shared] == [*shared, *shared]
    widths = [(layer.in_features, layer.out_features) for layer in model.shared if isinstance(layer, nn.Linear)]
    assert widths == [(132, 9), (9, 4)]
    assert {head[0].in_features for head in model.heads.values()} == {4}
    images = torch.randn(2, 3, 32, 32)
    features = model.eval().shared(model.backbone(images))
    assert torch.equal(model(images)["age"], model.heads["age"](features))


def test_without_shared_layers_norm_and_dropout_are_those_of_the_features() -> None:
    model = _build(image={"size": 32}, head={"shared_batch_norm": True, "shared_dropout": 0.3})
    assert [type(layer) for layer in model.shared] == [nn.BatchNorm1d, nn.Dropout]
    assert model.shared[0].num_features == 132
    assert not list(_build(image={"size": 32}).shared)


@pytest.mark.parametrize("model", ["basic_cnn", "resnet10t"])
def test_initial_weights_are_a_function_of_the_seed_alone(model: str) -> None:
    document = {"image": {"size": 32}, "model": model}
    first = _build(seed=3, **document).state_dict()
    torch.rand(5)
    again = _build(seed=3, **document, optimizer="sgd", batch_size=7).state_dict()
    other = _build(seed=4, **document).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_building_a_model_leaves_the_generator_where_it_was() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    _build(image={"size": 32})
    assert torch.equal(torch.rand(3), expected)


def test_every_model_of_ours_that_a_configuration_can_name_is_registered() -> None:
    assert OWN_BACKBONES.names() == tuple(sorted(OWN_BACKBONE_NAMES))


def test_checking_a_configuration_imports_neither_torch_nor_timm() -> None:
    code = (
        "import sys; from agr_core.config import TrialConfig; TrialConfig.from_document({'model': 'resnet18'});"
        "import agr_core.models; sys.exit(bool({'torch', 'timm'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, env=dict(os.environ)).returncode == 0
