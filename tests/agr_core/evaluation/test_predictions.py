"""Predictions as files, and the figures made of them again."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import f1_score, precision_score, recall_score

from agr_core.bins import Bins
from agr_core.config import TrialConfig
from agr_core.errors import IntegrityError
from agr_core.evaluation.metrics import PartMetrics
from agr_core.evaluation.per_image import image_values
from agr_core.evaluation.predictions import MOST_BINS, AgeShares, Classified, Predictions
from agr_core.labels.encodings import build_encoding

from .parts import VOCABULARY, config_of, labels_of, logits_of

GENDERS = ("male", "female")
RACES = ("White", "Black", "Asian")


def predictions(images: int = 60, seed: int = 0) -> Predictions:
    """Three quarters are right about the race; some labels are not known, and nobody is taken for Asian."""
    draw = np.random.default_rng(seed)
    age = draw.integers(0, 90, images).astype(np.float32)
    age[::9] = np.nan
    race = draw.integers(0, 3, images)
    taken_for = np.where(draw.random(images) < 0.75, race, draw.integers(0, 3, images))
    race[::7] = -1
    gender = draw.integers(0, 2, images)
    return Predictions(
        sample_ids=tuple(f"{number:016x}" for number in range(images)),
        years={
            "age_low": age,
            "age_high": age,
            "age_predicted": draw.uniform(0, 90, images).astype(np.float32),
        },
        classes={
            "gender": Classified(GENDERS, gender, draw.integers(0, 2, images)),
            "race": Classified(RACES, race, np.minimum(taken_for, 1)),
        },
    )


def same(one: Predictions, other: Predictions) -> bool:
    return (
        one.sample_ids == other.sample_ids
        and all(np.array_equal(one.years[name], other.years[name], equal_nan=True) for name in one.years)
        and one.years.keys() == other.years.keys()
        and {task: each.classes for task, each in one.classes.items()}
        == {task: each.classes for task, each in other.classes.items()}
        and all(np.array_equal(each.true, other.classes[task].true) for task, each in one.classes.items())
        and all(np.array_equal(each.predicted, other.classes[task].predicted) for task, each in one.classes.items())
    )


def test_what_is_written_is_read_again_and_the_bytes_are_the_same_each_time() -> None:
    written = predictions()

    content = written.to_parquet()

    assert same(Predictions.from_parquet(content, source="here"), written)
    assert content == predictions().to_parquet()


def test_a_class_that_occurs_nowhere_is_still_a_class() -> None:
    nobody = np.zeros(3, dtype=np.int64)
    written = Predictions(("a", "b", "c"), {}, {"race": Classified(RACES, nobody, nobody)})

    assert Predictions.from_parquet(written.to_parquet(), source="here").classes["race"].classes == RACES


def test_anybody_can_read_the_file() -> None:
    table = pd.read_parquet(io.BytesIO(predictions().to_parquet()))

    assert list(table.columns) == [
        *("sample_id", "age_low", "age_high", "age_predicted"),
        *("gender", "gender_predicted", "race", "race_predicted"),
    ]
    assert set(table["race"].dropna()) == set(RACES)
    assert table["race"].isna().sum() == 9
    assert table["age_low"].isna().sum() == 7


@pytest.mark.parametrize("content", [b"", b"PAR1 not", "table"])
def test_what_is_no_such_file_is_refused(content: Any) -> None:
    if content == "table":
        sink = io.BytesIO()
        pd.DataFrame({"sample_id": ["a"]}).to_parquet(sink)
        content = sink.getvalue()
    with pytest.raises(IntegrityError, match="sweeps/x does not hold the predictions of a trial"):
        Predictions.from_parquet(content, source="sweeps/x")


# ---- probabilities


def shares(images: int, classes: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).dirichlet(np.ones(classes), images).astype(np.float32)


def with_probabilities() -> Predictions:
    plain = predictions()
    classes = {
        task: replace(each, probabilities=shares(len(each.true), len(each.classes), seed))
        for seed, (task, each) in enumerate(plain.classes.items())
    }
    return replace(plain, classes=classes, age_shares=AgeShares((0, 18, 40), shares(60, 3, 9)))


def test_probabilities_are_read_again_to_three_digits_and_each_has_a_column_of_its_class() -> None:
    written = with_probabilities()
    content = written.to_parquet()

    read = Predictions.from_parquet(content, source="here")

    assert same(read, written)
    assert read.age_shares is not None
    assert written.age_shares is not None
    assert read.age_shares.edges == (0, 18, 40)
    assert read.age_shares.probabilities == pytest.approx(written.age_shares.probabilities, rel=5e-4, abs=1e-7)
    for task, each in written.classes.items():
        assert read.classes[task].probabilities == pytest.approx(each.probabilities, rel=5e-4, abs=1e-7)
    table = pd.read_parquet(io.BytesIO(content))
    female = table["gender_probability.female"]
    assert written.classes["gender"].probabilities is not None
    assert female.to_numpy() == pytest.approx(written.classes["gender"].probabilities[:, 1], rel=5e-4, abs=1e-7)
    assert [name for name in table if name.startswith("age_probability")] == [
        *("age_probability.0-17", "age_probability.18-39", "age_probability.40+")
    ]


def test_a_probability_takes_less_than_three_bytes() -> None:
    images = 4000
    written = predictions(images)
    race = replace(written.classes["race"], probabilities=shares(images, 3))
    more = replace(written, classes={**written.classes, "race": race})

    assert len(more.to_parquet()) - len(written.to_parquet()) < 3 * 3 * images


def test_files_of_earlier_versions_have_no_probabilities() -> None:
    read = Predictions.from_parquet(predictions().to_parquet(), source="here")

    assert read.age_shares is None
    assert all(each.probabilities is None for each in read.classes.values())
    assert "age_std" not in read.years


def test_what_an_earlier_version_reads_of_a_file_is_unchanged() -> None:
    """It reads files of schema version 1 by the names of its columns."""
    table = pq.read_table(io.BytesIO(with_probabilities().to_parquet()))
    earlier = pq.read_table(io.BytesIO(predictions().to_parquet()))

    assert b'"schema_version": 1' in table.schema.metadata[b"agr_predictions"]
    assert table.select(earlier.column_names).equals(earlier)


@pytest.mark.parametrize("encoding", ["onehot", "joint_gender"])
def test_a_part_gives_the_softmax_of_each_task_and_the_moments_of_the_ages(encoding: str) -> None:
    config, images = config_of(encoding, ("age", "gender")), 50
    logits = logits_of(config, images)
    if encoding == "joint_gender":  # the model derives gender from the joint classes
        logits["gender"] = logits["age"].view(images, 2, 9).logsumexp(dim=2)
    ages = logits["age"].view(images, -1, 9).logsumexp(dim=1).double().softmax(dim=1).numpy()

    of_part = stored(config, logits)

    assert of_part.age_shares is not None
    assert of_part.age_shares.edges == Bins.from_spec("fairface9").edges
    assert of_part.age_shares.probabilities == pytest.approx(ages, abs=1e-6)
    assert of_part.classes["gender"].probabilities == pytest.approx(logits["gender"].softmax(dim=1).numpy(), abs=1e-6)
    centers = Bins.from_spec("fairface9").centers
    by_hand = [float(np.sqrt(np.cov(centers, aweights=row, ddof=0))) for row in ages]
    assert of_part.years["age_std"] == pytest.approx(np.array(by_hand), rel=1e-4)


def test_of_many_bins_only_the_deviation_is_stored_and_of_no_bins_neither() -> None:
    fine = TrialConfig.from_document({"tasks": ["age"], "age": {"encoding": "onehot", "bins": "year"}})
    assert Bins.from_spec("year").count > MOST_BINS

    of_years, of_regression = (stored(config, logits_of(config, 10)) for config in (fine, config_of("regression")))

    assert "age_std" in of_years.years
    assert of_years.age_shares is None
    assert "age_std" not in of_regression.years
    assert of_regression.age_shares is None


def stored(config: TrialConfig, logits: Any) -> Predictions:
    images = len(logits["age"])
    part = PartMetrics(build_encoding(config.age), config.tasks, VOCABULARY, "exact")
    losses = dict.fromkeys(config.tasks, torch.tensor(1.0))
    part.update(logits, labels_of(images, kind="exact"), losses, torch.tensor(1.0))
    return part.predictions([f"{number}" for number in range(images)])


# ---- figures of images


def known(values: Any) -> Any:
    assert values is not None
    return values[~np.isnan(values)]


@pytest.mark.parametrize(
    ("score", "of_sklearn"), [("f1", f1_score), ("precision", precision_score), ("recall", recall_score)]
)
def test_the_mean_of_the_pseudovalues_is_the_macro_score_and_each_is_its_own_images(
    score: str, of_sklearn: Any
) -> None:
    said = predictions()
    race = said.classes["race"]
    of_race = race.true >= 0
    true, predicted = race.true[of_race], race.predicted[of_race]

    values = image_values(said, f"race_{score}")

    def macro(true: Any, predicted: Any) -> float:
        return float(of_sklearn(true, predicted, average="macro", zero_division=0))

    whole, images = macro(true, predicted), len(true)
    assert known(values).mean() == pytest.approx(whole, abs=1e-12)
    assert np.isnan(values).sum() == 9  # type: ignore[arg-type]
    by_hand = [
        images * whole - (images - 1) * macro(np.delete(true, n), np.delete(predicted, n)) for n in range(images)
    ]
    by_hand += whole - np.mean(by_hand)
    assert known(values) == pytest.approx(np.array(by_hand), abs=1e-9)


def test_images_without_a_label_have_no_part_in_a_figure() -> None:
    said = predictions()

    errors, near = image_values(said, "age_mae"), image_values(said, "age_cs5")

    years = np.abs(said.years["age_predicted"].astype(float) - said.years["age_low"])
    assert known(errors) == pytest.approx(years[~np.isnan(years)])
    assert known(near).mean() == np.mean(years[~np.isnan(years)] <= 5)
    assert np.isnan(near).sum() == 7  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "figure", ["loss", "age_loss", "age_f1", "age_mae.by_race.Black", "gender_f1.male", "objective"]
)
def test_a_figure_that_predictions_do_not_tell_has_no_values(figure: str) -> None:
    assert image_values(predictions(), figure) is None


def test_a_task_that_was_not_predicted_has_no_values() -> None:
    said = predictions()
    only_gender = Predictions(said.sample_ids, {}, {"gender": said.classes["gender"]})
    assert image_values(only_gender, "age_mae") is None
    assert image_values(only_gender, "race_acc") is None
    assert image_values(only_gender, "gender_acc") is not None
