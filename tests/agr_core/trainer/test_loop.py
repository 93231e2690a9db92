from __future__ import annotations

import gc
import math
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from agr_core.batch import Batch
from agr_core.config import TrialConfig
from agr_core.errors import ConfigError, DivergedError
from agr_core.models.weights_file import WeightsFile
from agr_core.objective import Objective
from agr_core.reporting import EpochReport
from agr_core.trainer.loop import Training, train

from .conftest import announced, timeless

MakeConfig = Callable[..., TrialConfig]


def _weights(training: Training) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in training._predictor.model.state_dict().items()}


def _parameters(training: Training) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in training._predictor.model.named_parameters()}


def _same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_training_learns_what_the_images_tell(make_config: MakeConfig, data: Any, objective: Objective) -> None:
    training = Training(
        make_config(schedule={"name": "constant", "epochs": 15}, optimizer={"name": "adam", "lr": 0.01}),
        data,
        objective,
    )
    reports: list[EpochReport] = []
    train(training, reports.append)
    last = reports[-1].metrics
    assert last["val/loss"] < 0.7 * reports[0].metrics["val/loss"]
    assert last["val/gender_acc"] >= 0.9
    assert reports == training.reports


def test_every_metric_announced_is_reported_and_none_else(
    make_config: MakeConfig, data: Any, objective: Objective
) -> None:
    config = make_config()
    report = Training(config, data, objective).run_epoch()
    names = announced(config, vocabulary=data.vocabulary)
    absent = names - set(report.metrics)
    assert set(report.metrics) <= names
    assert all(".by_age." in name for name in absent)  # twenty images have not all ages
    assert set(report.tables) == {"val/age_confusion", "val/gender_confusion", "val/race_confusion"}
    assert sum(map(sum, report.tables["val/gender_confusion"]["counts"])) == data.counts["val"]


def test_training_ends_after_the_last_epoch(make_config: MakeConfig, data: Any, objective: Objective) -> None:
    training = Training(make_config(schedule={"name": "constant", "epochs": 3}), data, objective)
    reports: list[EpochReport] = []
    train(training, reports.append)
    assert [report.epoch for report in reports] == [1, 2, 3]
    assert [report.finished for report in reports] == [False, False, True]
    assert not any(report.stopped_early for report in reports)
    with pytest.raises(AssertionError, match="finished after 3 epochs"):
        training.run_epoch()


def test_early_stopping_ends_the_training_and_says_so(make_config: MakeConfig, data: Any, objective: Objective) -> None:
    config = make_config(
        schedule={"name": "constant", "epochs": 9},
        early_stopping={"metric": "val/age_mae", "patience": 2, "min_delta": 1000.0},
    )
    training = Training(config, data, objective)
    reports: list[EpochReport] = []
    train(training, reports.append)
    assert training.epochs_done == 3
    assert (reports[-1].finished, reports[-1].stopped_early) == (True, True)


def test_a_reporter_that_raises_ends_the_training(make_config: MakeConfig, data: Any, objective: Objective) -> None:
    def stop(report: EpochReport) -> None:
        if report.epoch == 2:
            raise KeyboardInterrupt

    training = Training(make_config(), data, objective)
    with pytest.raises(KeyboardInterrupt):
        train(training, stop)
    assert training.epochs_done == 2


def test_the_same_configuration_gives_the_same_bits_whatever_ran_before(
    make_config: MakeConfig, data: Any, objective: Objective
) -> None:
    config = make_config(model={"name": "basic_cnn", "conv_layers": 2, "base_features": 4, "dropout": 0.5})
    first = Training(config, data, objective)
    train(first, lambda report: None)

    other = Training(make_config(model={"name": "resnet10t"}, image={"size": 32}), type(data)(size=32), objective)
    torch.manual_seed(0)
    other.run_epoch()
    second = Training(config, data, objective)
    other.run_epoch()
    train(second, lambda report: None)

    assert _same(_weights(first), _weights(second))
    assert timeless(first.reports) == timeless(second.reports)


