"""Ages as one softmax class a bin, trained on the squared error of the probabilities."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from agr_core.config import PluginEncoding, SoftmaxAge


class BrierAge(PluginEncoding, SoftmaxAge):
    """Squared error of the bins' probabilities (Brier 1950); ``bins`` and ``decode`` are SoftmaxAge's."""

    encoding: Literal["brier"]
    factor: float = Field(default=1.0, gt=0, le=10, description="Factor of the loss.")

    def build(self) -> Any:
        """The encoding."""
        from agr_plugin_template.brier import Brier

        return Brier(self, factor=self.factor)
