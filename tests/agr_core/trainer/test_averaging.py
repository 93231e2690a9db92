from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.optim import lr_scheduler
from torch.optim.swa_utils import SWALR

from agr_core.config import TrialConfig
from agr_core.objective import Objective
from agr_core.trainer.averaging import Averaging
from agr_core.trainer.build import build_predictor
from agr_core.trainer.loop import Training, evaluate_part
from agr_core.trainer.schedule import PlateauState, trial_lr_at

MakeConfig = Callable[..., TrialConfig]
Weights = dict[str, torch.Tensor]

BATCH_NORM = {"name": "basic_cnn", "conv_layers": 2, "base_features": 4, "hidden": 16, "dropout": 0.0}


def _weights(training: Training) -> Weights:
    return {name: tensor.clone() for name, tensor in training._predictor.model.state_dict().items()}


def _average(training: Training) -> Weights:
    assert training._averaging.average is not None
    return {name: tensor.clone() for name, tensor in training._averaging.average.module.state_dict().items()}


def _epochs(training: Training) -> list[Weights]:
    """The trained weights after each epoch."""
    weights = []
    while not training.finished:
        training.run_epoch()
        weights.append(_weights(training))
    return weights


def test_swa_keeps_the_mean_of_the_weights_after_each_epoch_from_its_start_on(
    make_config: MakeConfig, data: Any, objective: Objective
) -> None:
    config = make_config(averaging={"name": "swa", "start_epoch": 2}, schedule={"name": "constant", "epochs": 5})
    training = Training(config, data, objective)
    weights = _epochs(training)
    average = _average(training)
    for name, _ in training._predictor.model.named_parameters():
        mean = torch.stack([each[name] for each in weights[2:]]).mean(dim=0)
        assert torch.allclose(average[name], mean, atol=1e-6), name
        assert not torch.allclose(average[name], weights[-1][name], atol=1e-6), name


def test_averaging_changes_nothing_of_what_is_trained(make_config: MakeConfig, data: Any, objective: Objective) -> None:
    plain = _epochs(Training(make_config(), data, objective))[-1]
    for averaging in ({"name": "swa", "start_epoch": 1}, {"name": "ema", "decay": 0.9}):
        averaged = _epochs(Training(make_config(averaging=averaging), data, objective))[-1]
        assert all(torch.equal(averaged[name], tensor) for name, tensor in plain.items())


def test_swa_finds_the_statistics_of_its_batch_norms_in_the_training_images(
    make_config: MakeConfig, data: Any, objective: Objective
) -> None:
    config = make_config(averaging={"name": "swa", "start_epoch": 1}, model=BATCH_NORM)
    training = Training(config, data, objective)
    _epochs(training)
    assert training._averaging.average is not None
    model = training._averaging.average.module
    convolution, batch_norm = model.backbone.layers[0], model.backbone.layers[2]
    seen: list[torch.Tensor] = []
    hook = convolution.register_forward_hook(lambda _, __, output: seen.append(output.relu()))
    with torch.no_grad():
        batches = list(data.train_batches(3))
        for batch in batches:
            model(training._predictor.normalize(batch.images))
    hook.remove()
    # torch's cumulative mean gives each batch the same weight; the variance is the unbiased one.
    means = torch.stack([each.mean(dim=(0, 2, 3)) for each in seen])
    variances = torch.stack([each.transpose(0, 1).flatten(1).var(dim=1) for each in seen])
    assert torch.allclose(batch_norm.running_mean, means.mean(dim=0), rtol=1e-4, atol=1e-5)
    assert torch.allclose(batch_norm.running_var, variances.mean(dim=0), rtol=1e-4, atol=1e-5)


def test_swa_leaves_frozen_batch_norms_as_they_were(make_config: MakeConfig, data: Any, objective: Objective) -> None:
    model = {"name": "basic_cnn", "conv_layers": 2, "base_features": 4, "hidden": 16, "freeze": {"first": 2}}
    training = Training(make_config(model=model, averaging={"name": "swa", "start_epoch": 1}), data, objective)
    before = {name: tensor.clone() for name, tensor in training._predictor.model.state_dict().items()}
    for _ in range(2):
        training.run_epoch()
    assert training._averaging.average is not None
    after = training._averaging.average.module.state_dict()
    same = {name for name, tensor in before.items() if torch.equal(tensor, after[name])}
    frozen = {f"backbone.layers.0.{name}" for name in ("weight", "bias")}
    names = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    assert same == frozen | {f"backbone.layers.2.{name}" for name in names}


