"""What a reader of a raw data set is, and how its images are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol, TypedDict

from agr_core.data.decode import image_problem
from agr_core.data.readers.files import Files, UnreadableFileError, is_archive_name, is_image_name
from agr_core.errors import DataError
from agr_core.labels.attributes import Vocabulary
from agr_core.registry import Registry


class AgeFields(TypedDict):
    """The three ages of an image, years."""

    age: float | None
    age_low: float | None
    age_high: float | None


def exact_age(years: float | None) -> AgeFields:
    """An age that is known to the year, or not at all."""
    return AgeFields(age=years, age_low=years, age_high=years)


def age_between(low: float, high: float) -> AgeFields:
    """An age that is known as a range, both ends included."""
    return AgeFields(age=(low + high) / 2, age_low=low, age_high=high)


@dataclass(frozen=True, kw_only=True)
class ImageLabels:
    """What a data set says about an image; None where it does not say.

    Ages are years (``age`` the exact age or the middle of ``age_low`` to ``age_high``, both included); ``partition`` is
    ``train``, ``val``, ``test`` or the number of a fold; ``attributes`` says for each attribute of the vocabulary
    whether the image has it.
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
    """Why an image is not used where these labels are required, if one is not known."""
    unknown = [label for label in required if getattr(said, label) is None]
    return f"no {' and no '.join(unknown)} label, which was required" if unknown else None


@dataclass(frozen=True, kw_only=True)
class RawImage(ImageLabels):
    """One readable image and what its data set says about it; ``path`` is the name inside the source."""

    path: str
    data: bytes


@dataclass(frozen=True)
class Skipped:
    """A file of the source that is not packed, and why."""

    file: str
    reason: str


@dataclass(frozen=True)
class Labelling:
    """What a data set says of its images, before any of them is opened.

    ``labels``: what is said of each image, by the image's key, or why it is not used; ``files``: paths of the label
    files; ``skipped``: lines of theirs that say nothing new.
    """

    labels: dict[str, ImageLabels | str]
    files: frozenset[str] = frozenset()
    skipped: tuple[Skipped, ...] = ()


class Reader(Protocol):
    """Knows one family of raw data sets: what its files look like, and what they say of which image."""

    @property
    def name(self) -> str:
        """Name it is registered under and that rows carry as their ``source``."""
        ...

    @property
    def layout(self) -> str:
        """What its files look like, for people."""
        ...

    @property
    def vocabulary(self) -> Vocabulary:
        """Every gender, race and attribute the data set knows."""
        ...

    def recognises(self, paths: Sequence[str]) -> bool:
        """Whether these are the files of such a data set."""
        ...

    def labelling(self, files: Files) -> Labelling:
        """What the names or the label files say.

        Raises:
            DataError: If a label file is missing, cannot be read or contradicts itself.
        """
        ...

    def key(self, path: str) -> str:
        """The key of an image's path: what the data set calls the image, wherever its files lie."""
        ...


READERS: Registry[Reader] = Registry("reader")


def read_images(reader: Reader, files: Files) -> Iterator[RawImage | Skipped]:
    """Every image with its labels, and every file, label and line that has no use, with the reason.

    Images come in the order of their paths, so that packing the same files gives the same rows.

    Raises:
        DataError: If the labels cannot be read, or two images have one key.
    """
    labelling = reader.labelling(files)
    told = ", ".join(sorted(PurePosixPath(path).name for path in labelling.files))
    for path, reason in files.refused:
        yield Skipped(path, reason)
    seen: dict[str, str] = {}
    for path in files.paths:
        if path in labelling.files:
            continue
        if not is_image_name(path):
            beside = "an archive beside images; pack it on its own if they are not what is in it"
            yield Skipped(path, beside if is_archive_name(path) else "not an image file by its name")
            continue
        key = reader.key(path)
        if key in seen:
            raise DataError(f"{files.source}: {seen[key]} and {path} are both {key!r} of {told}; leave one of them.")
        seen[key] = path
        said = labelling.labels.get(key, f"no line of {told} names it")
        yield Skipped(path, said) if isinstance(said, str) else _read_image(files, path, said)
    for key, said in labelling.labels.items():
        if key not in seen:
            yield Skipped(key, said if isinstance(said, str) else f"named in {told}, but there is no such image")
    yield from labelling.skipped


def _read_image(files: Files, path: str, labels: ImageLabels) -> RawImage | Skipped:
    """The image of a file with its labels, or why it cannot be used."""
    try:
        data = files.read(path)
    except UnreadableFileError as error:
        return Skipped(path, str(error))
    problem = image_problem(data)
    return RawImage(path=path, data=data, **vars(labels)) if problem is None else Skipped(path, problem)


def find_reader(files: Files, name: str | None = None) -> Reader:
    """The reader called ``name``, or else the one that recognises the files.

    Raises:
        UnknownComponentError: If no reader has that name.
        DataError: If none recognises the files, or several do.
    """
    if name is not None:
        return READERS.get(name)
    candidates = [READERS.get(known) for known in READERS if READERS.get(known).recognises(files.paths)]
    if len(candidates) > 1:
        names = " and ".join(reader.name for reader in candidates)
        raise DataError(f"{files.source}: its files look like {names}; say which with `agr data pack --reader`.")
    if candidates:
        return candidates[0]
    layouts = "; ".join(f"{known}: {READERS.get(known).layout}" for known in READERS)
    examples = ", ".join(repr(path) for path in files.paths[:3]) or "no file at all"
    raise DataError(
        f"{files.source}: no reader recognises its {len(files.paths)} files ({examples}). "
        f"Rename them as one of the known data sets does ({layouts})."
    )
