"""A small data set in memory with what the trainer asks of its data, and the configurations trained on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from agr_core.config import TrialConfig
from agr_core.data.batch import AgeLabels, Batch, Labels
from agr_core.labels.attributes import Vocabulary
from agr_core.objective import Objective


@dataclass
class MemoryData:
    """Noise images whose brightness tells the age, whose left half the gender, whose top half the race."""

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
    def num_train(self) -> int:
        return self.counts["train"]

    images_per_epoch = num_train

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.num_train // (self.batch_size * self.accumulate))

    def labels(self, part: str) -> Labels:
        return self._part(part).labels

    def sample_ids(self, part: str) -> list[str]:
        return [f"{part}-{row}" for row in range(self.counts[part])]

    def train_batches(self, epoch: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(1000 * self.seed + epoch)
        order = torch.randperm(self.num_train, generator=generator)
        return self._cut(self._part("train"), order)

    def batches(self, part: str) -> Iterator[Batch]:
        return self._cut(self._part(part), torch.arange(self.counts[part]))

    def _cut(self, whole: Batch, order: torch.Tensor) -> Iterator[Batch]:
        for rows in order.split(self.batch_size):
            labels = Labels(**{name: getattr(whole.labels, name)[rows] for name in Labels.__annotations__})
            yield Batch(images=whole.images[rows], labels=labels, rows=whole.rows[rows])

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
    """Configurations for ``MemoryData``: ``make_config(model=..., ...)`` replaces whole parts."""

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
