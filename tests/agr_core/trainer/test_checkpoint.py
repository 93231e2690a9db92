from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from agr_core.config import TrialConfig
from agr_core.data.batch import AgeLabels
from agr_core.errors import CheckpointError, ConfigError
from agr_core.evaluation.per_image import image_values
from agr_core.evaluation.predictions import Predictions
from agr_core.objective import Objective
from agr_core.reporting import EpochReport
from agr_core.trainer import checkpoint
from agr_core.trainer.loop import Training, evaluate_part, majority_baseline

BEST = "best.safetensors"
SAID = "best.parquet"
FILES = (BEST, SAID, checkpoint.LAST, checkpoint.STATE)
MakeConfig = Callable[..., TrialConfig]

BASIC_CNN = {"name": "basic_cnn", "conv_layers": 2, "base_features": 4, "hidden": 16, "dropout": 0.6}
RESNET = {
    "model": {"name": "resnet10t", "drop_path": 0.2},
    "image": {"size": 32},
    "head": {"dropout": 0.3},
    "schedule": {"name": "constant", "epochs": 3},
}

RESUMED: dict[str, dict[str, Any]] = {
    "basic_cnn with dropout": {"model": {**BASIC_CNN, "block_dropout": 0.1, "input_dropout": 0.1}},
    "resnet10t with drop path": RESNET,
    "sgd": {"optimizer": {"name": "sgd", "lr": 0.01}},
    "momentum": {"optimizer": {"name": "sgd", "lr": 0.01, "momentum": 0.9, "nesterov": True}},
    "rmsprop": {"optimizer": {"name": "rmsprop", "momentum": 0.5, "centered": True}},
    "adam": {"optimizer": {"name": "adam", "amsgrad": True}},
    "adamw": {"optimizer": {"name": "adamw", "weight_decay": 0.1}},
    "nadam": {"optimizer": {"name": "nadam", "weight_decay": 0.1}},
    "adamax": {"optimizer": {"name": "adamax"}},
    "adadelta": {"optimizer": {"name": "adadelta"}},
    "cosine": {"schedule": {"name": "cosine", "epochs": 5, "warmup_epochs": 1}},
    "one cycle": {"schedule": {"name": "one_cycle", "epochs": 5}},
    "step": {"schedule": {"name": "step", "epochs": 5, "milestones": [3]}},
    "step counted in steps, two batches a step": {
        "schedule": {"name": "step", "unit": "step", "epochs": 5, "milestones": [5]},
        "accumulate": 2,
    },
    "plateau and early stopping": {
        "schedule": {"name": "plateau", "epochs": 9, "patience": 0, "factor": 0.5, "threshold": 0.2},
        "early_stopping": {"metric": "val/age_mae", "patience": 4, "min_delta": 5.0},
    },
    "swa": {
        "model": {**BASIC_CNN, "block_dropout": 0.1},
        "averaging": {"name": "swa", "start_epoch": 1, "lr": 0.001, "anneal_epochs": 2},
    },
    "swa that starts after the checkpoint": {"averaging": {"name": "swa", "start_epoch": 3}},
    "ema": {"averaging": {"name": "ema", "decay": 0.8}},
    "channels last": {"compute": {"channels_last": True}},
    "channels last, nadam, ema": {
        "compute": {"channels_last": True},
        "optimizer": {"name": "nadam"},
        "averaging": {"name": "ema", "decay": 0.8},
    },
    "a cascade": {
        "model": {"name": "cascade", "base": BASIC_CNN},
        "head": {"hidden": [8], "batch_norm": True},
        "batch_size": 5,
    },
    "a cascade by race, swa": {
        "model": {"name": "cascade", "by": "race", "base": BASIC_CNN},
        "averaging": {"name": "swa", "start_epoch": 1},
        "age": {"encoding": "coral"},
    },
    "frozen layers": {"model": {**BASIC_CNN, "freeze": {"first": 2}}, "optimizer": {"name": "nadam"}},
    "frozen layers, swa": {
        "model": {**BASIC_CNN, "freeze": {"all_but_last": 2}},
        "averaging": {"name": "swa", "start_epoch": 1},
    },
    "a frozen backbone, ema": {
        "model": {**BASIC_CNN, "freeze": "backbone"},
        "averaging": {"name": "ema", "decay": 0.8},
    },
    "bf16": {"compute": {"amp": "bf16"}},
    "bf16, two batches a step, swa": {
        "compute": {"amp": "bf16"},
        "accumulate": 2,
        "averaging": {"name": "swa", "start_epoch": 1},
    },
    "a head without loss": {"loss": {"weights": {"race": 0.0}}},
    "ordinal ages": {"age": {"encoding": "ordinal"}},
    "coral ages": {"age": {"encoding": "coral"}},
    "age and gender in one head": {"age": {"encoding": "joint_gender"}},
    "learned weights": {"loss": {"balance": "uncertainty"}},
    "learned weights with decay": {
        "loss": {"balance": "uncertainty"},
        "optimizer": {"name": "sgd", "momentum": 0.9, "weight_decay": 0.1},
    },
    "phases": {
        "loss": {"phases": [{"from_epoch": 2, "weights": {"gender": 4.0}}, {"from_epoch": 4, "weights": {"age": 0.1}}]}
    },
    "weighted images": {"loss": {"class_weights": "complement", "age_density": "lds", "label_smoothing": 0.1}},
    "mixup": {"mixup": {"alpha": 0.4}},
    "mixup over several batches a step": {"mixup": {"alpha": 0.4}, "accumulate": 3},
}


