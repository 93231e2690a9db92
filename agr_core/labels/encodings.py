"""Age encodings: how an age becomes a training target, which loss is taken, and how years are read off the outputs.

B: images in the batch, K: bins. Every encoding decodes to years, so that trials with different encodings compare. A
label that is a range counts as its middle, except where an encoding says otherwise; bins never cut a range
(``Bins.check_ranges``). Images whose age is not known are left out of the loss.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from agr_core.config import AgeConfig, LabelDistributionAge, OnehotAge, OrdinalAge, RegressionAge
from agr_core.data.batch import Labels
from agr_core.labels.bins import MAX_AGE, Bins
from agr_core.registry import Registry

SMOOTH_L1_YEARS = 5.0
"""Where smooth L1 turns from squared to absolute, years. At torch's default of one unit of the output (20 years) it
would be half the squared error for most faces."""


class AgeEncoding(ABC):
    """One way to train on ages. ``outputs`` is the width of the age head; ``bins`` is None without bins."""

    outputs: int
    bins: Bins | None

    @abstractmethod
    def target(self, labels: Labels) -> Tensor:
        """What the outputs should say, first dimension B. A row whose age is not known holds the target of age 0."""

    def loss(self, logits: Tensor, labels: Labels, *, label_smoothing: float = 0.0) -> Tensor:
        """Mean loss over the images whose age is known, 0-d; 0 with a gradient of 0 where there is none.

        Args:
            logits: The age head's outputs (B, outputs), float32.
            labels: Labels of the batch.
            label_smoothing: Mass moved from the target to all classes; encodings without a softmax have no use for it.
        """
        known = ~torch.isnan(labels.age)
        losses = self._losses(logits, labels, label_smoothing)
        return torch.where(known, losses, 0.0).sum() / known.sum().clamp(min=1)

    @abstractmethod
    def _losses(self, logits: Tensor, labels: Labels, label_smoothing: float) -> Tensor:
        """Loss of each image (B,), finite and of finite gradient where the age is not known, too."""

    @abstractmethod
    def years(self, logits: Tensor) -> Tensor:
        """Estimated ages in years (B,) float32."""

    def bin_index(self, logits: Tensor) -> Tensor | None:  # noqa: ARG002 - no bins
        """The estimated bin (B,) int64, or None for an encoding without bins."""
        return None


class Regression(AgeEncoding):
    """One output, (age - center) / scale; a label range costs nothing inside and the distance to it outside."""

    def __init__(self, config: RegressionAge) -> None:
        self.outputs = 1
        self.bins = None
        self._center = config.center
        self._scale = config.scale
        self._loss = config.loss

    def target(self, labels: Labels) -> Tensor:
        """(Age - center) / scale (B,) float32."""
        return (_known_age(labels) - self._center) / self._scale

    def _losses(self, logits: Tensor, labels: Labels, label_smoothing: float) -> Tensor:  # noqa: ARG002 - no softmax
        predicted = logits.squeeze(1)
        known = ~torch.isnan(labels.age)
        low = (torch.where(known, labels.age_low, 0.0) - self._center) / self._scale
        high = (torch.where(known, labels.age_high, 0.0) - self._center) / self._scale
        # The point of the range nearest to the prediction; for an exact age, that age.
        nearest = torch.minimum(torch.maximum(predicted.detach(), low), high)
        match self._loss:
            case "l1":
                return functional.l1_loss(predicted, nearest, reduction="none")
            case "mse":
                return functional.mse_loss(predicted, nearest, reduction="none")
            case "smooth_l1":
                beta = SMOOTH_L1_YEARS / self._scale
                return functional.smooth_l1_loss(predicted, nearest, reduction="none", beta=beta)

    def years(self, logits: Tensor) -> Tensor:
        """Center + scale x the output, clipped to 0..MAX_AGE as the configuration says."""
        return (logits.float().squeeze(1) * self._scale + self._center).clamp(0.0, float(MAX_AGE))


class _Binned(AgeEncoding):
    """What the encodings with bins share."""

    bins: Bins

    def __init__(self, bins: Bins, *, outputs: int) -> None:
        self.bins = bins
        self.outputs = outputs
        self._edges = torch.tensor(bins.edges, dtype=torch.float32)
        self._centers = torch.tensor(bins.centers, dtype=torch.float32)

    def _index(self, labels: Labels) -> Tensor:
        """``Bins.index`` on the labels' device (B,) int64."""
        return torch.bucketize(_known_age(labels), self._edges.to(labels.age.device), right=True) - 1


class _Softmax(_Binned):
    """What the encodings with one softmax class a bin share."""

    def __init__(self, bins: Bins, *, decode: Literal["expectation", "argmax"]) -> None:
        super().__init__(bins, outputs=bins.count)
        self._decode = decode

    def years(self, logits: Tensor) -> Tensor:
        """The bins' centres weighted by their probabilities, or the centre of the likeliest bin."""
        centers = self._centers.to(logits.device)
        if self._decode == "argmax":
            return centers[logits.argmax(dim=1)]
        return (logits.float().softmax(dim=1) * centers).sum(dim=1)

    def bin_index(self, logits: Tensor) -> Tensor:
        """The likeliest bin (B,) int64."""
        return logits.argmax(dim=1)


