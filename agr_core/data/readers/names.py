"""For data sets whose labels stand in the names of files and folders."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from agr_core.data.readers.base import ImageLabels, Labelling
from agr_core.data.readers.files import Files, is_image_name
from agr_core.labels.attributes import Vocabulary
from agr_core.labels.bins import MAX_AGE


@dataclass(frozen=True)
class NameReader:
    """A reader that needs nothing but names; the fields that are not a reader's own say how.

    ``pattern`` matches the end of an image's path, of which it takes as many parts as ``depth``: 1 the file's name, 2
    its folder too. ``labels`` says what a match means, or what is wrong with it.
    """

    name: str
    layout: str
    vocabulary: Vocabulary
    pattern: re.Pattern[str]
    labels: Callable[[re.Match[str]], ImageLabels | str]
    depth: int = 1

    def recognises(self, paths: Sequence[str]) -> bool:
        """Whether any image is named like this."""
        return any(is_image_name(path) and self._match(path) for path in paths)

    def parse(self, path: str) -> ImageLabels | str:
        """What the name of an image says, or what is wrong with it."""
        match = self._match(path)
        return f"the name is not {self.layout}" if match is None else self.labels(match)

    def labelling(self, files: Files) -> Labelling:
        """What the name of each image says."""
        return Labelling({path: self.parse(path) for path in files.paths if is_image_name(path)})

    def key(self, path: str) -> str:
        """The path itself."""
        return path

    def _match(self, path: str) -> re.Match[str] | None:
        return self.pattern.fullmatch("/".join(PurePosixPath(path).parts[-self.depth :]))


def age_problem(years: int) -> str | None:
    """What is wrong with an age, if anything."""
    return None if 0 <= years <= MAX_AGE else f"age {years} is outside 0 to {MAX_AGE} years"
