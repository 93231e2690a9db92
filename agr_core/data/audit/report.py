"""Audit of a data set, with or without a split: findings, verdict and JSON.

N: images.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from agr_core.data.audit.balance import MissingClass, Shift, SingleLabel, missing_classes, shifts, single_labels
from agr_core.data.audit.examine import Examined
from agr_core.data.audit.groups import (
    Conflict,
    Rows,
    conflicts,
    identical_groups,
    near_groups,
    on_several_sides,
    subject_groups,
)
from agr_core.data.readers import Skipped
from agr_core.data.splits.split_file import LEFT_OUT


@dataclass(frozen=True)
class Faces:
    """Rows without a detected face, rows with several, with their number, and rows where detection fails, with why."""

    none: tuple[int, ...]
    several: tuple[tuple[int, int], ...]
    failed: tuple[tuple[int, str], ...] = ()


class Audit:
    """Findings about labelled images.

    Args:
        examined: Findings from the images alone.
        parts: Part of each image (N,), ``LEFT_OUT`` for none; default: no split.
        left_out: Whether each image (N,) is unused; labels of unused images are not checked.
        faces: Result of face detection, if it ran.

    Attributes:
        examined: As given.
        parts: As given, with unused images set to no part.
        used: Whether each image (N,) is used.
        faces: As given.
    """

    def __init__(
        self,
        examined: Examined,
        parts: NDArray[np.object_] | None = None,
        *,
        left_out: NDArray[np.bool_] | None = None,
        faces: Faces | None = None,
    ) -> None:
        self.examined = examined
        self.faces = faces
        self.used: NDArray[np.bool_] = np.ones(len(examined.table), dtype=np.bool_) if left_out is None else ~left_out
        self.parts = parts
        if parts is not None:
            self.parts = np.where(self.used, parts, LEFT_OUT)
            self.used = self.parts != LEFT_OUT

    @property
    def table(self) -> pd.DataFrame:
        """The sample table (N rows)."""
        return self.examined.table

    @cached_property
    def duplicates(self) -> list[Rows]:
        """Groups of byte-identical images, used or not."""
        return identical_groups(self.table)

    @cached_property
    def near(self) -> list[Rows]:
        """Groups of different files that show one picture, used or not."""
        return near_groups(self.table, self.examined.near)

    @cached_property
    def cross_split(self) -> list[Rows]:
        """Groups of byte-identical images, or images of one subject, in several parts."""
        return self._several_sides([*self.duplicates, *subject_groups(self.table)])

    @cached_property
    def near_cross_split(self) -> list[Rows]:
        """Groups of different files that show one picture, in several parts."""
        return self._several_sides(self.near)

    @cached_property
    def label_conflicts(self) -> list[Conflict]:
        """Byte-identical images with different labels, and images of one subject with different genders or races."""
        by_subject = conflicts(self.table, subject_groups(self.table), self.used, ("gender", "race"))
        of_images = conflicts(self.table, self.duplicates, self.used, ("age", "gender", "race"))
        rows_of_images = {conflict.rows for conflict in of_images}
        return [*of_images, *(conflict for conflict in by_subject if conflict.rows not in rows_of_images)]

    @cached_property
    def near_label_conflicts(self) -> list[Conflict]:
        """Different files that show one picture, with different labels."""
        return conflicts(self.table, self.near, self.used, ("age", "gender", "race"))

    @cached_property
    def single_labels(self) -> list[SingleLabel]:
        """Ages, genders and races that occur in only one image."""
        return single_labels(self.table)

    @cached_property
    def missing_classes(self) -> list[MissingClass]:
        """Classes that a part lacks."""
        return [] if self.parts is None else missing_classes(self.table, self.parts, self.used)

    @cached_property
    def shift(self) -> list[Shift]:
        """Distribution shifts of the other parts from training."""
        return [] if self.parts is None else shifts(self.table, self.parts, self.used)

    @property
    def leaks(self) -> int:
        """Number of groups that lie in several parts of the split."""
        return len(self.cross_split) + len(self.near_cross_split)

    @property
    def conflicts(self) -> int:
        """Number of groups with contradicting labels."""
        return len(self.label_conflicts) + len(self.near_label_conflicts)

    @property
    def passed(self) -> bool:
        """Whether there are no leaks and no contradicting labels."""
        return self.leaks == 0 and self.conflicts == 0

    def document(self) -> dict[str, Any]:
        """Return the audit as JSON: counts of groups, and lists of their images."""
        near = self.examined.near
        document: dict[str, Any] = {
            "images": len(self.table),
            "duplicate_groups": len(self.duplicates),
            "near_duplicate_groups": len(self.near),
            "cross_split_groups": len(self.cross_split),
            "near_cross_split_groups": len(self.near_cross_split),
            "label_conflicts": len(self.label_conflicts),
            "near_label_conflicts": len(self.near_label_conflicts),
            "passed": self.passed,
            "unreadable": _skipped(self.examined.unreadable),
            "bad_names": _skipped(self.examined.bad_names),
            "tiny": self._sizes(self.examined.tiny),
            "thin": self._sizes(self.examined.thin),
            "duplicates": [self.files(rows) for rows in self.duplicates],
            "near_duplicates": self._pairs(mirrored=False),
            "mirrored": self._pairs(mirrored=True),
            "cross_split": [self._sides(rows) for rows in (*self.cross_split, *self.near_cross_split)],
            "conflicts": [self._conflict(conflict) for conflict in (*self.label_conflicts, *self.near_label_conflicts)],
            "single_labels": [
                {"label": entry.label, "value": entry.value, "file": self.file(entry.row)}
                for entry in self.single_labels
            ],
            "missing_classes": [asdict(entry) for entry in self.missing_classes],
            "shift": [asdict(entry) | {"shifted": entry.shifted} for entry in self.shift],
        }
        assert len(document["near_duplicates"]) + len(document["mirrored"]) == len(near)
        if self.faces is not None:
            document["no_face"] = self.files(self.faces.none)
            document["no_detection"] = [{"file": self.file(row), "reason": why} for row, why in self.faces.failed]
            document["several_faces"] = [{"file": self.file(row), "faces": n} for row, n in self.faces.several]
        return document

    def file(self, row: int) -> str:
        """Return the path of an image inside its source."""
        return str(self.table["path"].iloc[row])

    def files(self, rows: Sequence[int]) -> list[str]:
        """Return the paths of images inside their source."""
        return [self.file(row) for row in rows]

    def labels(self, row: int) -> dict[str, Any]:
        """Return age (years, or "low-high"), gender and race of an image; None if unknown."""
        image = self.table.iloc[row]
        low, high = image["age_low"], image["age_high"]
        age = None if pd.isna(low) else _plain(low) if low == high else f"{low:g}-{high:g}"
        classes = {label: None if pd.isna(image[label]) else str(image[label]) for label in ("gender", "race")}
        return {"age": age, **classes}

    def _several_sides(self, groups: Iterable[Rows]) -> list[Rows]:
        if self.parts is None:
            return []
        return list(dict.fromkeys(on_several_sides(groups, self.parts, self.used)))

    def _pairs(self, *, mirrored: bool) -> list[dict[str, Any]]:
        return [
            {"files": self.files((pair.first, pair.second)), "difference": pair.difference}
            for pair in self.examined.near
            if pair.mirrored == mirrored
        ]

    def _sides(self, rows: Rows) -> list[dict[str, str]]:
        assert self.parts is not None, "without a split there is no side"
        return [{"file": self.file(row), "part": str(self.parts[row])} for row in rows]

    def _conflict(self, found: Conflict) -> dict[str, Any]:
        images = [{"file": self.file(row), **self.labels(row)} for row in found.rows]
        return {"labels": list(found.labels), "images": images}

    def _sizes(self, rows: NDArray[np.int64]) -> list[dict[str, Any]]:
        return [
            {
                "file": self.file(row),
                "width": int(self.examined.sizes[row, 0]),
                "height": int(self.examined.sizes[row, 1]),
            }
            for row in rows.tolist()
        ]


def _plain(years: float) -> int | float:
    return int(years) if years == int(years) else float(years)


def _skipped(entries: Iterable[Skipped]) -> list[dict[str, str]]:
    return [{"file": entry.file, "reason": entry.reason} for entry in entries]