class Onehot(_Softmax):
    """Cross-entropy over the bins; years by the softmax expectation (Rothe et al. 2018, DEX) or by argmax."""

    def __init__(self, config: OnehotAge) -> None:
        super().__init__(Bins.from_spec(config.bins), decode=config.decode)

    def target(self, labels: Labels) -> Tensor:
        """The bin (B,) int64."""
        return self._index(labels)

    def _losses(self, logits: Tensor, labels: Labels, label_smoothing: float) -> Tensor:
        return functional.cross_entropy(logits, self.target(labels), reduction="none", label_smoothing=label_smoothing)


class LabelDistribution(_Softmax):
    """KL divergence from a Gaussian around the age (Geng et al. 2013; Gao et al. 2017, DLDL) to the softmax.

    DLDL evaluates the Gaussian at classes of one year each. Our bins may be wide and uneven, so its mass over each bin
    is taken instead: a year ``a`` stands for the interval a - 0.5..a + 0.5, the distribution is cut off at the ends of
    the first and the last bin (``MAX_AGE``) and renormalised.
    """

    def __init__(self, config: LabelDistributionAge) -> None:
        super().__init__(Bins.from_spec(config.bins), decode=config.decode)
        self._sigma = config.sigma
        self._bounds = torch.tensor([*self.bins.edges, MAX_AGE + 1], dtype=torch.float32) - 0.5

    def target(self, labels: Labels) -> Tensor:
        """Probability of each bin (B, K) float32; an age beyond ``MAX_AGE`` counts as ``MAX_AGE``."""
        bounds = self._bounds.to(labels.age.device)
        mean = _known_age(labels).clamp(max=float(MAX_AGE))
        below: Tensor = torch.special.ndtr((bounds - mean.unsqueeze(1)) / self._sigma)  # (B, K + 1)
        mass = below.diff(dim=1).clamp(min=0.0)  # no device promises that ndtr never falls by a last digit
        return mass / mass.sum(dim=1, keepdim=True)

    def _losses(self, logits: Tensor, labels: Labels, label_smoothing: float) -> Tensor:
        target = self.target(labels) * (1.0 - label_smoothing) + label_smoothing / self.outputs
        return functional.kl_div(logits.log_softmax(dim=1), target, reduction="none").sum(dim=1)


class Ordinal(_Binned):
    """K - 1 binary outputs, the k-th "older than bin k" (Niu et al. 2016, OR-CNN).

    The loss of an image is the sum of the binary cross-entropies, as in the paper with all its weights 1: the negative
    logarithm of the label's probability, on one scale with the cross-entropy of ``onehot``.
    """

    def __init__(self, config: OrdinalAge) -> None:
        bins = Bins.from_spec(config.bins)
        super().__init__(bins, outputs=bins.count - 1)

    def target(self, labels: Labels) -> Tensor:
        """1 where the age is in a later bin than k, else 0 (B, K - 1) float32."""
        thresholds = torch.arange(self.outputs, device=labels.age.device)
        return (self._index(labels).unsqueeze(1) > thresholds).float()

    def _losses(self, logits: Tensor, labels: Labels, label_smoothing: float) -> Tensor:  # noqa: ARG002 - no softmax
        return functional.binary_cross_entropy_with_logits(logits, self.target(labels), reduction="none").sum(dim=1)

    def years(self, logits: Tensor) -> Tensor:
        """The first bin's centre plus each step to the next centre times its probability P(older than bin k).

        Where the probabilities fall with k this is the expectation of the centres: P(bin k) is their difference.
        """
        centers = self._centers.to(logits.device)
        return centers[0] + (logits.float().sigmoid() * centers.diff()).sum(dim=1)

    def bin_index(self, logits: Tensor) -> Tensor:
        """The number of outputs that say "older" with more than one half (B,) int64 (OR-CNN's decoding)."""
        return (logits > 0).sum(dim=1)


def _known_age(labels: Labels) -> Tensor:
    """The ages with 0 in place of NaN (B,): a NaN would reach the gradient even through a masked loss."""
    return torch.where(torch.isnan(labels.age), 0.0, labels.age)


AGE_ENCODINGS: Registry[Callable[[Any], AgeEncoding]] = Registry("age encoding")
AGE_ENCODINGS.register("regression", Regression)
AGE_ENCODINGS.register("onehot", Onehot)
AGE_ENCODINGS.register("ordinal", Ordinal)
AGE_ENCODINGS.register("label_distribution", LabelDistribution)


def build_encoding(config: AgeConfig, *, ranges: Collection[tuple[float, float]] = ()) -> AgeEncoding:
    """The encoding a configuration describes.

    Args:
        config: ``TrialConfig.age``.
        ranges: Distinct (low, high) of the data set's age labels, where they are ranges.

    Raises:
        DataError: If the bins cut one of ``ranges``.
    """
    encoding = AGE_ENCODINGS.get(config.encoding)(config)
    if encoding.bins is not None:
        encoding.bins.check_ranges(ranges)
    return encoding
