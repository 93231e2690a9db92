"""Grad-CAM: which places of an image a prediction depends on (Selvaraju et al. 2017).

For a score y and the last feature maps A of a convolutional network, the weight of map k is the mean over its places of
dy/dA_k, and the picture is relu(sum_k weight_k A_k), enlarged to the image (their equations 1 and 2). The score is the
output of the predicted class before the softmax. For ages without a probability per bin it is the age in years, so
the picture shows what makes the face look older.

B: images; C: channels of the maps; H, W: their height and width; S: ``image.size``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from agr_core.config import Task
from agr_core.errors import ConfigError, DataError
from agr_core.evaluation.plots import empty_figure, png
from agr_core.labels.attributes import Vocabulary
from agr_core.labels.encodings import AgeEncoding
from agr_core.models.task_model import FaceModel
from agr_core.trainer.steps import Predictor

MOST_FACES = 20
"""Maximum number of faces in a picture; each is a row of it."""

_NAME_LENGTH = 24


@dataclass(frozen=True)
class Heat:
    """Grad-CAM of one prediction of a face.

    ``image`` is what the model saw (S, S, 3) uint8, ``values`` (S, S) float32 how much the prediction ``answer`` of
    ``task`` depends on each pixel's surroundings, from 0 to 1; all 0 if no place speaks for it.
    """

    task: str
    answer: str
    image: NDArray[np.uint8]
    values: NDArray[np.float32]


def heats(predictor: Predictor, vocabulary: Vocabulary, images: Tensor) -> list[tuple[Heat, ...]]:
    """Return the Grad-CAM of age, gender and race, as far as they are predicted, for each image.

    Args:
        predictor: The model, in evaluation mode.
        vocabulary: Names of its classes.
        images: The images (B, C, S, S) uint8.

    Raises:
        ConfigError: If the model has no last convolutional feature map, or a prediction has no gradient.
    """
    pixels = [_rgb(image) for image in images.cpu().numpy()]
    found: list[list[Heat]] = [[] for _ in pixels]
    for task, answers, maps in _maps(predictor, vocabulary, images):
        for place, (answer, values) in enumerate(zip(answers, maps.float().cpu().numpy(), strict=True)):
            found[place].append(Heat(task, answer, pixels[place], _enlarged(values, pixels[place].shape[0])))
    return [tuple(of_face) for of_face in found]


def heats_png(faces: Sequence[tuple[str, Sequence[Heat]]]) -> bytes:
    """Return a PNG with a row per face, at most ``MOST_FACES``: its image, then the Grad-CAM of each prediction.

    Args:
        faces: Name and Grad-CAMs of each face.

    Raises:
        DataError: If there is no face with a Grad-CAM.
    """
    shown = [(name, of_face) for name, of_face in faces if of_face][:MOST_FACES]
    if not shown:
        raise DataError("no face was found in any of the files, so there is no Grad-CAM to draw.")
    columns = 1 + max(len(of_face) for _, of_face in shown)
    figure = empty_figure(width=2.0 * columns, height=2.3 * len(shown))
    for row, (name, of_face) in enumerate(shown):
        for column in range(1 + len(of_face)):
            axes = figure.add_subplot(len(shown), columns, row * columns + column + 1)
            axes.set_axis_off()
            heat = of_face[max(0, column - 1)]
            axes.imshow(heat.image)
            if column:
                axes.imshow(heat.values, cmap="jet", alpha=0.45, vmin=0.0, vmax=1.0)
            axes.set_title(_short(name) if not column else f"{heat.task}: {heat.answer}", fontsize=8)
    return png(figure)


def _maps(predictor: Predictor, vocabulary: Vocabulary, images: Tensor) -> Iterator[tuple[Task, Sequence[str], Tensor]]:
    """Yield task, predicted answers (B) and relu(sum_k weight_k A_k) (B, H, W)."""
    if not isinstance(predictor.model, FaceModel):
        raise ConfigError("Grad-CAM needs a model of one network; a cascade has one for each group.")
    with torch.enable_grad(), _last_maps(predictor.model.backbone) as last:
        normalised = predictor.normalize(images).requires_grad_()
        logits = replace(predictor, mirrored=False).logits(normalised)
        maps = last.maps()
        for task in (task for task in ("age", "gender", "race") if task in logits):
            score, answers = _score(task, logits[task].float(), predictor.encoding, vocabulary)
            if not score.requires_grad:
                raise ConfigError(
                    "Grad-CAM needs a gradient, and this trial decodes ages by counting thresholds, which has none "
                    "(age.decode: median). Take a trial that decodes by expectation."
                )
            (gradient,) = torch.autograd.grad(score.sum(), maps, retain_graph=True)
            weights = gradient.float().mean(dim=(2, 3), keepdim=True)  # (B, C, 1, 1)
            yield task, answers, (weights * maps.detach().float()).sum(dim=1).relu()


def _score(task: Task, outputs: Tensor, encoding: AgeEncoding, vocabulary: Vocabulary) -> tuple[Tensor, list[str]]:
    """Return the score of each image (B,) and the answer that it is for."""
    rows = torch.arange(len(outputs), device=outputs.device)
    if task != "age":
        names: Mapping[str, Sequence[str]] = {"gender": vocabulary.genders, "race": vocabulary.races}
        chosen = outputs.argmax(dim=1)
        return outputs[rows, chosen], [names[task][index] for index in chosen.tolist()]
    shares = encoding.shares(outputs)
    if shares is None or encoding.bins is None:
        years = encoding.years(outputs)
        return years, [f"{value:.0f}" for value in years.tolist()]
    chosen = shares.argmax(dim=1)
    per_bin = outputs if outputs.shape == shares.shape else shares.log()
    return per_bin[rows, chosen], [encoding.bins.labels[index] for index in chosen.tolist()]


class _LastMaps:
    """The last feature maps of a forward pass, found by hooks on all modules.

    They are the last output that is as large as that of the last convolution with more than one place, such as its
    activation or the sum of a residual block. Networks that end in tokens or in maps with the channels last have none.
    """

    def __init__(self) -> None:
        self._size: tuple[int, ...] | None = None
        self._maps: Tensor | None = None
        self._last_shape: tuple[int, ...] = ()

    def see(self, module: nn.Module, _inputs: Any, output: Any) -> None:
        """Note the output of a module."""
        if not isinstance(output, Tensor) or output.ndim < 3:
            return
        if output.ndim == 4 and output.shape[2:].numel() == 1:
            return
        self._last_shape = tuple(output.shape)
        if isinstance(module, nn.Conv2d):
            self._size = tuple(output.shape[2:])
        if output.ndim == 4 and tuple(output.shape[2:]) == self._size:
            self._maps = output

    def maps(self) -> Tensor:
        """Return the maps (B, C, H, W).

        Raises:
            ConfigError: If there are none.
        """
        shape = self._last_shape
        if self._maps is None or len(shape) != 4 or shape[2] != shape[3]:
            raise ConfigError(
                "Grad-CAM needs a network that ends in convolutional feature maps larger than 1 x 1, and the last "
                f"output with places of this one has shape {list(shape[1:])}: transformers have tokens instead, and "
                "small images may leave a single place. Use a convolutional network, or a larger image.size."
            )
        return self._maps


@contextmanager
def _last_maps(backbone: nn.Module) -> Iterator[_LastMaps]:
    last = _LastMaps()
    hooks = [module.register_forward_hook(last.see) for module in backbone.modules()]
    try:
        yield last
    finally:
        for hook in hooks:
            hook.remove()


def _short(name: str) -> str:
    """Return a file name as wide as a column; its end, as in UTKFace, says less than its beginning."""
    return name if len(name) <= _NAME_LENGTH else f"{name[: _NAME_LENGTH - 1]}…"


def _enlarged(values: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Return the values at the size of the image (S, S), divided by their maximum."""
    largest = float(values.max())
    scaled = values / largest if largest > 0 else values
    return np.asarray(cv2.resize(scaled, (side, side), interpolation=cv2.INTER_LINEAR), dtype=np.float32)


def _rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an image (C, S, S) as (S, S, 3)."""
    return np.ascontiguousarray(np.broadcast_to(image, (3, *image.shape[1:])).transpose(1, 2, 0))
