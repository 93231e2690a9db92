"""Caller's options for a table of labels: roles of columns and meanings of values."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agr_core.errors import DataError

ROLES = ("path", "age", "gender", "race", "subject", "partition")
"""Possible roles of a column."""

MAPPED_ROLES = ("age", "gender", "race", "partition")
"""Roles whose values are mapped."""


@dataclass(frozen=True)
class LabelOptions:
    """Options for reading a table of labels.

    ``file`` is the table, as a local path or a path in the source; None: it is searched for. ``columns`` gives the
    column of a role, empty for none; other roles are found by common names. ``values`` gives, by role, the meaning of a
    value, empty for unknown; other values are read by common words.
    """

    file: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @classmethod
    def parse(cls, file: str | None, columns: Iterable[str], values: Iterable[str]) -> LabelOptions:
        """Parse command line options: ``age=age_years,gender=sex`` and ``gender.1=male,race.4=Others``.

        A part that contains a comma must be in double quotes.

        Raises:
            DataError: If a part has another form or an unknown role.
        """
        taken: dict[str, str] = {}
        for part in _parts(columns):
            role, equals, column = part.partition("=")
            if not equals or role.strip() not in ROLES:
                raise DataError(f"--columns {part!r} must be ROLE=COLUMN, ROLE one of {', '.join(ROLES)}.")
            taken[role.strip()] = column.strip()
        meanings: dict[str, dict[str, str]] = {}
        for part in _parts(values):
            left, equals, meaning = part.rpartition("=")
            role, dot, value = left.partition(".")
            if not equals or not dot or role.strip() not in MAPPED_ROLES:
                raise DataError(
                    f"--map {part!r} must be ROLE.VALUE=MEANING, as gender.1=male; roles: {', '.join(MAPPED_ROLES)}."
                )
            meanings.setdefault(role.strip(), {})[value.strip()] = meaning.strip()
        return cls(file, taken, meanings)

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any], place: str) -> LabelOptions:
        """Return the options with which a packed data set was packed.

        Raises:
            DataError: If it was packed without a table of labels.
        """
        entry = manifest.get("labels")
        if not isinstance(entry, dict):
            raise DataError(f"{place} was not packed from a table of labels; give --labels instead of --mapping.")
        return cls(
            entry["file"], dict(entry["columns"]), {role: dict(meanings) for role, meanings in entry["map"].items()}
        )

    def over(self, other: LabelOptions) -> LabelOptions:
        """Return these options, completed by those of ``other``."""
        values = {
            role: {**other.values.get(role, {}), **self.values.get(role, {})} for role in {*other.values, *self.values}
        }
        return LabelOptions(self.file or other.file, {**other.columns, **self.columns}, values)

    @property
    def given(self) -> bool:
        """Whether any option is given."""
        return bool(self.file or self.columns or self.values)


def _parts(texts: Iterable[str]) -> list[str]:
    """Return the comma-separated parts of several lists."""
    try:
        return [part for row in csv.reader(texts, skipinitialspace=True, strict=True) for part in row if part.strip()]
    except csv.Error as error:
        raise DataError(f"{', '.join(texts)!r} is not a comma-separated list ({error}).") from error
