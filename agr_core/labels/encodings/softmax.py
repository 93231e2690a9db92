"""Encodings with one softmax class per bin. B: images in the batch, K: bins."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from agr_core.batch import Labels
from agr_core.bins import MAX_AGE, Bins
from agr_core.config import (
    DldlV2Age,
    JointGenderAge,
    LabelDistributionAge,
    MeanVarianceAge,
    SoftmaxAge,
    SordAge,
    Task,
)
from agr_core.labels.attributes import GENDERS
from agr_core.labels.encodings.base import Binned, cumulated, known_age, nearest_label


class Softmax(Binned):
    """Base class of the encodings with one softmax class per bin."""

    def __init__(self, config: SoftmaxAge) -> None:
        bins = Bins.from_spec(config.bins)
        super().__init__(bins, outputs=bins.count)
        self._decode = config.decode

    def years(self, logits: Tensor) -> Tensor:
        """Return the centres weighted by probability, or the centre of the most likely or of the median bin."""
        centers = self.centers(logits)
        match self._decode:
            case "expectation":
                return self._expectation(logits.float().softmax(dim=1))
            case "argmax":
                return centers[logits.argmax(dim=1)]
            case "median":
                below = cumulated(logits.float().softmax(dim=1)) < 0.5
                return centers[below.sum(dim=1).clamp(max=self.bins.count - 1)]

    def bin_index(self, logits: Tensor) -> Tensor:
        """Return the most likely bin (B,) int64."""
        return logits.argmax(dim=1)

    def shares(self, logits: Tensor) -> Tensor:
        """Return the softmax (B, K) float32."""
        return logits.float().softmax(dim=1)

    def _expectation(self, probabilities: Tensor) -> Tensor:
        return (probabilities * self.centers(probabilities)).sum(dim=1)


class Onehot(Softmax):
    """Cross-entropy over the bins; with one bin per year and expectation this is DEX (Rothe et al. 2015, 2018)."""

    def target(self, labels: Labels) -> Tensor:
        """Return the bin (B,) int64."""
        return self.index(labels)

    def _losses(self, logits: Tensor, labels: Labels, label_smoothing: float, *, training: bool) -> Tensor:  # noqa: ARG002
        return functional.cross_entropy(logits, self.target(labels), reduction="none", label_smoothing=label_smoothing)


class MeanVariance(Onehot):
    """Cross-entropy + a x ½ (m - age)² + b x v, m and v the softmax's mean and variance in years (Pan et al. 2018).

    ``mean_weight`` a and ``variance_weight`` b are the paper's lambda 1 and 2, by default its 0.2 and 0.05. For label
    ranges, the error of the mean is the distance to the range, 0 inside.
    """

    def __init__(self, config: MeanVarianceAge) -> None:
        super().__init__(config)
        self._mean_weight = config.mean_weight
        self._variance_weight = config.variance_weight

    def _losses(self, logits: Tensor, labels: Labels, label_smoothing: float, *, training: bool) -> Tensor:
        probabilities = logits.softmax(dim=1)
        mean = self._expectation(probabilities)
        variance = (probabilities * (self.centers(logits) - mean.unsqueeze(1)).square()).sum(dim=1)
        off = mean - nearest_label(mean, labels)
        entropy = super()._losses(logits, labels, label_smoothing, training=training)
        return entropy + self._mean_weight * off.square() / 2 + self._variance_weight * variance


class SoftLabels(Softmax):
    """KL divergence from a target distribution over the bins to the softmax."""

    def _losses(self, logits: Tensor, labels: Labels, label_smoothing: float, *, training: bool) -> Tensor:  # noqa: ARG002
        target = self.target(labels) * (1.0 - label_smoothing) + label_smoothing / self.outputs
        return functional.kl_div(logits.log_softmax(dim=1), target, reduction="none").sum(dim=1)


class LabelDistribution(SoftLabels):
    """Gaussian target around the age (Geng et al. 2013; Gao et al. 2017, DLDL).

    DLDL evaluates the Gaussian at classes of one year each. Bins here may be wide and uneven, so the target is its mass
    over each bin. A year ``a`` stands for the interval a - 0.5..a + 0.5; the distribution is truncated at the ends of
    the first and the last bin (``MAX_AGE``) and renormalised.
    """

    def __init__(self, config: LabelDistributionAge | DldlV2Age) -> None:
        super().__init__(config)
        self._sigma = config.sigma
        self._bounds = torch.tensor([*self.bins.edges, MAX_AGE + 1], dtype=torch.float32) - 0.5

    def target(self, labels: Labels) -> Tensor:
        """Return the probability of each bin (B, K) float32; an age beyond ``MAX_AGE`` counts as it."""
        bounds = self._bounds.to(labels.age.device)
        mean = known_age(labels).clamp(max=float(MAX_AGE))
        below: Tensor = torch.special.ndtr((bounds - mean.unsqueeze(1)) / self._sigma)  # (B, K + 1)
        mass = below.diff(dim=1).clamp(min=0.0)  # ndtr may decrease by rounding errors
        return mass / mass.sum(dim=1, keepdim=True)


class DldlV2(LabelDistribution):
    """``LabelDistribution``'s loss + lambda x the expected age's absolute error in years (Gao et al. 2018, DLDL-v2).

    ``expectation_weight`` is lambda, 1 in the paper. The error of the expected age is 0 inside a label range.
    """

    def __init__(self, config: DldlV2Age) -> None:
        super().__init__(config)
        self._expectation_weight = config.expectation_weight

    def _losses(self, logits: Tensor, labels: Labels, label_smoothing: float, *, training: bool) -> Tensor:
        expected = self._expectation(logits.softmax(dim=1))
        off = (expected - nearest_label(expected, labels)).abs()
        divergence = super()._losses(logits, labels, label_smoothing, training=training)
        return divergence + self._expectation_weight * off


class Sord(SoftLabels):
    """Soft labels softmax(-d), d the distance of each bin's centre from the true bin's (Diaz and Marathe 2019, SORD).

    d is in units of ``scale`` years, absolute or squared.
    """

    def __init__(self, config: SordAge) -> None:
        super().__init__(config)
        self._squared = config.distance == "squared"
        self._scale = config.scale

    def target(self, labels: Labels) -> Tensor:
        """Return the probability of each bin (B, K) float32."""
        centers = self.centers(labels.age)
        distance = (centers[self.index(labels)].unsqueeze(1) - centers).abs() / self._scale
        return (-(distance.square() if self._squared else distance)).softmax(dim=1)


class JointGender(Softmax):
    """One softmax over G genders x K age bins, class = bin + K x gender (report S1, S1-M6).

    Its cross-entropy, -log p(gender, bin), is -log p(gender) - log p(bin | gender). The first term is the gender task's
    loss, computed from the marginal distribution in place of a gender head; the second is the loss here. At equal
    ``loss.weights`` the two sum to the 16-way cross-entropy. Each label is counted once, and an image that lacks one
    label still trains the other: without a gender, the age loss uses the marginal, -log p(bin).
    """

    def __init__(self, config: JointGenderAge) -> None:
        super().__init__(config)
        self.outputs = self.bins.count * len(GENDERS)
        self._joint = config.split == "joint"

    def target(self, labels: Labels) -> Tensor:
        """Return the class, bin + K x gender (B,) int64; gender 0 where it is unknown."""
        return self.index(labels) + self.bins.count * labels.gender.clamp(min=0)

    def _losses(self, logits: Tensor, labels: Labels, label_smoothing: float, *, training: bool) -> Tensor:  # noqa: ARG002
        rows = torch.arange(len(logits), device=logits.device)
        of_gender = self._by_gender(logits)[rows, labels.gender.clamp(min=0)]  # (B, K)
        ages = torch.where((labels.gender >= 0).unsqueeze(1), of_gender, self._ages(logits))
        return functional.cross_entropy(ages, self.index(labels), reduction="none", label_smoothing=label_smoothing)

    def years(self, logits: Tensor) -> Tensor:
        """Return years decoded from the marginal distribution of ages; with ``split: joint`` the bin's centre."""
        if self._joint:
            return self.centers(logits)[self.bin_index(logits)]
        return super().years(self._ages(logits))

    def bin_index(self, logits: Tensor) -> Tensor:
        """Return the most likely bin over both genders; with ``split: joint`` that of the most likely class (B,)."""
        if self._joint:
            return logits.argmax(dim=1) % self.bins.count
        return self._ages(logits).argmax(dim=1)

    def shares(self, logits: Tensor) -> Tensor:
        """Return the marginal distribution of ages (B, K) float32."""
        return self._ages(logits).softmax(dim=1)

    def other_tasks(self, logits: Tensor) -> dict[Task, Tensor]:
        """Return logits of gender (B, G): the log-sum-exp over its ages."""
        return {"gender": self._by_gender(logits).logsumexp(dim=2)}

    def other_classes(self, logits: Tensor) -> dict[Task, Tensor]:
        """Return the gender of the most likely class (B,) with ``split: joint``; else nothing."""
        return {"gender": logits.argmax(dim=1) // self.bins.count} if self._joint else {}

    def extra_figures(self, logits: Tensor, labels: Labels) -> dict[str, Tensor]:
        """Return ``age_gender_acc``: whether the most likely of all G x K classes is the true one."""
        known = ~torch.isnan(labels.age) & (labels.gender >= 0)
        right = (logits.argmax(dim=1) == self.target(labels)).float()
        return {"age_gender_acc": torch.where(known, right, torch.nan)}

    def _by_gender(self, logits: Tensor) -> Tensor:
        return logits.float().view(len(logits), len(GENDERS), self.bins.count)

    def _ages(self, logits: Tensor) -> Tensor:
        """Return logits of the marginal distribution of ages (B, K)."""
        return self._by_gender(logits).logsumexp(dim=1)
