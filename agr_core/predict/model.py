"""Prediction for image files with a trained model.

Images are processed by the same code as in evaluation (``TrialData``): decoding, resizing, conversion to grey,
normalisation. The same image therefore gives the same numbers.

F: faces; H, W: height and width of an image, pixels; S: ``image.size``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from agr_core.batch import Batch, Labels
from agr_core.config import Task, TrialConfig
from agr_core.data.decode import square
from agr_core.data.face_crop import FaceBox
from agr_core.data.loading.loader import BatchMaker, Job
from agr_core.errors import CheckpointError, ConfigError, DataError
from agr_core.labels.attributes import Vocabulary
from agr_core.models.task_model import TaskModel
from agr_core.predict.files import Image, decoded, read_image
from agr_core.predict.grad_cam import MOST_FACES, Heat, heats
from agr_core.trainer.build import build_predictor
from agr_core.trainer.checkpoint import load_weights
from agr_core.trainer.source import LabelSpace

Box = tuple[int, int, int, int]
"""Left, top, right and bottom of a face, in pixels; right and bottom are exclusive. A box may extend beyond the
image."""


THUMBNAIL = 160
"""Side of a face's thumbnail, in pixels."""

HeatsOf = Callable[[Sequence[Image]], Sequence[Sequence[Heat]]]
"""Grad-CAM of each face (F): ``TrainedModel.heats``."""

_FILES_AT_ONCE = 16
_PIXELS_AT_ONCE = 32_000_000  # limit for faces in memory before the model runs


class Predicts(Protocol):
    """Interface of one model, or of several models together."""

    def predict(self, crops: Sequence[Image], boxes: Sequence[Box]) -> list[Face]:
        """Return the prediction for each face; see ``TrainedModel.predict``."""
        ...


class Cropper(Protocol):
    """Interface of face detection and cropping: ``agr_core.data.face_crop.FaceCropper``."""

    def detect(self, image: Image) -> list[FaceBox]:
        """Return the faces of an image (H, W, 3), the largest first."""
        ...

    def crop(self, image: Image, box: FaceBox) -> Image:
        """Return the model's crop of a face (S, S, 3)."""
        ...


