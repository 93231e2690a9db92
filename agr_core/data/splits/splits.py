"""Splitting of a data set into train, val and test; a split is made once and stored in its own file.

Byte-identical images and images of one subject form a group, and a group is never divided between parts, so that no
model is validated on images it was trained on. The split depends on the seed and the sample IDs alone, not on the order
of rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from agr_core.config import Label, SplitConfig
from agr_core.data.packed.table import same_side_groups
from agr_core.data.splits.published import Assignment, assigned_parts, bring_together, official_parts
from agr_core.data.splits.sharing import class_names, share_out, sort_key
from agr_core.data.splits.split_file import FOREIGN, LEFT_OUT, PARTS, Part, SameSide, Split, read_split, write_split
from agr_core.errors import DataError

__all__ = [
    "FOREIGN",
    "LEFT_OUT",
    "MIN_AGE_BIN_IMAGES",
    "PARTS",
    "PUBLISHED",
    "Part",
    "SameSide",
    "Split",
    "check_classes_trained",
    "draw_share",
    "make_split",
    "read_split",
    "write_split",
]

PUBLISHED = ("official", "file")
"""Strategies that use a published split; classes missing in its training part are not refused."""

MIN_AGE_BIN_IMAGES = 5
"""Age bins with fewer images may be missing in training: unlike a missing race, they are covered by neighbouring
ages."""


def make_split(
    table: pd.DataFrame,
    config: SplitConfig,
    *,
    ages: tuple[float, float] | None = None,
    foreign: Sequence[str] = (),
) -> Split:
    """Split a data set by ``config.strategy``.

    ``stratified`` and ``random`` distribute the images by the fractions (``sharing.share_out``). ``kfold`` distributes
    them to ``folds`` equal folds: ``fold`` is the test part, the fold before it the val part, the others train. Over
    all folds, each image is in test once and in val once. ``official`` and ``file`` take the parts from the data set or
    a file; if these have no val part, it is cut from train, stratified, at the ratio of the fractions.

    Args:
        table: The sample table.
        config: Configuration of the split.
        ages: Lowest and highest age, in years, both included; images whose age, or whole age range, is not within them
            get no part.
        foreign: Test-only data sets, by the column ``data_set``. Each is a part ``test.<name>`` as a whole, except
            images that also occur, or whose subject occurs, in the other data sets.

    Raises:
        DataError: If the table is empty, a part would be empty, a class is missing in training, or a published split
            cannot be read or does not match.
    """
    if table.empty:
        raise DataError("the data set is empty: there is nothing to split; pack at least one image of each class.")
    used, left_out = _within(table, ages)
    if not used.any():
        raise DataError(f"data.ages {list(ages or ())} leaves none of the {len(table):,} images; widen it.")
    parts = np.full(len(table), LEFT_OUT, dtype=object)
    parts[used], of_foreign = _foreign_parts(table[used].reset_index(drop=True), foreign)
    own = parts == _TO_CUT
    if not own.any():
        raise DataError(f"data.ages {list(ages or ())} leaves no image of the data sets in data.train; widen it.")
    cut = _cut(table[own].reset_index(drop=True), config)
    parts[own] = cut.assignment.parts
    split = Split(
        table["sample_id"].to_numpy(dtype=object),
        parts,
        config,
        cut.groups,
        left_out={**left_out, **of_foreign, **cut.assignment.left_out},
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
    """Result of a strategy; ``wanted`` maps parts that must not be empty to the message and remedy if they are."""

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
    part_indices = share_out(table, groups, by=by, shares=config.fractions, seed=config.seed)
    wanted = {
        part: f"its share of {fraction:g} of {of} comes to none; pack more images or raise its fraction."
        for part, fraction in zip(PARTS, config.fractions, strict=True)
        if fraction > 0
    }
    return _Cut(Assignment(np.array(PARTS, dtype=object)[part_indices]), same_side, wanted)


def _cut_as_published(table: pd.DataFrame, config: SplitConfig, groups: NDArray[np.int64], same_side: SameSide) -> _Cut:
    if config.strategy == "official":
        assignment = official_parts(table, config.partitions)
    else:
        assert config.path is not None, "SplitConfig asks for the path"
        assignment = assigned_parts(table, Path(config.path).expanduser())
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
    part_indices = share_out(
        table.iloc[rows].reset_index(drop=True), of_rows, by=config.by, shares=shares, seed=config.seed
    )
    cut = parts.copy()
    cut[rows[part_indices == 1]] = "val"
    return cut


_TO_CUT = "to cut"


def _foreign_parts(table: pd.DataFrame, foreign: Sequence[str]) -> tuple[NDArray[np.object_], dict[str, int]]:
    """Return the part of each image (N,) of foreign data sets, ``_TO_CUT`` for others; and left-out counts."""
    parts = np.full(len(table), _TO_CUT, dtype=object)
    if not foreign:
        return parts, {}
    of = table["data_set"].to_numpy(dtype=object)
    groups = same_side_groups(table)
    also_ours = np.isin(groups, groups[~np.isin(of, list(foreign))])
    reasons: dict[str, int] = {}
    for name in foreign:
        rows = of == name
        parts[rows] = np.where(also_ours[rows], LEFT_OUT, f"{FOREIGN}{name}")
        if not (rows & ~also_ours).any():
            raise DataError(f"data.test {name!r} has no image left (of {int(rows.sum()):,}); leave it out.")
        if (rows & also_ours).any():
            reason = f"of {name}, identical to images of data.train or of their subjects"
            reasons[reason] = int((rows & also_ours).sum())
    return parts, reasons


def _within(table: pd.DataFrame, ages: tuple[float, float] | None) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """Return which images (N,) have an age within ``ages``, and counts of the others by reason."""
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
    labels: Sequence[Label] = ("age", "gender", "race"),
) -> None:
    """Check that the training part has every class of the data set.

    The classes are genders, races, and the bins of ``STRATA_BINS`` that hold at least ``MIN_AGE_BIN_IMAGES`` images,
    among the rows ``used``.

    Raises:
        DataError: If not; the message names every missing class and ``way_out``.
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
            f"the split leaves {', '.join(missing)} out of training; every class must be trained on. Remedy: {way_out}."
        )


def draw_share(sample_ids: NDArray[np.object_], rows: NDArray[np.int64], share: float, seed: int) -> NDArray[np.int64]:
    """Return about ``share`` of ``rows``, at least one, ascending; smaller shares are subsets of larger ones."""
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
