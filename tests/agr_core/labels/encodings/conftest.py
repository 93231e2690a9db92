"""Fixtures: every encoding, its labels, and outputs that match a target exactly."""

from __future__ import annotations

import math
from typing import Any

import torch
from hypothesis import strategies as st
from pydantic import TypeAdapter
from torch import Tensor
from torch.nn import functional

from agr_core.batch import Labels
from agr_core.bins import MAX_AGE
from agr_core.config import AgeConfig
from agr_core.labels.encodings import AgeEncoding, build_encoding

ALL_AGES = list(range(MAX_AGE + 1))
HARD = ["onehot", "dex", "mean_variance", "joint_gender", "ordinal", "coral", "corn", "younger_than"]
"""Encodings whose target is one bin and nothing of its neighbours."""
SOFT = ["label_distribution", "dldl_v2", "sord"]
BINNED = [*HARD, *SOFT]
CUMULATIVE = ["ordinal", "coral", "corn", "younger_than"]
EVERY_ENCODING: list[dict[str, Any]] = [
    {"encoding": "regression", "loss": "l1"},
    {"encoding": "regression", "loss": "mse"},
    {"encoding": "regression", "loss": "smooth_l1"},
    {"encoding": "regression", "center": 0.0, "scale": 100.0},
    {"encoding": "regression", "center": 0.0, "scale": 116.0, "output": "sigmoid", "loss": "mse"},
    {"encoding": "onehot", "bins": "utk7"},
    {"encoding": "onehot", "bins": "year", "decode": "argmax"},
    {"encoding": "onehot", "bins": "every2", "decode": "median"},
    {"encoding": "dex"},
    {"encoding": "mean_variance"},
    {"encoding": "mean_variance", "bins": "utk4", "mean_weight": 0.0, "variance_weight": 0.001},
    {"encoding": "label_distribution", "bins": "year"},
    {"encoding": "label_distribution", "bins": "fairface9", "sigma": 5.0, "decode": "argmax"},
    {"encoding": "dldl_v2"},
    {"encoding": "dldl_v2", "sigma": 1.0, "expectation_weight": 0.3, "decode": "median"},
    {"encoding": "sord"},
    {"encoding": "sord", "bins": "utk7", "distance": "absolute", "scale": 5.0, "decode": "argmax"},
    {"encoding": "joint_gender", "bins": "adience8"},
    {"encoding": "ordinal", "bins": "every2"},
    {"encoding": "ordinal", "bins": [0, 18], "decode": "median"},
    {"encoding": "coral", "bins": "utk7"},
    {"encoding": "corn", "bins": "utk7"},
    {"encoding": "corn", "bins": "year", "decode": "median"},
    {"encoding": "younger_than", "bins": "adience8"},
    {"encoding": "younger_than", "bins": "utk4", "mirrored": True},
]
age_lists = st.lists(st.one_of(st.integers(0, 130).map(float), st.just(math.nan)), min_size=1, max_size=8)


def encoding_of(spec: dict[str, Any]) -> AgeEncoding:
    as_python = {key: tuple(value) if isinstance(value, list) else value for key, value in spec.items()}
    return build_encoding(TypeAdapter(AgeConfig).validate_python(as_python))


def exact(ages: list[float], genders: list[int] | None = None) -> Labels:
    age = torch.tensor(ages, dtype=torch.float32)
    unknown = torch.full((len(ages),), -1)
    gender = unknown if genders is None else torch.tensor(genders)
    return Labels(age=age, age_low=age, age_high=age, gender=gender, race=unknown)


def ranged(ranges: list[tuple[float, float]]) -> Labels:
    low, high = torch.tensor(ranges, dtype=torch.float32).unbind(dim=1)
    unknown = torch.full((len(ranges),), -1)
    return Labels(age=(low + high) / 2, age_low=low, age_high=high, gender=unknown, race=unknown)


def random_logits(encoding: AgeEncoding, images: int, *, seed: int, scale: float = 3.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(images, encoding.outputs, generator=generator) * scale


def perfect_logits(encoding: AgeEncoding, target: Tensor) -> Tensor:
    """Return outputs that match the target exactly."""
    match type(encoding).__name__:
        case "Regression" if encoding._config.output == "sigmoid":  # type: ignore[attr-defined]
            return target.unsqueeze(1).logit()
        case "Regression":
            return target.unsqueeze(1)
        case "Onehot" | "MeanVariance" | "JointGender":
            return functional.one_hot(target, encoding.outputs) * 40.0
        case "Ordinal" | "Coral" | "Corn":
            return target * 80.0 - 40.0
        case "YoungerThan":
            return functional.one_hot(target, 2).flatten(start_dim=1) * 40.0
        case _:
            return target.log()