@pytest.mark.parametrize(("warmup", "decays"), [(False, [0.25, 0.25, 0.25]), (True, [2 / 11, 3 / 12, 0.25])])
def test_ema_follows_each_step_by_its_definition(
    make_config: MakeConfig, data: Any, objective: Objective, warmup: bool, decays: list[float]
) -> None:
    averaging = {"name": "ema", "decay": 0.25, "warmup": warmup}
    config = make_config(averaging=averaging, model=BATCH_NORM, accumulate=2)
    training = Training(config, data, objective)
    steps: list[Weights] = []
    follow = training._averaging.after_step

    def watched() -> None:
        follow()
        steps.append(_weights(training))

    training._averaging.after_step = watched  # type: ignore[method-assign]
    training.run_epoch()
    training.run_epoch()
    assert len(steps) == 2 * 2  # 4 batches an epoch, two a step
    expected = steps[0]
    for step, decay in zip(steps[1:], decays, strict=True):
        expected = {name: decay * expected[name] + (1 - decay) * step[name] for name in step}
    average = _average(training)
    for name in average:
        if average[name].is_floating_point():  # of the statistics of batch norm too
            assert torch.allclose(average[name], expected[name], atol=1e-5), name


@pytest.mark.parametrize("averaging", [{"name": "swa", "start_epoch": 2}, {"name": "ema", "decay": 0.9}])
def test_the_average_is_what_is_evaluated_and_kept_as_best(
    make_config: MakeConfig, data: Any, tmp_path: Path, averaging: dict[str, Any]
) -> None:
    objective = Objective(metric="val/loss", direction="minimize")
    config = make_config(averaging=averaging, model=BATCH_NORM, schedule={"name": "constant", "epochs": 6})
    training = Training(config, data, objective)
    evaluated: list[Weights] = []
    while not training.finished:
        training.run_epoch()
        swa_not_begun = averaging["name"] == "swa" and training.epochs_done <= 2
        evaluated.append(_weights(training) if swa_not_begun else _average(training))
        training.save(tmp_path)
    assert training.best_epoch is not None
    assert training.best_epoch > 2
    best = load_file(tmp_path / "best.safetensors")
    assert best.keys() == _weights(training).keys()
    for name, tensor in evaluated[training.best_epoch - 1].items():
        assert torch.equal(best[name], tensor), name
    again = evaluate_part(config, data, tmp_path / "best.safetensors", "val")
    reported = training.reports[training.best_epoch - 1].metrics
    assert again.metrics["val/loss"] == reported["val/loss"]
    assert again.metrics["val/age_mae"] == reported["val/age_mae"]


@pytest.mark.parametrize("anneal_epochs", [0, 3, 10])
def test_the_rate_of_swa_is_torchs_swalr_after_the_schedule(make_config: MakeConfig, anneal_epochs: int) -> None:
    config = make_config(
        schedule={"name": "step", "epochs": 9, "milestones": [2], "gamma": 0.5},
        optimizer={"name": "sgd", "lr": 0.1},
        averaging={"name": "swa", "start_epoch": 4, "lr": 0.02, "anneal_epochs": anneal_epochs},
    )
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = lr_scheduler.MultiStepLR(optimizer, milestones=[2], gamma=0.5)
    swalr, expected = None, []
    for epoch in range(9):
        if epoch == 4:
            swalr = SWALR(optimizer, swa_lr=0.02, anneal_epochs=anneal_epochs, anneal_strategy="cos")
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        (scheduler if swalr is None else swalr).step()
    ours = [
        trial_lr_at(config, step=3 * epoch + within, steps_per_epoch=3, plateau=PlateauState(lr=0.1))
        for epoch in range(9)
        for within in range(3)
    ]
    assert ours == pytest.approx([rate for rate in expected for _ in range(3)], rel=1e-9)


def test_without_a_rate_of_its_own_swa_leaves_the_schedule_as_it_is(make_config: MakeConfig) -> None:
    schedule = {"name": "cosine", "epochs": 6}
    swa, plain = (
        make_config(schedule=schedule, averaging={"name": "swa", "start_epoch": 2}),
        make_config(schedule=schedule),
    )
    for step in range(18):
        rates = [trial_lr_at(c, step=step, steps_per_epoch=3, plateau=PlateauState(lr=1.0)) for c in (swa, plain)]
        assert rates[0] == rates[1]


@pytest.mark.parametrize("averaging", [{"name": "swa", "start_epoch": 1}, {"name": "ema"}])
def test_what_a_team_holds_alike_is_all_where_the_model_is(
    make_config: MakeConfig, data: Any, averaging: dict[str, Any]
) -> None:
    """NCCL sends nothing from the CPU; torch's device without memory stands for the GPU."""
    config = make_config(averaging=averaging, model=BATCH_NORM)
    predictor = build_predictor(config, data)
    predictor.model.to("meta")
    models = Averaging(config.averaging, predictor).models
    assert len(models) == 2
    buffers = [buffer for model in models for buffer in model.buffers()]
    assert len(buffers) == 2 * 2 * 3  # two batch norms each: mean, variance, counter
    assert {buffer.device.type for buffer in buffers} == {"meta"}
