"""Stratified distribution of whole groups of images to parts, in an order determined by the seed.

N: images; G: groups; P: parts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from agr_core.bins import Bins

STRATA_BINS = Bins.from_spec("utk7")
"""Age classes of a stratified split."""


def share_out(
    table: pd.DataFrame,
    groups: NDArray[np.int64],
    *,
    by: Iterable[str],
    shares: Sequence[float],
    seed: int,
    first_is_training: bool = True,
) -> NDArray[np.int64]:
    """Return the part, 0 to P - 1, of each image (N,).

    Every joint class of the labels ``by`` (ages by ``STRATA_BINS``; unknown labels are a class; no label: one class) is
    distributed by the shares, to within one group. Rounding errors of a part are carried over to the next class, so
    that rare classes do not accumulate to a skewed split. A group belongs to the class of most of its images. Larger
    groups are placed first, as in scikit-learn's StratifiedGroupKFold; groups of equal size in an order drawn by the
    seed.

    Args:
        table: The sample table.
        groups: Group of each image (N,), 0 to G - 1.
        by: Labels whose joint class shares are kept equal.
        shares: Share of each part (P,); they sum to 1.
        seed: Seed of the order.
        first_is_training: Whether the first part gets at least one image of a class before other parts do.
    """
    order = _drawn_order(table["sample_id"].to_numpy(dtype=object), groups, seed)
    parts = _share_groups(groups, _classes(table, by), order, np.array(shares), first_is_training)
    return parts[groups]


def sort_key(seed: int, purpose: str, sample_id: str) -> bytes:
    """Return a pseudo-random sort key determined by seed, purpose and sample."""
    return hashlib.sha256(f"{seed}/{purpose}/{sample_id}".encode()).digest()


def class_names(table: pd.DataFrame, label: str) -> pd.Series:
    """Return the class of each image for one label, missing where unknown; ages by the name of their bin."""
    if label != "age":
        return table[label].reset_index(drop=True)
    ages = table["age"].reset_index(drop=True)
    names = pd.Series(np.nan, index=ages.index, dtype=object)
    known = ages.notna()
    names[known] = np.array(STRATA_BINS.labels, dtype=object)[STRATA_BINS.index(ages[known])]
    return names


def _drawn_order(sample_ids: NDArray[np.object_], groups: NDArray[np.int64], seed: int) -> list[int]:
    """Return the groups, larger ones first, those of equal size in an order drawn by the seed."""
    first_id: dict[int, str] = {}
    for sample_id, group in zip(sample_ids, groups.tolist(), strict=True):
        if group not in first_id or sample_id < first_id[group]:
            first_id[group] = sample_id
    sizes = np.bincount(groups)
    return sorted(first_id, key=lambda group: (-int(sizes[group]), sort_key(seed, "split", first_id[group])))


def _classes(table: pd.DataFrame, labels: Iterable[str]) -> NDArray[np.int64]:
    """Return the joint class of each image (N,), numbered in the order of its name."""
    names = [class_names(table, label).fillna("").astype(str) for label in labels]
    if not names:
        return np.zeros(len(table), dtype=np.int64)
    joint = pd.Series(list(zip(*names, strict=True)))
    return np.asarray(pd.factorize(joint, sort=True)[0], dtype=np.int64)


def _share_groups(
    groups: NDArray[np.int64],
    classes: NDArray[np.int64],
    order: Sequence[int],
    shares: NDArray[np.float64],
    first_is_training: bool,
) -> NDArray[np.int64]:
    """Return the part of each group (G,)."""
    sizes = np.bincount(groups)
    members = np.zeros((len(sizes), int(classes.max()) + 1), dtype=np.int64)
    np.add.at(members, (groups, classes), 1)
    class_of_group = members.argmax(axis=1)
    by_class: dict[int, list[int]] = {}
    for group in order:
        by_class.setdefault(int(class_of_group[group]), []).append(group)

    part_of_group = np.zeros(len(sizes), dtype=np.int64)
    owed = np.zeros(len(shares))  # images owed to each part from rounding in previous classes
    # Rarest classes first: common classes can compensate their rounding.
    for _, members_of_class in sorted(by_class.items(), key=lambda item: (sizes[item[1]].sum(), item[0])):
        count = int(sizes[members_of_class].sum())
        targets = _targets(count, shares, owed, first_is_training)
        placed = np.zeros(len(shares))
        for group in members_of_class:
            part = int(np.argmax(targets - placed))
            part_of_group[group] = part
            placed[part] += sizes[group]
        owed += shares * count - placed
    return part_of_group


def _targets(
    count: int, shares: NDArray[np.float64], owed: NDArray[np.float64], first_is_training: bool
) -> NDArray[np.float64]:
    """Return whole numbers of images per part that sum to ``count``, each its exact share rounded up or down.

    The remainder goes to training if training would get nothing, else to the parts owed most.
    """
    exact = shares * count
    targets = np.floor(exact + 1e-9)
    for _ in range(count - int(targets.sum())):
        wanting = np.where(exact - targets > 1e-9, owed + exact - targets, -np.inf)
        targets[0 if first_is_training and targets[0] == 0 else int(np.argmax(wanting))] += 1
    return targets
