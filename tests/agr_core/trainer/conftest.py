"""Fixtures: a small in-memory data set for the trainer, trainings on it, and their checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from agr_core.batch import AgeLabels, Batch, Labels
from agr_core.config import TrialConfig
from agr_core.evaluation.names import GPU_MEMORY, is_of_the_machine, metric_names
from agr_core.labels.attributes import Vocabulary
from agr_core.objective import Objective
from agr_core.reporting import EpochReport
from agr_core.trainer import checkpoint
from agr_core.trainer.loop import Training

MakeConfig = Callable[..., TrialConfig]

BEST = "best.safetensors"
SAID = "best.parquet"
FILES = (BEST, SAID, checkpoint.LAST, checkpoint.STATE)
"""Files of a checkpoint folder: kept weights, their predictions on the val part, and the state to resume from."""

BASIC_CNN = {"name": "basic_cnn", "conv_layers": 2, "base_features": 4, "hidden": 16, "dropout": 0.6}

KEEP = {
    "gender": Objective(metric="val/gender_acc", direction="maximize"),
    "first": Objective(metric="val/age_mae", direction="maximize"),
    "again": Objective(metric="val/age_mae", direction="minimize"),
}
"""Further labels for which the weights of the best epoch are kept."""


@dataclass
class MemoryData:
    """Noise images that encode age in brightness, gender in the left half and race in the top half."""

    size: int = 16
    channels: int = 3
    counts: dict[str, int] = field(default_factory=lambda: {"train": 50, "val": 20, "test": 10})
    batch_size: int = 16
    accumulate: int = 1
    seed: int = 42
    vocabulary: Vocabulary = field(default_factory=lambda: Vocabulary(("male", "female"), ("White", "Black", "Asian")))
    label_kind: str = "exact"
    age_ranges: frozenset[tuple[float, float]] = frozenset()
    foreign: dict[str, AgeLabels] = field(default_factory=dict)
    data_digest: str = "d" * 64
    split_digest: str = "5" * 64

    @property
    def images_per_epoch(self) -> int:
        return self.counts["train"]

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.images_per_epoch // (self.batch_size * self.accumulate))

    def labels(self, part: str) -> Labels:
        return self._part(part).labels

    def sample_ids(self, part: str) -> list[str]:
        return [f"{part}-{row}" for row in range(self.counts[part])]

    def train_batches(self, epoch: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(1000 * self.seed + epoch)
        order = torch.randperm(self.images_per_epoch, generator=generator)
        return self._cut(self._part("train"), order)

    def batches(self, part: str, *, augmented: bool = False) -> Iterator[Batch]:
        return self._cut(self._part(part), torch.arange(self.counts[part]))

    def _cut(self, batch: Batch, order: torch.Tensor) -> Iterator[Batch]:
        for rows in order.split(self.batch_size):
            labels = Labels(**{name: getattr(batch.labels, name)[rows] for name in Labels.__annotations__})
            yield Batch(images=batch.images[rows], labels=labels, rows=batch.rows[rows])

    def _part(self, part: str) -> Batch:
        count = self.counts[part]
        draw = torch.Generator().manual_seed(sum(map(ord, part)))
        age = torch.randint(0, 100, (count,), generator=draw).float()
        gender = torch.randint(0, 2, (count,), generator=draw)
        race = torch.randint(0, 3, (count,), generator=draw)
        images = torch.randint(0, 30, (count, self.channels, self.size, self.size), generator=draw)
        half = self.size // 2
        images += age.long().view(-1, 1, 1, 1)
        images[:, :, :, :half] += 60 * gender.view(-1, 1, 1, 1)
        images[:, :, :half, :] += 30 * race.view(-1, 1, 1, 1)
        older_than = torch.tensor([20.0 * k for k, _ in enumerate(self.vocabulary.attributes, start=1)])
        attributes = (age.unsqueeze(1) > older_than).float()
        attributes[::7] = float("nan")
        labels = Labels(age=age, age_low=age, age_high=age, gender=gender, race=race, attributes=attributes)
        return Batch(images=images.to(torch.uint8), labels=labels, rows=torch.arange(count))


@pytest.fixture
def data() -> MemoryData:
    return MemoryData()


@pytest.fixture
def objective() -> Objective:
    return Objective(metric="val/age_mae", direction="minimize")


@pytest.fixture
def make_config() -> Callable[..., TrialConfig]:
    """Return configurations for ``MemoryData``; ``make_config(model=..., ...)`` replaces whole parts."""

    def make(**parts: Any) -> TrialConfig:
        document = {
            "image": {"size": 16},
            "batch_size": 16,
            "model": {"name": "basic_cnn", "conv_layers": 2, "base_features": 4, "hidden": 16},
            "optimizer": {"name": "adam", "lr": 0.003},
            "schedule": {"name": "constant", "epochs": 4},
        }
        return TrialConfig.from_document(document | parts)

    return make


# ---- checkpoints


def trained(training: Training, *, until: int | None = None) -> Training:
    """Return the training after epoch ``until``, or at its end."""
    while not training.finished and training.epochs_done != until:
        training.run_epoch()
    return training


def saved(make_config: MakeConfig, data: Any, objective: Objective, folder: Path, *, epochs: int = 2) -> TrialConfig:
    """Write a checkpoint after the given number of epochs to ``folder``; return the configuration of the training."""
    config = make_config()
    trained(Training(config, data, objective), until=epochs).save(folder)
    return config


def weights_of(training: Training) -> dict[str, torch.Tensor]:
    """Return the model's current state; the tensors are not copied, so the next step changes them."""
    return dict(training._predictor.model.state_dict())


def timeless(reports: list[EpochReport]) -> list[dict[str, Any]]:
    """Return reports without durations."""
    documents = [report.to_json() for report in reports]
    for document in documents:
        document["metrics"] = {
            name: value for name, value in document["metrics"].items() if not is_of_the_machine(name)
        }
    return documents


def announced(config: TrialConfig, **given: Any) -> frozenset[str]:
    """Return the metrics that a trial on exact ages can report on this machine."""
    names = metric_names(config, "exact", **given)
    return names if torch.cuda.is_available() else names - {GPU_MEMORY}
