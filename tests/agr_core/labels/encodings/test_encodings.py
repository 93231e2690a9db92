"""What every age encoding keeps to: round trips, decoding, unknown ages, losses against formulas image by image."""

from __future__ import annotations

import math
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import TypeAdapter
from scipy import stats

from agr_core.bins import MAX_AGE, SCHEMES, Bins, nearest_year
from agr_core.config import AgeConfig
from agr_core.errors import DataError
from agr_core.labels.encodings import AGE_ENCODINGS, build_encoding

from .conftest import (
    ALL_AGES,
    BINNED,
    CUMULATIVE,
    EVERY_ENCODING,
    HARD,
    age_lists,
    encoding_of,
    exact,
    perfect_logits,
    random_logits,
    ranged,
)

every_encoding = pytest.mark.parametrize("spec", EVERY_ENCODING, ids=lambda spec: "-".join(map(str, spec.values())))


# Round trips ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bins", SCHEMES)
@pytest.mark.parametrize("name", BINNED)
def test_every_age_comes_back_as_its_bin(name: str, bins: str) -> None:
    # Half a year of deviation: with more, a narrow bin beside a wide one may rightly be the less likely of the two.
    sharp = {"sigma": 0.5} if name in ("label_distribution", "dldl_v2") else {}
    encoding = encoding_of({"encoding": name, "bins": bins} | sharp)
    labels = exact([float(age) for age in ALL_AGES])
    decoded = encoding.bin_index(perfect_logits(encoding, encoding.target(labels)))
    assert decoded is not None
    assert decoded.dtype == torch.int64
    assert decoded.tolist() == Bins.from_spec(bins).index(ALL_AGES).tolist()


@pytest.mark.parametrize("bins", SCHEMES)
@pytest.mark.parametrize("name", HARD)
def test_years_of_a_sure_model_are_the_centre_of_the_bin(name: str, bins: str) -> None:
    encoding = encoding_of({"encoding": name, "bins": bins})
    labels = exact([float(age) for age in ALL_AGES])
    years = encoding.years(perfect_logits(encoding, encoding.target(labels)))
    scheme = Bins.from_spec(bins)
    assert years.tolist() == pytest.approx(scheme.centers[scheme.index(ALL_AGES)].tolist(), abs=1e-3)


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


@pytest.mark.parametrize("name", BINNED)
def test_every_decode_rule_of_a_sure_model_gives_the_centre_of_the_bin(name: str) -> None:
    rules = [rule for rule in ("expectation", "argmax", "median") if rule != "argmax" or name not in CUMULATIVE]
    sharp = {"sigma": 0.1} if name in ("label_distribution", "dldl_v2") else {}
    for rule in rules:
        encoding = encoding_of({"encoding": name, "bins": "utk4", "decode": rule} | sharp)
        years = encoding.years(perfect_logits(encoding, encoding.target(exact([5.0, 16.0, 33.0, 80.0]))))
        assert years.tolist() == pytest.approx([6.0, 16.0, 39.5, 88.0], abs=1e-3), rule


# Targets -------------------------------------------------------------------------------------------------------------


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


def loss_by_hand(spec: dict[str, Any], logits: NDArray[np.float64], ages: list[float], smoothing: float) -> float:
    """Mean loss over known ages in float64 NumPy, one image at a time, from the formulas in the papers."""
    losses = [_by_hand(spec, row, age, smoothing) for row, age in zip(logits, ages, strict=True) if not math.isnan(age)]
    return float(np.mean(losses)) if losses else 0.0


