"""Age regression, the encoding without bins. B: images in the batch."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor
from torch.nn import functional

from agr_core.batch import Labels
from agr_core.bins import MAX_AGE
from agr_core.config import RegressionAge
from agr_core.errors import DataError
from agr_core.labels.encodings.base import AgeEncoding, known_age

SMOOTH_L1_YEARS = 5.0
"""Threshold of smooth L1 between squared and absolute error, in years. At torch's default of one unit of the output (20
years) it would be half the squared error for most faces."""


class Regression(AgeEncoding):
    """One output, (age - center) / scale; the loss is 0 inside a label range and depends on the distance outside."""

    outputs = 1

    def __init__(self, config: RegressionAge) -> None:
        self._config = config
        self._center = config.center
        self._scale = config.scale

    def target(self, labels: Labels) -> Tensor:
        """Return (age - center) / scale (B,) float32, the target of the output after its sigmoid, if any."""
        return (known_age(labels) - self._center) / self._scale

    def _losses(self, logits: Tensor, labels: Labels, label_smoothing: float, *, training: bool) -> Tensor:  # noqa: ARG002 - no softmax
        predicted = self._output(logits)
        known = ~torch.isnan(labels.age)
        low = (torch.where(known, labels.age_low, 0.0) - self._center) / self._scale
        high = (torch.where(known, labels.age_high, 0.0) - self._center) / self._scale
        # The point of the range nearest to the prediction; for an exact age, the age itself.
        nearest = torch.minimum(torch.maximum(predicted.detach(), low), high)
        match self._config.loss:
            case "l1":
                return functional.l1_loss(predicted, nearest, reduction="none")
            case "mse":
                return functional.mse_loss(predicted, nearest, reduction="none")
            case "smooth_l1":
                beta = SMOOTH_L1_YEARS / self._scale
                return functional.smooth_l1_loss(predicted, nearest, reduction="none", beta=beta)

    def years(self, logits: Tensor) -> Tensor:
        """Return center + scale x output, clipped to 0..MAX_AGE if configured."""
        return (self._output(logits.float()) * self._scale + self._center).clamp(0.0, float(MAX_AGE))

    def check_ranges(self, ranges: Collection[tuple[float, float]]) -> None:
        """Check that the sigmoid, if any, can reach all ages.

        Raises:
            DataError: If not; the message names the highest age and the way out.
        """
        oldest = max((low for low, _ in ranges), default=0.0)
        if self._config.output == "sigmoid" and oldest > self._scale:
            raise DataError(
                f"age.scale={self._scale:g} with age.output=sigmoid reaches no age above {self._scale:g}, but this "
                f"data set has ages up to {oldest:g}: raise age.scale to that, or leave older ages out of the data."
            )

    def _output(self, logits: Tensor) -> Tensor:
        output = logits.squeeze(1)
        return output.sigmoid() if self._config.output == "sigmoid" else output
