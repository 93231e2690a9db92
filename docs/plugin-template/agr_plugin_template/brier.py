"""The encoding itself; it imports torch, so it is imported only when a model is built."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from agr_core.batch import Labels
from agr_core.config import SoftmaxAge
from agr_core.labels.encodings.softmax import Softmax


class Brier(Softmax):
    """The squared error of the probabilities (Brier 1950), summed over the bins, times ``factor``."""

    def __init__(self, config: SoftmaxAge, *, factor: float) -> None:
        super().__init__(config)
        self._factor = factor

    def target(self, labels: Labels) -> Tensor:
        """1 for the true bin, else 0 (B, K) float32."""
        return functional.one_hot(self.index(labels), self.bins.count).float()

    def _losses(self, logits: Tensor, labels: Labels, label_smoothing: float, *, training: bool) -> Tensor:  # noqa: ARG002
        return self._factor * (logits.softmax(dim=1) - self.target(labels)).square().sum(dim=1)