@dataclass(frozen=True, kw_only=True)
class Face:
    """One face and its predictions; None for untrained tasks.

    ``age`` is in years. ``probabilities`` holds, by task, the probability of each class; they sum to 1. Ages are
    included only if the encoding has a probability per bin. ``thumbnail`` is the center of the model's input,
    ``THUMBNAIL`` pixels square, ``heats`` the Grad-CAM of each prediction; both only if requested.
    """

    box: Box
    age: float | None
    gender: str | None
    race: str | None
    probabilities: Mapping[str, Mapping[str, float]]
    thumbnail: Image | None = field(default=None, repr=False, compare=False)
    heats: Sequence[Heat] = field(default=(), repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return a plain JSON object, without the pixels."""
        return {
            "box": list(self.box),
            "age": self.age,
            "gender": self.gender,
            "race": self.race,
            "probabilities": {task: dict(shares) for task, shares in self.probabilities.items()},
        }


@dataclass(frozen=True)
class FileFaces:
    """Faces of one file; ``error`` is the reason if the file could not be read."""

    file: str
    faces: tuple[Face, ...] = ()
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return a plain JSON object; ``error`` only if there is one."""
        document: dict[str, Any] = {"file": self.file, "faces": [face.to_json() for face in self.faces]}
        return document if self.error is None else document | {"error": self.error}


@dataclass(frozen=True)
class TrainedLabels:
    """Label space of a trained model, without its data."""

    vocabulary: Vocabulary
    label_kind: Any = "exact"
    age_ranges: Sequence[tuple[float, float]] = ()


class TrainedModel:
    """A trial's model with stored weights, ready to predict, on the GPU if there is one.

    Args:
        config: The trial.
        weights: Its weights, ``best.safetensors``.
        labels: Vocabulary of its training data.

    Raises:
        ConfigError: If the model cannot be built.
        CheckpointError: If the weights cannot be read or belong to another model.
    """

    def __init__(self, config: TrialConfig, weights: Path, labels: LabelSpace) -> None:
        self.config = _for_prediction(config)
        self._vocabulary = labels.vocabulary
        self._predictor = build_predictor(self.config, labels, untrained=True)
        try:
            self._predictor.model.load_state_dict(load_weights(weights))
        except RuntimeError as error:
            raise CheckpointError(f"weights {weights} are of another model: {error}") from error
        self._predictor.model.eval()

    def predict(self, crops: Sequence[Image], boxes: Sequence[Box]) -> list[Face]:
        """Return the prediction for each face.

        Args:
            crops: The faces (F), each (H, W, 3) of its own size.
            boxes: Box of each face in its image (F).
        """
        faces: list[Face] = []
        for start in range(0, len(crops), self.config.batch_size):
            batch = slice(start, start + self.config.batch_size)
            faces += self._predict_batch(crops[batch], boxes[batch])
        return faces

    def heats(self, crops: Sequence[Image]) -> list[tuple[Heat, ...]]:
        """Return the Grad-CAM of each face's predictions (F).

        Raises:
            ConfigError: If the model is not a convolutional network.
        """
        return [
            of_face
            for start in range(0, len(crops), self.config.batch_size)
            for of_face in heats(
                self._predictor,
                self._vocabulary,
                _batch_of(crops[start : start + self.config.batch_size], self.config),
            )
        ]

    @torch.inference_mode()
    def ages(self, batches: Iterable[Batch]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return true and predicted ages, in years, of the images of known age (N,).

        For an encoding with bins, the predicted age is the centre of the predicted bin; else the decoded age.

        Args:
            batches: A part of the data, ``TrialData.batches``.
        """
        encoding = self._predictor.encoding
        true, predicted = [], []
        for batch in batches:
            outputs = self._predictor.logits(self._predictor.normalize(batch.images))["age"]
            chosen = encoding.bin_index(outputs)
            years = encoding.years(outputs).cpu().numpy().astype(np.float64)
            if chosen is not None and encoding.bins is not None:
                years = encoding.bins.centers[chosen.cpu().numpy()]
            ages = batch.labels.age.numpy().astype(np.float64)
            true.append(ages[~np.isnan(ages)])
            predicted.append(years[~np.isnan(ages)])
        return np.concatenate(true), np.concatenate(predicted)

    @torch.inference_mode()
    def _predict_batch(self, crops: Sequence[Image], boxes: Sequence[Box]) -> list[Face]:
        predictor = self._predictor
        images = _batch_of(crops, self.config)
        logits = predictor.logits(predictor.normalize(images))
        years = predictor.encoding.years(logits["age"]).cpu().tolist() if "age" in logits else None
        shares = self._shares(logits)
        found = []
        for place, box in enumerate(boxes):
            of_face = {task: by_class[place] for task, by_class in shares.items()}
            likeliest = {task: max(by_class, key=by_class.__getitem__) for task, by_class in of_face.items()}
            found.append(
                Face(
                    box=box,
                    age=None if years is None else years[place],
                    gender=likeliest.get("gender"),
                    race=likeliest.get("race"),
                    probabilities=of_face,
                )
            )
        return found

    def _shares(self, logits: Mapping[Task, torch.Tensor]) -> dict[str, list[dict[str, float]]]:
        """Return the probabilities of each face by class or attribute name, for the tasks that have them."""
        names: dict[str, tuple[str, ...]] = {"gender": self._vocabulary.genders, "race": self._vocabulary.races}
        found = {task: logits[task].float().softmax(dim=1) for task in ("gender", "race") if task in logits}
        if "attributes" in logits:
            names["attributes"], found["attributes"] = (
                self._vocabulary.attributes,
                logits["attributes"].float().sigmoid(),
            )
        bins, ages = self._predictor.encoding.bins, None
        if "age" in logits:
            ages = self._predictor.encoding.shares(logits["age"])
        if bins is not None and ages is not None:
            names["age"], found["age"] = bins.labels, ages
        return {
            task: [dict(zip(names[task], row, strict=True)) for row in shares.cpu().tolist()]
            for task, shares in found.items()
        }


class ModelsTogether:
    """Several models combined into one, each for its own tasks (report S4 had one model per task, S4-C5).

    Raises:
        ConfigError: If two of them predict the same task.
    """

    def __init__(self, models: Sequence[TrainedModel]) -> None:
        self._models = tuple(models)
        tasks = [task for model in models for task in model.config.tasks]
        twice = sorted({task for task in tasks if tasks.count(task) > 1})
        if twice:
            raise ConfigError(f"several models predict {', '.join(twice)}; give one model for each task.")

    def predict(self, crops: Sequence[Image], boxes: Sequence[Box]) -> list[Face]:
        """Return predictions as ``TrainedModel.predict``, each task by the model trained on it."""
        found = zip(*(model.predict(crops, boxes) for model in self._models), strict=True)
        return [_merged(of_face) for of_face in found]

    def heats(self, crops: Sequence[Image]) -> list[tuple[Heat, ...]]:
        """Return the Grad-CAM of each face's predictions (F), each task by the model trained on it.

        Raises:
            ConfigError: If a model is not a convolutional network.
        """
        found = zip(*(model.heats(crops) for model in self._models), strict=True)
        return [tuple(heat for of_model in of_face for heat in of_model) for of_face in found]


def _merged(faces: Sequence[Face]) -> Face:
    """Return one face with the predictions of several models."""

    def said(name: str) -> Any:
        return next((value for face in faces if (value := getattr(face, name)) is not None), None)

    return Face(
        box=faces[0].box,
        age=said("age"),
        gender=said("gender"),
        race=said("race"),
        probabilities={task: shares for face in faces for task, shares in face.probabilities.items()},
    )


def untrained_model(config: TrialConfig, vocabulary: Vocabulary) -> TaskModel:
    """Build the model of a configuration with random weights on the CPU, for inspection.

    Raises:
        ConfigError: If it cannot be built.
    """
    return build_predictor(_for_prediction(config), TrainedLabels(vocabulary), untrained=True).model.cpu()


def predict_files(
    model: Predicts,
    files: Iterable[Path],
    cropper: Cropper | None,
    *,
    thumbnails: int = 0,
    heats_of: HeatsOf | None = None,
) -> Iterator[FileFaces]:
    """Yield the faces of each file, in the given order; an unreadable file yields an entry with its error.

    Args:
        model: The model.
        files: Image files.
        cropper: Face detector; None: each image is a face.
        thumbnails: Number of faces, from the first, that get a thumbnail.
        heats_of: Returns the Grad-CAM of faces; the first ``grad_cam.MOST_FACES`` get it. None: no face does.

    Raises:
        ConfigError: If ``heats_of`` raises it.
    """
    heated = 0 if heats_of is None else MOST_FACES
    for found in _in_batches((str(file), _faces_in(read_image(file), cropper)) for file in files):
        cut_out = [face for _, faces in found if not isinstance(faces, str) for face in faces]
        predicted = model.predict([crop for _, crop in cut_out], [box for box, _ in cut_out])
        for place, (_, crop) in enumerate(cut_out[:thumbnails]):
            predicted[place] = replace(predicted[place], thumbnail=square(crop, THUMBNAIL))
        if heats_of is not None and cut_out[:heated]:
            for place, of_face in enumerate(heats_of([crop for _, crop in cut_out[:heated]])):
                predicted[place] = replace(predicted[place], heats=of_face)
        thumbnails, heated = max(0, thumbnails - len(cut_out)), max(0, heated - len(cut_out))
        of_files = iter(predicted)
        for file, faces in found:
            if isinstance(faces, str):
                yield FileFaces(file, error=faces)
            else:
                yield FileFaces(file, tuple(next(of_files) for _ in faces))


def predict_bytes(model: Predicts, name: str, data: bytes, cropper: Cropper | None) -> FileFaces:
    """Return the faces of one image file in memory; an unusable image gives an entry with its error."""
    faces = _faces_in(decoded(data), cropper)
    if isinstance(faces, str):
        return FileFaces(name, error=faces)
    return FileFaces(name, tuple(model.predict([crop for _, crop in faces], [box for box, _ in faces])))


def _for_prediction(config: TrialConfig) -> TrialConfig:
    """Return the configuration for this machine's device instead of the training's."""
    document = config.to_document()
    compute = document["compute"]
    device = "cuda" if torch.cuda.is_available() and compute["device"] != "cpu" else "cpu"
    amp = "none" if device == "cpu" and compute["amp"] == "fp16" else compute["amp"]  # float16 needs a GPU
    document["compute"] = {**compute, "device": device, "amp": amp}
    return TrialConfig.from_document(document)


class _Given:
    """Images with the interface that ``BatchMaker`` expects."""

    def __init__(self, images: Sequence[Image], size: int) -> None:
        self._images = images
        self._size = size

    def gather(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the images of these rows (B, size, size, 3)."""
        return np.stack([square(self._images[row], self._size) for row in rows])


def _batch_of(crops: Sequence[Image], config: TrialConfig) -> torch.Tensor:
    """Return the faces as an evaluation batch (F, C, S, S) uint8."""
    count = len(crops)
    unknown, nobody = torch.full((count,), float("nan")), torch.full((count,), -1)
    labels = Labels(unknown, unknown, unknown, nobody, nobody, attributes=torch.empty(count, 0))
    maker = BatchMaker(
        _Given(crops, config.image.decode_size),
        labels,
        size=config.image.size,
        grey=config.image.color == "grey",
        augment=lambda: None,
    )
    return maker.make(Job(np.arange(count))).images


def _in_batches(faces_of: Iterable[tuple[str, _Faces]]) -> Iterator[list[tuple[str, _Faces]]]:
    """Yield files with their faces, in lists of up to ``_FILES_AT_ONCE`` files and about ``_PIXELS_AT_ONCE`` pixels."""
    batch: list[tuple[str, _Faces]] = []
    pixels = 0
    for file, faces in faces_of:
        batch.append((file, faces))
        if not isinstance(faces, str):
            pixels += sum(crop.shape[0] * crop.shape[1] for _, crop in faces)
        if len(batch) == _FILES_AT_ONCE or pixels >= _PIXELS_AT_ONCE:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch


_Faces = Sequence[tuple[Box, Image]] | str
"""Box and pixels of each face of a file, or the reason why it could not be read."""


def _faces_in(image: Image | str, cropper: Cropper | None) -> _Faces:
    """Return box and pixels of each face; an image's error is passed on, so that it affects only its file."""
    if isinstance(image, str):
        return image
    if cropper is None:
        return [((0, 0, image.shape[1], image.shape[0]), image)]
    try:
        return [
            ((box.left, box.top, box.left + box.width, box.top + box.height), cropper.crop(image, box))
            for box in cropper.detect(image)
        ]
    except (DataError, cv2.error, MemoryError) as error:
        return f"no face can be cut out of it ({' '.join(str(error).split()) or type(error).__name__})"
