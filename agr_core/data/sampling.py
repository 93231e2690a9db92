"""In which order training images are drawn; every order follows from the trial's seed and the epoch.

n: training images.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def shuffled(n: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """Every image once, in a new order each epoch (n,)."""
    order: NDArray[np.int64] = _generator(seed, epoch).permutation(np.arange(n, dtype=np.int64))
    return order


def weighted(classes: NDArray[np.int64], *, seed: int, epoch: int) -> NDArray[np.int64]:
    """As many images as there are, with replacement, every class equally often on average (n,) (report S4, S4-W1).

    The weight of an image is 1 / (images of its class); ``classes`` (n,) holds any class numbers, and images whose
    class is not known share one number and so are a class too.
    """
    _, members, counts = np.unique(classes, return_inverse=True, return_counts=True)
    cumulated = np.cumsum(1.0 / counts[members])
    drawn = np.searchsorted(cumulated, _generator(seed, epoch).random(len(classes)) * cumulated[-1], side="right")
    # The product may round up to the last sum itself.
    return np.asarray(np.minimum(drawn, len(classes) - 1), dtype=np.int64)


def _generator(seed: int, epoch: int) -> np.random.Generator:
    return np.random.default_rng((seed, epoch))
