"""Names of timm's models and of their weights, known without importing timm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources


def timm_names() -> frozenset[str]:
    """Return the names of timm's models, without tags."""
    return frozenset(timm_list().tags)


def current_timm_name(name: str) -> str:
    """Return timm's current name of a model: the replacement of a deprecated name, else ``name``."""
    return timm_list().renamed.get(name, name)


def timm_weights(name: str) -> str | None:
    """Return the full name of a model's timm weights, of its tag or by default; None if there are none."""
    architecture, _, tag = name.partition(".")
    listed = timm_list()
    tag = tag or listed.default[architecture]
    return f"{architecture}.{tag}" if tag and tag not in listed.weightless[architecture] else None


@dataclass(frozen=True)
class TimmList:
    """Names of timm's models, without tags, and deprecated names.

    ``default`` is the tag of a model's default weights, or empty; ``tags`` are all its tags, ``weightless`` those
    without published weights.
    """

    default: Mapping[str, str]
    tags: Mapping[str, tuple[str, ...]]
    weightless: Mapping[str, frozenset[str]]
    renamed: Mapping[str, str]


@lru_cache(maxsize=1)
def timm_list() -> TimmList:
    """Load the shipped list, so that checks need not import timm; ``timm_backbones.write_names`` writes it."""
    text = resources.files("agr_core.models").joinpath("timm_names.txt").read_text(encoding="utf-8")
    lines = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    models = {name: words for name, *words in lines if words[:1] != ["="]}
    return TimmList(
        default={name: words[0].strip("-") if words else "" for name, words in models.items()},
        tags={name: tuple(word.lstrip("!") for word in words if word != "-") for name, words in models.items()},
        weightless={
            name: frozenset(word[1:] for word in words if word.startswith("!")) for name, words in models.items()
        },
        renamed={name: words[1] for name, *words in lines if words[:1] == ["="]},
    )
