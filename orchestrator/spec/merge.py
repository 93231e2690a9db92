"""Merge partial configurations, keeping the origin of each value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.spec.paths import IDENTITIES, ConfigPath, shape_at
from orchestrator.spec.source import DocPath


@dataclass(frozen=True)
class Node:
    """A value of a configuration and its position in the document. Mappings hold nodes, other values are plain."""

    value: Any
    origin: DocPath

    def plain(self) -> Any:
        """Return the value without origins."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        return self.value

    def child(self, key: str) -> Node | None:
        """Return the node of ``key``; None without one."""
        return self.value.get(key) if isinstance(self.value, dict) else None


def read(value: Any, origin: DocPath, at: ConfigPath = ()) -> Node:
    """Return the node of a plain value at ``at``; a bare word becomes the mapping it abbreviates."""
    value = expand_bare_word(value, at)
    if isinstance(value, dict):
        return Node({key: read(item, (*origin, key), (*at, key)) for key, item in value.items()}, origin)
    return Node(value, origin)


def expand_bare_word(value: Any, at: ConfigPath) -> Any:
    """Return ``{"name": value}`` if ``value`` is a word for a component; else ``value`` itself."""
    return {"name": value} if isinstance(value, str) and shape_at(at).component else value


def merge(base: Node, layer: Node) -> Node:
    """Merge ``layer`` over ``base``; a mapping whose ``name`` or ``encoding`` changes is replaced whole."""
    if not isinstance(base.value, dict) or not isinstance(layer.value, dict) or _is_other(base, layer):
        return layer
    merged = dict(base.value)
    for key, child in layer.value.items():
        merged[key] = merge(merged[key], child) if key in merged else child
    return Node(merged, base.origin)


def _is_other(base: Node, layer: Node) -> bool:
    return any(
        key in base.value and key in layer.value and base.value[key].value != layer.value[key].value
        for key in IDENTITIES
    )


def origin_of(root: Node, path: Sequence[str | int]) -> DocPath:
    """Return the document path of the value at ``path`` of a configuration, or its path if it were written."""
    node = root
    for position, part in enumerate(path):
        child = node.child(part) if isinstance(part, str) else None
        if child is None:
            return (*node.origin, *path[position:])
        node = child
    return node.origin
