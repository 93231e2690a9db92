"""Labels and outputs drawn at random, and the figures of a part made of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from agr_core.batch import Labels
from agr_core.config import LossWeights, TrialConfig
from agr_core.evaluation.metrics import PartMetrics
from agr_core.labels.attributes import GENDERS, UTKFACE_RACES, Vocabulary
from agr_core.labels.encodings import build_encoding

FAIRFACE_RANGES = [(0, 2), (3, 9), (10, 19), (20, 29), (30, 39), (40, 49), (50, 59), (60, 69), (70, 116)]
ENCODINGS: dict[str, dict[str, Any]] = {
    "regression": {"encoding": "regression"},
    "onehot": {"encoding": "onehot", "bins": "fairface9"},
    "ordinal": {"encoding": "ordinal", "bins": "fairface9"},
    "label_distribution": {"encoding": "label_distribution", "bins": "fairface9"},
    "corn": {"encoding": "corn", "bins": "fairface9"},
    "younger_than": {"encoding": "younger_than", "bins": "fairface9"},
    "joint_gender": {"encoding": "joint_gender", "bins": "fairface9"},
}


VOCABULARY = Vocabulary(genders=GENDERS, races=UTKFACE_RACES)


def config_of(encoding: str = "onehot", tasks: tuple[str, ...] = ("age", "gender", "race")) -> TrialConfig:
    return TrialConfig.from_document({"tasks": list(tasks), "age": ENCODINGS[encoding]})


def labels_of(images: int, *, kind: str, seed: int = 0, unknown: float = 0.0) -> Labels:
    rng = np.random.default_rng(seed)
    if kind == "range":
        low, high = np.array(FAIRFACE_RANGES, dtype=np.float32)[rng.integers(0, 9, images)].T
    else:
        low = high = rng.integers(0, 117, images).astype(np.float32)
    age = (low + high) / 2
    hidden = rng.random((3, images)) < unknown
    return Labels(
        age=torch.tensor(np.where(hidden[0], np.nan, age), dtype=torch.float32),
        age_low=torch.tensor(np.where(hidden[0], np.nan, low), dtype=torch.float32),
        age_high=torch.tensor(np.where(hidden[0], np.nan, high), dtype=torch.float32),
        gender=torch.tensor(np.where(hidden[1], -1, rng.integers(0, 2, images))),
        race=torch.tensor(np.where(hidden[2], -1, rng.integers(0, 5, images))),
    )


def logits_of(config: TrialConfig, images: int, *, seed: int = 0) -> dict[Any, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    widths = {"age": build_encoding(config.age).outputs, "gender": 2, "race": 5}
    return {task: torch.randn(images, widths[task], generator=generator) for task in config.tasks}


def part_of(
    config: TrialConfig,
    labels: Labels,
    logits: dict[Any, Tensor],
    *,
    kind: Any,
    batch_size: int = 50,
    loss_weights: LossWeights | None = LossWeights(),  # noqa: B008 - cannot be changed
    **options: Any,
) -> tuple[dict[str, float], dict[str, Any]]:
    encoding = build_encoding(config.age)
    if config.age.encoding == "joint_gender" and "age" in logits:
        logits = logits | encoding.other_tasks(logits["age"])
    part = PartMetrics(encoding, config.tasks, VOCABULARY, kind, loss_weights=loss_weights, **options)
    for start in range(0, len(labels.age), batch_size):
        rows = slice(start, start + batch_size)
        batch = Labels(*(getattr(labels, name)[rows] for name in ("age", "age_low", "age_high", "gender", "race")))
        outputs = {task: logits[task][rows] for task in config.tasks}
        losses: dict[Any, Tensor] = {}
        for task in config.tasks:
            if task == "age":
                losses[task] = encoding.loss(outputs[task], batch)
            else:
                known = getattr(batch, task) >= 0
                loss = functional.cross_entropy(outputs[task], getattr(batch, task), reduction="sum", ignore_index=-1)
                losses[task] = loss / known.sum().clamp(min=1)
        weighted = [getattr(loss_weights or LossWeights(), task) * loss for task, loss in losses.items()]
        part.update(outputs, batch, losses, sum(weighted, torch.tensor(0.0)))
    return part.compute()
