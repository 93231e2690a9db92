"""A training that goes on from a checkpoint comes out as if nothing had happened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from agr_core.config import TrialConfig
from agr_core.errors import CheckpointError
from agr_core.objective import Objective
from agr_core.trainer import checkpoint
from agr_core.trainer.loop import Training

from .conftest import BASIC_CNN, BEST, FILES, KEEP, SAID, MakeConfig, saved, timeless, trained, weights_of

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


@pytest.mark.parametrize("case", RESUMED)
def test_a_resumed_training_equals_the_uninterrupted_one_to_the_last_bit(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path, case: str
) -> None:
    config = make_config(**{"model": BASIC_CNN, "schedule": {"name": "constant", "epochs": 5}} | RESUMED[case])
    data.size = config.image.size
    whole = trained(Training(config, data, objective))

    trained(Training(config, data, objective), until=2).save(tmp_path)
    torch.rand(7)  # generators elsewhere than where the checkpoint was written
    resumed = Training(config, data, objective)
    resumed.restore(tmp_path)
    assert resumed.epochs_done == 2
    trained(resumed)

    assert whole.epochs_done > 2
    assert timeless(resumed.reports) == timeless(whole.reports)
    for name, tensor in weights_of(whole).items():
        assert torch.equal(tensor, weights_of(resumed)[name]), name
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
    whole = trained(Training(config, data, objective))
    trained(Training(config, data, objective), until=2).save(tmp_path)
    resumed = Training(config, data, objective)
    resumed.restore(tmp_path)
    trained(resumed)
    assert timeless(resumed.reports) == timeless(whole.reports)
    assert all(torch.equal(tensor, weights_of(resumed)[name]) for name, tensor in weights_of(whole).items())


def test_what_is_kept_for_a_label_survives_a_resume_to_the_last_bit(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path
) -> None:
    config = make_config(optimizer={"name": "adam", "lr": 0.03}, schedule={"name": "constant", "epochs": 6})
    whole = trained(Training(config, data, objective, KEEP))
    whole.save(tmp_path / "whole")
    trained(Training(config, data, objective, KEEP), until=3).save(tmp_path / "half")
    resumed = Training(config, data, objective, KEEP)
    resumed.restore(tmp_path / "half")
    trained(resumed).save(tmp_path / "resumed")
    for file in ("best.safetensors", *(f"{label}.safetensors" for label in KEEP), "last.safetensors"):
        assert (tmp_path / "resumed" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_a_restored_training_carries_the_best_weights_to_its_own_folder(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path
) -> None:
    config = saved(make_config, data, objective, tmp_path / "first")
    resumed = Training(config, data, objective)
    resumed.restore(tmp_path / "first")
    resumed.save(tmp_path / "second")
    for file in FILES:
        assert (tmp_path / "second" / file).read_bytes() == (tmp_path / "first" / file).read_bytes()


def test_an_epoch_that_was_broken_off_is_not_saved_but_can_be_restored_from_before(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path
) -> None:
    config = make_config()
    whole = trained(Training(config, data, objective), until=2)
    training = trained(Training(config, data, objective), until=1)
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
    assert timeless(training.reports) == timeless(whole.reports)


def test_the_same_data_at_another_address_is_the_same_training(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path
) -> None:
    saved(make_config, data, objective, tmp_path)
    moved = Training(make_config(data={"source": "s3://elsewhere/faces"}), data, objective)
    moved.restore(tmp_path)
    assert moved.epochs_done == 2


def test_a_checkpoint_of_before_there_were_predictions_is_gone_on_from(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path
) -> None:
    config = make_config()
    whole = trained(Training(config, data, objective))
    trained(Training(config, data, objective), until=2).save(tmp_path)
    (tmp_path / SAID).unlink()
    state = json.loads((tmp_path / checkpoint.STATE).read_text())
    del state["sha256"][SAID]
    (tmp_path / checkpoint.STATE).write_text(json.dumps(state))

    resumed = Training(config, data, objective)
    resumed.restore(tmp_path)
    resumed.save(tmp_path / "again")

    assert {file.name for file in (tmp_path / "again").iterdir()} == {*FILES} - {SAID}
    assert timeless(trained(resumed).reports) == timeless(whole.reports)


LENGTHENED: dict[str, dict[str, Any]] = {
    "constant": {"schedule": {"name": "constant"}},
    "constant, momentum, ema": {
        "schedule": {"name": "constant"},
        "optimizer": {"name": "sgd", "lr": 0.01, "momentum": 0.9},
        "averaging": {"name": "ema", "decay": 0.8},
    },
    "step": {"schedule": {"name": "step", "every": 2}},
    "step with a milestone": {"schedule": {"name": "step", "milestones": [2]}},
    "plateau": {
        "schedule": {"name": "plateau", "patience": 0, "factor": 0.5, "threshold": 0.2},
        "early_stopping": {"metric": "val/age_mae", "patience": 5, "min_delta": 5.0},
    },
    "swa": {"schedule": {"name": "constant"}, "averaging": {"name": "swa", "start_epoch": 2, "lr": 0.001}},
}


@pytest.mark.parametrize("case", LENGTHENED)
def test_a_training_that_ended_and_gets_more_epochs_equals_the_long_one_to_the_last_bit(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path, case: str
) -> None:
    def config(epochs: int) -> TrialConfig:
        parts = {"model": BASIC_CNN, **LENGTHENED[case]}
        return make_config(**{**parts, "schedule": {**parts["schedule"], "epochs": epochs}})

    short = trained(Training(config(3), data, objective))
    assert short.finished
    short.save(tmp_path)
    long = Training(config(6), data, objective)
    long.restore(tmp_path)
    assert (long.epochs_done, long.finished) == (3, False)
    trained(long)
    whole = trained(Training(config(6), data, objective))
    assert timeless(long.reports) == timeless(whole.reports)
    for name, tensor in weights_of(whole).items():
        assert torch.equal(tensor, weights_of(long)[name]), name


@pytest.mark.parametrize(
    "schedule", [{"name": "cosine"}, {"name": "one_cycle"}, {"name": "step", "parts": 2}], ids=lambda each: each["name"]
)
def test_a_training_whose_first_epochs_depend_on_their_number_takes_no_shorter_one(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path, schedule: dict[str, Any]
) -> None:
    trained(Training(make_config(schedule={**schedule, "epochs": 2}), data, objective)).save(tmp_path)
    with pytest.raises(CheckpointError, match="is of another training"):
        Training(make_config(schedule={**schedule, "epochs": 4}), data, objective).restore(tmp_path)


def test_a_shorter_training_takes_no_longer_one(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path
) -> None:
    saved(make_config, data, objective, tmp_path, epochs=3)
    with pytest.raises(CheckpointError, match="has 3 epochs, and this training has 2"):
        Training(make_config(schedule={"name": "constant", "epochs": 2}), data, objective).restore(tmp_path)


def test_a_checkpoint_of_an_earlier_version_whose_identity_has_the_length_is_taken(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path
) -> None:
    config = saved(make_config, data, objective, tmp_path)
    training = Training(config, data, objective)
    state = json.loads((tmp_path / checkpoint.STATE).read_text())
    assert state["identity"] != training._earlier_identity
    (tmp_path / checkpoint.STATE).write_text(json.dumps({**state, "identity": training._earlier_identity}))
    training.restore(tmp_path)
    assert training.epochs_done == 2
