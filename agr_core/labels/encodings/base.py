"""What an age encoding is, and what those with bins share.

B: images in the batch, K: bins. Every encoding decodes to years, so that trials with different encodings compare. A
label that is a range counts as its middle, except where an encoding says otherwise; bins never cut a range
(``Bins.check_ranges``). Images whose age is not known are left out of the loss.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from agr_core.config import Task
from agr_core.data.batch import Labels
from agr_core.labels.bins import Bins
from agr_core.registry import Registry


class AgeEncoding(ABC):
    """One way to train on ages. ``outputs`` is the width of the age head; ``bins`` is None without bins."""

    outputs: int
    bins: Bins | None = None

    def last_layer(self, features: int) -> nn.Module:
        """The last layer of the age head, (B, features) -> (B, outputs)."""
        return nn.Linear(features, self.outputs)

    @abstractmethod
    def target(self, labels: Labels) -> Tensor:
        """What the outputs should say, first dimension B. A row whose age is not known holds the target of age 0."""

    def loss(
        self,
        logits: Tensor,
        labels: Labels,
        *,
        label_smoothing: float = 0.0,
        weights: Tensor | None = None,
        training: bool = False,
    ) -> Tensor:
        """Mean loss over the images whose age is known, 0-d; 0 with a gradient of 0 where there is none.

        Args:
            logits: The age head's outputs (B, outputs), float32.
            labels: Labels of the batch.
            label_smoothing: Mass moved from the target to all classes; encodings without a softmax have no use for it.
            weights: Factor of each image's loss (B,); None: 1.
            training: Whether factors of single outputs apply, which evaluation leaves out.
        """
        known = ~torch.isnan(labels.age)
        losses = self._losses(logits, labels, label_smoothing, training=training)
        if weights is not None:
            losses = losses * weights
        return torch.where(known, losses, 0.0).sum() / known.sum().clamp(min=1)

    @abstractmethod
    def _losses(self, logits: Tensor, labels: Labels, label_smoothing: float, *, training: bool) -> Tensor:
        """Loss of each image (B,), finite and of finite gradient where the age is not known, too."""

    @abstractmethod
    def years(self, logits: Tensor) -> Tensor:
        """Estimated ages in years (B,) float32."""

    def bin_index(self, logits: Tensor) -> Tensor | None:  # noqa: ARG002 - no bins
        """The estimated bin (B,) int64, or None for an encoding without bins."""
        return None

    def shares(self, logits: Tensor) -> Tensor | None:  # noqa: ARG002 - none
        """Probability of each bin (B, K) float32; None for an encoding that has no such distribution."""
        return None

    def other_tasks(self, logits: Tensor) -> dict[Task, Tensor]:  # noqa: ARG002 - none
        """Logits of the tasks the age head speaks for (``AgeConfig.speaks_for``), (B, classes) each."""
        return {}

    def extra_figures(self, logits: Tensor, labels: Labels) -> Mapping[str, Tensor]:  # noqa: ARG002 - none
        """Each image's share in the ``AgeConfig.extra_metrics``, (B,) float32, NaN where it has none."""
        return {}

    def check_ranges(self, ranges: Collection[tuple[float, float]]) -> None:
        """Refuse ages that this encoding cannot be trained on.

        Args:
            ranges: Distinct (low, high) of the data set's age labels, both ends included.

        Raises:
            DataError: With the first label that does not fit, and the way out.
        """
        if self.bins is not None:
            self.bins.check_ranges(ranges)


class Binned(AgeEncoding):
    """What the encodings with bins share."""

    bins: Bins

    def __init__(self, bins: Bins, *, outputs: int) -> None:
        self.bins = bins
        self.outputs = outputs
        self._edges = torch.tensor(bins.edges, dtype=torch.float32)
        self._centers = torch.tensor(bins.centers, dtype=torch.float32)

    def index(self, labels: Labels) -> Tensor:
        """``Bins.index`` on the labels' device (B,) int64; bin 0 where the age is not known."""
        return torch.bucketize(known_age(labels), self._edges.to(labels.age.device), right=True) - 1

    def centers(self, like: Tensor) -> Tensor:
        """The middle year of each bin (K,) float32, on the device of ``like``."""
        return self._centers.to(like.device)


def known_age(labels: Labels) -> Tensor:
    """The ages with 0 in place of NaN (B,): a NaN would reach the gradient even through a masked loss."""
    return torch.where(torch.isnan(labels.age), 0.0, labels.age)


def nearest_label(years: Tensor, labels: Labels) -> Tensor:
    """The age of each label's range that is nearest to the estimate (B,), without gradient; for an exact age, that age.

    So a range costs nothing inside, and outside the distance to its nearer end.
    """
    known = ~torch.isnan(labels.age)
    low, high = torch.where(known, labels.age_low, 0.0), torch.where(known, labels.age_high, 0.0)
    return torch.minimum(torch.maximum(years.detach(), low), high)


def cumulated(values: Tensor) -> Tensor:
    """Cumulative sums along the second dimension of (B, K); torch's own is not deterministic on every GPU."""
    count = values.shape[1]
    return values @ torch.ones(count, count, dtype=values.dtype, device=values.device).triu()


AGE_ENCODINGS: Registry[Callable[[Any], AgeEncoding]] = Registry("age encoding")
"""From ``TrialConfig.age`` to the encoding, by the configuration's ``encoding``."""
