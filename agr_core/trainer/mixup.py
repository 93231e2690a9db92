"""MixUp: each training image, and the losses of its labels, are mixed with those of another image of the batch.

B: images in the batch. Zhang, Cisse, Dauphin and Lopez-Paz 2018 mix one-hot labels; the cross-entropy of a mixed label
is the mixture of the cross-entropies. Mixing losses is therefore equivalent for one-hot labels, and it also works for
every other encoding and for unknown labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from agr_core.batch import Labels
from agr_core.config import MixupConfig
from agr_core.identity import digest


@dataclass(frozen=True)
class Mix:
    """Image i becomes ``share`` x image i + (1 - ``share``) x image ``partners[i]``; ``partners`` (B,) int64."""

    share: float
    partners: Tensor

    def images(self, images: Tensor) -> Tensor:
        """Return the mixed images (B, C, S, S) of normalised images."""
        return torch.lerp(images[self.partners.to(images.device)], images, self.share)

    def partner_labels(self, labels: Labels) -> Labels:
        """Return the labels of each image's partner."""
        return labels.take(self.partners.to(labels.age.device))

    def losses(self, own: Tensor, partners: Tensor) -> Tensor:
        """Return the mixture of the losses of the images' own labels and of their partners' labels (any shape)."""
        return torch.lerp(partners, own, self.share)


def draw_mix(config: MixupConfig, *, images: int, seed: int, epoch: int, batch: int) -> Mix:
    """Draw the mixing of a batch of ``images`` images; a function of (seed, epoch, batch) alone.

    An image's own share is at least one half. This loses nothing, because mixing i with j by share s equals mixing j
    with i by 1 - s, and it makes an image's own label the dominant one, by which training metrics are scored.
    """
    generator = np.random.default_rng(int(digest(["mixup", seed, epoch, batch])[:16], 16))
    share = float(generator.beta(config.alpha, config.alpha))
    return Mix(share=max(share, 1.0 - share), partners=torch.from_numpy(generator.permutation(images)))
