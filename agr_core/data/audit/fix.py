"""Corrected split without leaks or contradicting labels, and the list of omitted images; the data is unchanged.

N: images.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from agr_core.config import SplitConfig
from agr_core.data.audit.groups import same_side
from agr_core.data.audit.report import Audit
from agr_core.data.splits.published import bring_together
from agr_core.data.splits.split_file import LEFT_OUT
from agr_core.data.splits.splits import make_split
from agr_core.errors import DataError, InputError

SPLIT, LEFT_OUT_LIST = "split.csv", "left_out.csv"
"""Names of the two files if the output is a folder."""


@dataclass(frozen=True)
class Fixed:
    """A corrected split.

    ``parts`` (N,) are ``train``, ``val``, ``test`` or ``LEFT_OUT``; ``moved`` counts images moved to the part of their
    group; ``left_out`` maps rows of images left out for a contradiction to the contradicting images.
    """

    parts: NDArray[np.object_]
    moved: int
    left_out: dict[int, str]


def fix(audit: Audit) -> Fixed:
    """Move every group into one part and leave out every image whose labels contradict those of another copy.

    A group goes to the part of most of its images; on ties, to an evaluated part. Without a split, a new one is made,
    stratified as by a sweep's default. The correct one of two contradicting labels is unknown, so every image of such a
    group is left out.

    Raises:
        DataError: If no image is left, or the new split would lack a class in training.
    """
    table = audit.table
    left_out = _contradicting(audit)
    used = audit.used.copy()
    used[list(left_out)] = False
    if not used.any():
        raise DataError("no image is left: each is in no part, or another copy of it contradicts its labels.")
    parts = np.full(len(table), LEFT_OUT, dtype=object)
    if audit.parts is None:
        parts[used] = make_split(table[used].reset_index(drop=True), SplitConfig()).parts
    else:
        parts[used] = audit.parts[used]
    parts, _, moved = bring_together(parts, same_side(table, audit.examined.near), keep=False)
    return Fixed(parts, moved, left_out)


def write_fixed(audit: Audit, fixed: Fixed, output: Path) -> tuple[Path, Path]:
    """Write the split and the list of images left out; return both paths.

    Args:
        audit: The audit passed to ``fix``.
        fixed: Its result.
        output: A ``.csv`` file for the split, with the list next to it; or a folder for both.

    Raises:
        InputError: If a file already exists or cannot be written.
    """
    if output.suffix == ".csv":
        split, listed = output, output.with_name(f"{output.stem}.{LEFT_OUT_LIST}")
    else:
        split, listed = output / SPLIT, output / LEFT_OUT_LIST
    parts = _csv([("file", "split"), *zip(audit.table["path"], fixed.parts, strict=True)])
    written: list[Path] = []
    for path, text in ((split, parts), (listed, _listing(audit, fixed))):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                written.append(path)
                file.write(text)
        except OSError as error:
            for half in written:  # one file without the other would be in the way of the next attempt
                half.unlink()
            if isinstance(error, FileExistsError) and path.exists():
                raise InputError(f"{path} exists; choose another --fix output, or remove it.") from error
            raise InputError(f"cannot write {path}: {error.strerror}. Give another --fix output.") from error
    return split, listed


def read_left_out(table: pd.DataFrame, path: Path) -> NDArray[np.bool_]:
    """Return which images (N,) a list leaves out: a CSV file with a column ``file``, as by ``write_fixed``.

    Images are matched by path in the data set, else by file name.

    Raises:
        DataError: If the file cannot be read, or lists an image that is not in the data set.
    """
    named = set(left_out_reasons(path))
    keys = table["path"].astype(str)
    if not named & set(keys):
        keys, named = keys.map(_file_name), {_file_name(name) for name in named}
    if unknown := sorted(named - set(keys)):
        raise DataError(
            f"{path} names {unknown[0]!r}, which the data set does not have; give the list of this data set."
        )
    return keys.isin(named).to_numpy(dtype=np.bool_)


def left_out_reasons(path: Path) -> dict[str, str]:
    """Return by image the reason for which a list leaves it out: a CSV file with ``file`` and, optionally, ``reason``.

    Raises:
        DataError: If the file cannot be read.
    """
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as CSV ({error}); give the list that `--fix` wrote.") from error
    if "file" not in frame.columns:
        raise DataError(
            f"{path} has no column `file` (its columns: {', '.join(frame.columns)}); name the images there."
        )
    reasons = frame["reason"] if "reason" in frame.columns else [f"listed in {path.name}"] * len(frame)
    return dict(zip(frame["file"], reasons, strict=True))


def _contradicting(audit: Audit) -> dict[int, str]:
    """Return the reasons of images left out, by row."""
    reasons: dict[int, str] = {}
    for conflict in (*audit.label_conflicts, *audit.near_label_conflicts):
        for row in conflict.rows:
            others = [other for other in conflict.rows if other != row]
            reasons.setdefault(row, f"{' and '.join(conflict.labels)} contradicted by {audit.file(others[0])}")
    return dict(sorted(reasons.items()))


def _listing(audit: Audit, fixed: Fixed) -> str:
    rows: list[Sequence[Any]] = [("file", "reason", "age", "gender", "race")]
    rows += [(audit.file(row), reason, *audit.labels(row).values()) for row, reason in fixed.left_out.items()]
    return _csv(rows)


def _csv(rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _file_name(path: str) -> str:
    return PurePosixPath(path).name
