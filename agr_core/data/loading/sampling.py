"""Sampling: the order in which training images are drawn, determined by seed and epoch.

A sampler is a function of its configuration, the class of each training image and a random generator, registered under
the ``name`` in its configuration.

n: training images; m: images drawn in an epoch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agr_core import plugins
from agr_core.config import OversampleSampler, PluginSampler, SamplerConfig
from agr_core.errors import ConfigError
from agr_core.registry import Registry

Order = NDArray[np.int64]
"""Indices 0..n-1 of training images in the order drawn (m,)."""

Sampler = Callable[[Any, NDArray[np.int64], np.random.Generator], Order]
"""Function of the sampler's configuration, the class of each training image (n,), and the epoch's generator.

Classes are arbitrary numbers, determined by ``by`` of the configuration. Images of unknown class share one number and
thus form a class. Without ``by``, all images have the same class.
"""

SAMPLERS: Registry[Sampler] = Registry("sampler")
"""Samplers by the names in their configurations."""


def draw(config: SamplerConfig, classes: NDArray[np.int64], *, seed: int, epoch: int) -> Order:
    """Return the images of an epoch, counted from 0, in order (m,); m is the same in every epoch.

    Raises:
        ConfigError: If a plug-in's order is none.
    """
    random = np.random.default_rng((seed, epoch))
    if isinstance(config, PluginSampler):
        return _drawn_by_plugin(config, classes, random)
    return SAMPLERS.get(config.name)(config, classes, random)


def _drawn_by_plugin(config: PluginSampler, classes: NDArray[np.int64], random: np.random.Generator) -> Order:
    said = f"sampler {config.name!r} of {plugins.described(plugins.SAMPLERS, config.name)}"
    try:
        order = config.order(classes, random)
    except Exception as error:
        raise ConfigError(f"{said} fails: {type(error).__name__}: {error}.") from error
    if not isinstance(order, np.ndarray) or order.ndim != 1 or order.dtype.kind not in "iu" or not len(order):
        shown = f"{order.dtype} {order.shape}" if isinstance(order, np.ndarray) else type(order).__name__
        raise ConfigError(f"{said} gives {shown} for an epoch; it must give whole numbers (m,), m above 0.")
    if order.min() < 0 or order.max() >= len(classes):
        raise ConfigError(
            f"{said} draws image {order.min() if order.min() < 0 else order.max()}; there are {len(classes)} training "
            "images, counted from 0."
        )
    return order.astype(np.int64)


def shuffled(_: SamplerConfig, classes: NDArray[np.int64], random: np.random.Generator) -> Order:
    """Return every image once, in a new order each epoch (n,)."""
    order: Order = random.permutation(np.arange(len(classes), dtype=np.int64))
    return order


def weighted(_: SamplerConfig, classes: NDArray[np.int64], random: np.random.Generator) -> Order:
    """Return n images drawn with replacement, each class with equal probability (n,) (report S4, S4-W1).

    The weight of an image is 1 / (images of its class).
    """
    _classes, members, counts = np.unique(classes, return_inverse=True, return_counts=True)
    cumulated = np.cumsum(1.0 / counts[members])
    drawn = np.searchsorted(cumulated, random.random(len(classes)) * cumulated[-1], side="right")
    # The product may be rounded up to the last sum.
    return np.asarray(np.minimum(drawn, len(classes) - 1), dtype=np.int64)


def oversampled(config: OversampleSampler, classes: NDArray[np.int64], random: np.random.Generator) -> Order:
    """Return every class as often as the largest class, or as the whole training part, has images (report S0, S0-T8).

    Within a class, the number of draws per image differs by at most one; the images drawn once more change with the
    epoch.
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
