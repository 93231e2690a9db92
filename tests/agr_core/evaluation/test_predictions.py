"""Predictions as files, and the figures made of them again."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score, precision_score, recall_score

from agr_core.errors import IntegrityError
from agr_core.evaluation.per_image import image_values
from agr_core.evaluation.predictions import Classified, Predictions

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