def test_other_seeds_train_other_weights(make_config: MakeConfig, data: Any, objective: Objective) -> None:
    trained = [Training(make_config(seed=seed), data, objective) for seed in (1, 2)]
    assert not _same(_weights(trained[0]), _weights(trained[1]))


class Poisoned:
    """A data set with a batch of absurd ages, wrapped around a good one; calls ``before`` ahead of that batch."""

    def __init__(self, data: Any, *, epoch: int, step: int) -> None:
        self._data, self._place = data, (epoch, step)
        self.before: Callable[[], None] = lambda: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._data, name)

    def train_batches(self, epoch: int) -> Iterator[Batch]:
        for step, batch in enumerate(self._data.train_batches(epoch)):
            if (epoch, step) == self._place:
                self.before()
                ages = batch.labels.age * 1e39
                yield replace(batch, labels=replace(batch.labels, age=ages, age_low=ages, age_high=ages))
            else:
                yield batch


def test_a_loss_that_is_not_finite_ends_the_training_before_its_update(
    make_config: MakeConfig, data: Any, objective: Objective
) -> None:
    poisoned = Poisoned(data, epoch=1, step=2)
    training = Training(make_config(age={"encoding": "regression"}), poisoned, objective)
    before: dict[str, torch.Tensor] = {}
    poisoned.before = lambda: before.update(_parameters(training))
    training.run_epoch()
    with pytest.raises(DivergedError, match=r"epoch 2, step 3: the loss is inf; the update was not made"):
        training.run_epoch()
    assert _same(before, _parameters(training))
    with pytest.raises(AssertionError, match="broken off"):
        training.run_epoch()


def test_weights_that_diverge_in_the_last_update_are_found_in_evaluation(
    make_config: MakeConfig, data: Any, objective: Objective
) -> None:
    config = make_config(optimizer={"name": "sgd", "lr": 1e30}, model={"name": "resnet10t"}, image={"size": 32})
    training = Training(config, type(data)(size=32, batch_size=50), objective)
    with pytest.raises(DivergedError, match="epoch 1, "):
        training.run_epoch()


@pytest.mark.parametrize(
    ("parts", "field", "near"),
    [
        ({"early_stopping": {"metric": "val/age_ma"}}, "early_stopping.metric", "val/age_mae"),
        ({"schedule": {"name": "plateau", "metric": "val/los"}}, "schedule.metric", "val/loss"),
        ({"schedule": {"name": "plateau", "metric": "time/epoch_s"}}, "schedule.metric", None),
    ],
)
def test_watching_a_metric_that_is_not_reported_is_refused_before_training(
    make_config: MakeConfig, data: Any, objective: Objective, parts: dict[str, Any], field: str, near: str | None
) -> None:
    with pytest.raises(ConfigError, match=f"{field} is .*does not report") as caught:
        Training(make_config(**parts), data, objective)
    if near is not None:
        assert f"Did you mean '{near}'?" in str(caught.value)


def test_an_objective_that_no_epoch_reports_is_refused_before_training(make_config: MakeConfig, data: Any) -> None:
    with pytest.raises(ConfigError, match=r"objective\.metric is 'val/iq'"):
        Training(make_config(), data, Objective(metric="val/iq", direction="maximize"))


@pytest.mark.parametrize(
    ("schedule", "dead"),
    [({"milestones": [7, 8, 10_000]}, "8"), ({"every": 8}, "8"), ({"milestones": [7]}, None), ({"every": 7}, None)],
)
def test_a_milestone_in_steps_that_is_never_reached_is_refused_with_the_numbers(
    make_config: MakeConfig, data: Any, objective: Objective, schedule: dict[str, Any], dead: str | None
) -> None:
    config = make_config(schedule={"name": "step", "epochs": 4, "unit": "step", **schedule}, accumulate=2)
    data.accumulate = 2  # 50 images, 16 a batch: 4 batches, 2 steps an epoch, 8 in all
    if dead is None:
        Training(config, data, objective)
        return
    with pytest.raises(ConfigError, match=rf"milestone {dead} is never reached: epochs=4 of 2 steps .* are 8 steps"):
        Training(config, data, objective)


