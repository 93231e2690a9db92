"""MegaAge and MegaAge-Asian (Zhang, Liu, Li and Loy, BMVC 2017): images and ages as parallel text files.

Each line of ``list/train_name.txt`` names an image of ``train/``, and the same line of ``list/train_age.txt`` gives its
age in years; likewise ``test_name.txt`` and ``test_age.txt``. Both data sets have the same layout; the name of the
folder identifies MegaAge-Asian.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from agr_core.data.readers.base import READERS, ImageLabels, Labelling, exact_age
from agr_core.data.readers.files.base import Files
from agr_core.data.readers.label_files import last_two, named, read_text
from agr_core.data.readers.names import age_problem
from agr_core.errors import DataError
from agr_core.labels.attributes import Vocabulary

_PARTS = ("train", "test")
_RACE = "Asian"  # all of MegaAge-Asian


@dataclass(frozen=True)
class MegaAgeReader:
    """Reader of one of the two data sets; ``race`` is that of all its images, None if unknown."""

    name: str
    race: str | None
    layout: str = "list/train_name.txt, list/train_age.txt, train/1.jpg"

    @property
    def vocabulary(self) -> Vocabulary:
        """Vocabulary without gender; with a race if all images have one."""
        return Vocabulary(genders=(), races=() if self.race is None else (self.race,))

    def recognises(self, paths: Sequence[str]) -> bool:
        """Return whether both files of a part exist, in a folder whose name fits the data set."""
        name_files = [path for path in paths if PurePosixPath(path).name in {f"{part}_name.txt" for part in _PARTS}]
        return bool(name_files) and any("asian" in path.lower() for path in name_files) == (self.race is not None)

    def labelling(self, files: Files) -> Labelling:
        """Return the labels of each ``train/1.jpg`` in both parts."""
        labels: dict[str, ImageLabels | str] = {}
        label_files: set[str] = set()
        for part in _PARTS:
            paths = (named(files.paths, f"{part}_name.txt"), named(files.paths, f"{part}_age.txt"))
            if paths[0] is None or paths[1] is None:
                continue
            label_files.update((paths[0], paths[1]))
            names, ages = (read_text(files, path).splitlines() for path in (paths[0], paths[1]))
            if len(names) != len(ages):
                raise DataError(
                    f"{files.source}: {paths[0]} has {len(names):,} lines and {paths[1]} {len(ages):,}; fetch both "
                    "again: their lines correspond."
                )
            for name, age in zip(names, ages, strict=True):
                if not name.strip():
                    continue
                image = f"{part}/{PurePosixPath(name.strip()).name}"
                labels_or_problem = self._labels(age.strip(), part)
                labels[image] = (
                    labels_or_problem
                    if labels.get(image, labels_or_problem) == labels_or_problem
                    else "its files give it different ages"
                )
        if not label_files:
            raise DataError(f"{files.source} lacks {part}_name.txt or {part}_age.txt; put them beside {part}/.")
        return Labelling(labels, frozenset(label_files))

    def key(self, path: str) -> str:
        """Return ``train/1.jpg``, without the folders above."""
        return last_two(path)

    def _labels(self, text: str, partition: str) -> ImageLabels | str:
        if not text.isascii() or not text.isdigit() or len(text) > 3:
            return f"age {text!r} is no number of years"
        return age_problem(int(text)) or ImageLabels(**exact_age(int(text)), race=self.race, partition=partition)


MEGAAGE = MegaAgeReader("megaage", None)
MEGAAGE_ASIAN = MegaAgeReader("megaage_asian", _RACE)
READERS.register(MEGAAGE.name, MEGAAGE)
READERS.register(MEGAAGE_ASIAN.name, MEGAAGE_ASIAN)
