"""Ordinal encodings: one binary decision per age threshold. B: images in the batch, K: bins."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from agr_core.batch import Labels
from agr_core.bins import Bins
from agr_core.config import CumulativeAge, YoungerThanAge
from agr_core.labels.encodings.base import Binned, cumulated


class Cumulative(Binned):
    """Base class of the encodings that estimate P(older than bin k) for k = 0..K - 2."""

    def __init__(self, config: CumulativeAge) -> None:
        bins = Bins.from_spec(config.bins)
        super().__init__(bins, outputs=bins.count - 1)
        self._decode = config.decode

    @abstractmethod
    def older(self, logits: Tensor) -> Tensor:
        """Return P(older than bin k) (B, K - 1) float32."""

    def years(self, logits: Tensor) -> Tensor:
        """Return the first bin's centre plus each step to the next centre times its probability P(older than bin k).

        If the probabilities decrease with k, this is the expectation of the centres, because P(bin k) is their
        difference. With ``decode: median``, return the centre of ``bin_index``, the bin in which they fall below one
        half.
        """
        centers = self.centers(logits)
        if self._decode == "median":
            return centers[self.bin_index(logits)]
        return centers[0] + (self.older(logits) * centers.diff()).sum(dim=1)

    def bin_index(self, logits: Tensor) -> Tensor:
        """Return the number of probabilities above one half (B,) int64 (decoding of OR-CNN)."""
        return (self.older(logits) > 0.5).sum(dim=1)


class Ordinal(Cumulative):
    """K - 1 binary outputs, the k-th "older than bin k" (Niu et al. 2016, OR-CNN).

    The loss of an image is the sum of the binary cross-entropies, as in the paper with all weights 1. It is the
    negative logarithm of the label's probability and thus has the scale of the cross-entropy of ``onehot``.
    """

    def target(self, labels: Labels) -> Tensor:
        """Return 1 where the age is in a later bin than k, else 0 (B, K - 1) float32."""
        thresholds = torch.arange(self.outputs, device=labels.age.device)
        return (self.index(labels).unsqueeze(1) > thresholds).float()

    def _losses(self, logits: Tensor, labels: Labels, label_smoothing: float, *, training: bool) -> Tensor:  # noqa: ARG002 - no softmax
        return functional.binary_cross_entropy_with_logits(logits, self.target(labels), reduction="none").sum(dim=1)

    def older(self, logits: Tensor) -> Tensor:
        """Return the sigmoid of each output (B, K - 1) float32."""
        return logits.float().sigmoid()


class CoralLayer(nn.Module):
    """Linear layer w x + b_k with one weight vector for all outputs and a bias per output, (B, F) -> (B, outputs).

    Initial biases descend evenly from 1 to 1 / outputs, as in the authors' coral-pytorch.
    """

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.score = nn.Linear(features, 1, bias=False)
        self.biases = nn.Parameter(torch.arange(outputs, 0, -1, dtype=torch.float32) / outputs)

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (B, outputs) of features (B, F)."""
        score: Tensor = self.score(features)
        return score + self.biases


class Coral(Ordinal):
    """``Ordinal`` with ``CoralLayer`` (Cao, Mirjalili and Raschka 2020, CORAL; its task weights 1).

    The outputs are parallel and, at the optimum, their biases descend. P(older than bin k) then never exceeds P(older
    than bin k - 1).
    """

    def last_layer(self, features: int) -> nn.Module:
        """Return a layer with shared weights and K - 1 biases."""
        return CoralLayer(features, self.outputs)


class Corn(Ordinal):
    """K - 1 binary outputs, the k-th "older than bin k" given older than bin k - 1 (Shi, Cao and Raschka 2021, CORN).

    Output k learns only from images older than bin k - 1. The loss of an image is the sum over its outputs; by the
    chain rule it is the negative logarithm of the label's probability and thus has the scale of the other encodings.
    The paper divides the batch's sum by the number of contributing (image, output) pairs instead of images.
    """

    def _losses(self, logits: Tensor, labels: Labels, label_smoothing: float, *, training: bool) -> Tensor:  # noqa: ARG002 - no softmax
        target = self.target(labels)
        asked = functional.pad(target, (1, 0), value=1.0)[:, :-1]  # older than bin k - 1; output 0 counts always
        losses = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
        return (losses * asked).sum(dim=1)

    def older(self, logits: Tensor) -> Tensor:
        """Return the product of the conditional probabilities up to k (B, K - 1) float32, so it never rises with k."""
        return cumulated(functional.logsigmoid(logits.float())).exp()


class YoungerThan(Cumulative):
    """A two-way softmax per bin: is the face younger than bin k (report S1, S1-E1), or older than it (S1-E2)?

    Outputs are (B, 2 K), K pairs of logits (no, yes). The first answer (if mirrored, the last) is always no. As in the
    report it is trained and included in ``age_acc_exact_vector``; years and bin ignore it. The loss of an image is the
    sum over the pairs, times ``output_weights`` in training or, with ``weigh_evaluation``, always.
    """

    def __init__(self, config: YoungerThanAge) -> None:
        super().__init__(config)
        self.outputs = 2 * self.bins.count
        self._mirrored = config.mirrored
        self._output_weights = torch.tensor(config.output_weights) if config.output_weights else None
        self._weigh_evaluation = config.weigh_evaluation

    def target(self, labels: Labels) -> Tensor:
        """Return 1 where the answer is yes, else 0 (B, K) int64; bin 2 of 4 gives 0 0 0 1, mirrored 1 1 0 0."""
        index = self.index(labels).unsqueeze(1)
        asked = torch.arange(self.bins.count, device=labels.age.device)
        return (index > asked if self._mirrored else index < asked).long()

    def _losses(self, logits: Tensor, labels: Labels, label_smoothing: float, *, training: bool) -> Tensor:
        # Flattened to pairs: for (B, 2, K), torch has no deterministic implementation on a GPU.
        losses = functional.cross_entropy(
            logits.reshape(-1, 2), self.target(labels).view(-1), reduction="none", label_smoothing=label_smoothing
        ).view(-1, self.bins.count)
        if (training or self._weigh_evaluation) and self._output_weights is not None:
            losses = losses * self._output_weights.to(losses.device)
        return losses.sum(dim=1)

    def older(self, logits: Tensor) -> Tensor:
        """Return P(not younger than bin k + 1), or mirrored P(older than bin k) (B, K - 1) float32."""
        answers = self._pairs(logits).softmax(dim=2)
        return answers[:, :-1, 1] if self._mirrored else answers[:, 1:, 0]

    def extra_figures(self, logits: Tensor, labels: Labels) -> dict[str, Tensor]:
        """Return ``age_acc_exact_vector``, whether all K answers are right (S1-E3), and ``age_acc_per_head``."""
        right = (self._pairs(logits).argmax(dim=2) == self.target(labels)).float()
        known = ~torch.isnan(labels.age)
        return {
            "age_acc_exact_vector": torch.where(known, right.amin(dim=1), torch.nan),
            "age_acc_per_head": torch.where(known, right.mean(dim=1), torch.nan),
        }

    def _pairs(self, logits: Tensor) -> Tensor:
        return logits.float().view(len(logits), self.bins.count, 2)