@pytest.mark.parametrize("accumulate", [2, 3, 4, 9])
def test_accumulated_batches_train_as_one_large_batch_does(
    make_config: MakeConfig, data: Any, objective: Objective, accumulate: int
) -> None:
    # 50 images in batches of 8: 7 batches, so the last group is incomplete, and its last batch too.
    parts = {
        "schedule": {"name": "cosine", "epochs": 2},
        "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9},
        "model": {"name": "basic_cnn", "conv_layers": 2, "base_features": 4, "batch_norm": False, "dropout": 0.0},
    }
    small = type(data)(batch_size=8, accumulate=accumulate)
    accumulated = Training(make_config(**parts, batch_size=8, accumulate=accumulate), small, objective)
    large = type(data)(batch_size=8 * accumulate)
    whole = Training(make_config(**parts, batch_size=8 * accumulate), large, objective)
    assert small.steps_per_epoch == large.steps_per_epoch
    for _ in range(2):
        ours, theirs = accumulated.run_epoch().metrics, whole.run_epoch().metrics
        for name in ("train/loss", "train/age_mae", "val/loss", "val/age_mae"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-4)
    for name, tensor in _weights(whole).items():
        assert torch.allclose(_weights(accumulated)[name], tensor, atol=1e-5), name


def test_best_epoch_follows_the_objective(make_config: MakeConfig, data: Any) -> None:
    objective = Objective(metric="val/gender_acc", direction="maximize")
    training = Training(make_config(schedule={"name": "constant", "epochs": 6}), data, objective)
    assert training.best_epoch is None
    train(training, lambda report: None)
    values = [report.metrics["val/gender_acc"] for report in training.reports]
    assert training.best_epoch == 1 + values.index(max(values))


@pytest.mark.parametrize("amp", ["none", "bf16"])
def test_mixed_precision_trains_float32_weights(
    make_config: MakeConfig, data: Any, objective: Objective, amp: str
) -> None:
    training = Training(make_config(compute={"amp": amp}), data, objective)
    report = training.run_epoch()
    assert math.isfinite(report.metrics["train/loss"])
    assert {tensor.dtype for tensor in _weights(training).values()} == {torch.float32, torch.int64}


def test_channels_last_is_a_matter_of_memory_and_not_of_what_is_trained(
    make_config: MakeConfig, data: Any, objective: Objective
) -> None:
    trained = []
    for channels_last in (False, True):
        training = Training(make_config(compute={"channels_last": channels_last}), data, objective)
        convolution = training._predictor.model.backbone.layers[4].weight
        assert convolution.is_contiguous(memory_format=torch.channels_last) == channels_last
        trained.append(training.run_epoch().metrics)
        assert convolution.is_contiguous(memory_format=torch.channels_last) == channels_last
    assert trained[0]["train/loss"] == pytest.approx(trained[1]["train/loss"], rel=1e-3)


def test_time_metrics_measure_the_epoch(make_config: MakeConfig, data: Any, objective: Objective) -> None:
    training = Training(make_config(), data, objective)
    started = time.perf_counter()
    metrics = training.run_epoch().metrics
    elapsed = time.perf_counter() - started
    assert 0 < metrics["time/epoch_s"] <= elapsed
    assert metrics["time/images_per_s"] >= data.images_per_epoch / elapsed


def test_memory_is_reported_as_this_process_holds_it(make_config: MakeConfig, data: Any, objective: Objective) -> None:
    metrics = Training(make_config(), data, objective).run_epoch().metrics
    process = psutil.Process().memory_full_info()
    assert 0.3 * process.uss < metrics["memory/main_gb"] * 1e9 < process.uss  # which has its own pages of files, too
    assert ("memory/gpu_gb" in metrics) == torch.cuda.is_available()


def test_the_learning_rate_of_the_last_step_is_reported(
    make_config: MakeConfig, data: Any, objective: Objective
) -> None:
    step = {"name": "step", "epochs": 4, "unit": "step", "milestones": [7, 12], "gamma": 0.5}
    training = Training(make_config(schedule=step, optimizer={"name": "sgd", "lr": 0.08}), data, objective)
    train(training, lambda report: None)
    # Four steps an epoch: the last ones are steps 3, 7, 11 and 15 from 0.
    assert [report.metrics["train/lr"] for report in training.reports] == [0.08, 0.04, 0.04, 0.02]


