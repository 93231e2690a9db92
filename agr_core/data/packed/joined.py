"""Joins: several packed data sets used as one, with concatenated rows and a common race vocabulary.

A join is a small JSON file with the members, in order, and their addresses. Each member is packed, stored, transferred
and decoded once, independently of the joins that use it.

N: images of all members.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from agr_core.bins import LabelKind
from agr_core.data.packed.pack import Packed
from agr_core.errors import DataError
from agr_core.identity import canonical_json, digest
from agr_core.labels.attributes import Vocabulary, race_map

_SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Member:
    """A data set of a join: its ``name``, ``uri`` (folder or address) and data digest."""

    name: str
    uri: str
    digest: str


@dataclass(frozen=True)
class Join:
    """The members, in the order of their rows, and the race classes of the whole.

    ``races`` is None if all members have the same.
    """

    members: tuple[Member, ...]
    races: tuple[str, ...] | None

    @property
    def digest(self) -> str:
        """Data digest of the whole: names and contents of the members, and race classes; not their addresses."""
        members = [[member.name, member.digest] for member in self.members]
        return digest({"joined": members, "races": None if self.races is None else list(self.races)})

    def to_bytes(self) -> bytes:
        """Return the content of the join's file."""
        document = {"schema_version": _SCHEMA_VERSION, "digest": self.digest, **asdict(self)}
        return canonical_json(document).encode("utf-8")

    @classmethod
    def from_bytes(cls, data: bytes, place: str) -> Join:
        """Return the join written by ``to_bytes`` to ``place``.

        Raises:
            DataError: If it is not a join that this version can read.
        """
        try:
            document: dict[str, Any] = json.loads(data)
            if document["schema_version"] != _SCHEMA_VERSION:
                raise DataError(
                    f"{place} is not a join of data sets of schema version {_SCHEMA_VERSION}; submit again."
                )
            races = document["races"]
            members = tuple(Member(**member) for member in document["members"])
            return cls(members, None if races is None else tuple(races))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{place} is not a join of data sets ({error}); delete it and submit again.") from error


class Joined:
    """Several packed data sets on disk, with the interface of ``Packed``.

    Attributes:
        members: The data sets, in the order of their rows.
        starts: First row of each member, followed by N.
        digest: Data digest of the whole.
        vocabulary: Gender and race classes and attributes of the whole.
        label_kind: ``range`` if any member has ranges.
        table: Rows of all members (N rows). Sample IDs and paths have the prefix ``<member>/``, races are in the
            vocabulary of the whole, and a column ``data_set`` names the member.

    Raises:
        DataError: If the members' genders or attributes differ, or their races differ and there is no common
            vocabulary.
    """

    def __init__(self, join: Join, members: Sequence[Packed], place: Path) -> None:
        self.folder = place
        self.members = tuple(members)
        self.digest: str = join.digest
        self._names = names = [member.name for member in join.members]
        self.vocabulary = _vocabulary(names, members, join.races)
        self.label_kind: LabelKind = "range" if any(member.label_kind == "range" for member in members) else "exact"
        tables = [_rows(name, member, self.vocabulary.races) for name, member in zip(names, members, strict=True)]
        self.table: pd.DataFrame = pd.concat(tables, ignore_index=True)
        self.starts = np.concatenate([[0], np.cumsum([len(member) for member in members], dtype=np.int64)])

    def __len__(self) -> int:
        return len(self.table)

    @property
    def crop(self) -> dict[str, Any] | None:
        """Crop settings common to all members; None if members are not cropped or differ."""
        first = self.members[0].crop
        return first if all(member.crop == first for member in self.members) else None

    @property
    def notes(self) -> tuple[str, ...]:
        """Losses of the race mapping, one sentence per affected member."""
        lines = []
        for name, member in zip(self._names, self.members, strict=True):
            mapped = race_map(member.vocabulary.races, self.vocabulary.races)
            if member.vocabulary.races != self.vocabulary.races and (lost := mapped.lost()):
                count = int(member.table["race"].isin(mapped.unlabelled).sum())
                lines.append(f"races of {name}: {lost}; {count:,} of {len(member):,} images lose their race label.")
        return tuple(lines)

    def places(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the index of each row's member, counted from 0 (B,)."""
        return np.searchsorted(self.starts, rows, side="right") - 1


def open_data(place: Path) -> Packed | Joined:
    """Open the packed data set in a folder, or the data sets of a join's file.

    Raises:
        DataError: If there is none, or the members of a join are incompatible.
        IntegrityError: If a shard is missing or has another size.
    """
    if place.suffix != ".json":
        return Packed.open(place)
    join = Join.from_bytes(place.read_bytes(), str(place))
    return Joined(join, [Packed.open(Path(member.uri)) for member in join.members], place)


def _vocabulary(names: Sequence[str], members: Sequence[Packed], races: tuple[str, ...] | None) -> Vocabulary:
    vocabularies = [member.vocabulary for member in members]
    return Vocabulary(
        genders=_common(
            "genders", names, [vocabulary.genders for vocabulary in vocabularies], "join data sets with the same"
        ),
        races=races
        if races is not None
        else _common(
            "race classes",
            names,
            [vocabulary.races for vocabulary in vocabularies],
            "say which all are mapped into, as data.races: utkface",
        ),
        attributes=_common(
            "attributes", names, [vocabulary.attributes for vocabulary in vocabularies], "join data sets with the same"
        ),
    )


def _common(what: str, names: Sequence[str], vocabularies: Sequence[tuple[str, ...]], way_out: str) -> tuple[str, ...]:
    """Return the classes common to all members that have any."""
    first = next((index for index, classes in enumerate(vocabularies) if classes), 0)
    for name, classes in zip(names, vocabularies, strict=True):
        if classes and classes != vocabularies[first]:
            raise DataError(
                f"data sets {names[first]} and {name} have different {what} ({', '.join(vocabularies[first])}; "
                f"{', '.join(classes)}); {way_out}."
            )
    return vocabularies[first]


def _rows(name: str, member: Packed, races: tuple[str, ...]) -> pd.DataFrame:
    table = member.table.copy()
    for column in ("sample_id", "path"):
        table[column] = name + "/" + table[column]
    table["data_set"] = name
    if member.vocabulary.races and member.vocabulary.races != races:
        mapped = race_map(member.vocabulary.races, races)
        table["race"] = table["race"].map(mapped.classes).astype(member.table["race"].dtype)
    return table
