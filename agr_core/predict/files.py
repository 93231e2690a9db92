"""Image files to predict: selection from the given paths, and decoding."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agr_core.data.decode import decode, has_image_header, image_problem
from agr_core.data.readers import Skipped
from agr_core.data.readers.files import IMAGE_SUFFIXES, FolderFiles, UnreadableFileError, is_image_name, read_regular
from agr_core.errors import DataError

Image = NDArray[np.uint8]
"""(H, W, 3) RGB pixels."""


MAX_FILE_BYTES = 100_000_000
"""Maximum size of an image file, in bytes."""


_HEADER_BYTES = 64


class ImageFiles(NamedTuple):
    """Files to predict, in order, and the skipped files of their folders with the reasons."""

    files: list[Path]
    left_out: list[Skipped]


def image_files(paths: Iterable[Path]) -> ImageFiles:
    """Return the given files, and all image files in and below the given folders, in order.

    A file of a folder counts as an image by its suffix or by its first bytes.

    Raises:
        DataError: If a path does not exist, or a folder holds no image file.
    """
    files: list[Path] = []
    left_out: list[Skipped] = []
    for path in paths:
        if path.is_dir():
            folder = FolderFiles(path)
            problems = {name: _name_problem(path / name) for name in folder.paths}
            found = [path / name for name, problem in problems.items() if problem is None]
            skipped = folder.refused + [(name, problem) for name, problem in problems.items() if problem is not None]
            if not found:
                first = (
                    f"; the first of its {len(skipped):,} files is {skipped[0][0]}: {skipped[0][1]}" if skipped else ""
                )
                raise DataError(
                    f"folder {path} holds no image: no file ends in {', '.join(sorted(IMAGE_SUFFIXES))} or begins as "
                    f"an image{first}."
                )
            files += sorted(found)
            left_out += [Skipped(str(path / name), reason, lost=False) for name, reason in skipped]
        elif path.exists():
            files.append(path)
        else:
            raise DataError(f"{path} does not exist; give image files, or folders of them.")
    return ImageFiles(files, left_out)


def _name_problem(file: Path) -> str | None:
    """Return why a file of a folder is not predicted; None if its suffix or first bytes are those of an image."""
    if is_image_name(file.name):
        return None
    try:
        header = read_regular(file, _HEADER_BYTES)
    except UnreadableFileError as error:
        return str(error)
    return None if has_image_header(header) else "not an image by its name or its first bytes"


def read_image(file: Path) -> Image | str:
    """Return the image in a file, or the reason why it cannot be read."""
    try:
        data = read_regular(file, MAX_FILE_BYTES + 1)
    except UnreadableFileError as error:
        return f"the file {error}" if str(error).startswith("cannot") else str(error)
    return decoded(data) if len(data) <= MAX_FILE_BYTES else f"the file has more than {MAX_FILE_BYTES:,} bytes"


def decoded(data: bytes) -> Image | str:
    """Return the image in the bytes of a file, or the reason why it cannot be decoded."""
    problem = image_problem(data)
    return decode(data) if problem is None else problem
