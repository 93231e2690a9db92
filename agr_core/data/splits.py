"""Which images train, validate and test: cut once, written to a file of its own, read by everybody.

Images with the same bytes, and images of one subject, form a group, and a group lies in one part as a whole, so that
nothing is validated on what it was trained on. The cut follows from the seed and the sample ids alone, whatever the
order of the rows.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from agr_core.config import SplitConfig, Task
from agr_core.data.table import same_side_groups
from agr_core.errors import DataError, IntegrityError
from agr_core.labels.bins import Bins

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = get_args(Part)

STRATA_BINS = Bins.from_spec("utk7")
"""Age classes of a stratified split."""

MIN_AGE_BIN_IMAGES = 5
"""An age bin with fewer images may be left out of training: the ages around it are learned, unlike a missing race."""

_METADATA_KEY = b"agr.split"
_SCHEMA_VERSION = 1


@dataclass(frozen=True)
class SameSide:
    """How many images the same-side rule tied together.

    ``groups`` groups of two or more images, ``images`` in them; ``identical`` of the groups hold byte-identical images,
    ``subjects`` hold several different images of one subject.
    """

    groups: int
    images: int
    identical: int
    subjects: int


@dataclass(frozen=True)
class Split:
    """A cut of a data set.

    ``sample_ids`` (N,) in the order of the sample table; ``parts`` (N,) of ``train``, ``val`` or ``test``; ``config``:
    what was asked for; ``groups``: what the same-side rule did.
    """

    sample_ids: NDArray[np.object_]
    parts: NDArray[np.object_]
    config: SplitConfig
    groups: SameSide

    def rows(self, part: str) -> NDArray[np.int64]:
        """Row numbers of a part, ascending; of ``test`` none if its share is 0."""
        if part not in PARTS:
            raise ValueError(f"part {part!r} is none of {', '.join(PARTS)}.")
        return np.flatnonzero(self.parts == part).astype(np.int64)

    @property
    def digest(self) -> str:
        """SHA-256 of who is where, whatever the order of the rows and whatever was asked for."""
        hasher = hashlib.sha256()
        for sample_id, part in sorted(zip(self.sample_ids, self.parts, strict=True)):
            hasher.update(f"{sample_id} {part}\n".encode())
        return hasher.hexdigest()


def make_split(table: pd.DataFrame, config: SplitConfig) -> Split:
    """Cut a data set.

    Stratified, every joint class of ``config.by`` (ages by ``STRATA_BINS``; unknown labels are a class) is shared out
    by the fractions, to within one group, and what rounding takes from a part in one class it is owed in the next, so
    that rare classes do not add up to a skewed cut. A class goes to training before it goes elsewhere. A group belongs
    to the class most of its images have. Larger groups are placed first, as in scikit-learn's StratifiedGroupKFold,
    equally large ones in an order drawn by the seed.

    Raises:
        DataError: If the table is empty, a part stays empty, or a class is left out of training.
    """
    if table.empty:
        raise DataError("the data set is empty: there is nothing to split; pack at least one image of each class.")
    groups = same_side_groups(table)
    sample_ids = table["sample_id"].to_numpy(dtype=object)
    order = _drawn_order(sample_ids, groups, config.seed)
    classes = _classes(table, config.by) if config.strategy == "stratified" else np.zeros(len(table), dtype=np.int64)
    part_of_group = _share_out(groups, classes, order, config.fractions)
    parts = np.array(PARTS, dtype=object)[part_of_group[groups]]
    split = Split(sample_ids, parts, config, _count_same_side(table, groups))
    for part, fraction in zip(PARTS, config.fractions, strict=True):
        if fraction > 0 and not len(split.rows(part)):
            raise DataError(
                f"the split leaves {part} empty: its share of {fraction:g} of {len(table)} images "
                f"({groups.max() + 1} groups) comes to none; pack more images or raise its fraction."
            )
    check_classes_trained(table, split.rows("train"), way_out=_WAY_OUT.format(seed=config.seed))
    return split


_WAY_OUT = (
    "name it in data.split.by with the stratified strategy, raise the training fraction, "
    "try another data.split.seed (this was {seed}), or pack more such images"
)


def check_classes_trained(
    table: pd.DataFrame,
    train_rows: NDArray[np.int64],
    *,
    way_out: str,
    labels: Sequence[Task] = ("age", "gender", "race"),
) -> None:
    """Refuse a training part without a class that the data set has.

    The classes are genders, races, and the bins of ``STRATA_BINS`` that hold at least ``MIN_AGE_BIN_IMAGES`` images.

    Raises:
        DataError: Naming every class that is left out, and ``way_out``.
    """
    missing: list[str] = []
    for label in labels:
        names = _class_names(table, label)
        counts = {str(name): int(count) for name, count in names.value_counts().items()}
        trained = set(names.iloc[train_rows].dropna())
        enough = MIN_AGE_BIN_IMAGES if label == "age" else 1
        left_out = sorted(name for name, count in counts.items() if name not in trained and count >= enough)
        missing += [f"{label} {name!r} (images: {counts[name]})" for name in left_out]
    if missing:
        raise DataError(
            f"the split leaves {', '.join(missing)} out of training; every class must be trained on. "
            f"The way out: {way_out}."
        )


def write_split(split: Split, path: Path) -> None:
    """Write a split as Parquet (sample_id, part), complete or not at all."""
    metadata = {
        "schema_version": _SCHEMA_VERSION,
        "digest": split.digest,
        "config": split.config.model_dump(mode="json"),
        "groups": asdict(split.groups),
    }
    columns = {"sample_id": pa.array(split.sample_ids, pa.string()), "part": pa.array(split.parts, pa.string())}
    table = pa.table(columns).replace_schema_metadata({_METADATA_KEY: json.dumps(metadata, sort_keys=True)})
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    pq.write_table(table, partial, compression="zstd")
    partial.replace(path)


def read_split(path: Path) -> Split:
    """The split that ``write_split`` wrote.

    Raises:
        DataError: If the file is missing or no split.
        IntegrityError: If its rows do not have its digest.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist; a split is written by agr_core.data.splits.write_split.")
    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise DataError(f"{path} is not a split: {error}") from error
    metadata: dict[str, Any] = json.loads((table.schema.metadata or {}).get(_METADATA_KEY, b"{}"))
    if metadata.get("schema_version") != _SCHEMA_VERSION:
        raise DataError(
            f"{path} is not a split of schema version {_SCHEMA_VERSION} (found {metadata.get('schema_version')!r}); "
            "make the split again."
        )
    split = Split(
        sample_ids=np.array(table["sample_id"].to_pylist(), dtype=object),
        parts=np.array(table["part"].to_pylist(), dtype=object),
        config=SplitConfig.model_validate_json(json.dumps(metadata["config"])),
        groups=SameSide(**metadata["groups"]),
    )
    if split.digest != metadata["digest"]:
        raise IntegrityError(f"{path} has split digest {split.digest}, not {metadata['digest']}; fetch it again.")
    return split


