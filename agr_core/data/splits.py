"""Which images train, validate and test: cut once, written to a file of its own, read by everybody.

Images with the same bytes, and images of one subject, form a group, and a group lies in one part as a whole, so that
nothing is validated on what it was trained on. The cut follows from the seed and the sample ids alone, whatever the
order of the rows.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from agr_core.config import SplitConfig, Task
from agr_core.data.published import LEFT_OUT, Assignment, bring_together, listed_parts, match, official_parts
from agr_core.data.sharing import class_names, share_out, sort_key
from agr_core.data.table import same_side_groups
from agr_core.errors import DataError, IntegrityError

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = get_args(Part)

PUBLISHED = ("official", "file")
"""Strategies that take a split as others published it: which classes it trains on is not ours to refuse."""

MIN_AGE_BIN_IMAGES = 5
"""An age bin with fewer images may be left out of training: the ages around it are learned, unlike a missing race."""

_METADATA_KEY = b"agr.split"
_SCHEMA_VERSION = 1


@dataclass(frozen=True)
class SameSide:
    """How many images the same-side rule tied together.

    ``groups`` groups of two or more images, ``images`` in them; ``identical`` of the groups hold byte-identical images,
    ``subjects`` hold several different images of one subject. Of a published split, ``straddling`` of the groups lay in
    several parts, and ``moved`` images were moved to end that (0 where ``leaks: keep`` leaves them).
    """

    groups: int
    images: int
    identical: int
    subjects: int
    straddling: int = 0
    moved: int = 0


@dataclass(frozen=True)
class Split:
    """A cut of a data set.

    ``sample_ids`` (N,) in the order of the sample table; ``parts`` (N,) of ``train``, ``val``, ``test`` or
    ``left_out``; ``config``: what was asked for; ``groups``: what the same-side rule did; ``left_out``: images in no
    part, by reason; ``unmatched``: entries of a published split without an image.
    """

    sample_ids: NDArray[np.object_]
    parts: NDArray[np.object_]
    config: SplitConfig
    groups: SameSide
    left_out: Mapping[str, int] = field(default_factory=dict)
    unmatched: int = 0

    def rows(self, part: str) -> NDArray[np.int64]:
        """Row numbers of a part, ascending; of ``test`` none if its share is 0."""
        if part not in PARTS:
            raise ValueError(f"part {part!r} is none of {', '.join(PARTS)}.")
        return np.flatnonzero(self.parts == part).astype(np.int64)

    @property
    def used(self) -> NDArray[np.int64]:
        """Row numbers of the images that are in any part, ascending."""
        return np.flatnonzero(self.parts != LEFT_OUT).astype(np.int64)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know before trusting figures on this split, a sentence each."""
        said = []
        if out := len(self.parts) - len(self.used):
            reasons = ", ".join(f"{reason} ({count:,})" for reason, count in self.left_out.items())
            said.append(f"{out:,} of {len(self.parts):,} images are in no part: {reasons}.")
        if self.unmatched:
            said.append(f"{self.unmatched:,} entries of {self.config.path} are images that the data set does not have.")
        if self.groups.straddling:
            done = (
                f"{self.groups.moved:,} images were moved to end that (data.split.leaks: move)"
                if self.config.leaks == "move"
                else "they stay there (data.split.leaks: keep), so figures on val and test flatter"
            )
            said.append(
                f"{self.groups.straddling:,} groups of identical images or of one subject lie in several parts of the "
                f"published split; {done}."
            )
        return tuple(said)

    @property
    def digest(self) -> str:
        """SHA-256 of who is where, whatever the order of the rows and whatever was asked for."""
        hasher = hashlib.sha256()
        for sample_id, part in sorted(zip(self.sample_ids, self.parts, strict=True)):
            hasher.update(f"{sample_id} {part}\n".encode())
        return hasher.hexdigest()


def make_split(table: pd.DataFrame, config: SplitConfig, *, ages: tuple[float, float] | None = None) -> Split:
    """Cut a data set, as ``config.strategy`` says.

    ``stratified`` and ``random`` share the images out by the fractions (``sharing.share_out``). ``kfold`` shares them
    out to ``folds`` equal folds: ``fold`` is the test part, the fold before it the val part, the others train; so over
    all folds each image is tested once and validates once. ``official`` and ``file`` take the parts from the data set
    or a file; where these have no val part, it is cut from train, stratified, at the ratio of the fractions.

    Args:
        table: The sample table.
        config: What is asked for.
        ages: Youngest and oldest age, years, both included: an image whose age, or whole age range, does not lie
            within is in no part.

    Raises:
        DataError: If the table is empty, a part stays empty, a class is left out of training, or a published split
            cannot be read or does not fit.
    """
    if table.empty:
        raise DataError("the data set is empty: there is nothing to split; pack at least one image of each class.")
    used, left_out = _within(table, ages)
    if not used.any():
        raise DataError(f"data.ages {list(ages or ())} leaves none of the {len(table):,} images; widen it.")
    cut = _cut(table[used].reset_index(drop=True), config)
    parts = np.full(len(table), LEFT_OUT, dtype=object)
    parts[used] = cut.assignment.parts
    split = Split(
        table["sample_id"].to_numpy(dtype=object),
        parts,
        config,
        cut.groups,
        left_out={**left_out, **cut.assignment.left_out},
        unmatched=cut.assignment.unmatched,
    )
    for part, why in cut.wanted.items():
        if not len(split.rows(part)):
            raise DataError(f"the split leaves {part} empty: {why}")
    if config.strategy not in PUBLISHED:
        check_classes_trained(table, split.rows("train"), used=split.used, way_out=_WAY_OUT.format(seed=config.seed))
    return split


