"""The encoding without bins: years, ranges, and outputs squeezed by a sigmoid."""

from __future__ import annotations

import pytest
import torch

from agr_core.config import TrialConfig
from agr_core.errors import DataError
from agr_core.labels.encodings import build_encoding

from .conftest import ALL_AGES, encoding_of, exact, perfect_logits, ranged


@pytest.mark.parametrize(
    "more", [{}, {"center": 33.3, "scale": 19.9}, {"center": 0.0, "scale": 117.0, "output": "sigmoid"}]
)
def test_regression_gives_back_the_years(more: dict[str, object]) -> None:
    encoding = encoding_of({"encoding": "regression"} | more)
    labels = exact([float(age) for age in ALL_AGES])
    logits = perfect_logits(encoding, encoding.target(labels))
    assert encoding.years(logits).tolist() == pytest.approx(ALL_AGES, abs=1e-3)
    assert encoding.bins is None
    assert encoding.bin_index(logits) is None


def test_regression_years_are_clipped_to_the_ages_faces_have() -> None:
    years = encoding_of({"encoding": "regression"}).years(torch.tensor([[-2.0], [0.0], [1.0], [9.0]]))
    assert years.tolist() == [0.0, 35.0, 55.0, 116.0]


@pytest.mark.parametrize("loss", ["l1", "mse", "smooth_l1"])
def test_regression_on_a_range_costs_the_distance_to_the_range(loss: str) -> None:
    encoding = encoding_of({"encoding": "regression", "loss": loss, "center": 0.0, "scale": 100.0})
    ranges = [(25.0, 32.0)] * 4
    logits = torch.tensor([[0.26], [0.31], [0.22], [0.52]], requires_grad=True)  # inside, inside, 3 below, 20 above
    penalty = {"l1": lambda d: d, "mse": lambda d: d * d, "smooth_l1": lambda d: d * d / 0.1 if d < 0.05 else d - 0.025}
    value = encoding.loss(logits, ranged(ranges))
    assert value.item() == pytest.approx((penalty[loss](0.03) + penalty[loss](0.20)) / 4, rel=1e-4)
    (gradient,) = torch.autograd.grad(value, logits)
    assert gradient.sign().squeeze(1).tolist() == [0, 0, -1, 1]


def test_center_and_scale_make_the_target_a_z_score() -> None:
    ages = torch.tensor([3.0, 20.0, 34.0, 61.0])
    mean, deviation = ages.mean().item(), ages.std(correction=0).item()
    target = encoding_of({"encoding": "regression", "center": mean, "scale": deviation}).target(exact(ages.tolist()))
    assert target.mean().item() == pytest.approx(0.0, abs=1e-6)
    assert target.std(correction=0).item() == pytest.approx(1.0, abs=1e-6)


def test_a_sigmoid_reads_age_as_a_share_of_the_oldest() -> None:
    encoding = encoding_of({"encoding": "regression", "center": 0.0, "scale": 65.0, "output": "sigmoid", "loss": "mse"})
    assert encoding.target(exact([0.0, 13.0, 65.0])).tolist() == pytest.approx([0.0, 0.2, 1.0])
    assert encoding.years(torch.tensor([[-99.0], [0.0], [99.0]])).tolist() == pytest.approx([0.0, 32.5, 65.0])
    loss = encoding.loss(torch.tensor([[0.0]]), exact([13.0]))
    assert loss.item() == pytest.approx((0.5 - 0.2) ** 2)


def test_a_sigmoid_that_cannot_reach_the_oldest_ages_is_refused() -> None:
    config = TrialConfig.from_document(
        {"age": {"encoding": "regression", "center": 0, "scale": 65, "output": "sigmoid"}}
    ).age
    build_encoding(config, ranges=[(1, 1), (60, 100)])
    with pytest.raises(DataError, match=r"age.scale=65 .* reaches no age above 65, .* ages up to 80: raise age.scale"):
        build_encoding(config, ranges=[(1, 1), (80, 80)])


def test_a_sigmoid_around_a_center_is_refused() -> None:
    with pytest.raises(ValueError, match=r"reaches the ages 35 to 55 only: set center to 0 and scale to the oldest"):
        TrialConfig.from_document({"age": {"encoding": "regression", "output": "sigmoid"}})
