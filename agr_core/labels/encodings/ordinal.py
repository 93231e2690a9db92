"""Encodings that ask of each threshold whether the face is older. B: images in the batch, K: bins."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from agr_core.config import CumulativeAge, YoungerThanAge
from agr_core.data.batch import Labels
from agr_core.labels.bins import Bins
from agr_core.labels.encodings.base import Binned, cumulated


class Cumulative(Binned):
    """What the encodings share that estimate P(older than bin k) for k = 0..K - 2."""

    def __init__(self, config: CumulativeAge) -> None:
        bins = Bins.from_spec(config.bins)
        super().__init__(bins, outputs=bins.count - 1)
        self._decode = config.decode

    @abstractmethod
    def older(self, logits: Tensor) -> Tensor:
        """P(older than bin k) (B, K - 1) float32."""

    def years(self, logits: Tensor) -> Tensor:
        """The first bin's centre plus each step to the next centre times its probability P(older than bin k).

        Where the probabilities fall with k this is the expectation of the centres: P(bin k) is their difference. With
        ``decode: median`` the centre of ``bin_index``, the bin in which they fall below one half.
        """
        centers = self.centers(logits)
        if self._decode == "median":
            return centers[self.bin_index(logits)]
        return centers[0] + (self.older(logits) * centers.diff()).sum(dim=1)

    def bin_index(self, logits: Tensor) -> Tensor:
        """The number of probabilities above one half (B,) int64 (OR-CNN's decoding)."""
        return (self.older(logits) > 0.5).sum(dim=1)


class Ordinal(Cumulative):
    """K - 1 binary outputs, the k-th "older than bin k" (Niu et al. 2016, OR-CNN).

    The loss of an image is the sum of the binary cross-entropies, as in the paper with all its weights 1: the negative
    logarithm of the label's probability, on one scale with the cross-entropy of ``onehot``.
    """

    def target(self, labels: Labels) -> Tensor:
        """1 where the age is in a later bin than k, else 0 (B, K - 1) float32."""
        thresholds = torch.arange(self.outputs, device=labels.age.device)
        return (self.index(labels).unsqueeze(1) > thresholds).float()

    def _losses(self, logits: Tensor, labels: Labels, label_smoothing: float, *, training: bool) -> Tensor:  # noqa: ARG002 - no softmax
        return functional.binary_cross_entropy_with_logits(logits, self.target(labels), reduction="none").sum(dim=1)

    def older(self, logits: Tensor) -> Tensor:
        """The sigmoid of each output (B, K - 1) float32."""
        return logits.float().sigmoid()


class CoralLayer(nn.Module):
    """w x + b_k: one weight vector for all outputs and a bias for each, (B, F) -> (B, outputs).

    The biases start evenly descending from 1 to 1 / outputs, as the authors' coral-pytorch does it.
    """

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.score = nn.Linear(features, 1, bias=False)
        self.biases = nn.Parameter(torch.arange(outputs, 0, -1, dtype=torch.float32) / outputs)

    def forward(self, features: Tensor) -> Tensor:
        """Logits (B, outputs) of features (B, F)."""
        score: Tensor = self.score(features)
        return score + self.biases


class Coral(Ordinal):
    """``Ordinal`` with ``CoralLayer`` (Cao, Mirjalili and Raschka 2020, CORAL; its task weights 1).

    The outputs are parallel, and at the optimum their biases descend: no face is then likelier to be older than bin k
    than older than bin k - 1.
    """

    def last_layer(self, features: int) -> nn.Module:
        """Shared weights, K - 1 biases."""
        return CoralLayer(features, self.outputs)


class Corn(Ordinal):
    """K - 1 binary outputs, the k-th "older than bin k" given older than bin k - 1 (Shi, Cao and Raschka 2021, CORN).

    Output k learns from the images older than bin k - 1 only. The loss of an image is the sum over its outputs: by the
    chain rule the negative logarithm of the label's probability, on one scale with the others here. The paper divides
    the batch's sum by the number of (image, output) pairs that take part instead of by the images.
    """

    def _losses(self, logits: Tensor, labels: Labels, label_smoothing: float, *, training: bool) -> Tensor:  # noqa: ARG002 - no softmax
        target = self.target(labels)
        asked = functional.pad(target, (1, 0), value=1.0)[:, :-1]  # older than the bin before: output 0 is always asked
        losses = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
        return (losses * asked).sum(dim=1)

    def older(self, logits: Tensor) -> Tensor:
        """The product of the conditional probabilities up to k (B, K - 1) float32, so it never rises with k."""
        return cumulated(functional.logsigmoid(logits.float())).exp()


class YoungerThan(Cumulative):
    """A two-way softmax a bin: is the face younger than bin k? (report S1, S1-E1), or older than it (S1-E2).

    Outputs (B, 2 K), K pairs of logits (no, yes). The answer to the first question, or mirrored to the last, is always
    no: it is trained and counts in ``age_acc_exact_vector`` as in the report, but years and bin leave it out. The loss
    of an image is the sum over the pairs, times ``output_weights`` in training.
    """

    def __init__(self, config: YoungerThanAge) -> None:
        super().__init__(config)
        self.outputs = 2 * self.bins.count
        self._mirrored = config.mirrored
        self._output_weights = torch.tensor(config.output_weights) if config.output_weights else None

    def target(self, labels: Labels) -> Tensor:
        """1 where the answer is yes, else 0 (B, K) int64; bin 2 of 4 gives 0 0 0 1, mirrored 1 1 0 0."""
        index = self.index(labels).unsqueeze(1)
        asked = torch.arange(self.bins.count, device=labels.age.device)
        return (index > asked if self._mirrored else index < asked).long()

    def _losses(self, logits: Tensor, labels: Labels, label_smoothing: float, *, training: bool) -> Tensor:
        # As one long list of pairs: of the form for (B, 2, K) torch has no deterministic version on a GPU.
        losses = functional.cross_entropy(
            logits.reshape(-1, 2), self.target(labels).view(-1), reduction="none", label_smoothing=label_smoothing
        ).view(-1, self.bins.count)
        if training and self._output_weights is not None:
            losses = losses * self._output_weights.to(losses.device)
        return losses.sum(dim=1)

    def older(self, logits: Tensor) -> Tensor:
        """P(not younger than bin k + 1), or mirrored P(older than bin k) (B, K - 1) float32."""
        answers = self._pairs(logits).softmax(dim=2)
        return answers[:, :-1, 1] if self._mirrored else answers[:, 1:, 0]

    def extra_figures(self, logits: Tensor, labels: Labels) -> dict[str, Tensor]:
        """``age_acc_exact_vector``: whether all K answers are right (S1-E3); ``age_acc_per_head``: their share."""
        right = (self._pairs(logits).argmax(dim=2) == self.target(labels)).float()
        known = ~torch.isnan(labels.age)
        return {
            "age_acc_exact_vector": torch.where(known, right.amin(dim=1), torch.nan),
            "age_acc_per_head": torch.where(known, right.mean(dim=1), torch.nan),
        }

    def _pairs(self, logits: Tensor) -> Tensor:
        return logits.float().view(len(logits), self.bins.count, 2)
