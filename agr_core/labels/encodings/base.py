"""Interface of age encodings, and base class of those with bins.

B: images in the batch, K: bins. Every encoding decodes to years, which makes trials with different encodings
comparable. A range counts as its middle unless an encoding states otherwise; bins never cut a range
(``Bins.check_ranges``). Images of unknown age are excluded from the loss.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from agr_core.batch import Labels
from agr_core.bins import Bins
from agr_core.config import Task
from agr_core.registry import Registry


class AgeEncoding(ABC):
    """An age encoding. ``outputs`` is the width of the age head; ``bins`` is None without bins."""

    outputs: int
    bins: Bins | None = None

    def last_layer(self, features: int) -> nn.Module:
        """Return the last layer of the age head, (B, features) -> (B, outputs)."""
        return nn.Linear(features, self.outputs)

    @abstractmethod
    def target(self, labels: Labels) -> Tensor:
        """Return the target of the outputs, first dimension B; rows of unknown age have the target of age 0."""

    def loss(
        self,
        logits: Tensor,
        labels: Labels,
        *,
        label_smoothing: float = 0.0,
        weights: Tensor | None = None,
        training: bool = False,
    ) -> Tensor:
        """Return the mean loss over images of known age, 0-d; 0 with a gradient of 0 if there are none.

        Args:
            logits: The age head's outputs (B, outputs), float32.
            labels: Labels of the batch.
            label_smoothing: Probability mass moved from the target to all classes; ignored by encodings without a
                softmax.
            weights: Factor of each image's loss (B,); None: 1.
            training: Whether weights of single outputs apply; they do not in evaluation.
        """
        known = ~torch.isnan(labels.age)
        losses = self._losses(logits, labels, label_smoothing, training=training)
        if weights is not None:
            losses = losses * weights
        return torch.where(known, losses, 0.0).sum() / known.sum().clamp(min=1)

    @abstractmethod
    def _losses(self, logits: Tensor, labels: Labels, label_smoothing: float, *, training: bool) -> Tensor:
        """Return the loss of each image (B,), finite and with finite gradient even for unknown ages."""

    @abstractmethod
    def years(self, logits: Tensor) -> Tensor:
        """Return the estimated ages in years (B,) float32."""

    def bin_index(self, logits: Tensor) -> Tensor | None:  # noqa: ARG002 - no bins
        """Return the estimated bin (B,) int64, or None for an encoding without bins."""
        return None

    def shares(self, logits: Tensor) -> Tensor | None:  # noqa: ARG002 - none
        """Return the probability of each bin (B, K) float32; None for encodings without such a distribution."""
        return None

    def other_tasks(self, logits: Tensor) -> dict[Task, Tensor]:  # noqa: ARG002 - none
        """Return logits (B, classes) of the tasks derived from the age head (``AgeConfig.speaks_for``)."""
        return {}

    def other_classes(self, logits: Tensor) -> dict[Task, Tensor]:  # noqa: ARG002 - none
        """Return the predicted class (B,) of such tasks, where it is not that of the largest logit."""
        return {}

    def extra_figures(self, logits: Tensor, labels: Labels) -> Mapping[str, Tensor]:  # noqa: ARG002 - none
        """Return each image's value of the ``AgeConfig.extra_metrics``, (B,) float32, NaN for none."""
        return {}

    def check_ranges(self, ranges: Collection[tuple[float, float]]) -> None:
        """Check that the encoding can be trained on all ages.

        Args:
            ranges: Distinct (low, high) of the data set's age labels, both ends included.

        Raises:
            DataError: If not; the message names the first unsuitable label and the way out.
        """
        if self.bins is not None:
            self.bins.check_ranges(ranges)


class Binned(AgeEncoding):
    """Base class of the encodings with bins."""

    bins: Bins

    def __init__(self, bins: Bins, *, outputs: int) -> None:
        self.bins = bins
        self.outputs = outputs
        self._edges = torch.tensor(bins.edges, dtype=torch.float32)
        self._centers = torch.tensor(bins.centers, dtype=torch.float32)

    def index(self, labels: Labels) -> Tensor:
        """Return ``Bins.index`` on the labels' device (B,) int64; bin 0 where the age is unknown."""
        return torch.bucketize(known_age(labels), self._edges.to(labels.age.device), right=True) - 1

    def centers(self, like: Tensor) -> Tensor:
        """Return the middle year of each bin (K,) float32, on the device of ``like``."""
        return self._centers.to(like.device)


def known_age(labels: Labels) -> Tensor:
    """Return the ages with 0 in place of NaN (B,); NaN would reach the gradient even through a masked loss."""
    return torch.where(torch.isnan(labels.age), 0.0, labels.age)


def nearest_label(years: Tensor, labels: Labels) -> Tensor:
    """Return the age in each label's range nearest to the estimate (B,), without gradient.

    For an exact age this is the age itself. The loss is therefore 0 inside a range, and depends on the distance to its
    nearer end outside.
    """
    known = ~torch.isnan(labels.age)
    low, high = torch.where(known, labels.age_low, 0.0), torch.where(known, labels.age_high, 0.0)
    return torch.minimum(torch.maximum(years.detach(), low), high)


def cumulated(values: Tensor) -> Tensor:
    """Return cumulative sums along dimension 1 of (B, K); torch's own is not deterministic on every GPU."""
    count = values.shape[1]
    return values @ torch.ones(count, count, dtype=values.dtype, device=values.device).triu()


AGE_ENCODINGS: Registry[Callable[[Any], AgeEncoding]] = Registry("age encoding")
"""Factories from ``TrialConfig.age`` to the encoding, by ``encoding``."""
