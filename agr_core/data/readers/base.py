"""Interface of readers of raw data sets, and reading of their images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Protocol, TypedDict, runtime_checkable

from agr_core.data.decode import image_problem
from agr_core.data.readers.files.base import (
    OTHER_ARCHIVE_SUFFIXES,
    Files,
    LeftOut,
    UnreadableFileError,
    is_archive_name,
    is_image_name,
)
from agr_core.errors import DataError
from agr_core.labels.attributes import Vocabulary
from agr_core.registry import Registry

_REASONS = 3  # shown where no file can be read


class AgeFields(TypedDict):
    """Age fields of an image, in years."""

    age: float | None
    age_low: float | None
    age_high: float | None


def exact_age(years: float | None) -> AgeFields:
    """Return the fields of an exact or unknown age."""
    return AgeFields(age=years, age_low=years, age_high=years)


def age_between(low: float, high: float) -> AgeFields:
    """Return the fields of an age range, both ends included."""
    return AgeFields(age=(low + high) / 2, age_low=low, age_high=high)


@dataclass(frozen=True, kw_only=True)
class ImageLabels:
    """Labels of an image; None where unknown.

    Ages are in years (``age`` is the exact age or the middle of ``age_low`` to ``age_high``, both included).
    ``partition`` is ``train``, ``val``, ``test`` or the number of a fold. ``attributes`` states, for each attribute of
    the vocabulary, whether the image has it.
    """

    age: float | None = None
    age_low: float | None = None
    age_high: float | None = None
    gender: str | None = None
    race: str | None = None
    subject: str | None = None
    partition: str | None = None
    attributes: tuple[bool | None, ...] | None = None


def lacking(said: ImageLabels, required: Sequence[str]) -> str | None:
    """Return the reason to skip an image that lacks a required label; None if it lacks none."""
    unknown = [label for label in required if getattr(said, label) is None]
    return f"no {' and no '.join(unknown)} label, which was required" if unknown else None


@dataclass(frozen=True, kw_only=True)
class RawImage(ImageLabels):
    """One readable image and its labels; ``path`` is the name inside the source."""

    path: str
    data: bytes


@dataclass(frozen=True)
class Skipped:
    """A file or label of the source that is not packed, and the reason.

    ``lost`` is True if it should have been an image of the data set. It is False for other files, and for omissions by
    the data set's own rules or the caller.
    """

    file: str
    reason: str
    lost: bool = field(default=True, compare=False)

    @classmethod
    def because(cls, file: str, reason: str) -> Skipped:
        """Return a skipped file or label of an image; the type of the reason determines ``lost``."""
        return cls(file, reason, lost=not isinstance(reason, LeftOut))


@dataclass(frozen=True)
class Labelling:
    """Labels of a data set's images, read before any image is opened.

    ``labels`` holds the labels of each image, or the reason to skip it, by the image's key; ``files`` the paths of the
    label files; ``skipped`` their redundant lines.
    """

    labels: dict[str, ImageLabels | str]
    files: frozenset[str] = frozenset()
    skipped: tuple[Skipped, ...] = ()


class Reader(Protocol):
    """Interface of a reader for one family of raw data sets."""

    @property
    def name(self) -> str:
        """Name in the registry and in the column ``source``."""
        ...

    @property
    def layout(self) -> str:
        """Description of the file layout, for messages."""
        ...

    @property
    def vocabulary(self) -> Vocabulary:
        """All genders, races and attributes of the data set."""
        ...

    def recognises(self, paths: Sequence[str]) -> bool:
        """Return whether the paths are those of such a data set."""
        ...

    def labelling(self, files: Files) -> Labelling:
        """Return the labels from names or label files.

        Raises:
            DataError: If a label file is missing, cannot be read or contradicts itself.
        """
        ...

    def key(self, path: str) -> str:
        """Return the key of an image's path: the data set's own identifier, independent of the location of files."""
        ...


_SHOWN_REASONS = 3


@runtime_checkable
class ReadsImages(Protocol):
    """A reader that produces images itself because they are not plain files."""

    def images(self, files: Files) -> Iterator[RawImage | Skipped]:
        """Return every image with its labels, and every unused file, label and line with the reason."""
        ...


READERS: Registry[Reader] = Registry("reader")


def read_images(reader: Reader, files: Files) -> Iterator[RawImage | Skipped]:
    """Yield every image with its labels, and every unused file, label and line with the reason.

    Images are in the order of their paths, so that packing the same files gives the same rows.

    Raises:
        DataError: If the labels cannot be read, or two images have one key.
    """
    if isinstance(reader, ReadsImages):
        yield from reader.images(files)
        return
    labelling = reader.labelling(files)
    told = ", ".join(sorted(PurePosixPath(path).name for path in labelling.files))
    for path, reason in files.refused:
        yield Skipped(path, reason, lost=is_image_name(path) and not isinstance(reason, LeftOut))
    seen: dict[str, str] = {}
    for path in files.paths:
        if path in labelling.files:
            continue
        key = reader.key(path)
        if not is_image_name(path) and key not in labelling.labels:
            yield Skipped(path, _no_image(path), lost=False)
            continue
        if key in seen:
            raise DataError(f"{files.source}: {seen[key]} and {path} are both {key!r} of {told}; leave one of them.")
        seen[key] = path
        labels_or_reason = labelling.labels.get(key, LeftOut(f"no line of {told} names it"))
        yield (
            Skipped.because(path, labels_or_reason)
            if isinstance(labels_or_reason, str)
            else _read_image(files, path, labels_or_reason)
        )
    for key, labels_or_reason in labelling.labels.items():
        if key not in seen:
            reason = (
                labels_or_reason
                if isinstance(labels_or_reason, str)
                else f"named in {told}, but there is no such image"
            )
            yield Skipped.because(key, reason)
    yield from labelling.skipped


def _read_image(files: Files, path: str, labels: ImageLabels) -> RawImage | Skipped:
    """Return the image in a file with its labels, or the reason why it cannot be used."""
    try:
        data = files.read(path)
    except UnreadableFileError as error:
        return Skipped(path, str(error))
    problem = image_problem(data)
    return RawImage(path=path, data=data, **vars(labels)) if problem is None else Skipped(path, problem)


def _no_image(path: str) -> str:
    """Return why a file that is not named as an image is left out."""
    if is_archive_name(path):
        return "an archive beside its own images; pack it by itself if they are not what is in it"
    if path.lower().endswith(OTHER_ARCHIVE_SUFFIXES):
        return "an archive of a kind that is not read; unpack it"
    return "not an image file by its name"


def find_reader(files: Files, name: str | None = None) -> Reader:
    """Return the reader called ``name``; without a name, the reader that recognises the files.

    Raises:
        UnknownComponentError: If no reader has that name.
        DataError: If no reader, or several readers, recognise the files.
    """
    if name is not None:
        return READERS.get(name)
    candidates = [
        READERS.get(reader_name) for reader_name in READERS if READERS.get(reader_name).recognises(files.paths)
    ]
    if len(candidates) > 1:
        names = " and ".join(reader.name for reader in candidates)
        raise DataError(f"{files.source}: its files look like {names}; choose one with `agr data pack --reader`.")
    if candidates:
        return candidates[0]
    if files.refused and not files.paths:
        reasons = Counter(reason for _, reason in files.refused).most_common(_REASONS)
        shown = ", ".join(f"{reason} ({count:,} times)" for reason, count in reasons)
        raise DataError(
            f"{files.source}: none of its {len(files.refused):,} files can be read: {shown}; the first is "
            f"{files.refused[0][0]}. Unpack it, or give files that can be read."
        )
    layouts = "; ".join(f"{reader_name}: {READERS.get(reader_name).layout}" for reader_name in READERS)
    examples = ", ".join(repr(path) for path in files.paths[:3]) or "no file at all"
    raise DataError(
        f"{files.source}: no reader recognises its {len(files.paths)} files ({examples}). "
        "Give a table of their labels with `agr data pack --labels`, or name them as one of the known data sets does "
        f"({layouts})."
    )


def check_lost(skipped: Sequence[Skipped], images: int, source: str, max_share: float | None) -> None:
    """Check that not too much of a data set is lost, which indicates damaged or misread labels.

    Args:
        skipped: Skipped files and labels.
        images: Number of packed images.
        source: Origin of the images, for the message.
        max_share: Maximum share of lost images and labels, 0 to 1; None: no limit.

    Raises:
        DataError: If more is lost; the message gives the most frequent reasons.
    """
    lost = [entry for entry in skipped if entry.lost]
    share = len(lost) / max(1, len(lost) + images)
    if max_share is None or not images or share <= max_share:
        return
    reasons = Counter(entry.reason for entry in lost)
    shown = "; ".join(f"{reason}: {count:,}" for reason, count in reasons.most_common(_SHOWN_REASONS))
    more = f"; and {len(reasons) - _SHOWN_REASONS:,} further reasons" if len(reasons) > _SHOWN_REASONS else ""
    raise DataError(
        f"{source}: {len(lost):,} of {len(lost) + images:,} images and labels cannot be used, {share:.1%}, more than "
        f"{max_share:.0%} ({shown}{more}). Fix the labels, or pack the rest with `agr data pack --allow-skipped`."
    )
