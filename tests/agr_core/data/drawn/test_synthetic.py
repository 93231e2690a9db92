from __future__ import annotations

import hashlib
from collections import Counter
from itertools import islice

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from agr_core.config import SyntheticConfig
from agr_core.data.decode import decode, image_problem
from agr_core.data.drawn.synthetic import draw_faces, vocabulary_of
from agr_core.data.readers import RawImage
from agr_core.labels.attributes import FAIRFACE_RACES

# Age, gender and race of the first faces of seed 11, recorded before faces could be drawn like another data set's.
PLAIN = [(10.0, "female", "White"), (29.0, "female", "Asian"), (50.0, "female", "White"), (90.0, "male", "Black")]


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
    shares = [races.count(race) / 1000 for race in vocabulary_of("plain").races]
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


# --------------------------------------------------------------------------------------------------------------------
# Like other data sets


def faces_like(like: str, images: int = 300, size: int = 16, seed: int = 3) -> list[RawImage]:
    return list(
        draw_faces(SyntheticConfig.model_validate({"like": like, "images": images, "size": size, "seed": seed}))
    )


def test_faces_like_adience_have_its_eight_ranges_and_whole_subjects_in_five_folds() -> None:
    faces = faces_like("adience")
    ranges = {(face.age_low, face.age_high) for face in faces}
    assert ranges == {(0, 2), (4, 6), (8, 12), (15, 20), (25, 32), (38, 43), (48, 53), (60, 100)}
    assert all(face.race is None and face.attributes is None for face in faces)
    folds: dict[str | None, set[str | None]] = {}
    for face in faces:
        folds.setdefault(face.subject, set()).add(face.partition)
    assert len(folds) == 75
    assert all(len(partitions) == 1 for partitions in folds.values())
    assert {face.partition for face in faces} == {"0", "1", "2", "3", "4"}


def test_a_subject_s_pictures_show_one_face_of_one_age_and_gender() -> None:
    faces = faces_like("adience", images=80, size=48)
    pixels = np.stack([decode(face.data).astype(float) for face in faces])
    same, other = [], []
    for first in range(0, 80, 4):
        assert len({(face.age_low, face.gender, face.subject) for face in faces[first : first + 4]}) == 1
        same.append(np.abs(pixels[first] - pixels[first + 1]).mean())
        other.append(np.abs(pixels[first] - pixels[(first + 4) % 80]).mean())
    assert np.mean(same) < 0.6 * np.mean(other)
    assert len({face.data for face in faces}) == 80


def test_faces_like_fairface_have_its_nine_ranges_seven_races_and_two_partitions() -> None:
    faces = faces_like("fairface", images=900)
    assert {(face.age_low, face.age_high) for face in faces} == {
        (0, 2), (3, 9), (10, 19), (20, 29), (30, 39), (40, 49), (50, 59), (60, 69), (70, 116)
    }  # fmt: skip
    assert {face.race for face in faces} == set(FAIRFACE_RACES)
    assert vocabulary_of("fairface").races == FAIRFACE_RACES
    partitions = [face.partition for face in faces]
    assert partitions.count("val") == 100
    assert partitions.count("train") == 800
    assert all(face.subject is None and face.attributes is None for face in faces)


def test_faces_like_celeba_have_forty_attributes_a_gender_and_partitions_but_no_age_and_no_race() -> None:
    faces = faces_like("celeba")
    names = vocabulary_of("celeba").attributes
    assert len(names) == 40
    assert all(face.age is face.age_low is face.age_high is face.race is None for face in faces)
    told = np.array([face.attributes for face in faces])
    assert told.shape == (300, 40)
    male = told[:, names.index("Male")]
    assert male.tolist() == [face.gender == "male" for face in faces]
    assert not told[~male][:, names.index("Goatee")].any()
    assert Counter(face.partition for face in faces) == {"train": 240, "val": 30, "test": 30}
    # Nobody is bald and blond, and who has no beard has no moustache.
    assert not (told[:, names.index("Bald")] & told[:, names.index("Blond_Hair")]).any()
    assert not (told[:, names.index("No_Beard")] & told[:, names.index("Mustache")]).any()
    # By lot with CelebA's shares: 300 draws of 0.48 have a deviation of 0.029.
    assert told[:, names.index("Mouth_Slightly_Open")].mean() == pytest.approx(0.48, abs=0.12)


@pytest.fixture(scope="module")
def celebrities() -> list[RawImage]:
    return faces_like("celeba", images=800, size=32)


@pytest.mark.parametrize("attribute", ["Gray_Hair", "Smiling", "Eyeglasses", "No_Beard", "Blond_Hair"])
def test_what_an_attribute_says_can_be_seen(attribute: str, celebrities: list[RawImage]) -> None:
    place = vocabulary_of("celeba").attributes.index(attribute)
    has = np.array([face.attributes[place] for face in celebrities if face.attributes])
    pixels = np.stack([decode(face.data).mean(axis=2).reshape(-1) for face in celebrities]) / 255.0
    scores = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.5).fit(pixels[:500], has[:500])
    assert roc_auc_score(has[500:], scores.predict_proba(pixels[500:])[:, 1]) > 0.75


def test_plain_faces_are_what_they_were_before_faces_could_be_like_others(thousand: list[RawImage]) -> None:
    labels = [(face.age, face.gender, face.race) for face in thousand[:4]]
    assert labels == PLAIN
