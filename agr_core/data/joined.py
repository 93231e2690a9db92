"""Several packed data sets as one: their rows below each other, their race classes in one vocabulary.

A join is a small JSON file that names the members, in order, and where each lies. Each member is packed, stored,
brought to a node and decoded once, whatever it is joined with.

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

from agr_core.data.pack import Packed
from agr_core.data.table import LabelKind
from agr_core.errors import DataError
from agr_core.identity import canonical_json, digest
from agr_core.labels.attributes import Vocabulary, race_map

_SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Member:
    """A data set of a join: its ``name``, ``uri`` (where it lies: a folder, or an address) and data digest."""

    name: str
    uri: str
    digest: str


@dataclass(frozen=True)
class Join:
    """What is joined: the members in the order of their rows, and the race classes of the whole.

    ``races`` is None where the members' own are alike.
    """

    members: tuple[Member, ...]
    races: tuple[str, ...] | None

    @property
    def digest(self) -> str:
        """The data digest of the whole: names and contents of the members, and the race classes; not where they lie."""
        members = [[member.name, member.digest] for member in self.members]
        return digest({"joined": members, "races": None if self.races is None else list(self.races)})

    def to_bytes(self) -> bytes:
        """The file of the join."""
        document = {"schema_version": _SCHEMA_VERSION, "digest": self.digest, **asdict(self)}
        return canonical_json(document).encode("utf-8")

    @classmethod
    def from_bytes(cls, data: bytes, place: str) -> Join:
        """The join that ``to_bytes`` wrote to ``place``.

        Raises:
            DataError: If it is none that this version reads.
        """
        try:
            document: dict[str, Any] = json.loads(data)
            if document["schema_version"] != _SCHEMA_VERSION:
                raise DataError(f"{place} is no join of data sets of schema version {_SCHEMA_VERSION}; submit again.")
            races = document["races"]
            members = tuple(Member(**member) for member in document["members"])
            return cls(members, None if races is None else tuple(races))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{place} is no join of data sets ({error}); delete it and submit again.") from error


class Joined:
    """Several packed data sets on disk, as ``Packed`` shows one.

    Attributes:
        members: The data sets, in the order of their rows.
        starts: First row of each member, and N.
        digest: Data digest of the whole.
        vocabulary: Gender and race classes and attributes of the whole.
        label_kind: ``range`` if any member has ranges.
        table: The rows of all members (N rows): sample ids and paths begin with the member's name and ``/``, races are
            in the vocabulary of the whole, and a column ``data_set`` names the member.

    Raises:
        DataError: If the members' genders, attributes, or races without a common vocabulary, differ.
    """

    def __init__(self, join: Join, members: Sequence[Packed], place: Path) -> None:
        self.folder = place
        self.members = tuple(members)
        self.digest: str = join.digest
        self._names = names = [member.name for member in join.members]
        self.vocabulary = _vocabulary(names, members, join.races)
        self.label_kind: LabelKind = "range" if any(one.label_kind == "range" for one in members) else "exact"
        tables = [_rows(name, one, self.vocabulary.races) for name, one in zip(names, members, strict=True)]
        self.table: pd.DataFrame = pd.concat(tables, ignore_index=True)
        self.starts = np.concatenate([[0], np.cumsum([len(one) for one in members], dtype=np.int64)])

    def __len__(self) -> int:
        return len(self.table)

    @property
    def crop(self) -> dict[str, Any] | None:
        """How faces were cut out of the images of all members; None if they were not, or not alike."""
        first = self.members[0].crop
        return first if all(member.crop == first for member in self.members) else None

    @property
    def notes(self) -> tuple[str, ...]:
        """What the mapping of the races lost, a sentence for each member that it concerns."""
        said = []
        for name, member in zip(self._names, self.members, strict=True):
            mapped = race_map(member.vocabulary.races, self.vocabulary.races)
            if member.vocabulary.races != self.vocabulary.races and (lost := mapped.lost()):
                count = int(member.table["race"].isin(mapped.unlabelled).sum())
                said.append(f"races of {name}: {lost}; {count:,} of {len(member):,} images lose their race label.")
        return tuple(said)

    def places(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The member, counted from 0, in which each row is (B,)."""
        return np.searchsorted(self.starts, rows, side="right") - 1


def open_data(place: Path) -> Packed | Joined:
    """The packed data set of a folder, or those of a join's file.

    Raises:
        DataError: If there is none, or the members of a join do not go together.
        IntegrityError: If a shard is missing or has another size.
    """
    if place.suffix != ".json":
        return Packed.open(place)
    join = Join.from_bytes(place.read_bytes(), str(place))
    return Joined(join, [Packed.open(Path(member.uri)) for member in join.members], place)


def _vocabulary(names: Sequence[str], members: Sequence[Packed], races: tuple[str, ...] | None) -> Vocabulary:
    known = [member.vocabulary for member in members]
    return Vocabulary(
        genders=_common("genders", names, [one.genders for one in known], "join data sets with the same"),
        races=races
        if races is not None
        else _common(
            "race classes", names, [one.races for one in known], "say which all are mapped into, as data.races: utkface"
        ),
        attributes=_common("attributes", names, [one.attributes for one in known], "join data sets with the same"),
    )


def _common(what: str, names: Sequence[str], found: Sequence[tuple[str, ...]], way_out: str) -> tuple[str, ...]:
    """The classes that all members have which have any."""
    first = next((place for place, classes in enumerate(found) if classes), 0)
    for name, classes in zip(names, found, strict=True):
        if classes and classes != found[first]:
            raise DataError(
                f"data sets {names[first]} and {name} have different {what} ({', '.join(found[first])}; "
                f"{', '.join(classes)}); {way_out}."
            )
    return found[first]


def _rows(name: str, member: Packed, races: tuple[str, ...]) -> pd.DataFrame:
    table = member.table.copy()
    for column in ("sample_id", "path"):
        table[column] = name + "/" + table[column]
    table["data_set"] = name
    if member.vocabulary.races and member.vocabulary.races != races:
        mapped = race_map(member.vocabulary.races, races)
        table["race"] = table["race"].map(mapped.classes).astype(member.table["race"].dtype)
    return table