def _weights(training: Training) -> dict[str, torch.Tensor]:
    return dict(training._predictor.model.state_dict())


def _timeless(reports: list[EpochReport]) -> list[dict[str, Any]]:
    documents = [report.to_json() for report in reports]
    for document in documents:
        document["metrics"] = {
            name: value for name, value in document["metrics"].items() if not name.startswith("time/")
        }
    return documents


def _train(training: Training, *, until: int | None = None) -> Training:
    while not training.finished and training.epochs_done != until:
        training.run_epoch()
    return training


def _saved(make_config: MakeConfig, data: Any, objective: Objective, folder: Path, *, epochs: int = 2) -> TrialConfig:
    config = make_config()
    _train(Training(config, data, objective), until=epochs).save(folder)
    return config


@pytest.mark.parametrize("case", RESUMED)
def test_a_resumed_training_equals_the_uninterrupted_one_to_the_last_bit(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path, case: str
) -> None:
    config = make_config(**{"model": BASIC_CNN, "schedule": {"name": "constant", "epochs": 5}} | RESUMED[case])
    data.size = config.image.size
    whole = _train(Training(config, data, objective))

    _train(Training(config, data, objective), until=2).save(tmp_path)
    torch.rand(7)  # generators elsewhere than where the checkpoint was written
    resumed = Training(config, data, objective)
    resumed.restore(tmp_path)
    assert resumed.epochs_done == 2
    _train(resumed)

    assert whole.epochs_done > 2
    assert _timeless(resumed.reports) == _timeless(whole.reports)
    for name, tensor in _weights(whole).items():
        assert torch.equal(tensor, _weights(resumed)[name]), name
    whole.save(tmp_path / "whole")
    resumed.save(tmp_path / "resumed")
    for file in (checkpoint.LAST, BEST):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "resumed" / file).read_bytes()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("amp", ["none", "bf16", "fp16"])
@pytest.mark.parametrize("optimizer", ["adam", "nadam", "rmsprop"])
def test_a_resumed_training_on_a_gpu_equals_the_uninterrupted_one_to_the_last_bit(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path, amp: str, optimizer: str
) -> None:
    config = make_config(model=BASIC_CNN, optimizer=optimizer, compute={"device": "cuda", "amp": amp})
    whole = _train(Training(config, data, objective))
    _train(Training(config, data, objective), until=2).save(tmp_path)
    resumed = Training(config, data, objective)
    resumed.restore(tmp_path)
    _train(resumed)
    assert _timeless(resumed.reports) == _timeless(whole.reports)
    assert all(torch.equal(tensor, _weights(resumed)[name]) for name, tensor in _weights(whole).items())


