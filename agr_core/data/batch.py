"""What passes from the data to the trainer.

B: images in the batch, A: attributes of the vocabulary, C: 3 or 1 channels, H = W: ``image.size``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from agr_core.data.table import LabelKind

_NO_ATTRIBUTES = torch.empty(0)  # stands for (B, 0), as B is not known yet


@dataclass(frozen=True)
class Labels:
    """Labels of B images.

    ``age`` (B,) float32 years, the exact age or the middle of its range, NaN where not known; ``age_low`` and
    ``age_high`` (B,) float32 years, both ends included, equal to ``age`` for exact ages; ``gender`` and ``race`` (B,)
    int64 indices into the data set's vocabularies, -1 where not known; ``attributes`` (B, A) float32, 1 where the image
    has the attribute, 0 where it has not, NaN where not known; by default there is none (B, 0).
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
        """The labels of some rows (n,), in their order."""
        return Labels(
            age=self.age[rows],
            age_low=self.age_low[rows],
            age_high=self.age_high[rows],
            gender=self.gender[rows],
            race=self.race[rows],
            attributes=self.attributes[rows],
        )

    def to(self, device: torch.device) -> Labels:
        """The same labels on a device."""
        return Labels(
            age=self.age.to(device, non_blocking=True),
            age_low=self.age_low.to(device, non_blocking=True),
            age_high=self.age_high.to(device, non_blocking=True),
            gender=self.gender.to(device, non_blocking=True),
            race=self.race.to(device, non_blocking=True),
            attributes=self.attributes.to(device, non_blocking=True),
        )


class AgeLabels(NamedTuple):
    """Whether ages are known exactly or as ranges; the distinct (low, high), years, both ends included, ascending."""

    kind: LabelKind
    ranges: list[tuple[float, float]]


@dataclass(frozen=True)
class Batch:
    """B images and their labels.

    ``images`` (B, C, H, W) uint8, normalised by the trainer on its device; ``rows`` (B,) int64 row numbers in the
    sample table. ``whole``: images of the batch of which these are a part, where several processes share it; 0: these
    are all.
    """

    images: Tensor
    labels: Labels
    rows: Tensor
    whole: int = 0

    @property
    def images_of_all(self) -> int:
        """Images of the whole batch."""
        return self.whole or len(self.rows)
