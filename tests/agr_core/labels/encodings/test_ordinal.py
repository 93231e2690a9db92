"""Encodings that ask whether a face is older: against coral-pytorch by CORAL's and CORN's authors, and report S1."""

from __future__ import annotations

import importlib
import math
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from agr_core.bins import Bins
from agr_core.config import TrialConfig
from agr_core.labels.encodings.ordinal import CoralLayer, YoungerThan

from .conftest import encoding_of, exact, perfect_logits, random_logits

ages_and_seed = given(
    ages=st.lists(st.integers(0, 116).map(float), min_size=1, max_size=9), seed=st.integers(0, 2**32 - 1)
)


def test_ordinal_targets_say_older_for_every_bin_below_the_age() -> None:
    encoding = encoding_of({"encoding": "ordinal", "bins": "utk4"})  # 0-12, 13-19, 20-59, 60+
    assert encoding.outputs == 3
    assert encoding.target(exact([12, 13, 20, 60])).tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]]


def test_ordinal_years_are_the_expectation_where_the_outputs_are_consistent() -> None:
    encoding = encoding_of({"encoding": "ordinal", "bins": "utk7"})
    older = torch.tensor([[0.99, 0.9, 0.8, 0.55, 0.3, 0.1]])  # falling: P(bin k) is the difference of neighbours
    in_bin = -np.diff(np.array([1.0, *older[0].tolist(), 0.0]))
    years = encoding.years(older.logit())
    assert years.item() == pytest.approx(float(in_bin @ Bins.from_spec("utk7").centers), rel=1e-5)
    assert encoding.bin_index(older.logit()).tolist() == [4]


# CORAL and CORN ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def theirs() -> ModuleType:
    """The package of CORAL's and CORN's authors."""
    for module in ("dataset", "layers", "losses"):
        importlib.import_module(f"coral_pytorch.{module}")
    return importlib.import_module("coral_pytorch")


def test_coral_and_corn_losses_are_those_the_authors_code_gives() -> None:
    # coral-pytorch 1.4.0; coral: the example of its documentation. Classes 0-4 are ages 0, 10, 20, 30, 40.
    bins = {"bins": [0, 10, 20, 30, 40]}
    coral, labels = encoding_of({"encoding": "coral"} | bins), exact([20.0, 10.0, 40.0])
    logits = torch.tensor([[2.1, 1.8, -2.1, -1.8], [1.9, -1.0, -1.5, -1.3], [1.9, 1.8, 1.7, 1.6]])
    assert coral.loss(logits, labels).item() == pytest.approx(0.6920, abs=5e-5)
    corn = encoding_of({"encoding": "corn"} | bins)
    assert corn.loss(logits, labels).item() * 3 / (3 + 2 + 4) == pytest.approx(0.1645, abs=5e-5)


@ages_and_seed
@settings(deadline=None, max_examples=30)
def test_coral_has_the_targets_loss_and_labels_of_its_authors_package(
    theirs: Any, ages: list[float], seed: int
) -> None:
    encoding, labels = encoding_of({"encoding": "coral", "bins": "utk7"}), exact(ages)
    logits = random_logits(encoding, len(ages), seed=seed)
    levels = theirs.dataset.levels_from_labelbatch(encoding.index(labels), num_classes=7)
    assert torch.equal(encoding.target(labels), levels)
    torch.testing.assert_close(encoding.loss(logits, labels), theirs.losses.coral_loss(logits, levels))
    assert torch.equal(encoding.bin_index(logits), theirs.dataset.proba_to_label(logits.sigmoid()))


def test_corals_last_layer_is_that_of_its_authors_package(theirs: Any) -> None:
    ours, layer = encoding_of({"encoding": "coral", "bins": "utk7"}).last_layer(5), theirs.layers.CoralLayer(5, 7)
    assert isinstance(ours, CoralLayer)
    assert torch.equal(ours.biases, layer.coral_bias)
    layer.coral_weights.weight.data = ours.score.weight.data
    features = torch.randn(3, 5)
    assert torch.equal(ours(features), layer(features))
    assert sum(parameter.numel() for parameter in ours.parameters()) == 5 + 6


def test_corals_probabilities_never_rise_once_it_has_learnt() -> None:
    generator = torch.Generator().manual_seed(0)
    ages = torch.randint(0, 90, (200,), generator=generator).float()
    features = torch.stack([ages / 50, torch.randn(200, generator=generator)], dim=1)
    encoding = encoding_of({"encoding": "coral", "bins": "utk7"})
    layer = encoding.last_layer(2)
    assert isinstance(layer, CoralLayer)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        encoding.loss(layer(features), exact(ages.tolist())).backward()
        optimizer.step()
    assert (layer.biases.diff() < 0).all()
    assert (encoding.years(layer(features)) - ages).abs().mean() < 10


@ages_and_seed
@settings(deadline=None, max_examples=30)
def test_corn_has_the_loss_and_labels_of_its_authors_package(theirs: Any, ages: list[float], seed: int) -> None:
    encoding, labels = encoding_of({"encoding": "corn", "bins": "utk7"}), exact(ages)
    logits = random_logits(encoding, len(ages), seed=seed)
    index = encoding.index(labels)
    # They divide by the (image, output) pairs that take part, we by the images.
    pairs = (index + 1).clamp(max=6).sum()
    torch.testing.assert_close(
        encoding.loss(logits, labels) * len(ages) / pairs, theirs.losses.corn_loss(logits, index, 7)
    )
    assert torch.equal(encoding.bin_index(logits), theirs.dataset.corn_label_from_logits(logits))


