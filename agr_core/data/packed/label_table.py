"""Table of a raw data set's labels, read without opening images."""

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
    """Labels of a raw data set.

    ``table`` has one row per image, in the order of names or lines: ``image``, the data set's name for it, and the
    labels of the sample table (``agr_core.data.packed.table``), missing where unknown. ``skipped`` lists unused lines
    and names with the reasons. ``vocabulary`` gives the possible values of labels.
    """

    table: pd.DataFrame
    skipped: tuple[Skipped, ...]
    vocabulary: Vocabulary


def read_labels(source: Path, reader: str | None = None, *, require: Sequence[str] = ()) -> LabelTable:
    """Return the labels of a folder or archive; the images need not exist.

    Args:
        source: A folder, ``.tar``, ``.tar.gz``, ``.tgz``, ``.tar.xz`` or ``.zip``.
        reader: Name of the reader; default: the reader that recognises the files.
        require: Required labels; images without them are skipped.

    Raises:
        DataError: If the source or a label file cannot be read.
    """
    with open_files(source) as files:
        chosen = find_reader(files, reader)
        labelling = chosen.labelling(files)
    rows = []
    skipped = list(labelling.skipped)
    for image, labels_or_reason in labelling.labels.items():
        problem = labels_or_reason if isinstance(labels_or_reason, str) else lacking(labels_or_reason, require)
        if problem is None:
            rows.append({"image": image} | {column: getattr(labels_or_reason, column) for column in _COLUMNS})
        else:
            skipped.append(Skipped(image, problem))
    return LabelTable(pd.DataFrame(rows, columns=["image", *_COLUMNS]), tuple(skipped), chosen.vocabulary)
