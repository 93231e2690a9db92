"""What a trained model says of image files: the pixels, outputs and class names of its training, nothing else.

An image takes the way that it takes through an evaluation (``TrialData``): decoded, brought to the model's size, made
grey, normalised by the same code; so the same image gives the same numbers.

F: faces; H, W: height and width of an image, pixels; S: ``image.size``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from agr_core.config import Task, TrialConfig
from agr_core.data.batch import Batch, Labels
from agr_core.data.decode import decode, image_problem, square
from agr_core.data.face_crop import FaceBox
from agr_core.data.loader import BatchMaker, Job
from agr_core.data.readers.files import IMAGE_SUFFIXES, is_image_name
from agr_core.errors import CheckpointError, ConfigError, DataError
from agr_core.labels.attributes import Vocabulary
from agr_core.models.face_model import TaskModel
from agr_core.trainer.build import build_predictor
from agr_core.trainer.checkpoint import load_weights
from agr_core.trainer.source import LabelSpace

Image = NDArray[np.uint8]
"""(H, W, 3) RGB."""

Box = tuple[int, int, int, int]
"""Left, top, right and bottom of a face, pixels, right and bottom the first beyond it; it may leave the image."""

MAX_FILE_BYTES = 100_000_000
"""Largest image file that is read."""

THUMBNAIL = 160
"""Side of a face's thumbnail, pixels."""

_FILES_AT_ONCE = 16  # photographs are large, and their pixels are all in memory


class Predicts(Protocol):
    """A model, or several."""

    def predict(self, crops: Sequence[Image], boxes: Sequence[Box]) -> list[Face]:
        """What is said of each face; see ``TrainedModel.predict``."""
        ...


class Cropper(Protocol):
    """Finds faces and cuts them out: ``agr_core.data.face_crop.FaceCropper``."""

    def detect(self, image: Image) -> list[FaceBox]:
        """The faces of an image (H, W, 3), the largest first."""
        ...

    def crop(self, image: Image, box: FaceBox) -> Image:
        """What of the image the model is given (S, S, 3)."""
        ...


