"""Age encodings: targets, losses and decoding, each against NumPy, SciPy or a loop over images."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from scipy import stats
from torch import Tensor
from torch.nn import functional

from agr_core.config import AgeConfig
from agr_core.data.batch import Labels
from agr_core.errors import DataError
from agr_core.labels.bins import MAX_AGE, SCHEMES, Bins, nearest_year
from agr_core.labels.encodings import AGE_ENCODINGS, AgeEncoding, build_encoding

ALL_AGES = list(range(MAX_AGE + 1))
BINNED = ["onehot", "ordinal", "label_distribution"]
EVERY_ENCODING: list[dict[str, Any]] = [
    {"encoding": "regression", "loss": "l1"},
    {"encoding": "regression", "loss": "mse"},
    {"encoding": "regression", "loss": "smooth_l1"},
    {"encoding": "regression", "center": 0.0, "scale": 100.0},
    {"encoding": "onehot", "bins": "utk7"},
    {"encoding": "onehot", "bins": "year", "decode": "argmax"},
    {"encoding": "ordinal", "bins": "every2"},
    {"encoding": "ordinal", "bins": [0, 18]},
    {"encoding": "label_distribution", "bins": "year"},
    {"encoding": "label_distribution", "bins": "fairface9", "sigma": 5.0, "decode": "argmax"},
]
every_encoding = pytest.mark.parametrize("spec", EVERY_ENCODING, ids=lambda spec: "-".join(map(str, spec.values())))

age_lists = st.lists(st.one_of(st.integers(0, 130).map(float), st.just(math.nan)), min_size=1, max_size=8)


def encoding_of(spec: dict[str, Any]) -> AgeEncoding:
    as_python = {key: tuple(value) if isinstance(value, list) else value for key, value in spec.items()}
    return build_encoding(TypeAdapter(AgeConfig).validate_python(as_python))


def exact(ages: list[float]) -> Labels:
    age = torch.tensor(ages, dtype=torch.float32)
    unknown = torch.full((len(ages),), -1)
    return Labels(age=age, age_low=age, age_high=age, gender=unknown, race=unknown)


def ranged(ranges: list[tuple[float, float]]) -> Labels:
    low, high = torch.tensor(ranges, dtype=torch.float32).unbind(dim=1)
    unknown = torch.full((len(ranges),), -1)
    return Labels(age=(low + high) / 2, age_low=low, age_high=high, gender=unknown, race=unknown)


def random_logits(encoding: AgeEncoding, images: int, *, seed: int, scale: float = 3.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(images, encoding.outputs, generator=generator) * scale


def perfect_logits(encoding: AgeEncoding, target: Tensor) -> Tensor:
    """Outputs that say exactly what the target says."""
    name = type(encoding).__name__
    if name == "Regression":
        return target.unsqueeze(1)
    if name == "Onehot":
        return functional.one_hot(target, encoding.outputs) * 40.0
    if name == "Ordinal":
        return target * 80.0 - 40.0
    return target.log()


# Round trips ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bins", SCHEMES)
@pytest.mark.parametrize("name", BINNED)
def test_every_age_comes_back_as_its_bin(name: str, bins: str) -> None:
    # Half a year of deviation: with more, a narrow bin beside a wide one may rightly be the less likely of the two.
    encoding = encoding_of({"encoding": name, "bins": bins} | ({"sigma": 0.5} if name == "label_distribution" else {}))
    labels = exact([float(age) for age in ALL_AGES])
    decoded = encoding.bin_index(perfect_logits(encoding, encoding.target(labels)))
    assert decoded is not None
    assert decoded.dtype == torch.int64
    assert decoded.tolist() == Bins.from_spec(bins).index(ALL_AGES).tolist()


@pytest.mark.parametrize("bins", SCHEMES)
@pytest.mark.parametrize("name", ["onehot", "ordinal"])
def test_years_of_a_sure_model_are_the_centre_of_the_bin(name: str, bins: str) -> None:
    encoding = encoding_of({"encoding": name, "bins": bins})
    labels = exact([float(age) for age in ALL_AGES])
    years = encoding.years(perfect_logits(encoding, encoding.target(labels)))
    scheme = Bins.from_spec(bins)
    assert years.tolist() == pytest.approx(scheme.centers[scheme.index(ALL_AGES)].tolist(), abs=1e-3)


def test_regression_gives_back_the_years() -> None:
    encoding = encoding_of({"encoding": "regression"})
    labels = exact([float(age) for age in ALL_AGES])
    logits = perfect_logits(encoding, encoding.target(labels))
    assert encoding.years(logits).tolist() == pytest.approx(ALL_AGES)
    assert encoding.bins is None
    assert encoding.bin_index(logits) is None


def test_regression_years_are_clipped_to_the_ages_faces_have() -> None:
    years = encoding_of({"encoding": "regression"}).years(torch.tensor([[-2.0], [0.0], [1.0], [9.0]]))
    assert years.tolist() == [0.0, 35.0, 55.0, 116.0]


def test_a_label_distribution_over_single_years_has_the_age_as_its_mean() -> None:
    encoding = encoding_of({"encoding": "label_distribution", "bins": "year", "sigma": 2.0})
    ages = [float(age) for age in range(10, 107)]  # four deviations from the ends
    years = encoding.years(perfect_logits(encoding, encoding.target(exact(ages))))
    assert years.tolist() == pytest.approx(ages, abs=1e-3)


@given(seed=st.integers(0, 2**32 - 1), spec=st.sampled_from(EVERY_ENCODING), scale=st.sampled_from([0.1, 3.0, 1e3]))
@settings(deadline=None, max_examples=60)
def test_any_outputs_decode_to_an_age_within_the_bins(seed: int, spec: dict[str, Any], scale: float) -> None:
    encoding = encoding_of(spec)
    logits = random_logits(encoding, 16, seed=seed, scale=scale)
    years = encoding.years(logits)
    lowest, highest = (0.0, MAX_AGE) if encoding.bins is None else encoding.bins.centers[[0, -1]]
    assert years.shape == (16,)
    assert years.dtype == torch.float32
    assert ((years >= lowest - 1e-3) & (years <= highest + 1e-3)).all()
    index = encoding.bin_index(logits)
    if encoding.bins is not None:
        assert index is not None
        assert ((index >= 0) & (index < encoding.bins.count)).all()


# Targets -------------------------------------------------------------------------------------------------------------


def test_ordinal_targets_say_older_for_every_bin_below_the_age() -> None:
    encoding = encoding_of({"encoding": "ordinal", "bins": "utk4"})  # 0-12, 13-19, 20-59, 60+
    assert encoding.outputs == 3
    assert encoding.target(exact([12, 13, 20, 60])).tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]]


@pytest.mark.parametrize("bins", ["utk7", "fairface9", "every2", "year"])
@pytest.mark.parametrize("sigma", [0.5, 2.0, 12.0])
def test_label_distributions_are_the_truncated_normal_integrated_over_each_bin(bins: str, sigma: float) -> None:
    encoding = encoding_of({"encoding": "label_distribution", "bins": bins, "sigma": sigma})
    bounds = np.array([*SCHEMES[bins], MAX_AGE + 1]) - 0.5
    target = encoding.target(exact([float(age) for age in ALL_AGES]))
    for age in ALL_AGES:
        normal = stats.truncnorm((bounds[0] - age) / sigma, (bounds[-1] - age) / sigma, loc=age, scale=sigma)
        assert target[age].tolist() == pytest.approx(np.diff(normal.cdf(bounds)), abs=1e-5)


def test_a_label_distribution_far_beyond_the_oldest_age_is_that_of_the_oldest() -> None:
    encoding = encoding_of({"encoding": "label_distribution", "bins": "utk7", "sigma": 1.0})
    target = encoding.target(exact([MAX_AGE, 400.0]))
    assert torch.equal(target[0], target[1])


@pytest.mark.parametrize("name", BINNED)
def test_a_label_range_has_the_target_of_the_bin_that_holds_it(name: str) -> None:
    ranges = [(0.0, 2.0), (4.0, 6.0), (25.0, 32.0), (60.0, 100.0)]
    encoding = encoding_of({"encoding": name, "bins": "adience8"})
    decoded = encoding.bin_index(perfect_logits(encoding, encoding.target(ranged(ranges))))
    assert decoded is not None
    assert decoded.tolist() == [0, 1, 4, 7]


@pytest.mark.parametrize("name", BINNED)
def test_bins_that_cut_the_data_sets_ranges_are_refused(name: str) -> None:
    config = TypeAdapter(AgeConfig).validate_python({"encoding": name, "bins": "fairface9"})
    build_encoding(config, ranges=[(0, 2), (3, 9)])
    with pytest.raises(DataError, match="the edge at 30 cuts the label range 25-32"):
        build_encoding(config, ranges=[(0, 2), (25, 32)])


# Losses --------------------------------------------------------------------------------------------------------------


def loss_by_hand(spec: dict[str, Any], logits: Tensor, ages: list[float], smoothing: float) -> float:
    """Mean loss over known ages in float64 NumPy, one image at a time, from the formulas in the papers."""
    losses = []
    for row, age in zip(logits.double().numpy(), ages, strict=True):
        if math.isnan(age):
            continue
        if spec["encoding"] == "regression":
            error = abs(row[0] - (age - spec.get("center", 35)) / spec.get("scale", 20))
            beta = 5 / spec.get("scale", 20)
            smooth = error**2 / (2 * beta) if error < beta else error - beta / 2
            losses.append({"l1": error, "mse": error**2, "smooth_l1": smooth}[spec.get("loss", "l1")])
            continue
        bins = Bins(tuple(spec["bins"])) if isinstance(spec["bins"], list) else Bins.from_spec(spec["bins"])
        index = sum(edge <= age for edge in bins.edges) - 1
        if spec["encoding"] == "ordinal":
            signs = [1 if index > k else -1 for k in range(bins.count - 1)]
            losses.append(sum(np.logaddexp(0, -sign * value) for sign, value in zip(signs, row, strict=True)))
            continue
        log_p = row - np.logaddexp.reduce(row)
        if spec["encoding"] == "onehot":
            target = np.eye(bins.count)[index]
        else:
            sigma, age = spec.get("sigma", 2.0), min(age, MAX_AGE)
            bounds = np.array([*bins.edges, MAX_AGE + 1]) - 0.5
            target = np.diff(stats.norm.cdf(bounds, age, sigma))
            target /= target.sum()
        target = (1 - smoothing) * target + smoothing / bins.count
        entropy = -sum(p * math.log(p) for p in target if p > 0) if spec["encoding"] == "label_distribution" else 0.0
        losses.append(-(target * log_p).sum() - entropy)
    return float(np.mean(losses)) if losses else 0.0


@every_encoding
@given(ages=age_lists, seed=st.integers(0, 2**32 - 1), smoothing=st.sampled_from([0.0, 0.1]))
@settings(deadline=None, max_examples=25)
def test_the_loss_is_the_formulas_mean_over_known_ages(
    spec: dict[str, Any], ages: list[float], seed: int, smoothing: float
) -> None:
    encoding = encoding_of(spec)
    logits = random_logits(encoding, len(ages), seed=seed)
    loss = encoding.loss(logits, exact(ages), label_smoothing=smoothing)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(loss_by_hand(spec, logits, ages, smoothing), rel=2e-4, abs=2e-5)


def test_onehot_loss_is_torchs_cross_entropy() -> None:
    encoding = encoding_of({"encoding": "onehot", "bins": "utk7"})
    ages = [0.0, 17.0, 90.0]
    logits = random_logits(encoding, 3, seed=1)
    expected = functional.cross_entropy(logits, torch.tensor([0, 3, 6]), label_smoothing=0.2)
    torch.testing.assert_close(encoding.loss(logits, exact(ages), label_smoothing=0.2), expected)


@every_encoding
def test_a_better_answer_costs_less(spec: dict[str, Any]) -> None:
    encoding = encoding_of(spec)
    labels = exact([5.0, 30.0, 80.0])
    right = perfect_logits(encoding, encoding.target(labels)).clamp(min=-40.0)
    wrong = right.flip(0)
    assert encoding.loss(right, labels) < encoding.loss(wrong, labels)
    assert encoding.loss(right, labels).item() == pytest.approx(0.0, abs=1e-4)


@every_encoding
def test_unknown_ages_change_neither_loss_nor_gradient(spec: dict[str, Any]) -> None:
    encoding = encoding_of(spec)
    logits = random_logits(encoding, 4, seed=3).requires_grad_()
    loss = encoding.loss(logits, exact([31.0, math.nan, 62.0, math.nan]))
    alone = encoding.loss(logits[[0, 2]], exact([31.0, 62.0]))
    assert loss.item() == pytest.approx(alone.item())
    (gradient,) = torch.autograd.grad(loss, logits)
    assert (gradient[[1, 3]] == 0).all()
    assert torch.isfinite(gradient).all()
    assert (gradient[[0, 2]] != 0).any(dim=1).all()


@every_encoding
def test_a_batch_without_a_known_age_costs_nothing_and_still_has_a_gradient(spec: dict[str, Any]) -> None:
    encoding = encoding_of(spec)
    logits = random_logits(encoding, 2, seed=4).requires_grad_()
    loss = encoding.loss(logits, exact([math.nan, math.nan]))
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


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


@every_encoding
def test_gradient_descent_on_the_loss_finds_the_age(spec: dict[str, Any]) -> None:
    encoding = encoding_of(spec)
    labels = exact([45.0])
    logits = torch.zeros(1, encoding.outputs, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        encoding.loss(logits, labels).backward()
        optimizer.step()
    years = encoding.years(logits).detach().numpy()
    if encoding.bins is None:
        assert years == pytest.approx(45.0, abs=1.0)
    else:
        assert encoding.bins.index(nearest_year(years)) == encoding.bins.index([45.0])


def test_ordinal_years_are_the_expectation_where_the_outputs_are_consistent() -> None:
    encoding = encoding_of({"encoding": "ordinal", "bins": "utk7"})
    older = torch.tensor([[0.99, 0.9, 0.8, 0.55, 0.3, 0.1]])  # falling: P(bin k) is the difference of neighbours
    in_bin = -np.diff(np.array([1.0, *older[0].tolist(), 0.0]))
    years = encoding.years(older.logit())
    assert years.item() == pytest.approx(float(in_bin @ Bins.from_spec("utk7").centers), rel=1e-5)
    assert encoding.bin_index(older.logit()).tolist() == [4]


def test_every_encoding_of_the_configuration_is_registered() -> None:
    assert set(AGE_ENCODINGS.names()) == {"regression", "onehot", "ordinal", "label_distribution"}
