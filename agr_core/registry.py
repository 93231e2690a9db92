"""Registry of named components; a failed lookup suggests the nearest name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from agr_core.errors import UnknownComponentError

T = TypeVar("T")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'adam'?"`` with the nearest known name, or an empty string."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


class Registry(Generic[T]):
    """Components of one kind by name. Registering a name twice is an error."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def register(self, name: str, entry: T) -> T:
        """Add ``entry`` under ``name`` and return it.

        Raises:
            ValueError: If ``name`` is taken.
        """
        if name in self._entries:
            raise ValueError(f"{self.kind} {name!r} is registered already; choose another name.")
        self._entries[name] = entry
        return entry

    def get(self, name: str) -> T:
        """Return the entry of ``name``.

        Raises:
            UnknownComponentError: If it is not registered; the message gives the nearest and all other names.
        """
        if name in self._entries:
            return self._entries[name]
        known = ", ".join(sorted(self._entries))
        raise UnknownComponentError(
            f"Unknown {self.kind} {name!r}.{did_you_mean(name, self._entries)} Registered: {known}."
        )

    def names(self) -> tuple[str, ...]:
        """Return all registered names, sorted."""
        return tuple(sorted(self._entries))

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())
