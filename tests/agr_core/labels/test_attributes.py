from __future__ import annotations

import numpy as np
import pytest

from agr_core.errors import DataError
from agr_core.labels.attributes import GENDERS, UTKFACE_RACES, Vocabulary

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
