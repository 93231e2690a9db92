"""What a reader of a raw data set is, and what it yields."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol

from agr_core.data.readers.files import Files
from agr_core.errors import DataError
from agr_core.labels.attributes import Vocabulary
from agr_core.registry import Registry

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})


@dataclass(frozen=True, kw_only=True)
class RawImage:
    """One readable image and what its data set says about it.

    ``path`` is the name inside the source; ages are years (``age`` the exact age or the middle of ``age_low`` to
    ``age_high``, both included); ``partition`` is ``train``, ``val``, ``test`` or the number of a fold; ``attributes``
    says for each attribute of the vocabulary whether the image has it. None where the data set does not say.
    """

    path: str
    data: bytes
    age: float | None = None
    age_low: float | None = None
    age_high: float | None = None
    gender: str | None = None
    race: str | None = None
    subject: str | None = None
    partition: str | None = None
    attributes: tuple[bool | None, ...] | None = None


@dataclass(frozen=True)
class Skipped:
    """A file of the source that is not packed, and why."""

    file: str
    reason: str


class Reader(Protocol):
    """Reads one family of raw data sets.

    A file that cannot be used is yielded as ``Skipped`` with its reason; only a source that cannot be read at all
    raises. Images come in the order of their paths, so that packing the same files gives the same rows.
    """

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

    def read(self, files: Files) -> Iterator[RawImage | Skipped]:
        """Every image of the source, and every file that is none.

        Raises:
            DataError: If the source cannot be read.
        """
        ...


READERS: Registry[Reader] = Registry("reader")


def is_image_name(path: str) -> bool:
    """Whether a file calls itself an image."""
    return PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES


def find_reader(files: Files, name: str | None = None) -> Reader:
    """The reader called ``name``, or else the one that recognises the files.

    Raises:
        UnknownComponentError: If no reader has that name.
        DataError: If none recognises the files.
    """
    if name is not None:
        return READERS.get(name)
    for candidate in READERS:
        reader = READERS.get(candidate)
        if reader.recognises(files.paths):
            return reader
    layouts = "; ".join(f"{known}: {READERS.get(known).layout}" for known in READERS)
    examples = ", ".join(repr(path) for path in files.paths[:3]) or "no file at all"
    raise DataError(
        f"{files.source}: no reader recognises its {len(files.paths)} files ({examples}). "
        f"Rename them as one of the known data sets does ({layouts})."
    )