def draw_share(sample_ids: NDArray[np.object_], rows: NDArray[np.int64], share: float, seed: int) -> NDArray[np.int64]:
    """About ``share`` of ``rows``, at least one, ascending; the smaller of two shares lies within the larger."""
    count = max(1, round(share * len(rows)))
    keys = [_key(seed, "share", sample_ids[row]) for row in rows]
    return np.sort(rows[np.array(sorted(range(len(rows)), key=keys.__getitem__)[:count], dtype=np.int64)])


def _key(seed: int, purpose: str, sample_id: str) -> bytes:
    """A random-looking sort key that follows from the seed and the sample alone."""
    return hashlib.sha256(f"{seed}/{purpose}/{sample_id}".encode()).digest()


def _drawn_order(sample_ids: NDArray[np.object_], groups: NDArray[np.int64], seed: int) -> list[int]:
    """Groups, the larger first, equally large ones in an order drawn by the seed."""
    first_id: dict[int, str] = {}
    for sample_id, group in zip(sample_ids, groups.tolist(), strict=True):
        if group not in first_id or sample_id < first_id[group]:
            first_id[group] = sample_id
    sizes = np.bincount(groups)
    return sorted(first_id, key=lambda group: (-int(sizes[group]), _key(seed, "split", first_id[group])))


