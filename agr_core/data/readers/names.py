"""Reader of data sets with labels in the names of files and folders."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from agr_core.bins import MAX_AGE
from agr_core.data.readers.base import ImageLabels, Labelling
from agr_core.data.readers.files import Files, is_image_name
from agr_core.labels.attributes import Vocabulary


@dataclass(frozen=True)
class NameReader:
    """Reader that uses names only; its additional fields define the naming.

    ``pattern`` matches the last ``depth`` parts of an image's path: 1 is the file's name, 2 includes its folder.
    ``labels`` converts a match to labels, or returns its problem.
    """

    name: str
    layout: str
    vocabulary: Vocabulary
    pattern: re.Pattern[str]
    labels: Callable[[re.Match[str]], ImageLabels | str]
    depth: int = 1

    def recognises(self, paths: Sequence[str]) -> bool:
        """Return whether any image name matches."""
        return any(is_image_name(path) and self._match(path) for path in paths)

    def parse(self, path: str) -> ImageLabels | str:
        """Return the labels in an image's name, or its problem."""
        match = self._match(path)
        return f"the name is not {self.layout}" if match is None else self.labels(match)

    def labelling(self, files: Files) -> Labelling:
        """Return the labels from each image's name."""
        return Labelling({path: self.parse(path) for path in files.paths if is_image_name(path)})

    def key(self, path: str) -> str:
        """Return the path itself."""
        return path

    def _match(self, path: str) -> re.Match[str] | None:
        return self.pattern.fullmatch("/".join(PurePosixPath(path).parts[-self.depth :]))


def age_problem(years: int) -> str | None:
    """Return the problem of an age, if any."""
    return None if 0 <= years <= MAX_AGE else f"age {years} is outside 0 to {MAX_AGE} years"
