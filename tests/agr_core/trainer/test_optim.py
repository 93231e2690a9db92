from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from agr_core.config import OptimizerConfig
from agr_core.trainer.optim import OPTIMIZERS, build_optimizer, set_lr

ROOT = Path(__file__).parents[3]

CASES: dict[str, tuple[dict[str, Any], type[torch.optim.Optimizer], dict[str, Any]]] = {
    "sgd": ({"name": "sgd", "lr": 0.1}, torch.optim.SGD, {"lr": 0.1}),
    "sgd with momentum": (
        {"name": "sgd", "lr": 0.1, "momentum": 0.9, "dampening": 0.2, "weight_decay": 0.01},
        torch.optim.SGD,
        {"lr": 0.1, "momentum": 0.9, "dampening": 0.2, "weight_decay": 0.01},
    ),
    "nesterov": (
        {"name": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": True},
        torch.optim.SGD,
        {"lr": 0.1, "momentum": 0.9, "nesterov": True},
    ),
    "rmsprop": (
        {"name": "rmsprop", "lr": 0.01, "alpha": 0.9, "eps": 1e-6, "momentum": 0.5, "centered": True},
        torch.optim.RMSprop,
        {"lr": 0.01, "alpha": 0.9, "eps": 1e-6, "momentum": 0.5, "centered": True},
    ),
    "adam": (
        {"name": "adam", "betas": (0.8, 0.99), "eps": 1e-7, "amsgrad": True, "weight_decay": 0.1},
        torch.optim.Adam,
        {"lr": 1e-3, "betas": (0.8, 0.99), "eps": 1e-7, "amsgrad": True, "weight_decay": 0.1},
    ),
    "adamw": ({"name": "adamw"}, torch.optim.AdamW, {"lr": 1e-3, "weight_decay": 0.01}),
    "nadam": (
        {"name": "nadam", "weight_decay": 0.1, "momentum_decay": 0.01},
        torch.optim.NAdam,
        {"lr": 1e-3, "weight_decay": 0.1, "momentum_decay": 0.01},
    ),
    "adamax": ({"name": "adamax", "weight_decay": 0.1}, torch.optim.Adamax, {"lr": 2e-3, "weight_decay": 0.1}),
    "adadelta": ({"name": "adadelta", "rho": 0.8}, torch.optim.Adadelta, {"lr": 1.0, "rho": 0.8, "eps": 1e-6}),
}


def _trained(make: Any) -> list[Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    optimizer = make(model.parameters())
    inputs = torch.randn(8, 5)
    for _ in range(5):
        optimizer.zero_grad()
        model(inputs).square().mean().backward()
        optimizer.step()
    return [parameter.detach().clone() for parameter in model.parameters()]


@pytest.mark.parametrize("case", CASES)
def test_optimizer_moves_weights_as_torchs_class_with_the_same_arguments(case: str) -> None:
    fields, torch_class, arguments = CASES[case]
    config: OptimizerConfig = TypeAdapter(OptimizerConfig).validate_python(fields)
    ours = _trained(lambda parameters: build_optimizer(config, parameters))
    expected = _trained(lambda parameters: torch_class(parameters, **arguments))
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_every_setting_of_an_optimizer_is_passed_on(name: str) -> None:
    config: OptimizerConfig = TypeAdapter(OptimizerConfig).validate_python(name)
    optimizer = build_optimizer(config, [nn.Parameter(torch.zeros(1))])
    settings = config.model_dump(exclude={"name", "eps_inside_root"})  # the latter chooses the class
    assert {key: optimizer.defaults[key] for key in settings} == settings


@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_defaults_are_torchs_where_the_configuration_says_nothing_else(name: str) -> None:
    config: OptimizerConfig = TypeAdapter(OptimizerConfig).validate_python(name)
    torchs = OPTIMIZERS.get(name)([nn.Parameter(torch.zeros(1))], lr=config.lr).defaults
    settings = config.model_dump(exclude={"name", "eps_inside_root"})
    assert {key: torchs[key] for key in settings} == settings


def test_the_learning_rate_set_is_the_one_used() -> None:
    parameter = nn.Parameter(torch.zeros(1))
    config: OptimizerConfig = TypeAdapter(OptimizerConfig).validate_python({"name": "sgd", "lr": 1.0})
    optimizer = build_optimizer(config, [parameter])
    parameter.grad = torch.ones(1)
    set_lr(optimizer, 0.25)
    optimizer.step()
    assert parameter.item() == -0.25


TRAINING = """
import sys
from pathlib import Path
from agr_core.config import TrialConfig
from agr_core.objective import Objective
from agr_core.trainer.loop import Training
from agr_core.trainer.optim import OPTIMIZERS
from tests.agr_core.trainer.conftest import BASIC_CNN, MemoryData

for name in OPTIMIZERS:
    document = {
        "image": {"size": 16}, "batch_size": 16, "model": BASIC_CNN, "optimizer": {"name": name},
        "schedule": {"name": "constant", "epochs": 2}, "averaging": {"name": "ema"},
    }
    parts = TrialConfig.from_document(document), MemoryData(), Objective(metric="val/age_mae", direction="minimize")
    training = Training(*parts)
    training.run_epoch()
    training.save(Path(sys.argv[1], name))
    resumed = Training(*parts)
    resumed.restore(Path(sys.argv[1], name))
    resumed.run_epoch()
print({"torch", "torch._dynamo", "torch._inductor"} & sys.modules.keys())
"""


def test_a_training_does_not_import_torchs_compiler(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", TRAINING, tmp_path], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "{'torch'}\n", done.stderr


def test_keras_rmsprop_divides_by_the_root_of_variance_and_epsilon() -> None:
    """As ``tf.keras.optimizers.RMSprop`` computes it: v = rho v + (1 - rho) g^2; w -= lr g / sqrt(v + epsilon)."""
    fields = {"name": "rmsprop", "lr": 1e-3, "alpha": 0.9, "eps": 1e-7, "eps_inside_root": True}
    config: OptimizerConfig = TypeAdapter(OptimizerConfig).validate_python(fields)
    weight = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    optimizer = build_optimizer(config, [weight])
    gradients = torch.tensor([[1e-5, 1e-3, 1.0], [2e-5, -1e-3, 0.5]], dtype=torch.float64)
    expected, variance = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()
        variance = 0.9 * variance + 0.1 * gradient**2
        expected -= 1e-3 * gradient / (variance + 1e-7).sqrt()
    torch.testing.assert_close(weight.detach(), expected)


def test_keras_steps_at_small_gradients_are_many_times_smaller_than_torchs() -> None:
    steps = []
    for inside in (False, True):
        fields = {"name": "rmsprop", "alpha": 0.9, "eps": 1e-7, "eps_inside_root": inside}
        config: OptimizerConfig = TypeAdapter(OptimizerConfig).validate_python(fields)
        weight = nn.Parameter(torch.zeros(1))
        optimizer = build_optimizer(config, [weight])
        weight.grad = torch.full((1,), 1e-5)
        optimizer.step()
        steps.append(abs(weight.item()))
    assert 30 < steps[0] / steps[1] < 100


@pytest.mark.parametrize("more", [{"momentum": 0.9}, {"centered": True}, {"weight_decay": 0.1}], ids=str)
def test_keras_rmsprop_has_torchs_other_settings(more: dict[str, Any]) -> None:
    """At gradients far above epsilon, where its place does not matter."""
    moved = []
    for inside in (False, True):
        fields = {"name": "rmsprop", "eps": 1e-12, "eps_inside_root": inside, **more}
        config: OptimizerConfig = TypeAdapter(OptimizerConfig).validate_python(fields)
        weight = nn.Parameter(torch.ones(3))
        optimizer = build_optimizer(config, [weight])
        for gradient in ([1.0, -2.0, 0.5], [0.5, 1.0, -0.25], [2.0, 0.1, 1.0]):
            weight.grad = torch.tensor(gradient)
            optimizer.step()
        moved.append(weight.detach())
    torch.testing.assert_close(moved[0], moved[1], rtol=1e-3, atol=1e-5)
