"""MixUp: each training image is mixed with another one of its batch, and so are the losses of their labels.

B: images in the batch. Zhang, Cisse, Dauphin and Lopez-Paz 2018 mix one-hot labels; the cross-entropy of a mixed label
is the mixture of the cross-entropies. Mixing the losses instead of the labels is the same for them and works for every
encoding and task, whatever their targets are, and for labels that are not known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from agr_core.config import MixupConfig
from agr_core.data.batch import Labels
from agr_core.identity import digest


@dataclass(frozen=True)
class Mix:
    """Image i becomes ``share`` x image i + (1 - ``share``) x image ``partners[i]``; ``partners`` (B,) int64."""

    share: float
    partners: Tensor

    def images(self, images: Tensor) -> Tensor:
        """The mixed images (B, C, S, S), of normalised ones."""
        return torch.lerp(images[self.partners.to(images.device)], images, self.share)

    def partner_labels(self, labels: Labels) -> Labels:
        """The labels of each image's partner."""
        return labels.take(self.partners.to(labels.age.device))

    def losses(self, own: Tensor, partners: Tensor) -> Tensor:
        """The mixed loss of the images' own labels and of their partners' (any shape)."""
        return torch.lerp(partners, own, self.share)


def draw_mix(config: MixupConfig, *, images: int, seed: int, epoch: int, batch: int) -> Mix:
    """How a batch of ``images`` images is mixed; a function of (seed, epoch, batch) alone.

    The share of an image itself is at least one half: mixing i with j by a share s is mixing j with i by 1 - s, so
    nothing is lost, and an image's own label is always the dominant one, by which training figures are scored.
    """
    generator = np.random.default_rng(int(digest(["mixup", seed, epoch, batch])[:16], 16))
    share = float(generator.beta(config.alpha, config.alpha))
    return Mix(share=max(share, 1.0 - share), partners=torch.from_numpy(generator.permutation(images)))
