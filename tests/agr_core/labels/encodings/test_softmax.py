"""Encodings with one softmax class a bin, against SciPy, torch and the papers' figures."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch.nn import functional

from agr_core.bins import MAX_AGE, SCHEMES, Bins
from agr_core.config import TrialConfig
from agr_core.labels.encodings.softmax import JointGender

from .conftest import ALL_AGES, encoding_of, exact, perfect_logits, random_logits


def test_onehot_loss_is_torchs_cross_entropy() -> None:
    encoding = encoding_of({"encoding": "onehot", "bins": "utk7"})
    ages = [0.0, 17.0, 90.0]
    logits = random_logits(encoding, 3, seed=1)
    expected = functional.cross_entropy(logits, torch.tensor([0, 3, 6]), label_smoothing=0.2)
    torch.testing.assert_close(encoding.loss(logits, exact(ages), label_smoothing=0.2), expected)


def test_a_label_distribution_over_single_years_has_the_age_as_its_mean() -> None:
    encoding = encoding_of({"encoding": "label_distribution", "bins": "year", "sigma": 2.0})
    ages = [float(age) for age in range(10, 107)]  # four deviations from the ends
    years = encoding.years(perfect_logits(encoding, encoding.target(exact(ages))))
    assert years.tolist() == pytest.approx(ages, abs=1e-3)


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


@given(seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=30)
def test_decode_rules_read_the_mean_the_mode_and_the_median_off_the_same_outputs(seed: int) -> None:
    rules = {
        rule: encoding_of({"encoding": "onehot", "bins": "utk7", "decode": rule})
        for rule in ("expectation", "argmax", "median")
    }
    logits = random_logits(rules["median"], 1, seed=seed)
    p = np.exp(logits.double().numpy()[0])
    p /= p.sum()
    centers = Bins.from_spec("utk7").centers
    middle = next(k for k in range(7) if p[: k + 1].sum() >= 0.5)
    assert rules["expectation"].years(logits).item() == pytest.approx(p @ centers, rel=1e-5)
    assert rules["argmax"].years(logits).item() == centers[p.argmax()]
    assert rules["median"].years(logits).item() == centers[middle]


def test_dex_is_onehot_with_a_class_a_year_and_the_expectation() -> None:
    dex, onehot = encoding_of({"encoding": "dex"}), encoding_of({"encoding": "onehot", "bins": "year"})
    logits, labels = random_logits(dex, 5, seed=2), exact([0.0, 3.0, 50.0, 77.0, 116.0])
    assert dex.outputs == 117
    assert torch.equal(dex.years(logits), onehot.years(logits))
    assert torch.equal(dex.loss(logits, labels), onehot.loss(logits, labels))


def test_dldl_v2_costs_lambda_for_each_year_the_expectation_is_off() -> None:
    v1, v2 = (encoding_of({"encoding": name, "bins": "year"}) for name in ("label_distribution", "dldl_v2"))
    logits, labels = random_logits(v2, 1, seed=7), exact([40.0])
    off = abs(v2.years(logits).item() - 40.0)
    assert v2.loss(logits, labels).item() == pytest.approx(v1.loss(logits, labels).item() + off, rel=1e-5)


def test_mean_variance_of_a_hand_sized_distribution() -> None:
    # Two bins with centres 9 and 67.5, equally likely: mean 38.25, variance 29.25². Label 20: its bin is the second.
    encoding = encoding_of({"encoding": "mean_variance", "bins": [0, 19]})
    loss = encoding.loss(torch.zeros(1, 2), exact([20.0]))
    assert loss.item() == pytest.approx(math.log(2) + 0.2 * (38.25 - 20) ** 2 / 2 + 0.05 * 29.25**2, rel=1e-5)


def test_sord_labels_fall_off_with_the_distance_to_the_true_year() -> None:
    target = encoding_of({"encoding": "sord", "distance": "absolute"}).target(exact([50.0]))[0]
    assert target.sum().item() == pytest.approx(1.0)
    for years in (1, 2, 3):
        assert (target[50 + years] / target[50]).item() == pytest.approx(math.exp(-years), rel=1e-4)
        assert target[50 + years] == target[50 - years]
    wide = encoding_of({"encoding": "sord", "scale": 2.0}).target(exact([50.0]))[0]
    assert (wide[54] / wide[50]).item() == pytest.approx(math.exp(-((4 / 2) ** 2)), rel=1e-4)


# Gender and age in one softmax ---------------------------------------------------------------------------------------


def test_the_joint_class_is_the_age_group_plus_eight_for_the_second_gender() -> None:
    encoding = encoding_of({"encoding": "joint_gender", "bins": "adience8"})
    assert encoding.outputs == 16
    assert encoding.target(exact([1.0, 30.0, 1.0, 90.0], [0, 0, 1, 1])).tolist() == [0, 4, 8, 15]


@given(seed=st.integers(0, 2**32 - 1), ages=st.lists(st.integers(0, 116).map(float), min_size=1, max_size=6))
@settings(deadline=None, max_examples=30)
def test_age_and_gender_losses_add_up_to_the_16_way_cross_entropy(seed: int, ages: list[float]) -> None:
    encoding = encoding_of({"encoding": "joint_gender", "bins": "adience8"})
    genders = [(seed >> place) % 2 for place in range(len(ages))]
    labels, logits = exact(ages, genders), random_logits(encoding, len(ages), seed=seed)
    gender_loss = functional.cross_entropy(encoding.other_tasks(logits)["gender"], labels.gender)
    whole = functional.cross_entropy(logits, encoding.target(labels))
    assert (encoding.loss(logits, labels) + gender_loss).item() == pytest.approx(whole.item(), rel=1e-4)


def test_gender_and_age_are_read_off_their_marginals() -> None:
    encoding = encoding_of({"encoding": "joint_gender", "bins": "utk4"})
    logits = random_logits(encoding, 6, seed=3)
    joint = logits.double().softmax(dim=1).view(6, 2, 4)
    gender = encoding.other_tasks(logits)["gender"].double().softmax(dim=1)
    torch.testing.assert_close(gender, joint.sum(dim=2), rtol=1e-5, atol=1e-7)
    ages = joint.sum(dim=1)
    centers = torch.tensor(Bins.from_spec("utk4").centers)
    torch.testing.assert_close(encoding.years(logits).double(), ages @ centers, rtol=1e-5, atol=1e-4)
    assert encoding.bin_index(logits).tolist() == ages.argmax(dim=1).tolist()


def test_an_image_without_a_gender_trains_the_ages_of_both() -> None:
    encoding = encoding_of({"encoding": "joint_gender", "bins": "utk4"})
    logits = random_logits(encoding, 1, seed=4)
    ages = logits.double().softmax(dim=1).view(2, 4).sum(dim=0)
    assert encoding.loss(logits, exact([15.0], [-1])).item() == pytest.approx(-math.log(ages[1]), rel=1e-5)


def test_the_joint_accuracy_needs_both_labels() -> None:
    encoding = encoding_of({"encoding": "joint_gender", "bins": "utk4"})
    assert isinstance(encoding, JointGender)
    labels = exact([15.0, 15.0, 15.0, math.nan], [1, 0, -1, 1])
    logits = functional.one_hot(torch.tensor([5, 5, 5, 5]), 8) * 9.0
    shares = encoding.extra_figures(logits, labels)["age_gender_acc"].tolist()
    assert shares[:2] == [1.0, 0.0]
    assert math.isnan(shares[2])
    assert math.isnan(shares[3])


def test_a_joint_head_without_the_gender_task_is_refused() -> None:
    with pytest.raises(ValueError, match=r"predicts gender with its age head, but tasks=\['age', 'race'\]: add gender"):
        TrialConfig.from_document({"tasks": ["age", "race"], "age": {"encoding": "joint_gender"}})


def test_defaults_are_the_constants_of_the_papers() -> None:
    """Pan et al. 2018: lambda 0.2 and 0.05; Gao et al. 2017 and 2018: sigma 2, lambda 1."""

    def defaults(encoding: str) -> dict[str, object]:
        return TrialConfig.from_document({"age": {"encoding": encoding}}).age.model_dump()

    assert defaults("mean_variance").items() >= {"mean_weight": 0.2, "variance_weight": 0.05}.items()
    assert defaults("label_distribution")["sigma"] == 2.0
    assert defaults("dldl_v2").items() >= {"sigma": 2.0, "expectation_weight": 1.0}.items()


def test_split_joint_reads_bin_and_gender_off_the_one_likeliest_class() -> None:
    """Where the marginals say something else: report S1 takes the class and splits it (S1-M6)."""
    both = [
        encoding_of({"encoding": "joint_gender", "bins": "utk4", "split": split, "decode": "argmax"})
        for split in ("marginal", "joint")
    ]
    # Class 1 (bin 1, male) is the likeliest; bin 2 and female are, summed up.
    logits = torch.tensor([[0.0, 0.30, 0.25, 0.0, 0.10, 0.0, 0.25, 0.24]]).clamp(min=1e-6).log()
    marginal, joint = both
    assert (marginal.bin_index(logits).item(), joint.bin_index(logits).item()) == (2, 1)
    assert marginal.other_tasks(logits)["gender"].argmax().item() == 1
    assert marginal.other_classes(logits) == {}
    assert joint.other_classes(logits)["gender"].tolist() == [0]
    assert joint.years(logits).item() == Bins.from_spec("utk4").centers[1]
    labels = exact([15.0], [0])
    assert torch.equal(marginal.loss(logits, labels), joint.loss(logits, labels))
    with pytest.raises(
        ValueError, match="split=joint decodes the age from the most likely class, but decode=expectation"
    ):
        TrialConfig.from_document({"age": {"encoding": "joint_gender", "split": "joint"}})
