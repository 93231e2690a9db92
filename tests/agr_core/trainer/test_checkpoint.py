"""What a checkpoint holds, which weights it keeps, and when it is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from agr_core.errors import CheckpointError, ConfigError
from agr_core.objective import Objective
from agr_core.trainer import checkpoint
from agr_core.trainer.loop import Training

from .conftest import BEST, FILES, KEEP, SAID, MakeConfig, saved, trained, weights_of


def test_learned_weights_are_in_the_checkpoint_and_do_not_decay(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path
) -> None:
    config = make_config(loss={"balance": "uncertainty"}, optimizer={"name": "adamw", "weight_decay": 0.5})
    training = trained(Training(config, data, objective), until=2)
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
    training = trained(Training(make_config(), data, objective), until=2)
    training.save(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == set(FILES)
    state = json.loads((tmp_path / "state.json").read_text())
    assert (state["schema"], state["stage"], state["epochs_done"]) == (2, 0, 2)
    assert state["kept_epochs"] == {"best": training.best_epoch}
    assert [report["epoch"] for report in state["loop"]["reports"]] == [1, 2]
    last = load_file(tmp_path / "last.safetensors")
    for name, tensor in weights_of(training).items():
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
        weights.append({name: tensor.clone() for name, tensor in weights_of(training).items()})
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


@pytest.mark.parametrize("file", FILES)
def test_a_missing_file_is_refused(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path, file: str
) -> None:
    config = saved(make_config, data, objective, tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(CheckpointError, match=f"{file} cannot be read"):
        Training(config, data, objective).restore(tmp_path)


@pytest.mark.parametrize("file", [checkpoint.LAST, BEST, SAID])
@pytest.mark.parametrize("damage", ["cut short", "one bit"])
def test_a_damaged_file_is_refused_and_nothing_of_it_is_taken(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path, file: str, damage: str
) -> None:
    config = saved(make_config, data, objective, tmp_path)
    content = bytearray((tmp_path / file).read_bytes())
    if damage == "one bit":
        content[-5] ^= 1
    else:
        del content[-100:]
    (tmp_path / file).write_bytes(content)
    training = Training(config, data, objective)
    before = {name: tensor.clone() for name, tensor in weights_of(training).items()}
    with pytest.raises(CheckpointError, match=f"{file} is damaged or of another epoch"):
        training.restore(tmp_path)
    assert training.epochs_done == 0
    assert all(torch.equal(before[name], tensor) for name, tensor in weights_of(training).items())


def test_a_state_that_is_not_json_is_refused(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path
) -> None:
    config = saved(make_config, data, objective, tmp_path)
    state = (tmp_path / "state.json").read_text()
    (tmp_path / "state.json").write_text(state[: len(state) // 2])
    with pytest.raises(CheckpointError, match=r"state\.json cannot be read"):
        Training(config, data, objective).restore(tmp_path)


@pytest.mark.parametrize("document", ["[]", "{}", '{"schema": 3, "stage": 0}', '{"schema": 2, "stage": 1}'])
def test_a_checkpoint_of_another_schema_or_stage_is_refused(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path, document: str
) -> None:
    config = saved(make_config, data, objective, tmp_path)
    (tmp_path / "state.json").write_text(document)
    with pytest.raises(CheckpointError, match="not of schema 2"):
        Training(config, data, objective).restore(tmp_path)


@pytest.mark.parametrize("field", ["kept_epochs", "sha256", "loop"])
def test_a_state_with_a_part_of_another_form_is_refused(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path, field: str
) -> None:
    config = saved(make_config, data, objective, tmp_path)
    document = json.loads((tmp_path / "state.json").read_text())
    (tmp_path / "state.json").write_text(json.dumps(document | {field: [1]}))
    with pytest.raises(CheckpointError, match="does not fit this training"):
        Training(config, data, objective).restore(tmp_path)


def test_a_checkpoint_torn_between_two_epochs_is_refused(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path
) -> None:
    config = make_config()
    training = trained(Training(config, data, objective), until=1)
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
    training = trained(Training(config, data, objective), until=1)
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
    config = saved(make_config, data, objective, tmp_path)
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
        weights.append({name: tensor.clone() for name, tensor in weights_of(training).items()})
    for label, of_label in {"best": objective, **KEEP}.items():
        values = [of_label.value(report.metrics) for report in training.reports]
        epoch = 1 + values.index(max(values) if of_label.direction == "maximize" else min(values))
        assert training.kept_epochs[label] == epoch
        kept = load_file(tmp_path / f"{label}.safetensors")
        assert all(torch.equal(kept[name], tensor) for name, tensor in weights[epoch - 1].items())
    assert training.kept_epochs["again"] == training.kept_epochs["best"] != training.kept_epochs["first"]


def test_a_checkpoint_that_keeps_for_other_labels_is_of_another_training(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path
) -> None:
    trained(Training(make_config(), data, objective), until=1).save(tmp_path)
    with pytest.raises(CheckpointError, match="is of another training"):
        Training(make_config(), data, objective, KEEP).restore(tmp_path)


def test_a_label_s_metric_must_be_reported(make_config: MakeConfig, data: Any, objective: Objective) -> None:
    keep = {"age": Objective(metric="val/age_ac", direction="maximize")}
    with pytest.raises(ConfigError, match=r"keep\.age\.metric is 'val/age_ac', which this trial does not report"):
        Training(make_config(), data, objective, keep)
