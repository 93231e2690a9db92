"""In which order training images are drawn; every order follows from the trial's seed and the epoch.

A sampler is a function of its configuration, the class of each training image and a generator, registered under the
``name`` of its configuration.

n: training images; m: images drawn in an epoch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agr_core.config import OversampleSampler, SamplerConfig
from agr_core.registry import Registry

Order = NDArray[np.int64]
"""Places 0..n-1 of training images in the order in which they are drawn (m,)."""

Sampler = Callable[[Any, NDArray[np.int64], np.random.Generator], Order]
"""Called with the sampler's configuration, the class of each training image (n,), and the generator of the epoch.

Classes are any numbers, by ``by`` of the configuration; images whose class is not known share one number and so are a
class too. A configuration without ``by`` is given one class for all.
"""

SAMPLERS: Registry[Sampler] = Registry("sampler")
"""The samplers by the names of their configurations."""


def draw(config: SamplerConfig, classes: NDArray[np.int64], *, seed: int, epoch: int) -> Order:
    """The images of an epoch, counted from 0, in their order (m,); m is the same in every epoch."""
    return SAMPLERS.get(config.name)(config, classes, np.random.default_rng((seed, epoch)))


def shuffled(_: SamplerConfig, classes: NDArray[np.int64], random: np.random.Generator) -> Order:
    """Every image once, in a new order each epoch (n,)."""
    order: Order = random.permutation(np.arange(len(classes), dtype=np.int64))
    return order


def weighted(_: SamplerConfig, classes: NDArray[np.int64], random: np.random.Generator) -> Order:
    """As many images as there are, with replacement, every class equally often on average (n,) (report S4, S4-W1).

    The weight of an image is 1 / (images of its class).
    """
    _classes, members, counts = np.unique(classes, return_inverse=True, return_counts=True)
    cumulated = np.cumsum(1.0 / counts[members])
    drawn = np.searchsorted(cumulated, random.random(len(classes)) * cumulated[-1], side="right")
    # The product may round up to the last sum itself.
    return np.asarray(np.minimum(drawn, len(classes) - 1), dtype=np.int64)


def oversampled(config: OversampleSampler, classes: NDArray[np.int64], random: np.random.Generator) -> Order:
    """Every class as often as the largest class, or as the whole training part, has images (report S0, S0-T8).

    Of a class, every image is drawn equally often, to within one; which ones are drawn once more, the epoch decides.
    """
    groups = [np.flatnonzero(classes == number) for number in np.unique(classes)]
    size = len(classes) if config.to == "full" else max(len(group) for group in groups)
    drawn = []
    for group in groups:
        repeats, rest = divmod(size, len(group))
        drawn += [np.tile(group, repeats), random.permutation(group)[:rest]]
    order: Order = random.permutation(np.concatenate(drawn).astype(np.int64))
    return order


SAMPLERS.register("shuffle", shuffled)
SAMPLERS.register("weighted", weighted)
SAMPLERS.register("oversample", oversampled)
