"""Output paths of commands, checked before any work is done."""

from __future__ import annotations

import os
from pathlib import Path


def output_file(path: Path, option: str, *, suffix: str | None = None) -> Path:
    """Validate an output file and create its folder.

    Args:
        path: Path given on the command line.
        option: Name of the option, for messages.
        suffix: Required suffix, such as ``.png``; None: any suffix.

    Raises:
        InputError: If the suffix differs, the path is a folder, or its folder can be neither written nor created.
    """
    from agr_core.errors import InputError

    if suffix is not None and path.suffix.lower() != suffix:
        raise InputError(
            f"{option} {path}: the output is a {suffix[1:].upper()} file; give a name that ends in {suffix}."
        )
    if path.is_dir():
        raise InputError(f"{option} {path}: this is a folder; give the name of a file in it.")
    check_folder(path.parent, option, given=path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def check_folder(folder: Path, option: str, *, given: Path | None = None) -> None:
    """Check that a folder is writable or can be created.

    Raises:
        InputError: If it is neither.
    """
    from agr_core.errors import InputError

    given = folder if given is None else given
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not existing.is_dir():
        raise InputError(f"{option} {given}: {existing} is a file, not a folder; choose another path.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"{option} {given}: no permission to write in {existing}; choose another path.")
