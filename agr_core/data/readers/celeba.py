"""CelebA (Liu, Luo, Wang and Tang, ICCV 2015): faces numbered ``000001.jpg``, labels in text files.

``list_attr_celeba.txt`` begins with the number of images (missing in some copies) and the names of the forty
attributes; each further line has an image and 1 or -1 (in some copies, 1 or 0) for each attribute. The published CSV
form begins with ``image_id`` and the names. ``list_eval_partition`` gives 0 train, 1 val, 2 test.
``identity_CelebA.txt``, which is distributed separately, gives the person. The gender is the attribute ``Male``. There
is no age and no race.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from agr_core.data.readers.base import READERS, ImageLabels, Labelling
from agr_core.data.readers.files import Files
from agr_core.data.readers.label_files import named, read_text
from agr_core.errors import DataError
from agr_core.labels.attributes import CELEBA_ATTRIBUTES, GENDERS, Vocabulary

PARTITIONS = {"0": "train", "1": "val", "2": "test"}
"""Partition of each code."""

_ATTRIBUTES = ("list_attr_celeba.txt", "list_attr_celeba.csv")
_PARTITIONS = ("list_eval_partition.txt", "list_eval_partition.csv")
_IDENTITIES = "identity_CelebA.txt"
_ZERO = "0"  # in place of -1 in some copies
_MALE = CELEBA_ATTRIBUTES.index("Male")


class CelebAReader:
    """Reader of CelebA, aligned or in the wild, JPEG or PNG."""

    name = "celeba"
    layout = "list_attr_celeba.txt, list_eval_partition.txt, img_align_celeba/000001.jpg"
    vocabulary = Vocabulary(genders=GENDERS, races=(), attributes=CELEBA_ATTRIBUTES)

    def recognises(self, paths: Sequence[str]) -> bool:
        """Return whether the attribute file exists."""
        return any(PurePosixPath(path).name in _ATTRIBUTES for path in paths)

    def labelling(self, files: Files) -> Labelling:
        """Return the labels of each image number."""
        attributes = named(files.paths, *_ATTRIBUTES)
        if attributes is None:
            raise DataError(f"{files.source} has no {' or '.join(_ATTRIBUTES)}; put it beside the images.")
        partitions, identities = named(files.paths, *_PARTITIONS), named(files.paths, _IDENTITIES)
        partition_of = _pairs(files, partitions) if partitions else {}
        identity_of = _pairs(files, identities) if identities else {}
        labels: dict[str, ImageLabels | str] = {}
        used_values: set[str] = set()
        for _, values in _attribute_rows(files, attributes):
            used_values.update(values)
        false = _ZERO if _ZERO in used_values and "-1" not in used_values else "-1"
        for image, values in _attribute_rows(files, attributes):
            if image in labels:
                raise DataError(f"{files.source}: {attributes} names {image} again; leave one of its lines.")
            labels[image] = _labels(values, false, partition_of.get(image), identity_of.get(image))
        return Labelling(labels, frozenset(path for path in (attributes, partitions, identities) if path is not None))

    def key(self, path: str) -> str:
        """Return the image number, ``000001``, without the suffix: images are also distributed as PNG."""
        return PurePosixPath(path).stem


def _labels(values: Sequence[str], false: str, partition: str | None, identity: str | None) -> ImageLabels | str:
    """Return the labels in an image's lines, or their problem; ``false`` is the file's value for absent attributes."""
    if odd := sorted(set(values) - {"1", false}):
        return f"attribute {odd[0]!r} is none of 1, {false}"
    if partition is not None and partition not in PARTITIONS:
        return f"partition {partition!r} is none of {', '.join(PARTITIONS)}"
    attributes = tuple(value == "1" for value in values)
    return ImageLabels(
        gender=GENDERS[0 if attributes[_MALE] else 1],
        subject=identity,
        partition=None if partition is None else PARTITIONS[partition],
        attributes=attributes,
    )


def _attribute_rows(files: Files, path: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the image of each line, and its values in the order of ``CELEBA_ATTRIBUTES``."""
    lines = _cells(files, path)
    header = next(lines, (0, []))[1]
    if len(header) == 1:  # the number of images
        header = next(lines, (0, []))[1]
    names = header[1:] if header[:1] == ["image_id"] else header
    missing = [name for name in CELEBA_ATTRIBUTES if name not in names]
    if missing:
        raise DataError(
            f"{path} does not name {', '.join(missing)}; before the images come their number, if it is given, and "
            f"the {len(CELEBA_ATTRIBUTES)} attributes."
        )
    positions = [names.index(name) for name in CELEBA_ATTRIBUTES]
    for line, (image, *values) in lines:
        if len(values) != len(names):
            raise DataError(f"{path}, line {line}: {len(values)} values of {len(names)} attributes; fetch it again.")
        yield PurePosixPath(image).stem, [values[position] for position in positions]


def _pairs(files: Files, path: str) -> dict[str, str]:
    """Return the values in a file of two columns, by image."""
    pairs: dict[str, str] = {}
    for line, cells in _cells(files, path):
        if len(cells) != 2:
            raise DataError(f"{path}, line {line}: {len(cells)} cells where an image and one value should be.")
        if cells[0] != "image_id":
            pairs[PurePosixPath(cells[0]).stem] = cells[1]
    return pairs


def _cells(files: Files, path: str) -> Iterator[tuple[int, list[str]]]:
    """Yield number and cells of each line, separated by commas in CSV, else by spaces; empty lines are skipped."""
    separator = "," if path.endswith(".csv") else None
    for line, text in enumerate(read_text(files, path).splitlines(), start=1):
        if text.strip():
            yield line, [cell.strip() for cell in text.split(separator)]


READERS.register(CelebAReader.name, CelebAReader())
