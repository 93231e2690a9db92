"""Every age encoding with every bins, sampler, and MixUp on and off, trains and decodes.

That every target decodes to what it was made from is in ``tests/agr_core/labels/encodings/test_encodings.py``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from agr_core.bins import MAX_AGE, SCHEMES
from agr_core.config import AgeConfig, BinnedAge, SplitConfig, SyntheticConfig, TrialConfig
from agr_core.data.loading.cache import open_pixels
from agr_core.data.loading.trial_data import TrialData
from agr_core.data.packed.pack import Packed, pack
from agr_core.data.splits.splits import make_split
from agr_core.evaluation.names import is_of_one_group
from agr_core.labels.encodings.ordinal import CoralLayer
from agr_core.objective import Objective
from agr_core.trainer.loop import Training

from .conftest import announced

AGES: dict[str, Any] = {
    get_args(age.model_fields["encoding"].annotation)[0]: age for age in get_args(get_args(AgeConfig)[0])
}
BINS: list[str | list[int]] = [*SCHEMES, [0, 18, 40]]
SAMPLERS: list[dict[str, Any]] = [
    {"name": "shuffle"},
    {"name": "weighted", "by": "age"},
    {"name": "oversample", "by": "age"},
]
OBJECTIVE = Objective(metric="val/age_mae", direction="minimize")

Train = Callable[..., Training]


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Train:
    """Trains an epoch of at least two steps of a tiny model on drawn faces, opened once."""
    folder = tmp_path_factory.mktemp("combinations")
    pack("synthetic", folder / "packed", synthetic=SyntheticConfig(images=48, size=16, seed=5))
    packed = Packed.open(folder / "packed")
    split = make_split(packed.table, SplitConfig(strategy="random", fractions=(0.67, 0.33, 0.0)))
    base = {
        "image": {"size": 16},
        "batch_size": 16,
        "model": {"name": "basic_cnn", "conv_layers": 1, "base_features": 2, "hidden": 4},
        "schedule": {"name": "constant", "epochs": 1},
    }
    pixels = open_pixels(packed, size=16, mode="decoded", folder=folder / "cache")

    def train_(**parts: Any) -> Training:
        config = TrialConfig.from_document(base | parts)
        data = TrialData(config, packed, split, pixels)
        assert data.steps_per_epoch >= 2
        training = Training(config, data, OBJECTIVE)
        before = {name: weight.detach().clone() for name, weight in _parameters(training).items()}
        training.run_epoch()
        _assert_trained(training, before)
        _assert_decodes(training, next(data.batches("val")).images)
        return training

    return train_


@pytest.mark.parametrize("mixup", [None, {"alpha": 0.4}], ids=["plain", "mixup"])
@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: sampler["name"])
@pytest.mark.parametrize("encoding", AGES)
def test_every_combination_trains_two_steps_and_decodes_to_the_ages_of_faces(
    train: Train, encoding: str, sampler: dict[str, Any], mixup: dict[str, float] | None
) -> None:
    binned = issubclass(AGES[encoding], BinnedAge)
    for more in [{"bins": bins} for bins in BINS] if binned else [{}, {"output": "sigmoid", "center": 0, "scale": 116}]:
        train(age={"encoding": encoding} | more, sampler=sampler, mixup=mixup)


def test_an_encoding_brings_its_own_last_layer(train: Train) -> None:
    heads = train(age={"encoding": "coral"})._predictor.model.heads
    assert type(heads["age"][-1]) is CoralLayer
    assert type(heads["gender"][-1]) is nn.Linear


@given(draw=st.data())
@settings(deadline=None, max_examples=25)
def test_any_loss_control_goes_with_any_encoding(train: Train, draw: st.DataObject) -> None:
    encoding = draw.draw(st.sampled_from(sorted(AGES)))
    loss = draw.draw(
        st.fixed_dictionaries(
            {
                "balance": st.sampled_from(["fixed", "uncertainty"]),
                "age_density": st.sampled_from(["inverse", "sqrt_inverse", "lds"]),
                "class_weights": st.sampled_from(["none", "complement"]),
                "label_smoothing": st.sampled_from([0.0, 0.001, 0.2]),
            }
        )
    )
    if loss["balance"] == "fixed":
        loss["phases"] = [{"from_epoch": 1, "weights": {"gender": draw.draw(st.sampled_from([0.0, 9.6]))}}]
    mixup = draw.draw(st.sampled_from([None, {"alpha": 0.1}, {"alpha": 5.0}]))
    train(age={"encoding": encoding}, loss=loss, mixup=mixup)


def _parameters(training: Training) -> dict[str, Tensor]:
    return dict(training._predictor.model.named_parameters())


def _assert_trained(training: Training, before: dict[str, Tensor]) -> None:
    config = training._config
    assert all(torch.isfinite(weight).all() for weight in _parameters(training).values()), config
    heads = {name.split(".")[1] for name in before if name.startswith("heads.")}
    assert heads == set(config.head_tasks)
    for head in heads:
        of_head = [name for name in before if name.startswith(f"heads.{head}.")]
        moved = any(not torch.equal(before[name], _parameters(training)[name]) for name in of_head)
        assert moved or config.loss.weights_in(1).model_dump()[head] == 0, (head, config)
    reported = {name for name in training.reports[-1].metrics if not is_of_one_group(name) and "gap" not in name}
    names = {name for name in announced(config) if not is_of_one_group(name) and "gap" not in name}
    assert reported == names, config


def _assert_decodes(training: Training, images: Tensor) -> None:
    predictor = training._predictor
    predictor.model.eval()
    with torch.inference_mode():
        logits = predictor.logits(predictor.normalize(images))
    years = predictor.encoding.years(logits["age"])
    assert years.shape == (len(images),)
    assert ((years >= 0) & (years <= MAX_AGE)).all(), training._config  # NaN is neither
    assert set(logits) == set(training._config.tasks)
    for task, classes in itertools.zip_longest(("gender", "race"), (2, 5)):
        assert logits[task].shape == (len(images), classes)
