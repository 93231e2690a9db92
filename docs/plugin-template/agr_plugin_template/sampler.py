"""An epoch of a part of the images."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from agr_core.config import ClassSampler, PluginSampler


class PartSampler(PluginSampler, ClassSampler):
    """A share of the images of each class, others in every epoch; ``by`` and ``bins`` are ClassSampler's."""

    name: Literal["part"]
    share: float = Field(default=0.5, gt=0, le=1, description="Share of each class in an epoch, rounded up.")

    def order(self, classes: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
        """The images of an epoch, in order; each epoch has the same number."""
        groups = [np.flatnonzero(classes == number) for number in np.unique(classes)]
        drawn = [random.permutation(group)[: int(np.ceil(self.share * len(group)))] for group in groups]
        return random.permutation(np.concatenate(drawn))
