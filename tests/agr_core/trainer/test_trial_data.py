"""The trainer on the real data path: drawn faces, packed, split, cached, augmented."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from agr_core.config import SplitConfig, SyntheticConfig, TrialConfig
from agr_core.data.loading.trial_data import TrialData
from agr_core.data.packed.pack import Packed, pack
from agr_core.data.splits.splits import make_split, write_split
from agr_core.objective import Objective
from agr_core.trainer.loop import Training, evaluate_part, majority_baseline

Open = Callable[..., TrialData]

OBJECTIVE = Objective(metric="val/age_mae", direction="minimize")


@pytest.fixture(scope="module")
def open_data(tmp_path_factory: pytest.TempPathFactory) -> Open:
    folder = tmp_path_factory.mktemp("faces")
    pack("synthetic", folder / "packed", synthetic=SyntheticConfig(images=200, size=32))
    table = Packed.open(folder / "packed").table
    write_split(make_split(table, SplitConfig(strategy="random", seed=1)), folder / "split.parquet")

    def open_(config: TrialConfig, *, workers: int = 0) -> TrialData:
        return TrialData.open(
            config, packed=folder / "packed", split=folder / "split.parquet", cache=folder / "cache", workers=workers
        )

    return open_


def _config(**parts: Any) -> TrialConfig:
    return TrialConfig.from_document(
        {
            "image": {"size": 32},
            "batch_size": 32,
            "augment": "light",
            "sampler": {"name": "weighted", "by": "gender"},
            "model": {"name": "basic_cnn", "conv_layers": 3, "base_features": 4},
            "age": {"encoding": "regression"},
            "optimizer": {"name": "nadam", "lr": 0.003},
            "schedule": {"name": "cosine", "epochs": 3},
        }
        | parts
    )


def _trained(data: TrialData, config: TrialConfig, *, epochs: int = 3) -> Training:
    training = Training(config, data, OBJECTIVE)
    while training.epochs_done < epochs:
        training.run_epoch()
    return training


def _weights(training: Training) -> dict[str, torch.Tensor]:
    return dict(training._predictor.model.state_dict())


@pytest.mark.parametrize("color", ["rgb", "grey"])
def test_loader_workers_and_interruptions_change_no_bit(open_data: Open, tmp_path: Path, color: str) -> None:
    config = _config(image={"size": 32, "color": color})
    whole = _trained(open_data(config), config)
    _trained(open_data(config, workers=2), config, epochs=1).save(tmp_path)
    resumed = Training(config, open_data(config, workers=3), OBJECTIVE)
    resumed.restore(tmp_path)
    while not resumed.finished:
        resumed.run_epoch()
    for name, tensor in _weights(whole).items():
        assert torch.equal(tensor, _weights(resumed)[name]), name


def test_the_sealed_part_and_the_baseline_are_read_from_the_same_data(open_data: Open, tmp_path: Path) -> None:
    config = _config()
    data = open_data(config)
    _trained(data, config).save(tmp_path)
    test = evaluate_part(config, data, tmp_path / "best.safetensors", "test")
    assert sum(map(sum, test.tables["test/age_confusion"]["counts"])) == data.num_rows("test")
    ages = data.labels("train").age
    expected = (data.labels("val").age - ages.mean()).abs().mean().item()
    assert majority_baseline(data)["val/age_mae"] == pytest.approx(expected, rel=1e-5)
