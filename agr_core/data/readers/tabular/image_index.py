"""Lookup of the images named by a table, whose names may differ in folders, case, slashes or suffix."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

from agr_core.data.readers.files.base import is_image_name


class ImageIndex:
    """Index of the files that a table can name.

    Args:
        paths: Their paths inside the source.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = frozenset(paths)
        self._by_name: dict[str, list[str]] = {}
        self._by_stem: dict[str, list[str]] = {}
        for path in sorted(self._paths):
            file_path = PurePosixPath(path)
            self._by_name.setdefault(file_path.name.lower(), []).append(path)
            if is_image_name(path):
                self._by_stem.setdefault(file_path.stem.lower(), []).append(path)

    def find(self, name: str, folder: str) -> tuple[str | None, str | None]:
        """Return the path of the file called ``name`` in a table in ``folder``, or the reason if there is none.

        It is the file with that path below the table's folder or the source; else the only file of that name, ignoring
        case, with the longest matching folders from the end; else the only image of that name with another suffix.
        """
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
        if not parts:
            return None, "it names no image"
        path = "/".join(parts)
        for exact in (f"{folder}/{path}" if folder else path, path):
            if exact in self._paths:
                return exact, None
        last = parts[-1].lower()
        stem = PurePosixPath(last).stem if is_image_name(last) else last
        candidates = self._by_name.get(last) or self._by_stem.get(stem) or []
        if not candidates:
            return None, f"there is no image {path}"
        agreeing = {candidate: _agreement(candidate, parts) for candidate in candidates}
        longest = [candidate for candidate in candidates if agreeing[candidate] == max(agreeing.values())]
        if len(longest) > 1:
            return None, f"{path} may be {longest[0]} or {longest[1]}; name its folder"
        return longest[0], None


def _agreement(candidate: str, parts: list[str]) -> int:
    """Return the number of folders, from the end, that a path and a name have in common."""
    count = 0
    for ours, theirs in zip(reversed(PurePosixPath(candidate).parts[:-1]), reversed(parts[:-1]), strict=False):
        if ours.lower() != theirs.lower():
            break
        count += 1
    return count
