"""Age groups: named schemes and custom edges.

A scheme is the lowest age of each bin, ascending from 0; a bin reaches to the year before the next one, the last bin to
``MAX_AGE`` and beyond. ``(E,)`` below are the edges.
"""

from __future__ import annotations

from agr_core.errors import UnknownComponentError
from agr_core.registry import did_you_mean

MAX_AGE = 116
"""The oldest age in the data sets of the reports (UTKFace)."""

BinsSpec = str | tuple[int, ...]
"""A scheme's name, or the lowest age of each bin."""

SCHEMES: dict[str, tuple[int, ...]] = {
    "utk7": (0, 3, 7, 15, 31, 41, 66),  # S4-Z6, the final seven
    "utk7a": (0, 3, 10, 17, 26, 46, 61),  # S4-Z5
    "utk4": (0, 13, 20, 60),  # S4-Z3
    "adience8": (0, 4, 8, 14, 23, 35, 46, 55),  # on exact ages; see DESIGN, "Comparable age figures"
    "fairface9": (0, 3, 10, 20, 30, 40, 50, 60, 70),  # Karkkainen and Joo 2021
    "every2": tuple(range(0, MAX_AGE + 1, 2)),
    "year": tuple(range(MAX_AGE + 1)),
}


def check_bins(spec: BinsSpec) -> BinsSpec:
    """``spec`` itself, if it is a known scheme or a list of ascending edges from 0.

    Raises:
        ValueError: Otherwise, with the rule and the nearest scheme.
    """
    if isinstance(spec, str):
        if spec not in SCHEMES:
            raise UnknownComponentError(
                f"unknown bins {spec!r}.{did_you_mean(spec, SCHEMES)} Schemes: {', '.join(sorted(SCHEMES))}; "
                "or a list with the lowest age of each bin."
            )
        return spec
    if len(spec) < 2 or spec[0] != 0 or list(spec) != sorted(set(spec)) or spec[-1] > MAX_AGE:
        raise ValueError(
            f"bins {list(spec)} must list the lowest age of each of at least two bins, ascending from 0 "
            f"to at most {MAX_AGE}."
        )
    return spec
