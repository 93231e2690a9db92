"""Weights of single images in the training loss, by how frequent their labels are in the training part.

C: classes of a task, Y: years 0..MAX_AGE. Every set of weights has the mean 1 over the training images, so that the
scale of a loss, and with it the meaning of a learning rate, stays what it is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agr_core.config import LossConfig, Task
from agr_core.data.batch import Labels
from agr_core.errors import DataError
from agr_core.labels.attributes import Vocabulary
from agr_core.labels.bins import MAX_AGE, Bins

LDS_KERNEL_YEARS = 5
LDS_SIGMA_YEARS = 2.0
"""Width and deviation of the kernel by which Yang et al. smooth the density of ages."""

_Weights = NDArray[np.float64]


@dataclass(frozen=True)
class ImageWeights:
    """Weights by label; None or absent: 1.

    ``by_year`` (Y,) of the age loss; ``by_class`` (C,) of other tasks; float32, on the trial's device.
    """

    by_year: Tensor | None
    by_class: Mapping[Task, Tensor]

    def of(self, task: Task, labels: Labels) -> Tensor | None:
        """The weight of each image in the loss of a task (B,); that of some label where its own is not known."""
        if task == "age":
            if self.by_year is None:
                return None
            return self.by_year[_year(torch.nan_to_num(labels.age))]
        if task not in self.by_class:
            return None
        classes: Tensor = getattr(labels, task)
        return self.by_class[task][classes.clamp(min=0)]


def image_weights(
    config: LossConfig,
    train: Labels,
    *,
    tasks: Collection[Task],
    bins: Bins | None,
    vocabulary: Vocabulary,
    device: torch.device,
) -> ImageWeights:
    """The weights a configuration asks for.

    Args:
        config: ``TrialConfig.loss``.
        train: Labels of the training part.
        tasks: What is trained.
        bins: The trial's age bins; None without.
        vocabulary: The data set's genders and races.
        device: Where to.

    Raises:
        DataError: If all training images are of one class, which leaves nothing to weigh.
    """
    years = train.age[~torch.isnan(train.age)].cpu()
    per_year = np.bincount(_year(years).numpy(), minlength=MAX_AGE + 1)
    by_year: _Weights | None = None
    by_class: dict[Task, _Weights] = {}
    if "age" in tasks and config.age_density != "none":
        kind = config.age_density
        by_year = density_weights(per_year, smooth=kind == "lds", root=kind == "sqrt_inverse")
    if config.class_weights == "complement":
        if "age" in tasks and by_year is None and bins is not None:
            in_bin = bins.index(np.arange(MAX_AGE + 1))
            per_bin = np.bincount(in_bin, weights=per_year, minlength=bins.count)
            by_year = complement_weights(per_bin, what="age bin")[in_bin]
        for task in (task for task in tasks if task in ("gender", "race")):
            classes: Tensor = getattr(train, task)
            counts = np.bincount(classes[classes >= 0].cpu().numpy(), minlength=len(vocabulary.names(task)))
            by_class[task] = complement_weights(counts, what=task)

    def on_device(weights: _Weights) -> Tensor:
        return torch.tensor(weights, dtype=torch.float32, device=device)

    return ImageWeights(
        by_year=None if by_year is None else on_device(by_year),
        by_class={task: on_device(weights) for task, weights in by_class.items()},
    )


def complement_weights(counts: NDArray[np.generic], *, what: str = "class") -> _Weights:
    """1 - n_c / N of each class (report S4, S4-W2, eq. 4), divided by their mean over the images (C,).

    Args:
        counts: Images of each class n_c (C,).
        what: What the classes are, for the message.

    Raises:
        DataError: If all images are of one class: its weight is 0.
    """
    shares = counts.astype(np.float64) / counts.sum()
    weights = 1.0 - shares
    mean = float(shares @ weights)
    if mean == 0:
        raise DataError(
            f"loss.class_weights=complement gives every training image the weight 0, because all are of one {what}: "
            "set loss.class_weights to none, or use data with several."
        )
    return np.asarray(weights / mean)


def density_weights(counts: NDArray[np.generic], *, smooth: bool = False, root: bool = False) -> _Weights:
    """1 / n of each year's number of images n, divided by their mean over the images (Y,); 0 where there is none.

    Args:
        counts: Images of each year (Y,).
        smooth: Smooth n over neighbouring years by a Gaussian first: label distribution smoothing (Yang, Zha, Chen,
            Wang and Katabi 2021, LDS), with the size and deviation of their experiments. (Their code's window is
            flatter, .86 .95 1 .95 .86, because SciPy's filter mirrors it at its ends, and it clips n to 5..1000; the
            paper's formula has neither.)
        root: Take the root of n, which weighs rare ages less strongly.
    """
    images = counts.astype(np.float64)
    density = images
    if smooth:
        offsets = np.arange(LDS_KERNEL_YEARS) - LDS_KERNEL_YEARS // 2
        kernel = np.exp(-(offsets**2) / (2 * LDS_SIGMA_YEARS**2))
        density = np.convolve(images, kernel / kernel.sum(), mode="same")
    if root:
        density = np.sqrt(density)
    weights = np.divide(1.0, density, out=np.zeros_like(density), where=images > 0)
    return np.asarray(weights * images.sum() / (images @ weights))


def _year(ages: Tensor) -> Tensor:
    """Completed years 0..MAX_AGE (N,) int64; the middle of a range rounded, older ages as the oldest."""
    return (ages + 0.5).floor().clamp(0, MAX_AGE).long()
