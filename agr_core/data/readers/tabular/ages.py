"""Parsing of ages: numbers, ranges, open ranges, and ranges that a spreadsheet converted to dates."""

from __future__ import annotations

import re

from agr_core.bins import MAX_AGE

AgeRange = tuple[float, float]
"""Lowest and highest age, in years, both included; equal for an exact age."""

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_NUMBER = r"(\d{1,3}(?:\.\d{1,6})?)"
_EXACT = re.compile(_NUMBER)
_RANGE = re.compile(rf"[(\[]?\s*{_NUMBER}\s*(?:-|\u2013|\u2014|,|;|_|\.\.|\bto\b)\s*{_NUMBER}\s*[)\]]?")
_OPEN = re.compile(rf"{_NUMBER}\s*(?:\+|plus|(?:and|or) (?:over|above|more|older|up))")
_ABOVE = re.compile(rf"(?:more than|over|above|older than|at least|>=?|≥)\s*{_NUMBER}")
_BELOW = re.compile(rf"(?:less than|under|below|younger than|<)\s*{_NUMBER}")
_UP_TO = re.compile(rf"(?:up to|at most|<=|≤)\s*{_NUMBER}")
_UNIT = re.compile(r"\s*(?:years? old|years?|yrs?|y\.?o\.?)$")
_DAY_MONTH = re.compile(r"(\d{1,2})[-/. ]([a-z]{3})[a-z]*\.?")
_MONTH_DAY = re.compile(r"([a-z]{3})[a-z]*\.?[-/. ](\d{1,2})")


def parse_age(text: str) -> AgeRange | None:
    """Return the age in a text; None if it contains none.

    ``25``, ``25-32``, ``(25, 32)``, ``60+``, ``more than 70``, ``under 3``. A range without upper end ends at
    ``MAX_AGE``; "under n" ends at n - 1. ``9-Mar`` and ``Mar-09`` are the range 3-9, converted to a date by a
    spreadsheet.
    """
    age = _UNIT.sub("", text.strip().lower())
    if match := _EXACT.fullmatch(age):
        return float(match[1]), float(match[1])
    if match := _RANGE.fullmatch(age):
        low, high = float(match[1]), float(match[2])
        return (low, high) if low <= high else None
    if match := _OPEN.fullmatch(age) or _ABOVE.fullmatch(age):
        return float(match[1]), float(max(MAX_AGE, float(match[1])))
    if match := _BELOW.fullmatch(age):
        return 0.0, max(0.0, float(match[1]) - 1)
    if match := _UP_TO.fullmatch(age):
        return 0.0, float(match[1])
    return date_range(age)


def date_range(text: str) -> AgeRange | None:
    """Return the range that a spreadsheet converted to a date: ``9-Mar``, ``03-Sep`` are 3-9, ``Oct-19`` is 10-19."""
    age = text.strip().lower()
    if match := _DAY_MONTH.fullmatch(age):
        number, month = match[1], match[2]
    elif match := _MONTH_DAY.fullmatch(age):
        month, number = match[1], match[2]
    else:
        return None
    if month not in _MONTHS:
        return None
    low, high = sorted((int(number), _MONTHS.index(month) + 1))
    return float(low), float(high)


def range_problem(years: AgeRange) -> str | None:
    """Return the problem of an age, if any."""
    low, high = years
    if high <= MAX_AGE:
        return None
    return (
        f"age {low:g} is outside 0 to {MAX_AGE} years"
        if low == high
        else f"age {low:g}-{high:g} reaches beyond {MAX_AGE}"
    )


def age_text(years: AgeRange) -> str:
    """Return an age as text: ``25``, ``25-32``."""
    low, high = years
    return f"{low:g}" if low == high else f"{low:g}-{high:g}"
