"""Raw data sets and generated faces as sources for packing, read by a reader or through a table of labels."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from agr_core.config import SYNTHETIC, SyntheticConfig, drawn_by
from agr_core.data.drawn.synthetic import draw_faces, vocabulary_of
from agr_core.data.readers import RawImage, Reader, Skipped, find_reader, read_images
from agr_core.data.readers.base import READERS, lacking
from agr_core.data.readers.files import open_files
from agr_core.data.readers.tabular import KIND, LabelOptions, Plan, has_tables, is_table, open_labelled
from agr_core.data.readers.tabular.ages import age_text
from agr_core.data.readers.utkface import UTKFACE, is_kaggle_copy
from agr_core.errors import DataError
from agr_core.labels.attributes import Vocabulary

_SHOWN_SKIPPED = 100


@dataclass(frozen=True)
class RawSource:
    """Source to pack: kind of its rows, classes, images and skipped files, and plan for a table of labels."""

    kind: str
    vocabulary: Vocabulary
    images: Iterable[RawImage | Skipped]
    plan: Plan | None = None


@contextmanager
def open_raw(
    source: str,
    *,
    synthetic: SyntheticConfig | None = None,
    reader: str | Reader | None = None,
    labels: LabelOptions | None = None,
    keep_copies: bool = False,
) -> Iterator[RawSource]:
    """Open a raw data set for the block.

    Args:
        source: A folder, an archive, a table of labels, or ``synthetic`` for generated faces.
        synthetic: Settings of generated faces; default: ``SyntheticConfig()``.
        reader: The reader or its name; default: the reader that recognises the files.
        labels: Options for reading a table of labels; default: a table is read if no reader recognises the files.
        keep_copies: Keep the duplicates in Kaggle's version of UTKFace.

    Raises:
        DataError: If the source cannot be read, or its labels cannot be determined.
    """
    drawn = drawn_by(source, synthetic or SyntheticConfig())
    if drawn is not None:
        yield RawSource(SYNTHETIC, vocabulary_of(drawn.like), draw_faces(drawn))
        return
    folder = Path(source).expanduser()
    with ExitStack() as stack:
        if labels is None and (reader is not None or not is_table(folder)):
            files = stack.enter_context(open_files(folder))
            if reader is not None or _recognised(files.paths) or not has_tables(files.paths):
                chosen = find_reader(files, reader) if reader is None or isinstance(reader, str) else reader
                images = read_images(chosen, files)
                if chosen.name == UTKFACE.name and not keep_copies:
                    images = without_copies(images, files.paths)
                yield RawSource(chosen.name, chosen.vocabulary, images)
                return
        opened = stack.enter_context(open_labelled(folder, labels or LabelOptions()))
        yield RawSource(KIND, opened.vocabulary, opened.images, opened.plan)


def with_labels(images: Iterable[RawImage | Skipped], required: Sequence[str]) -> Iterator[RawImage | Skipped]:
    """Yield the images; those without a required label become ``Skipped``."""
    for image in images:
        if isinstance(image, RawImage) and (problem := lacking(image, required)) is not None:
            yield Skipped(image.path, problem, lost=False)
        else:
            yield image


def without_listed(images: Iterable[RawImage | Skipped], listed: Mapping[str, str]) -> Iterator[RawImage | Skipped]:
    """Yield the images; those of a list become ``Skipped``.

    Args:
        images: The images.
        listed: Reason by path, or by file name for an entry without a folder.

    Raises:
        DataError: At the end, if an entry is no image of the source.
    """
    left = set(listed)
    for image in images:
        name = image.path if isinstance(image, RawImage) else image.file
        key = next((each for each in (name, PurePosixPath(name).name) if each in listed), None)
        if key is None:
            yield image
            continue
        left.discard(key)
        yield image if isinstance(image, Skipped) else Skipped(name, f"left out: {listed[key]}", lost=False)
    if left:
        others = f" and {len(left) - 1:,} more" if len(left) > 1 else ""
        raise DataError(
            f"--leave-out names {min(left)!r}{others}, which the source does not have; give the list of this source."
        )


def without_copies(images: Iterable[RawImage | Skipped], paths: Sequence[str]) -> Iterator[RawImage | Skipped]:
    """Yield the images without copies: same name and bytes as an earlier image, or in Kaggle's folder of copies."""
    counts = Counter(PurePosixPath(path).name for path in paths if not is_kaggle_copy(path))
    seen: dict[tuple[str, bytes], str] = {}
    for image in images:
        name = PurePosixPath(image.path).name if isinstance(image, RawImage) else ""
        if isinstance(image, RawImage) and is_kaggle_copy(image.path) and name in counts:
            yield Skipped(image.path, "a copy of the image of that name; --keep-copies packs it too", lost=False)
            continue
        if isinstance(image, RawImage) and counts[name] > 1:
            key = (name, hashlib.sha256(image.data).digest())
            if key in seen:
                yield Skipped(image.path, f"a copy of {seen[key]}; --keep-copies packs it too", lost=False)
                continue
            seen[key] = image.path
        yield image


def _recognised(paths: Sequence[str]) -> bool:
    return any(READERS.get(name).recognises(paths) for name in READERS)


@dataclass(frozen=True)
class Look:
    """First images of a raw data set, and how it is read.

    ``images`` gives path and labels of each; ``skipped`` the images lost before them; ``others`` the number of other
    files skipped before them.
    """

    kind: str
    plan: Plan | None
    images: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    others: int

    def to_json(self) -> dict[str, Any]:
        """Return a plain JSON object."""
        return {
            "kind": self.kind,
            "labels": None if self.plan is None else self.plan.to_manifest(),
            "images": list(self.images),
            "skipped": [{"file": entry.file, "reason": entry.reason} for entry in self.skipped],
            "others": self.others,
        }


def look(
    source: str,
    *,
    reader: str | Reader | None = None,
    labels: LabelOptions | None = None,
    keep_copies: bool = False,
    leave_out: Mapping[str, str] | None = None,
    images: int = 10,
) -> Look:
    """Read the labels and the first ``images`` images of a raw data set.

    ``leave_out`` is as in ``without_listed``, other arguments as in ``open_raw``.

    Raises:
        DataError: As ``open_raw``.
    """
    with open_raw(source, reader=reader, labels=labels, keep_copies=keep_copies) as raw:
        read: list[str] = []
        skipped: list[Skipped] = []
        others = 0
        for image in without_listed(raw.images, leave_out) if leave_out else raw.images:
            if isinstance(image, Skipped):
                others += not image.lost
                skipped += [image] if image.lost else []
            else:
                read.append(f"{image.path}: {_said(image)}")
            if len(read) == images or len(skipped) == _SHOWN_SKIPPED:
                break
        return Look(raw.kind, raw.plan, tuple(read), tuple(skipped), others)


def _said(image: RawImage) -> str:
    """Return the labels of an image as text."""
    years = "age not known" if image.age is None else f"age {age_text((image.age_low or 0.0, image.age_high or 0.0))}"
    words = (years, image.gender, image.race, image.subject, image.partition)
    return ", ".join(word for word in words if word)
