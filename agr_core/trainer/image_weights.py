"""Image weights in the training loss, by the frequency of labels in the training part.

C: classes of a task, Y: years 0..MAX_AGE. Every set of weights has mean 1 over the training images, which keeps the
scale of the loss and thus the effect of the learning rate.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agr_core.batch import Labels
from agr_core.bins import MAX_AGE, Bins
from agr_core.config import LossConfig, Task
from agr_core.errors import DataError
from agr_core.labels.attributes import Vocabulary

LDS_KERNEL_YEARS = 5
LDS_SIGMA_YEARS = 2.0
"""Width and standard deviation of the kernel with which Yang et al. smooth the density of ages."""

_Weights = NDArray[np.float64]


@dataclass(frozen=True)
class ImageWeights:
    """Image weights by label; None or absent: 1.

    ``by_year`` (Y,) holds weights of the age loss, ``by_class`` (C,) those of other tasks; float32, on the trial's
    device.
    """

    by_year: Tensor | None
    by_class: Mapping[Task, Tensor]

    def of(self, task: Task, labels: Labels) -> Tensor | None:
        """Return the weight of each image in a task's loss (B,); arbitrary where its label is unknown."""
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
    """Compute the configured image weights.

    Args:
        config: ``TrialConfig.loss``.
        train: Labels of the training part.
        tasks: Trained tasks.
        bins: The trial's age bins, if any.
        vocabulary: Genders and races of the data set.
        device: Device of the result.

    Raises:
        DataError: If all training images are of one class.
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
    """Return 1 - n_c / N of each class (report S4, S4-W2, eq. 4) divided by their mean over the images (C,).

    Args:
        counts: Number of images n_c of each class (C,).
        what: Noun for the classes in the error message.

    Raises:
        DataError: If all images are of one class, whose weight would be 0.
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
    """Return 1 / n for each year's number of images n, divided by their mean over the images (Y,); 0 where n is 0.

    Args:
        counts: Number of images of each year (Y,).
        smooth: First smooth n over neighbouring years with a Gaussian: label distribution smoothing (Yang, Zha, Chen,
            Wang and Katabi 2021, LDS), with the width and standard deviation of their experiments. (In their code the
            window is flatter, .86 .95 1 .95 .86, because SciPy's filter mirrors at its ends, and n is clipped to
            5..1000; the paper's formula has neither.)
        root: Use the square root of n, which gives rare ages less weight.
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
    """Return completed years 0..MAX_AGE (N,) int64: ranges by their rounded middle, higher ages as MAX_AGE."""
    return (ages + 0.5).floor().clamp(0, MAX_AGE).long()
