"""Roles of a table's columns (image name, age, gender ...): by common names, or as given."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agr_core.data.readers.tabular.options import ROLES
from agr_core.errors import DataError

USUAL_NAMES: dict[str, tuple[str, ...]] = {
    "path": (
        "file_name", "filename", "file", "file_path", "filepath", "path", "full_path", "image_path", "img_path",
        "image_name", "img_name", "image_file", "image", "img", "photo", "picture", "image_id", "img_id", "name",
    ),
    "age": ("age", "age_years", "years", "real_age", "apparent_age", "apparent_age_avg", "age_group", "age_range",
            "age_bucket", "age_class", "ages"),
    "gender": ("gender", "sex", "gender_label", "genders"),
    "race": ("race", "ethnicity", "ethnic_group", "race_label", "ethnic", "races"),
    "subject": ("subject", "subject_id", "identity", "identity_id", "person", "person_id", "celeb_id", "user_id"),
    "partition": ("partition", "split", "subset", "set", "fold", "part", "usage"),
}  # fmt: skip
"""Common column names of each role, most likely first; case, spaces and hyphens are ignored."""


@dataclass(frozen=True)
class Columns:
    """Column of each role, if any; ``passed_over`` lists other columns with suitable names."""

    of: Mapping[str, str]
    passed_over: Mapping[str, tuple[str, ...]]


def choose_columns(columns: Sequence[str], given: Mapping[str, str], *, file: str, embedded: str | None) -> Columns:
    """Return the columns of a table to use.

    Args:
        columns: Its columns.
        given: Column of a role, given by the caller; empty: none.
        file: The table, for messages.
        embedded: Column that contains images, if any.

    Raises:
        DataError: If a given column does not exist, no column names or contains the image, or there is no label.
    """
    chosen: dict[str, str] = {}
    others: dict[str, tuple[str, ...]] = {}
    for role in ROLES:
        if role in given:
            column = given[role]
            if column and column not in columns:
                raise DataError(f"{file} has no column {column!r}; its columns are {', '.join(columns)}.")
            if column:
                chosen[role] = column
            continue
        candidates = sorted(
            (USUAL_NAMES[role].index(_plain(column)), index)
            for index, column in enumerate(columns)
            if _plain(column) in USUAL_NAMES[role]
            and column not in given.values()
            and (column != embedded or role == "path")
        )
        if candidates:
            chosen[role] = columns[candidates[0][1]]
            if len(candidates) > 1:
                others[role] = tuple(columns[index] for _, index in candidates[1:])
    listed = ", ".join(columns)
    if "path" not in chosen and embedded is None:
        raise DataError(f"{file} has no column that names the image ({listed}); name it, as --columns path=COLUMN.")
    if not {"age", "gender", "race"} & chosen.keys():
        raise DataError(
            f"{file} has no column of ages, genders or races ({listed}); name one, as --columns age=COLUMN."
        )
    return Columns(chosen, others)


def _plain(column: str) -> str:
    """Return a column's name for comparison; of the dotted name of a nested value, the last part."""
    return re.sub(r"[\s\-]+", "_", column.rpartition(".")[2].strip().lower())


def names_images(columns: Sequence[str]) -> bool:
    """Return whether one of the columns has a common name of image names."""
    return any(_plain(column) in USUAL_NAMES["path"] for column in columns)