def test_learned_weights_are_in_the_checkpoint_and_do_not_decay(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path
) -> None:
    config = make_config(loss={"balance": "uncertainty"}, optimizer={"name": "adamw", "weight_decay": 0.5})
    training = _train(Training(config, data, objective), until=2)
    training.save(tmp_path)
    last = load_file(tmp_path / "last.safetensors")
    learned = dict(training._predictor.loss.named_parameters())
    assert set(learned) == {f"log_variances.{task}" for task in config.tasks}
    for name, parameter in learned.items():
        assert parameter.item() != 0
        assert last[f"loss.{name}"].item() == parameter.item()
        assert f"optimizer.exp_avg.loss.{name}" in last
    assert "loss" not in {name.split(".")[0] for name in load_file(tmp_path / "best.safetensors")}
    decays = {id(p): group["weight_decay"] for group in training._parts.optimizer.param_groups for p in group["params"]}
    assert {decays[id(parameter)] for parameter in learned.values()} == {0.0}
    assert {decays[id(parameter)] for parameter in training._predictor.model.parameters()} == {0.5}


def test_a_tensor_under_two_names_and_one_out_of_order_are_kept_as_they_are() -> None:
    tensor = torch.arange(6.0).view(2, 3)
    tensors = checkpoint.TensorFile.of({"one": tensor, "tied": tensor, "transposed": tensor.T}).tensors()
    assert torch.equal(tensors["one"], tensor)
    assert torch.equal(tensors["tied"], tensor)
    assert torch.equal(tensors["transposed"], tensor.T)