def test_a_closed_training_leaves_nothing_behind(make_config: MakeConfig, data: Any, objective: Objective) -> None:
    def new_training() -> Training:
        config = make_config(model={"name": "resnet10t"}, image={"size": 32})
        return Training(config, type(data)(size=32), objective)

    new_training().close()  # the first one of a process is held by exceptions that torch caught importing its parts
    gc.disable()  # what only the collector of cycles frees would still be there when the next trial starts
    try:
        training = new_training()
        training.run_epoch()
        left = [weakref.ref(parameter) for parameter in training._predictor.model.parameters()]
        left += [weakref.ref(training._parts.optimizer), weakref.ref(training._predictor.model)]
        left.append(weakref.ref(training._data))
        training.close()
        training.close()
        assert [reference() for reference in left] == [None] * len(left)
        assert training.epochs_done == 1
    finally:
        gc.enable()


def test_a_weighted_objective_is_a_figure_of_each_epoch_and_chooses_the_best(
    make_config: MakeConfig, data: Any
) -> None:
    both = Objective(metric={"val/gender_acc": 1, "val/race_acc": 1}, direction="maximize")
    training = Training(make_config(), data, both)
    train(training, lambda _: None)
    sums = [report.metrics["val/gender_acc"] + report.metrics["val/race_acc"] for report in training.reports]
    assert [report.metrics["val/objective"] for report in training.reports] == pytest.approx(sums, abs=1e-15)
    assert training.best_epoch == 1 + sums.index(max(sums))


def test_each_metric_of_a_weighted_objective_must_be_reported(make_config: MakeConfig, data: Any) -> None:
    both = Objective(metric={"val/gender_acc": 1, "val/age_ac": 1}, direction="maximize")
    with pytest.raises(ConfigError, match=r"objective\.metric is 'val/age_ac', which this trial does not report"):
        Training(make_config(), data, both)


def test_a_training_starts_from_the_weights_of_its_stage_and_takes_the_heads_that_fit(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path
) -> None:
    by_loss = Objective(metric="val/loss", direction="minimize")
    stage = Training(make_config(tasks=["gender"]), data, by_loss)
    train(stage, lambda _: None)
    stage.save(tmp_path)
    best = load_file(tmp_path / "best.safetensors")
    before = make_config(tasks=["gender"]).to_document()
    model = {**before["model"], "weights": "init", "weights_heads": "keep"}
    config = make_config(tasks=["gender", "age"], seed=7, model=model, init={"id": "pre", "config": before})

    with pytest.raises(ConfigError, match="the weights of a stage exist only within a sweep"):
        Training(config, data, objective)
    started = _weights(Training(config, data, objective, weights=WeightsFile.of(tmp_path / "best.safetensors")))
    assert any(name.startswith("heads.gender") for name in best)
    assert all(torch.equal(started[name], tensor) for name, tensor in best.items())
    random = _weights(Training(make_config(tasks=["gender", "age"], seed=7), data, objective))
    ages = [name for name in started if name.startswith("heads.age")]
    assert ages
    assert all(torch.equal(started[name], random[name]) for name in ages)


def test_the_val_loss_is_the_weighted_sum_of_the_tasks_losses_where_labels_are_not_known(
    make_config: MakeConfig, data: Any, objective: Objective
) -> None:
    whole = data._part

    def part(name: str) -> Any:
        batch = whole(name)
        batch.labels.gender[5:] = -1
        return batch

    data._part = part
    training = Training(make_config(loss={"weights": {"age": 0.5, "gender": 3.0}}), data, objective)
    said = training.run_epoch().metrics
    expected = 0.5 * said["val/age_loss"] + 3 * said["val/gender_loss"] + said["val/race_loss"]
    assert said["val/loss"] == pytest.approx(expected, rel=1e-5)