def _class_names(table: pd.DataFrame, label: str) -> pd.Series:
    """The class of each image under one label, missing where not known; ages by the name of their bin."""
    if label != "age":
        return table[label].reset_index(drop=True)
    ages = table["age"].reset_index(drop=True)
    names = pd.Series(np.nan, index=ages.index, dtype=object)
    known = ages.notna()
    names[known] = np.array(STRATA_BINS.labels, dtype=object)[STRATA_BINS.index(ages[known])]
    return names


def _classes(table: pd.DataFrame, labels: Iterable[str]) -> NDArray[np.int64]:
    """The joint class of each image (N,), numbered in the order of its name."""
    names = [_class_names(table, label).fillna("").astype(str) for label in labels]
    joint = pd.Series(list(zip(*names, strict=True)))
    return np.asarray(pd.factorize(joint, sort=True)[0], dtype=np.int64)


def _share_out(
    groups: NDArray[np.int64], classes: NDArray[np.int64], order: Sequence[int], fractions: Sequence[float]
) -> NDArray[np.int64]:
    """The index into ``PARTS`` of each group (G,)."""
    sizes = np.bincount(groups)
    members = np.zeros((len(sizes), int(classes.max()) + 1), dtype=np.int64)
    np.add.at(members, (groups, classes), 1)
    class_of_group = members.argmax(axis=1)
    by_class: dict[int, list[int]] = {}
    for group in order:
        by_class.setdefault(int(class_of_group[group]), []).append(group)

    part_of_group = np.zeros(len(sizes), dtype=np.int64)
    shares = np.array(fractions)
    owed = np.zeros(len(PARTS))  # images that rounding kept from each part in the classes before
    # The rarest classes first: the common ones have the room to make up for their rounding.
    for _, members_of_class in sorted(by_class.items(), key=lambda item: (sizes[item[1]].sum(), item[0])):
        count = int(sizes[members_of_class].sum())
        targets = _targets(count, shares, owed)
        placed = np.zeros(len(PARTS))
        for group in members_of_class:
            part = int(np.argmax(targets - placed))
            part_of_group[group] = part
            placed[part] += sizes[group]
        owed += shares * count - placed
    return part_of_group


def _targets(count: int, shares: NDArray[np.float64], owed: NDArray[np.float64]) -> NDArray[np.float64]:
    """Whole numbers of images for each part that add up to ``count``, each its exact share rounded down or up.

    What rounding down leaves goes to training if training would get nothing, and else where most is owed.
    """
    exact = shares * count
    targets = np.floor(exact + 1e-9)
    for _ in range(count - int(targets.sum())):
        wanting = np.where(exact - targets > 1e-9, owed + exact - targets, -np.inf)
        targets[0 if targets[0] == 0 else int(np.argmax(wanting))] += 1
    return targets


def _count_same_side(table: pd.DataFrame, groups: NDArray[np.int64]) -> SameSide:
    frame = pd.DataFrame({"group": groups, "sha256": table["sha256"].to_numpy()})
    per_group = frame.groupby("group")["sha256"].agg(["size", "nunique"])
    tied = per_group[per_group["size"] > 1]
    return SameSide(
        groups=len(tied),
        images=int(tied["size"].sum()),
        identical=int((tied["nunique"] < tied["size"]).sum()),
        subjects=int((tied["nunique"] > 1).sum()),
    )
