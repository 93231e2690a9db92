"""Preview of an augmentation.

S: ``image.size``; C: 3 channels, or 1 of luminance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agr_core.config import TrialConfig
from agr_core.data.augment.augment import build_augment, centre_crop, sample_seed, to_grey
from agr_core.data.loading.cache import JpegPixels
from agr_core.data.packed.pack import Packed


def before_and_after(
    packed: Packed, config: TrialConfig, rows: NDArray[np.int64], *, versions: int
) -> list[list[NDArray[np.uint8]]]:
    """Return, for each row, the image as evaluated, then ``versions`` augmented images, (S, S, C) each."""
    decoded = JpegPixels(packed, config.image.decode_size).gather(rows)
    if config.image.color == "grey":
        decoded = to_grey(decoded)
    still = centre_crop(decoded, config.image.size)
    augment = build_augment(config.augment, config.image)
    if augment is None:
        return [[image] * (1 + versions) for image in still]
    seeds = [[sample_seed(config.seed, epoch, index) for epoch in range(versions)] for index in range(len(rows))]
    return [
        [image, *(augment(full, seed) for seed in seeds_of_image)]
        for image, full, seeds_of_image in zip(still, decoded, seeds, strict=True)
    ]