def test_corns_loss_is_the_log_likelihood_of_the_label() -> None:
    encoding = encoding_of({"encoding": "corn", "bins": "utk4"})
    logits = random_logits(encoding, 1, seed=8)
    a, b, c = logits[0].double().sigmoid().tolist()
    for age, likelihood in [(5.0, 1 - a), (15.0, a * (1 - b)), (30.0, a * b * (1 - c)), (80.0, a * b * c)]:
        assert encoding.loss(logits, exact([age])).item() == pytest.approx(-math.log(likelihood), rel=1e-5)


# "Younger than my group?" --------------------------------------------------------------------------------------------


def younger(**more: object) -> YoungerThan:
    encoding = encoding_of({"encoding": "younger_than", "bins": "adience8"} | more)
    assert isinstance(encoding, YoungerThan)
    return encoding


def test_the_fifth_of_eight_groups_is_the_reports_example_vector() -> None:
    assert younger().outputs == 16
    assert younger().target(exact([25.0, 0.0, 80.0])).tolist() == [
        [0, 0, 0, 0, 0, 1, 1, 1],
        [0, 1, 1, 1, 1, 1, 1, 1],
        [0, 0, 0, 0, 0, 0, 0, 0],
    ]
    assert younger(mirrored=True).target(exact([25.0])).tolist() == [[1, 1, 1, 1, 0, 0, 0, 0]]


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_question_whose_answer_is_known_changes_neither_years_nor_bin(mirrored: bool) -> None:
    encoding = younger(mirrored=mirrored)
    logits = random_logits(encoding, 4, seed=1)
    wrong = logits.clone()
    known = 7 if mirrored else 0
    wrong[:, 2 * known : 2 * known + 2] = torch.tensor([-50.0, 50.0])
    assert torch.equal(encoding.years(wrong), encoding.years(logits))
    assert torch.equal(encoding.bin_index(wrong), encoding.bin_index(logits))


def test_an_exact_vector_needs_all_eight_answers_and_the_count_only_their_number() -> None:
    labels = exact([25.0, 25.0, 25.0, math.nan])  # group 4
    encoding = younger()
    answers = torch.tensor(
        [
            [0, 0, 0, 0, 0, 1, 1, 1],
            [0, 0, 0, 1, 0, 0, 1, 1],  # five zeros: the count is right, the vector is not
            [1, 0, 0, 0, 0, 1, 1, 1],  # wrong about what is known
            [0, 0, 0, 0, 0, 1, 1, 1],
        ]
    )
    logits = functional.one_hot(answers, 2).flatten(start_dim=1) * 9.0
    assert encoding.bin_index(logits).tolist() == [4, 4, 4, 4]
    figures = encoding.extra_figures(logits, labels)
    assert figures["age_acc_exact_vector"][:3].tolist() == [1.0, 0.0, 0.0]
    assert figures["age_acc_per_head"][:3].tolist() == [1.0, 6 / 8, 7 / 8]
    assert np.isnan([shares[3].item() for shares in figures.values()]).all()


def test_output_weights_weigh_the_heads_in_training_and_not_in_evaluation() -> None:
    weights = [1.0, 1.0, 1.0, 1.3, 1.5, 1.5, 1.3, 1.0]  # S1-L1
    encoding, labels = younger(output_weights=weights), exact([25.0, 3.0])
    logits = random_logits(encoding, 2, seed=6)
    target = encoding.target(labels)
    heads = [functional.cross_entropy(logits[:, 2 * k : 2 * k + 2], target[:, k]).item() for k in range(8)]
    assert encoding.loss(logits, labels, training=True).item() == pytest.approx(np.dot(weights, heads), rel=1e-5)
    assert encoding.loss(logits, labels).item() == pytest.approx(sum(heads), rel=1e-5)


def test_years_are_the_expectation_of_the_groups() -> None:
    encoding = younger()
    logits = perfect_logits(encoding, encoding.target(exact([25.0, 50.0])))
    mixed = logits[:1].clone()
    mixed[0, 10:12] = 0.0  # one half between groups 4 (29 years) and 5 (40)
    assert encoding.years(mixed).item() == pytest.approx(Bins.from_spec("adience8").centers[[4, 5]].mean(), rel=1e-5)


@pytest.mark.parametrize(
    ("weights", "words"),
    [([1.0] * 7, "output_weights has 7 factors, but bins=adience8 are 8 bins"), ([0.0] * 8, "are all 0")],
)
def test_output_weights_that_do_not_fit_the_bins_are_refused(weights: list[float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TrialConfig.from_document({"age": {"encoding": "younger_than", "bins": "adience8", "output_weights": weights}})


def test_output_weights_weigh_evaluation_too_where_that_is_asked_for() -> None:
    weights = [1.0, 1.0, 1.0, 1.3, 1.5, 1.5, 1.3, 1.0]
    encoding, labels = younger(output_weights=weights, weigh_evaluation=True), exact([25.0, 3.0])
    logits = random_logits(encoding, 2, seed=6)
    assert torch.equal(encoding.loss(logits, labels), encoding.loss(logits, labels, training=True))
    with pytest.raises(ValueError, match="weigh_evaluation weighs by output_weights, and there are none"):
        younger(weigh_evaluation=True)
