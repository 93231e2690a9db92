"""What a raw data set says of its images, without opening any: the labels alone, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from agr_core.data.readers import Skipped, find_reader
from agr_core.data.readers.base import lacking
from agr_core.data.readers.files import open_files
from agr_core.labels.attributes import Vocabulary

_COLUMNS = ("age", "age_low", "age_high", "gender", "race", "subject", "partition", "attributes")


@dataclass(frozen=True)
class LabelTable:
    """The labels of a raw data set.

    ``table``: one row an image, in the order of the names or lines: ``image``, what the data set calls it, and the
    labels of the sample table (``agr_core.data.table``), missing where not known; ``skipped``: lines and names that
    are not used, with their reasons; ``vocabulary``: what the labels can say.
    """

    table: pd.DataFrame
    skipped: tuple[Skipped, ...]
    vocabulary: Vocabulary


def read_labels(source: Path, reader: str | None = None, *, require: Sequence[str] = ()) -> LabelTable:
    """The labels of a folder or archive, whether or not the images are there.

    Args:
        source: A folder, ``.tar``, ``.tar.gz``, ``.tgz``, ``.tar.xz`` or ``.zip``.
        reader: Name of the reader; default: the one that recognises the files.
        require: Labels without which an image is skipped.

    Raises:
        DataError: If the source or a label file cannot be read.
    """
    with open_files(source) as files:
        chosen = find_reader(files, reader)
        labelling = chosen.labelling(files)
    rows = []
    skipped = list(labelling.skipped)
    for image, said in labelling.labels.items():
        problem = said if isinstance(said, str) else lacking(said, require)
        if problem is None:
            rows.append({"image": image} | {column: getattr(said, column) for column in _COLUMNS})
        else:
            skipped.append(Skipped(image, problem))
    return LabelTable(pd.DataFrame(rows, columns=["image", *_COLUMNS]), tuple(skipped), chosen.vocabulary)
