from __future__ import annotations

import numpy as np
import pytest

from agr_core.errors import DataError
from agr_core.labels.attributes import (
    CELEBA_ATTRIBUTES,
    FAIRFACE_RACES,
    GENDERS,
    MORPH_RACES,
    UTKFACE_RACES,
    Vocabulary,
    map_race,
    race_map,
)

UTKFACE = Vocabulary(genders=GENDERS, races=UTKFACE_RACES)


def test_classes_stand_in_the_order_of_utkface_s_codes() -> None:
    assert GENDERS == ("male", "female")
    assert UTKFACE_RACES == ("White", "Black", "Asian", "Indian", "Others")


def test_a_class_has_the_index_of_its_place_and_a_missing_one_has_minus_one() -> None:
    indices = UTKFACE.index("race", ["Others", None, "White", float("nan"), "Asian"])
    assert indices.tolist() == [4, -1, 0, -1, 2]
    assert indices.dtype == np.int64


def test_no_values_give_no_indices() -> None:
    assert UTKFACE.index("gender", []).shape == (0,)


@pytest.mark.parametrize(
    ("vocabulary", "known"), [(UTKFACE, "White, Black"), (Vocabulary((), ()), "none")], ids=["utkface", "without races"]
)
def test_a_class_of_another_data_set_is_refused_with_the_known_ones(vocabulary: Vocabulary, known: str) -> None:
    with pytest.raises(DataError, match=rf"race 'Latino' .*{known}"):
        vocabulary.index("race", ["Latino"])


# --------------------------------------------------------------------------------------------------------------------
# From one vocabulary to another; the pairs are written down here from the data sets' own descriptions.


@pytest.mark.parametrize(
    ("from_", "to", "classes"),
    [
        (
            FAIRFACE_RACES,
            UTKFACE_RACES,
            {
                "White": "White",
                "Black": "Black",
                "Latino_Hispanic": "Others",
                "East Asian": "Asian",
                "Southeast Asian": "Asian",
                "Indian": "Indian",
                "Middle Eastern": "Others",
            },
        ),
        (
            UTKFACE_RACES,
            FAIRFACE_RACES,
            {"White": "White", "Black": "Black", "Asian": None, "Indian": "Indian", "Others": None},
        ),
        (
            MORPH_RACES,
            UTKFACE_RACES,
            {"White": "White", "Black": "Black", "Asian": "Asian", "Hispanic": "Others", "Others": None},
        ),
        (
            UTKFACE_RACES,
            MORPH_RACES,
            {"White": "White", "Black": "Black", "Asian": "Asian", "Indian": "Others", "Others": None},
        ),
        (
            MORPH_RACES,
            FAIRFACE_RACES,
            {"White": "White", "Black": "Black", "Asian": None, "Hispanic": "Latino_Hispanic", "Others": None},
        ),
        (("Asian",), UTKFACE_RACES, {"Asian": "Asian"}),
        (UTKFACE_RACES, UTKFACE_RACES, {name: name for name in UTKFACE_RACES}),
        (UTKFACE_RACES, (), dict.fromkeys(UTKFACE_RACES)),
    ],
    ids=["fairface-utkface", "utkface-fairface", "morph-utkface", "utkface-morph", "morph-fairface", "afad", "same",
         "to none"],
)  # fmt: skip
def test_a_race_becomes_the_class_that_holds_all_of_it_or_none(
    from_: tuple[str, ...], to: tuple[str, ...], classes: dict[str, str | None]
) -> None:
    assert race_map(from_, to).classes == classes
    assert {name: map_race(name, from_, to) for name in from_} == classes


def test_what_a_mapping_loses_is_reported() -> None:
    coarser = race_map(FAIRFACE_RACES, UTKFACE_RACES)
    assert coarser.unlabelled == ()
    assert coarser.merged == {
        "Others": ("Latino_Hispanic", "Middle Eastern"),
        "Asian": ("East Asian", "Southeast Asian"),
    }
    assert coarser.lost() == (
        "Latino_Hispanic and Middle Eastern are both Others; East Asian and Southeast Asian are both Asian"
    )
    finer = race_map(UTKFACE_RACES, FAIRFACE_RACES)
    assert finer.unlabelled == ("Asian", "Others")
    assert finer.lost() == "Asian, Others fit no single class and have no race label"
    assert race_map(UTKFACE_RACES, UTKFACE_RACES).lost() == ""


def test_the_way_there_and_back_never_ends_in_another_class() -> None:
    vocabularies = (UTKFACE_RACES, FAIRFACE_RACES, MORPH_RACES)
    for one in vocabularies:
        for other in vocabularies:
            for name, wanted in race_map(one, other).classes.items():
                assert wanted is None or map_race(wanted, other, one) in (name, None)


def test_a_class_nobody_has_explained_is_refused_but_the_same_vocabulary_needs_no_explanation() -> None:
    with pytest.raises(DataError, match="the meaning of race 'Martian' in other data sets is unknown; known: White"):
        race_map(("White", "Martian"), UTKFACE_RACES)
    assert map_race("Martian", ("White", "Martian"), ("White", "Martian")) == "Martian"
    with pytest.raises(DataError, match="race 'Latino' is not in its vocabulary: White, Black"):
        map_race("Latino", UTKFACE_RACES, FAIRFACE_RACES)


def test_celeba_has_forty_attributes_in_the_order_of_its_file() -> None:
    assert len(set(CELEBA_ATTRIBUTES)) == 40
    # The file's first and last columns, and its twenty-first, which is the gender.
    assert (CELEBA_ATTRIBUTES[0], CELEBA_ATTRIBUTES[20], CELEBA_ATTRIBUTES[39]) == ("5_o_Clock_Shadow", "Male", "Young")
    assert list(CELEBA_ATTRIBUTES[:39]) == sorted(CELEBA_ATTRIBUTES[:39])