@dataclass(frozen=True, kw_only=True)
class Face:
    """One face and what the model says of it; None for what it was not trained on.

    ``age`` is in years. ``probabilities`` holds, by task, that of each class, adding up to 1; of ages only where the
    encoding has one for each bin.
    ``thumbnail`` is the middle of what of the image the model was given, ``THUMBNAIL`` pixels square, where asked for.
    """

    box: Box
    age: float | None
    gender: str | None
    race: str | None
    probabilities: Mapping[str, Mapping[str, float]]
    thumbnail: Image | None = field(default=None, repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """A plain JSON object, without the pixels."""
        return {
            "box": list(self.box),
            "age": self.age,
            "gender": self.gender,
            "race": self.race,
            "probabilities": {task: dict(shares) for task, shares in self.probabilities.items()},
        }


@dataclass(frozen=True)
class FileFaces:
    """The faces of one file; ``error`` says why it could not be looked at."""

    file: str
    faces: tuple[Face, ...] = ()
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """A plain JSON object; ``error`` only where there is one."""
        document: dict[str, Any] = {"file": self.file, "faces": [face.to_json() for face in self.faces]}
        return document if self.error is None else document | {"error": self.error}


@dataclass(frozen=True)
class TrainedLabels:
    """The label space a model was trained in, without its data."""

    vocabulary: Vocabulary
    label_kind: Any = "exact"
    age_ranges: Sequence[tuple[float, float]] = ()


class TrainedModel:
    """A trial's model with stored weights, ready to predict, on the GPU if there is one.

    Args:
        config: The trial.
        weights: Its weights, ``best.safetensors``.
        labels: Vocabulary of the data it was trained on.

    Raises:
        ConfigError: If the model cannot be built.
        CheckpointError: If the weights cannot be read or are of another model.
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
        """What the model says of each face.

        Args:
            crops: The faces (F), each (H, W, 3) of its own size.
            boxes: Where each is in its image (F).
        """
        faces: list[Face] = []
        for start in range(0, len(crops), self.config.batch_size):
            batch = slice(start, start + self.config.batch_size)
            faces += self._predict_batch(crops[batch], boxes[batch])
        return faces

    @torch.inference_mode()
    def ages(self, batches: Iterable[Batch]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """True and predicted ages, years, of the images (N,) whose age is known.

        The predicted one is the centre of the bin that the model chooses, for an encoding with bins; else as decoded.

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
        """Of each face the probability of each class, or attribute, by name, for the tasks that have such."""
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
    """Several models, each for its own tasks (report S4 had one a task, S4-C5), as one.

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
        """As ``TrainedModel.predict``, each task by the model that was trained on it."""
        found = zip(*(model.predict(crops, boxes) for model in self._models), strict=True)
        return [_merged(of_face) for of_face in found]


def _merged(faces: Sequence[Face]) -> Face:
    """What several models say of one face."""

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
    """The model of a configuration with random weights, on the CPU, to look at.

    Raises:
        ConfigError: If it cannot be built.
    """
    return build_predictor(_for_prediction(config), TrainedLabels(vocabulary), untrained=True).model.cpu()


def predict_files(
    model: Predicts, files: Iterable[Path], cropper: Cropper | None, *, thumbnails: int = 0
) -> Iterator[FileFaces]:
    """The faces of each file, in the order given; a file that cannot be looked at is an entry with its error.

    Args:
        model: The model.
        files: Image files.
        cropper: Finds the faces; None: each image is a face.
        thumbnails: So many faces, the first ones, get a thumbnail.
    """
    for some in _chunks(files, _FILES_AT_ONCE):
        found = [(str(file), _faces_in(_read(file), cropper)) for file in some]
        cut_out = [face for _, faces in found if not isinstance(faces, str) for face in faces]
        predicted = model.predict([crop for _, crop in cut_out], [box for box, _ in cut_out])
        for place, (_, crop) in enumerate(cut_out[:thumbnails]):
            predicted[place] = replace(predicted[place], thumbnail=square(crop, THUMBNAIL))
        thumbnails = max(0, thumbnails - len(cut_out))
        of_files = iter(predicted)
        for file, faces in found:
            if isinstance(faces, str):
                yield FileFaces(file, error=faces)
            else:
                yield FileFaces(file, tuple(next(of_files) for _ in faces))


def predict_bytes(model: Predicts, name: str, data: bytes, cropper: Cropper | None) -> FileFaces:
    """The faces of one image file that is in memory; one that is no usable image is an entry with its error."""
    faces = _faces_in(_decoded(data), cropper)
    if isinstance(faces, str):
        return FileFaces(name, error=faces)
    return FileFaces(name, tuple(model.predict([crop for _, crop in faces], [box for box, _ in faces])))


def image_files(paths: Iterable[Path]) -> list[Path]:
    """The files themselves, and of folders all image files in and below them, in order.

    Raises:
        DataError: If a path does not exist, or a folder holds no image file.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = sorted(file for file in path.rglob("*") if file.is_file() and is_image_name(file.name))
            if not found:
                raise DataError(f"folder {path} holds no image: no file ends in {', '.join(sorted(IMAGE_SUFFIXES))}.")
            files += found
        elif path.exists():
            files.append(path)
        else:
            raise DataError(f"{path} does not exist; give image files, or folders of them.")
    return files


def _for_prediction(config: TrialConfig) -> TrialConfig:
    """The configuration on the device that is here, not the one it was trained on."""
    document = config.to_document()
    compute = document["compute"]
    device = "cuda" if torch.cuda.is_available() and compute["device"] != "cpu" else "cpu"
    amp = "none" if device == "cpu" and compute["amp"] == "fp16" else compute["amp"]  # float16 needs a GPU
    document["compute"] = {**compute, "device": device, "amp": amp}
    return TrialConfig.from_document(document)


class _Given:
    """Images as ``BatchMaker`` asks for them."""

    def __init__(self, images: Sequence[Image], size: int) -> None:
        self._images = images
        self._size = size

    def gather(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The images of these rows (B, size, size, 3)."""
        return np.stack([square(self._images[row], self._size) for row in rows])


def _batch_of(crops: Sequence[Image], config: TrialConfig) -> torch.Tensor:
    """The faces as a batch of an evaluation (F, C, S, S) uint8."""
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


def _chunks(files: Iterable[Path], size: int) -> Iterator[list[Path]]:
    chunk: list[Path] = []
    for file in files:
        chunk.append(file)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _faces_in(image: Image | str, cropper: Cropper | None) -> Sequence[tuple[Box, Image]] | str:
    """Box and pixels of each face; what is wrong with an image is passed on."""
    if isinstance(image, str):
        return image
    if cropper is None:
        return [((0, 0, image.shape[1], image.shape[0]), image)]
    return [
        ((box.left, box.top, box.left + box.width, box.top + box.height), cropper.crop(image, box))
        for box in cropper.detect(image)
    ]


def _read(file: Path) -> Image | str:
    """The image of a file, or why there is none."""
    try:
        size = file.stat().st_size
        if size > MAX_FILE_BYTES:
            return f"the file has {size:,} bytes, more than {MAX_FILE_BYTES:,}"
        data = file.read_bytes()
    except OSError as error:
        return f"the file cannot be read ({error.strerror or error})"
    return _decoded(data)


def _decoded(data: bytes) -> Image | str:
    problem = image_problem(data)
    return decode(data) if problem is None else problem
