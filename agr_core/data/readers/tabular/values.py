"""Meanings of a table's values: given by the caller, by the file's own names of codes, or by common words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agr_core.data.readers.tabular.ages import AgeRange, age_text, date_range, parse_age
from agr_core.errors import DataError
from agr_core.labels.attributes import FAIRFACE_RACES, GENDERS, MORPH_RACES, RACE_VOCABULARIES, UTKFACE_RACES

RACES: tuple[str, ...] = tuple(dict.fromkeys((*UTKFACE_RACES, *FAIRFACE_RACES, *MORPH_RACES)))
"""All race classes that a value can mean."""

KAGGLE_CODES: dict[str, dict[str, str]] = {
    "gender": {str(code): name for code, name in enumerate(GENDERS)},
    "race": {str(code): name for code, name in enumerate(UTKFACE_RACES)},
}
"""Codes of Kaggle's ``age_gender.csv``, which are UTKFace's."""

_MISSING = frozenset({"", "nan", "none", "null", "na", "n/a", "<na>", "#n/a", "nat"})
_GENDER_WORDS = dict.fromkeys(("male", "m", "man", "men", "boy"), GENDERS[0]) | dict.fromkeys(
    ("female", "f", "woman", "women", "girl"), GENDERS[1]
)
_RACE_WORDS = {name.lower().replace("_", " "): name for name in RACES} | {
    "caucasian": "White",
    "african american": "Black",
    "african": "Black",
    "other": "Others",
    "latino": "Latino_Hispanic",
    "latina": "Latino_Hispanic",
    "hispanic latino": "Latino_Hispanic",
    "south east asian": "Southeast Asian",
    "middle east": "Middle Eastern",
}
_PARTITION_WORDS = (
    dict.fromkeys(("train", "training", "trn"), "train")
    | dict.fromkeys(("val", "valid", "validation", "dev"), "val")
    | dict.fromkeys(("test", "testing", "tst", "eval"), "test")
)
_FOLD = re.compile(r"(?:fold ?)?(\d{1,3})")
_NUMBER = re.compile(r"\d{1,3}(\.\d+)?")
_WHOLE = re.compile(r"(-?\d+)\.0+")
_SHOWN = 50

Meaning = AgeRange | str | None
"""Meaning of a value: an age or a class name; None: unknown."""


@dataclass(frozen=True)
class ValueRow:
    """A value of a table: role, text, number of occurrences, meaning, and the rule that determined it."""

    role: str
    value: str
    count: int
    became: str
    by: str = ""


class Values:
    """Meanings of all values of some columns.

    Args:
        given: By role, meanings given by the caller; empty: unknown.
        names: By role, the file's own names of its codes.
        codes: By role, codes with a meaning determined by the kind of file.

    Raises:
        DataError: If a given meaning is invalid.
    """

    def __init__(
        self,
        given: Mapping[str, Mapping[str, str]],
        names: Mapping[str, Mapping[str, str]],
        codes: Mapping[str, Mapping[str, str]],
    ) -> None:
        self._given = {
            role: {_key(value): _given_meaning(role, value, text) for value, text in meanings.items()}
            for role, meanings in given.items()
        }
        self._names = names
        self._codes = codes
        self._known: dict[tuple[str, str], Meaning] = {}
        self._counts: Counter[tuple[str, str]] = Counter()
        self._rules: dict[tuple[str, str], str] = {}
        self._unmapped: set[tuple[str, str]] = set()

    def take(self, role: str, texts: Iterable[str]) -> None:
        """Add the values of a column, for ``meaning``, ``check`` and ``rows``."""
        for text, count in Counter(texts).items():
            key = (role, text)
            self._counts[key] += count
            if key not in self._known and key not in self._unmapped:
                self._look_up(role, text)

    def meaning(self, role: str, text: str) -> Meaning:
        """Return the meaning of a value that was added."""
        return self._known[role, text]

    def check(self, file: str, columns: Mapping[str, str]) -> None:
        """Check that every value has a meaning.

        Raises:
            DataError: If not; the message lists all unmapped values and their counts.
        """
        if not self._unmapped:
            return
        of_role: dict[str, list[str]] = {}
        for role, text in sorted(self._unmapped, key=lambda key: (key[0], -self._counts[key], key[1])):
            of_role.setdefault(role, []).append(f"{text!r} {self._counts[role, text]:,} times")
        listed = "; ".join(
            f"{role} (column {columns.get(role, role)}): {', '.join(texts[:_SHOWN])}"
            + (f" and {len(texts) - _SHOWN:,} more" if len(texts) > _SHOWN else "")
            for role, texts in of_role.items()
        )
        role, text = min(self._unmapped, key=lambda key: (key[0], -self._counts[key], key[1]))
        example = {"age": "20-29", "gender": GENDERS[0], "race": RACES[0], "partition": "train"}[role]
        raise DataError(
            f"{file}: the meaning of {len(self._unmapped):,} values is unknown: {listed}. Give it, as --map "
            f"{role}.{text}={example} (genders: {', '.join(GENDERS)}; races: {', '.join(RACES)}; nothing after the = "
            f"means unknown), or leave the column out, as --columns {role}= ."
        )

    def rows(self) -> list[ValueRow]:
        """Return the interpretation of each value; plain numbers of ages share one row."""
        shown: list[ValueRow] = []
        plain = {
            text: count for (role, text), count in self._counts.items() if role == "age" and _NUMBER.fullmatch(text)
        }
        plain = {text: count for text, count in plain.items() if ("age", text) not in self._rules}
        if plain:
            years = sorted(map(float, plain))
            shown.append(ValueRow("age", f"{years[0]:g} ... {years[-1]:g}", sum(plain.values()), "as they are"))
        for (role, text), count in sorted(self._counts.items(), key=lambda item: (item[0][0], -item[1], item[0][1])):
            if role == "age" and text in plain:
                continue
            meaning = self._known.get((role, text))
            became = age_text(meaning) if isinstance(meaning, tuple) else meaning or "not known"
            shown.append(ValueRow(role, text, count, became, self._rules.get((role, text), "")))
        return shown

    def races(self) -> tuple[str, ...]:
        """Return the race classes: of the smallest known vocabulary that has all occurring ones, else these alone."""
        races = {meaning for (role, _), meaning in self._known.items() if role == "race" and isinstance(meaning, str)}
        if not races:
            return ()
        fitting = [names for names in RACE_VOCABULARIES.values() if races <= set(names)]
        return min(fitting, key=len) if fitting else tuple(name for name in RACES if name in races)

    def _look_up(self, role: str, text: str) -> None:
        key, value = (role, text), _key(text)
        given = self._given.get(role, {})
        if value in given:
            self._known[key], self._rules[key] = given[value], "--map"
            return
        if value in _MISSING:
            self._known[key] = None
            return
        for rule, word in (
            ("named in the file", self._names.get(role, {}).get(value)),
            ("UTKFace's code", self._codes.get(role, {}).get(value)),
            ("", text),
        ):
            meaning = None if word is None else _usual_meaning(role, word)
            if meaning is not None:
                self._known[key] = meaning
                if role == "age" and date_range(text) is not None:
                    rule = "a spreadsheet's date"
                if rule:
                    self._rules[key] = rule
                return
        self._unmapped.add(key)


def _given_meaning(role: str, value: str, text: str) -> Meaning:
    if not text:
        return None
    meaning = _usual_meaning(role, text)
    if meaning is None:
        known = {"age": "an age as 25, 20-29, 60+", "gender": ", ".join(GENDERS), "race": ", ".join(RACES)}
        way_out = known.get(role, "train, val, test or the number of a fold")
        raise DataError(f"--map {role}.{value}={text}: {text!r} is unknown; allowed: {way_out}.")
    return meaning


def _usual_meaning(role: str, text: str) -> Meaning:
    word = re.sub(r"[\s_\-/]+", " ", text.strip().lower())
    if role == "age":
        return parse_age(text)
    if role == "gender":
        return _GENDER_WORDS.get(word)
    if role == "race":
        return _RACE_WORDS.get(word)
    fold = _FOLD.fullmatch(word)
    return _PARTITION_WORDS.get(word) or (str(int(fold[1])) if fold else None)


def _key(text: str) -> str:
    """Return a value's lookup key: ``1.0`` becomes ``1``."""
    value = text.strip().lower()
    integer = _WHOLE.fullmatch(value)
    return integer[1] if integer else value