def _by_hand(spec: dict[str, Any], row: NDArray[np.float64], age: float, smoothing: float) -> float:
    name = spec["encoding"]
    if name == "regression":
        output = 1 / (1 + math.exp(-row[0])) if spec.get("output") == "sigmoid" else row[0]
        error = abs(output - (age - spec.get("center", 35)) / spec.get("scale", 20))
        beta = 5 / spec.get("scale", 20)
        smooth = error**2 / (2 * beta) if error < beta else error - beta / 2
        return float({"l1": error, "mse": error**2, "smooth_l1": smooth}[spec.get("loss", "l1")])
    bins = spec.get("bins", "year")
    scheme = Bins(tuple(bins)) if isinstance(bins, list) else Bins.from_spec(bins)
    index = sum(edge <= age for edge in scheme.edges) - 1
    if name in ("ordinal", "coral", "corn"):
        asked = [k for k in range(scheme.count - 1) if name != "corn" or k <= index]
        return float(sum(np.logaddexp(0, -row[k] if index > k else row[k]) for k in asked))
    if name == "younger_than":
        yes = [index > k if spec.get("mirrored") else index < k for k in range(scheme.count)]
        return sum(_entropy(row[2 * k : 2 * k + 2], np.eye(2)[int(yes[k])], smoothing) for k in range(scheme.count))
    if name == "joint_gender":  # the gender is not known here
        row = np.logaddexp(row[: scheme.count], row[scheme.count :])
    p = np.exp(row - np.logaddexp.reduce(row))
    mean = p @ scheme.centers
    if name in ("onehot", "dex", "joint_gender", "mean_variance"):
        entropy = _entropy(row, np.eye(scheme.count)[index], smoothing)
        if name != "mean_variance":
            return entropy
        variance = p @ (scheme.centers - mean) ** 2
        mean_loss = (mean - age) ** 2 / 2
        return float(entropy + spec.get("mean_weight", 0.2) * mean_loss + spec.get("variance_weight", 0.05) * variance)
    if name == "sord":
        distance = np.abs(scheme.centers - scheme.centers[index]) / spec.get("scale", 1.0)
        target = np.exp(-(distance if spec.get("distance") == "absolute" else distance**2))
    else:
        bounds = np.array([*scheme.edges, MAX_AGE + 1]) - 0.5
        target = np.diff(stats.norm.cdf(bounds, min(age, MAX_AGE), spec.get("sigma", 2.0)))
    target /= target.sum()
    smoothed = (1 - smoothing) * target + smoothing / scheme.count
    own = -sum(q * math.log(q) for q in smoothed if q > 0)
    off = spec.get("expectation_weight", 1.0) * abs(mean - age) if name == "dldl_v2" else 0.0
    return _entropy(row, target, smoothing) - own + float(off)


def _entropy(row: NDArray[np.float64], target: NDArray[np.float64], smoothing: float) -> float:
    smoothed = (1 - smoothing) * target + smoothing / len(row)
    return float(-(smoothed * (row - np.logaddexp.reduce(row))).sum())


@every_encoding
@given(ages=age_lists, seed=st.integers(0, 2**32 - 1), smoothing=st.sampled_from([0.0, 0.1]))
@settings(deadline=None, max_examples=8)
def test_the_loss_is_the_formulas_mean_over_known_ages(
    spec: dict[str, Any], ages: list[float], seed: int, smoothing: float
) -> None:
    encoding = encoding_of(spec)
    logits = random_logits(encoding, len(ages), seed=seed)
    loss = encoding.loss(logits, exact(ages), label_smoothing=smoothing)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(
        loss_by_hand(spec, logits.double().numpy(), ages, smoothing), rel=2e-4, abs=2e-5
    )


@every_encoding
def test_a_better_answer_costs_less(spec: dict[str, Any]) -> None:
    encoding = encoding_of(spec)
    labels = exact([15.0, 30.0, 80.0])
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


@every_encoding
def test_gradient_descent_on_the_loss_finds_the_age(spec: dict[str, Any]) -> None:
    encoding = encoding_of(spec)
    labels = exact([45.0])
    logits = torch.zeros(1, encoding.outputs, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=1.0, foreach=False)
    for step in range(60):
        optimizer.param_groups[0]["lr"] = 0.92**step
        optimizer.zero_grad()
        encoding.loss(logits, labels).backward()
        optimizer.step()
    years = encoding.years(logits).detach().numpy()
    if encoding.bins is None:
        assert years == pytest.approx(45.0, abs=1.0)
    else:
        assert encoding.bins.index(nearest_year(years)) == encoding.bins.index([45.0])


def test_weights_multiply_each_images_loss_and_the_mean_is_still_over_the_known_ages() -> None:
    for spec in EVERY_ENCODING:
        encoding = encoding_of(spec)
        logits, ages = random_logits(encoding, 3, seed=5), [20.0, math.nan, 70.0]
        alone = [encoding.loss(logits[[row]], exact([ages[row]])).item() for row in (0, 2)]
        weighted = encoding.loss(logits, exact(ages), weights=torch.tensor([3.0, 9.0, 0.5]))
        assert weighted.item() == pytest.approx((3.0 * alone[0] + 0.5 * alone[1]) / 2, rel=1e-5)


def test_every_encoding_of_the_configuration_is_registered_and_tested() -> None:
    known = {get_args(age.model_fields["encoding"].annotation)[0] for age in get_args(get_args(AgeConfig)[0])}
    assert set(AGE_ENCODINGS.names()) == known == {spec["encoding"] for spec in EVERY_ENCODING}
