"""Components added by installed packages through Python entry points, and the names and versions of these packages.

A sweep file or a command selects a component by name; the installed packages determine the available names. Nothing of
a package is imported before a component of its group is looked up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from agr_core.errors import InputError

READERS = "agr.readers"
"""Entry points whose objects are readers of raw data sets (``agr_core.data.readers.base.Reader``)."""

BACKBONES = "agr.backbones"
"""Entry points whose objects are classes derived from ``agr_core.config.PluginBackbone``."""

ENCODINGS = "agr.encodings"
"""Entry points whose objects are classes derived from ``agr_core.config.PluginEncoding``."""

SAMPLERS = "agr.samplers"
"""Entry points whose objects are classes derived from ``agr_core.config.PluginSampler``."""

LOSSES = "agr.losses"
"""Entry points whose objects are classes derived from ``agr_core.config.PluginLoss``."""

GROUPS = (READERS, BACKBONES, ENCODINGS, SAMPLERS, LOSSES)


@lru_cache(maxsize=len(GROUPS))
def load(group: str) -> dict[str, Any]:
    """Return the objects of all entry points of a group by name, sorted by name.

    Raises:
        InputError: If one cannot be imported, or two packages use the same name.
    """
    found: dict[str, Any] = {}
    for point in _points(group):
        if point.name in found:
            raise InputError(f"{group} has two plug-ins named {point.name!r}; uninstall one of their packages.")
        try:
            found[point.name] = point.load()
        except Exception as error:
            reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise InputError(
                f"{described(group, point.name)} cannot be loaded ({reason}): its entry point says {point.value}. "
                "Install it again, or uninstall it."
            ) from error
    return found


def names(group: str) -> tuple[str, ...]:
    """Return the names of a group's entry points, sorted, without importing their packages."""
    return tuple(dict.fromkeys(point.name for point in _points(group)))


def described(group: str, name: str) -> str:
    """Return ``the plug-in 'half' of agr-plugin-template 0.1.0``."""
    (point, *_) = (each for each in _points(group) if each.name == name)
    package = "an unknown package" if point.dist is None else f"{point.dist.name} {point.dist.version}"
    return f"the plug-in {name!r} of {package}"


def packages() -> dict[str, str]:
    """Return the version of each installed package that adds a component, by the package's name."""
    return _versions(point for group in GROUPS for point in _points(group))


def package_of(group: str, name: str) -> dict[str, str]:
    """Return name and version of the package that adds a component; empty for a component that none adds."""
    return _versions(point for point in _points(group) if point.name == name)


def lacking(wanted: Mapping[str, str], *, fresh: bool = False) -> list[str]:
    """Return one phrase for each package of ``wanted`` that this process lacks or has in another version.

    Args:
        wanted: Versions by the package's name, as ``packages`` returns them elsewhere.
        fresh: Look at what is installed now, not at what was when this process first looked.
    """
    points = entry_points() if fresh else _all_points()
    here = _versions(point for group in GROUPS for point in points.select(group=group))
    return [
        f"{name} is not installed" if name not in here else f"{name} is {here[name]} and not {version}"
        for name, version in wanted.items()
        if here.get(name) != version
    ]


def _versions(points: Iterable[EntryPoint]) -> dict[str, str]:
    return dict(sorted((point.dist.name, point.dist.version) for point in points if point.dist is not None))


def _points(group: str) -> tuple[EntryPoint, ...]:
    return tuple(sorted(_all_points().select(group=group), key=lambda point: (point.name, point.value)))


@lru_cache(maxsize=1)
def _all_points() -> Any:
    """Return the entry points of all installed packages; finding them takes 50 ms, however few are selected."""
    return entry_points()
