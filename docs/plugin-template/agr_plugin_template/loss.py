"""The focal loss of gender and race."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from agr_core.config import PluginLoss

if TYPE_CHECKING:
    from torch import Tensor


class FocalLoss(PluginLoss):
    """(1 - p)^gamma x cross-entropy, p the probability of the true class (Lin et al. 2017, eq. 4)."""

    name: Literal["focal"]
    gamma: float = Field(default=2.0, ge=0, le=10, description="Exponent; 0 is the cross-entropy.")

    def losses(self, logits: Tensor, classes: Tensor, *, label_smoothing: float) -> Tensor:
        """The loss of each image (B,)."""
        from torch.nn import functional

        entropy = functional.cross_entropy(logits, classes, reduction="none", label_smoothing=label_smoothing)
        true = logits.softmax(dim=1).gather(1, classes.unsqueeze(1)).squeeze(1)
        return (1 - true) ** self.gamma * entropy
