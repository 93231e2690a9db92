"""Batches and labels passed from the data to the trainer.

B: images in the batch, A: attributes of the vocabulary, C: 3 or 1 channels, H = W: ``image.size``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from agr_core.bins import LabelKind

_NO_ATTRIBUTES = torch.empty(0)  # placeholder for (B, 0) while B is unknown


@dataclass(frozen=True)
class Labels:
    """Labels of B images.

    ``age`` (B,) float32 years: the exact age or the middle of its range, NaN where unknown. ``age_low`` and
    ``age_high`` (B,) float32 years, both ends included, equal to ``age`` for exact ages. ``gender`` and ``race`` (B,)
    int64: indices into the data set's vocabularies, -1 where unknown. ``attributes`` (B, A) float32: 1 if the image has
    the attribute, 0 if not, NaN where unknown; by default (B, 0).
    """

    age: Tensor
    age_low: Tensor
    age_high: Tensor
    gender: Tensor
    race: Tensor
    attributes: Tensor = _NO_ATTRIBUTES

    def __post_init__(self) -> None:
        if self.attributes is _NO_ATTRIBUTES:
            object.__setattr__(self, "attributes", self.age.new_empty((len(self.age), 0), dtype=torch.float32))

    def take(self, rows: Tensor) -> Labels:
        """Return the labels of some rows (n,), in their order."""
        return Labels(
            age=self.age[rows],
            age_low=self.age_low[rows],
            age_high=self.age_high[rows],
            gender=self.gender[rows],
            race=self.race[rows],
            attributes=self.attributes[rows],
        )

    def to(self, device: torch.device) -> Labels:
        """Return the same labels on a device."""
        return Labels(
            age=self.age.to(device, non_blocking=True),
            age_low=self.age_low.to(device, non_blocking=True),
            age_high=self.age_high.to(device, non_blocking=True),
            gender=self.gender.to(device, non_blocking=True),
            race=self.race.to(device, non_blocking=True),
            attributes=self.attributes.to(device, non_blocking=True),
        )


class AgeLabels(NamedTuple):
    """Kind of age labels (exact or ranges), and distinct (low, high) in years, both ends included, ascending."""

    kind: LabelKind
    ranges: list[tuple[float, float]]


@dataclass(frozen=True)
class Batch:
    """B images and their labels.

    ``images`` (B, C, H, W) uint8 are normalised by the trainer on its device. ``rows`` (B,) int64 are row numbers in
    the sample table. ``whole`` is the number of images of the whole batch if several processes share it; 0: this is the
    whole batch.
    """

    images: Tensor
    labels: Labels
    rows: Tensor
    whole: int = 0

    @property
    def images_of_all(self) -> int:
        """Number of images of the whole batch."""
        return self.whole or len(self.rows)