def test_a_checkpoint_is_tensors_predictions_and_json_and_nothing_else(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path
) -> None:
    training = _train(Training(make_config(), data, objective), until=2)
    training.save(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == set(FILES)
    state = json.loads((tmp_path / "state.json").read_text())
    assert (state["schema"], state["stage"], state["epochs_done"]) == (2, 0, 2)
    assert state["kept_epochs"] == {"best": training.best_epoch}
    assert [report["epoch"] for report in state["loop"]["reports"]] == [1, 2]
    last = load_file(tmp_path / "last.safetensors")
    for name, tensor in _weights(training).items():
        assert torch.equal(last[f"weights.{name}"], tensor)
    parameters = [name for name, _ in training._predictor.model.named_parameters()]
    assert {f"optimizer.exp_avg.{name}" for name in parameters} < last.keys()


def test_best_weights_are_those_of_the_best_epoch(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path
) -> None:
    training = Training(
        make_config(optimizer={"name": "adam", "lr": 0.03}, schedule={"name": "constant", "epochs": 8}), data, objective
    )
    weights = []
    while not training.finished:
        training.run_epoch()
        training.save(tmp_path)
        weights.append({name: tensor.clone() for name, tensor in _weights(training).items()})
    assert training.best_epoch is not None
    assert training.best_epoch < 8, "the test needs an epoch after the best one"
    best = load_file(tmp_path / "best.safetensors")
    assert best.keys() == weights[0].keys()
    for name, tensor in weights[training.best_epoch - 1].items():
        assert torch.equal(best[name], tensor)


def test_best_weights_are_rewritten_only_by_a_better_epoch(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path
) -> None:
    training = Training(
        make_config(optimizer={"name": "adam", "lr": 0.03}, schedule={"name": "constant", "epochs": 8}), data, objective
    )
    rewritten = []
    while not training.finished:
        training.run_epoch()
        before = (tmp_path / "best.safetensors").stat().st_ino if training.epochs_done > 1 else None
        training.save(tmp_path)
        if (tmp_path / "best.safetensors").stat().st_ino != before:
            rewritten.append(training.epochs_done)
    values = [report.metrics["val/age_mae"] for report in training.reports]
    assert rewritten == [epoch + 1 for epoch in range(8) if values[epoch] == min(values[: epoch + 1])]
    assert len(rewritten) < 8


def test_a_restored_training_carries_the_best_weights_to_its_own_folder(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path
) -> None:
    config = _saved(make_config, data, objective, tmp_path / "first")
    resumed = Training(config, data, objective)
    resumed.restore(tmp_path / "first")
    resumed.save(tmp_path / "second")
    for file in FILES:
        assert (tmp_path / "second" / file).read_bytes() == (tmp_path / "first" / file).read_bytes()


@pytest.mark.parametrize("file", FILES)
def test_a_missing_file_is_refused(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path, file: str
) -> None:
    config = _saved(make_config, data, objective, tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(CheckpointError, match=f"{file} cannot be read"):
        Training(config, data, objective).restore(tmp_path)


@pytest.mark.parametrize("file", [checkpoint.LAST, BEST, SAID])
@pytest.mark.parametrize("damage", ["cut short", "one bit"])
def test_a_damaged_file_is_refused_and_nothing_of_it_is_taken(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path, file: str, damage: str
) -> None:
    config = _saved(make_config, data, objective, tmp_path)
    content = bytearray((tmp_path / file).read_bytes())
    if damage == "one bit":
        content[-5] ^= 1
    else:
        del content[-100:]
    (tmp_path / file).write_bytes(content)
    training = Training(config, data, objective)
    before = {name: tensor.clone() for name, tensor in _weights(training).items()}
    with pytest.raises(CheckpointError, match=f"{file} is damaged or of another epoch"):
        training.restore(tmp_path)
    assert training.epochs_done == 0
    assert all(torch.equal(before[name], tensor) for name, tensor in _weights(training).items())


def test_a_state_that_is_not_json_is_refused(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path
) -> None:
    config = _saved(make_config, data, objective, tmp_path)
    state = (tmp_path / "state.json").read_text()
    (tmp_path / "state.json").write_text(state[: len(state) // 2])
    with pytest.raises(CheckpointError, match=r"state\.json cannot be read"):
        Training(config, data, objective).restore(tmp_path)


@pytest.mark.parametrize("document", ["[]", "{}", '{"schema": 3, "stage": 0}', '{"schema": 2, "stage": 1}'])
def test_a_checkpoint_of_another_schema_or_stage_is_refused(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path, document: str
) -> None:
    config = _saved(make_config, data, objective, tmp_path)
    (tmp_path / "state.json").write_text(document)
    with pytest.raises(CheckpointError, match="not of schema 2"):
        Training(config, data, objective).restore(tmp_path)


def test_a_checkpoint_torn_between_two_epochs_is_refused(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path
) -> None:
    config = make_config()
    training = _train(Training(config, data, objective), until=1)
    training.save(tmp_path)
    state = (tmp_path / "state.json").read_bytes()
    training.run_epoch()
    training.save(tmp_path)
    (tmp_path / "state.json").write_bytes(state)
    with pytest.raises(CheckpointError, match="of another epoch"):
        Training(config, data, objective).restore(tmp_path)


def test_a_write_that_fails_leaves_the_checkpoint_before_it(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config()
    training = _train(Training(config, data, objective), until=1)
    training.save(tmp_path)
    training.run_epoch()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            training.save(tmp_path)
    resumed = Training(config, data, objective)
    resumed.restore(tmp_path)
    assert resumed.epochs_done == 1
    training.save(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == set(FILES)


@pytest.mark.parametrize("what", ["seed", "data", "split", "objective"])
def test_a_checkpoint_of_another_training_is_refused(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path, what: str
) -> None:
    config = _saved(make_config, data, objective, tmp_path)
    if what == "seed":
        config = make_config(seed=7)
    elif what == "data":
        data.data_digest = "e" * 64
    elif what == "split":
        data.split_digest = "6" * 64
    else:
        objective = Objective(metric="val/loss", direction="minimize")
    with pytest.raises(CheckpointError, match="is of another training"):
        Training(config, data, objective).restore(tmp_path)


def test_the_same_data_at_another_address_is_the_same_training(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path
) -> None:
    _saved(make_config, data, objective, tmp_path)
    moved = Training(make_config(data={"source": "s3://elsewhere/faces"}), data, objective)
    moved.restore(tmp_path)
    assert moved.epochs_done == 2


def test_an_epoch_that_was_broken_off_is_not_saved_but_can_be_restored_from_before(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path
) -> None:
    config = make_config()
    whole = _train(Training(config, data, objective), until=2)
    training = _train(Training(config, data, objective), until=1)
    training.save(tmp_path)

    def interrupt(loss: Any) -> Any:
        raise KeyboardInterrupt

    scale, training._parts.scaler.scale = training._parts.scaler.scale, interrupt
    with pytest.raises(KeyboardInterrupt):
        training.run_epoch()
    with pytest.raises(AssertionError, match="broken off"):
        training.save(tmp_path)
    training._parts.scaler.scale = scale
    training.restore(tmp_path)
    training.run_epoch()
    assert _timeless(training.reports) == _timeless(whole.reports)


def test_stored_weights_evaluate_to_the_figures_reported_in_training(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path
) -> None:
    config = make_config()
    training = _train(Training(config, data, objective))
    training.save(tmp_path)
    assert training.best_epoch is not None
    best = training.reports[training.best_epoch - 1]
    again = evaluate_part(config, data, tmp_path / "best.safetensors", "val")
    assert dict(again.metrics) == {name: value for name, value in best.metrics.items() if name.startswith("val/")}
    assert again.tables == best.tables


@pytest.mark.parametrize("model", [BASIC_CNN, {"name": "cascade", "base": BASIC_CNN}], ids=["one network", "a cascade"])
def test_what_is_kept_of_the_val_part_gives_the_best_epochs_figures_again(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path, model: dict[str, Any]
) -> None:
    config = make_config(tasks=["age", "gender", "race"], model=model, averaging={"name": "ema", "decay": 0.8})
    training = _train(Training(config, data, objective))
    training.save(tmp_path)
    assert training.best_epoch is not None
    best = training.reports[training.best_epoch - 1].metrics

    said = Predictions.from_parquet((tmp_path / SAID).read_bytes(), source=SAID)

    assert said.sample_ids == tuple(data.sample_ids("val"))
    told = {}
    for name in best:
        values = image_values(said, name.removeprefix("val/")) if name.startswith("val/") else None
        if values is not None:
            told[name] = pytest.approx(values[~torch.isnan(torch.from_numpy(values)).numpy()].mean(), abs=1e-12)
    assert {name: best[name] for name in told} == told
    assert told.keys() >= {
        *("val/age_mae", "val/age_cs5", "val/age_f1.utk7", "val/age_acc.adience8", "val/age_acc1off.utk4"),
        *("val/gender_acc", "val/gender_f1", "val/race_acc", "val/race_recall", "val/race_precision"),
    }
    again = evaluate_part(config, data, tmp_path / BEST, "val").predictions
    assert again.to_parquet() == (tmp_path / SAID).read_bytes()


def test_a_checkpoint_of_before_there_were_predictions_is_gone_on_from(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path
) -> None:
    config = make_config()
    whole = _train(Training(config, data, objective))
    _train(Training(config, data, objective), until=2).save(tmp_path)
    (tmp_path / SAID).unlink()
    state = json.loads((tmp_path / checkpoint.STATE).read_text())
    del state["sha256"][SAID]
    (tmp_path / checkpoint.STATE).write_text(json.dumps(state))

    resumed = Training(config, data, objective)
    resumed.restore(tmp_path)
    resumed.save(tmp_path / "again")

    assert {file.name for file in (tmp_path / "again").iterdir()} == {*FILES} - {SAID}
    assert _timeless(_train(resumed).reports) == _timeless(whole.reports)


def test_the_test_part_is_named_in_its_figures(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path
) -> None:
    config = _saved(make_config, data, objective, tmp_path)
    report = evaluate_part(config, data, tmp_path / "best.safetensors", "test")
    assert {name.split("/")[0] for name in [*report.metrics, *report.tables]} == {"test"}
    assert sum(map(sum, report.tables["test/gender_confusion"]["counts"])) == data.counts["test"]


def test_a_foreign_part_is_judged_by_its_own_kind_of_ages(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path
) -> None:
    config = _saved(make_config, data, objective, tmp_path)
    own = {"loss", "age_loss", "age_acc", "age_f1"}

    def figures(*ranges: tuple[float, float]) -> set[str]:
        data.counts["test.far"] = 12
        data.foreign["test.far"] = AgeLabels("range", list(ranges))
        report = evaluate_part(config, data, tmp_path / "best.safetensors", "test.far")
        assert {name.split("/")[0] for name in report.metrics} == {"test.far"}
        return {name.removeprefix("test.far/") for name in report.metrics}

    whole, cut = figures((0, 2), (41, 65)), figures((0, 2), (20, 45))  # utk7 has an edge at 41
    assert "age_interval_mae" in whole & cut
    assert "age_mae" not in whole | cut
    assert whole >= own
    assert not any(name.split(".")[0] in own and "utk" not in name for name in cut)
    assert {"gender_loss", "race_acc"} <= cut
    assert "age_acc.utk7" in whole - cut


def test_weights_of_another_model_are_refused(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path
) -> None:
    _saved(make_config, data, objective, tmp_path)
    other = make_config(model={**BASIC_CNN, "hidden": 17})
    with pytest.raises(CheckpointError, match="are of another model"):
        evaluate_part(other, data, tmp_path / "best.safetensors", "val")


@pytest.mark.parametrize("content", [None, b"not safetensors"])
def test_weights_that_cannot_be_read_are_refused(
    make_config: MakeConfig, data: Any, tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "best.safetensors"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be read"):
        evaluate_part(make_config(), data, file, "val")


def test_the_baseline_is_the_mean_age_and_the_most_frequent_class_of_training(data: Any) -> None:
    train, val = data.labels("train"), data.labels("val")
    figures = majority_baseline(data)
    assert figures["val/age_mae"] == pytest.approx((val.age - train.age.mean()).abs().mean().item(), rel=1e-6)
    assert figures["val/gender_acc"] == pytest.approx((val.gender == train.gender.mode().values).float().mean().item())
    assert figures["val/race_acc"] == pytest.approx((val.race == train.race.mode().values).float().mean().item())


KEEP = {
    "gender": Objective(metric="val/gender_acc", direction="maximize"),
    "first": Objective(metric="val/age_mae", direction="maximize"),
    "again": Objective(metric="val/age_mae", direction="minimize"),
}


def test_the_weights_of_the_best_epoch_are_kept_for_each_label(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path
) -> None:
    training = Training(
        make_config(optimizer={"name": "adam", "lr": 0.03}, schedule={"name": "constant", "epochs": 6}),
        data,
        objective,
        KEEP,
    )
    weights = []
    while not training.finished:
        training.run_epoch()
        training.save(tmp_path)
        weights.append({name: tensor.clone() for name, tensor in _weights(training).items()})
    for label, of_label in {"best": objective, **KEEP}.items():
        values = [of_label.value(report.metrics) for report in training.reports]
        epoch = 1 + values.index(max(values) if of_label.direction == "maximize" else min(values))
        assert training.kept_epochs[label] == epoch
        kept = load_file(tmp_path / f"{label}.safetensors")
        assert all(torch.equal(kept[name], tensor) for name, tensor in weights[epoch - 1].items())
    assert training.kept_epochs["again"] == training.kept_epochs["best"] != training.kept_epochs["first"]


def test_what_is_kept_for_a_label_survives_a_resume_to_the_last_bit(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path
) -> None:
    config = make_config(optimizer={"name": "adam", "lr": 0.03}, schedule={"name": "constant", "epochs": 6})
    whole = _train(Training(config, data, objective, KEEP))
    whole.save(tmp_path / "whole")
    _train(Training(config, data, objective, KEEP), until=3).save(tmp_path / "half")
    resumed = Training(config, data, objective, KEEP)
    resumed.restore(tmp_path / "half")
    _train(resumed).save(tmp_path / "resumed")
    for file in ("best.safetensors", *(f"{label}.safetensors" for label in KEEP), "last.safetensors"):
        assert (tmp_path / "resumed" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_a_checkpoint_that_keeps_for_other_labels_is_of_another_training(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path
) -> None:
    _train(Training(make_config(), data, objective), until=1).save(tmp_path)
    with pytest.raises(CheckpointError, match="is of another training"):
        Training(make_config(), data, objective, KEEP).restore(tmp_path)


def test_a_label_s_metric_must_be_reported(make_config: MakeConfig, data: Any, objective: Objective) -> None:
    keep = {"age": Objective(metric="val/age_ac", direction="maximize")}
    with pytest.raises(ConfigError, match=r"keep\.age\.metric is 'val/age_ac', which this trial does not report"):
        Training(make_config(), data, objective, keep)
