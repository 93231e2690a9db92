from __future__ import annotations

import hashlib
from itertools import islice

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge

from agr_core.config import SyntheticConfig
from agr_core.data.decode import decode, image_problem
from agr_core.data.readers import RawImage
from agr_core.data.synthetic import VOCABULARY, draw_faces


@pytest.fixture(scope="module")
def thousand() -> list[RawImage]:
    return list(draw_faces(SyntheticConfig(images=1000, size=24, seed=11)))


def test_faces_are_readable_images_of_the_size_asked_for() -> None:
    for size in (16, 64, 90):
        (face,) = islice(draw_faces(SyntheticConfig(images=10, size=size)), 1)
        assert image_problem(face.data) is None
        assert decode(face.data).shape == (size, size, 3)


def test_the_seed_fixes_every_pixel_and_every_label(thousand: list[RawImage]) -> None:
    again = list(islice(draw_faces(SyntheticConfig(images=1000, size=24, seed=11)), 50))
    assert again == thousand[:50]
    other = list(islice(draw_faces(SyntheticConfig(images=1000, size=24, seed=12)), 50))
    assert not {face.data for face in other} & {face.data for face in again}


def test_a_larger_data_set_begins_with_the_smaller_one(thousand: list[RawImage]) -> None:
    assert list(draw_faces(SyntheticConfig(images=20, size=24, seed=11))) == thousand[:20]


def test_faces_are_all_different_and_named_in_order(thousand: list[RawImage]) -> None:
    assert len({hashlib.sha256(face.data).hexdigest() for face in thousand}) == 1000
    paths = [face.path for face in thousand]
    assert paths == sorted(set(paths))


def test_labels_have_the_skew_of_utkface(thousand: list[RawImage]) -> None:
    ages = np.array([face.age for face in thousand])
    assert ages.min() == 0
    assert 85 < ages.max() <= 100
    # UTKFace: 38 % are 15 to 30, 7 % over 65, mean 33; a share of 1,000 has a deviation of at most 1.6 %.
    assert ((ages >= 15) & (ages <= 30)).mean() == pytest.approx(0.38, abs=0.05)
    assert (ages > 65).mean() == pytest.approx(0.07, abs=0.03)
    assert ages.mean() == pytest.approx(33, abs=2.5)
    races = [face.race for face in thousand]
    shares = [races.count(race) / 1000 for race in VOCABULARY.races]
    assert shares == pytest.approx([0.425, 0.191, 0.145, 0.168, 0.071], abs=0.05)
    assert sum(face.gender == "male" for face in thousand) == pytest.approx(520, abs=65)
    assert all(face.age_low == face.age == face.age_high for face in thousand)


def test_even_a_linear_model_sees_all_three_labels_but_none_perfectly(thousand: list[RawImage]) -> None:
    pixels = np.stack([decode(face.data)[::2, ::2].reshape(-1) for face in thousand]) / 255.0
    train, val = slice(0, 800), slice(800, 1000)

    ages = np.array([face.age for face in thousand])
    predicted = Ridge(alpha=100.0).fit(pixels[train], ages[train]).predict(pixels[val])
    error, baseline = np.abs(predicted - ages[val]).mean(), np.abs(ages[train].mean() - ages[val]).mean()
    assert 1.0 < error < 0.85 * baseline

    for label in ("gender", "race"):
        names = np.array([getattr(face, label) for face in thousand])
        model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.5).fit(pixels[train], names[train])
        majority = max((names[val] == name).mean() for name in set(names))
        assert majority + 0.1 < model.score(pixels[val], names[val]) < 0.97