@dataclass(frozen=True)
class _Cut:
    """What a strategy made; ``wanted``: for each part that must not be empty, what to say and do if it is."""

    assignment: Assignment
    groups: SameSide
    wanted: Mapping[Part, str]


def _cut(table: pd.DataFrame, config: SplitConfig) -> _Cut:
    groups = same_side_groups(table)
    same_side = _count_same_side(table, groups)
    if config.strategy in PUBLISHED:
        return _cut_as_published(table, config, groups, same_side)
    by = () if config.strategy == "random" else config.by
    of = f"{len(table)} images ({groups.max() + 1} groups)"
    if config.strategy == "kfold":
        folds, fold = config.folds, config.fold
        shares = [1 / folds] * folds
        fold_of = share_out(table, groups, by=by, shares=shares, seed=config.seed, first_is_training=False)
        parts = np.full(len(table), "train", dtype=object)
        parts[fold_of == fold] = "test"
        parts[fold_of == (fold - 1) % folds] = "val"
        wanted = dict.fromkeys(
            PARTS, f"{folds} folds of {of} leave one without; pack more images or lower data.split.folds."
        )
        return _Cut(Assignment(parts), same_side, wanted)
    places = share_out(table, groups, by=by, shares=config.fractions, seed=config.seed)
    wanted = {
        part: f"its share of {fraction:g} of {of} comes to none; pack more images or raise its fraction."
        for part, fraction in zip(PARTS, config.fractions, strict=True)
        if fraction > 0
    }
    return _Cut(Assignment(np.array(PARTS, dtype=object)[places]), same_side, wanted)


def _cut_as_published(table: pd.DataFrame, config: SplitConfig, groups: NDArray[np.int64], same_side: SameSide) -> _Cut:
    if config.strategy == "official":
        assignment = official_parts(table, config.partitions)
    else:
        assert config.path is not None, "SplitConfig asks for the path"
        path = Path(config.path).expanduser()
        if path.suffix == ".parquet":
            listing = dict(zip(*_columns_of(read_split(path)), strict=True))
            assignment = match(table, listing, column="sample_id", source=path)
        else:
            assignment = listed_parts(table, path)
    parts, straddling, moved = bring_together(assignment.parts, groups, keep=config.leaks == "keep")
    if not (parts == "val").any() and (parts == "train").any():
        parts = _cut_val_from_train(table, config, groups, parts)
    wanted: dict[Part, str] = dict.fromkeys(("train", "val"), "the published split puts no image there that is used.")
    return _Cut(replace(assignment, parts=parts), replace(same_side, straddling=straddling, moved=moved), wanted)


def _cut_val_from_train(
    table: pd.DataFrame, config: SplitConfig, groups: NDArray[np.int64], parts: NDArray[np.object_]
) -> NDArray[np.object_]:
    rows = np.flatnonzero(parts == "train")
    train, val, _ = config.fractions
    shares = (train / (train + val), val / (train + val))
    of_rows = np.unique(groups[rows], return_inverse=True)[1].astype(np.int64)
    places = share_out(table.iloc[rows].reset_index(drop=True), of_rows, by=config.by, shares=shares, seed=config.seed)
    cut = parts.copy()
    cut[rows[places == 1]] = "val"
    return cut


def _within(table: pd.DataFrame, ages: tuple[float, float] | None) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """Which images (N,) have an age within ``ages``, and how many have not, by reason."""
    if ages is None:
        return np.ones(len(table), dtype=np.bool_), {}
    low, high = ages
    known = table["age"].notna().to_numpy()
    within = known & (table["age_low"] >= low).to_numpy() & (table["age_high"] <= high).to_numpy()
    reasons = {
        f"age not within {low:g} to {high:g} years": int((known & ~within).sum()),
        "age not known": int((~known).sum()),
    }
    return within, {reason: count for reason, count in reasons.items() if count}


def _columns_of(split: Split) -> tuple[list[str], list[str]]:
    return split.sample_ids.tolist(), split.parts.tolist()


_WAY_OUT = (
    "name it in data.split.by with the stratified strategy, raise the training fraction, "
    "try another data.split.seed (this was {seed}), or pack more such images"
)


def check_classes_trained(
    table: pd.DataFrame,
    train_rows: NDArray[np.int64],
    *,
    used: NDArray[np.int64],
    way_out: str,
    labels: Sequence[Task] = ("age", "gender", "race"),
) -> None:
    """Refuse a training part without a class that the data set has.

    The classes are genders, races, and the bins of ``STRATA_BINS`` that hold at least ``MIN_AGE_BIN_IMAGES`` images,
    among the rows ``used``.

    Raises:
        DataError: Naming every class that is left out, and ``way_out``.
    """
    missing: list[str] = []
    for label in labels:
        names = class_names(table, label)
        counts = {str(name): int(count) for name, count in names.iloc[used].value_counts().items()}
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
        "left_out": dict(split.left_out),
        "unmatched": split.unmatched,
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
        left_out=metadata.get("left_out", {}),
        unmatched=metadata.get("unmatched", 0),
    )
    if split.digest != metadata["digest"]:
        raise IntegrityError(f"{path} has split digest {split.digest}, not {metadata['digest']}; fetch it again.")
    return split


def draw_share(sample_ids: NDArray[np.object_], rows: NDArray[np.int64], share: float, seed: int) -> NDArray[np.int64]:
    """About ``share`` of ``rows``, at least one, ascending; the smaller of two shares lies within the larger."""
    count = max(1, round(share * len(rows)))
    keys = [sort_key(seed, "share", sample_ids[row]) for row in rows]
    return np.sort(rows[np.array(sorted(range(len(rows)), key=keys.__getitem__)[:count], dtype=np.int64)])


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
