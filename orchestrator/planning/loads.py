"""What decides the memory and speed of a trial, and the distinct combinations of it in a sweep."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import product, zip_longest
from typing import Any

from agr_core.config import StageConfig, TrialConfig
from agr_core.errors import ConfigError
from agr_core.identity import canonical_json
from orchestrator.spec.domains import Domain
from orchestrator.spec.space import VARIANT, Group, Proposal, Space, Tree, Varied

MOST = 40
"""Default of ``--limit``: combinations that are measured."""

_WHOLE = ("batch_size", "accumulate", "compute", "head")
"""Fields of TrialConfig that count as they are."""

_OF_IMAGE = ("size", "crop_from", "color", "mirrored")
"""Fields of ``image`` that count."""

_OF_DATA = ("source", "sources", "train", "fraction")
"""Fields of ``data`` that decide the number of images of an epoch."""

_NAMED = ("optimizer", "augment", "averaging")
"""Fields of which the kind alone counts: their numbers change no tensor's size."""

_MOST_BUILT = 300
"""Configurations that are put together for each variant to find the distinct combinations; of more that many by lot."""

_OF_MODEL_ALONE = frozenset({"weights", "weights_sha256", "weights_heads"})
"""Fields of a model that change its values and not its size."""


def load_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what decides memory and speed of a configuration, given as the plain JSON of a TrialConfig.

    Rates of dropout and the initial weights are left out: they change neither the tensors' sizes nor the operations.
    """
    return {
        "model": _without_values(config["model"]),
        **{name: _without_rates(config.get(name)) for name in _WHOLE},
        **{name: (config.get(name) or {}).get("name", "none") for name in _NAMED},
        "image": {name: config["image"].get(name) for name in _OF_IMAGE},
        "data": {name: config["data"].get(name) for name in _OF_DATA},
        "tasks": config.get("tasks"),
        "mixup": config.get("mixup") is not None,
    }


def _without_values(model: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in model.items() if name not in _OF_MODEL_ALONE}
    return {name: _without_values(value) if name == "base" else value for name, value in _without_rates(kept).items()}


def _without_rates(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {name: each for name, each in value.items() if "dropout" not in name or name == "dropout_at"} | (
        {"drop_path": bool(value["drop_path"])} if "drop_path" in value else {}
    )


@dataclass(frozen=True)
class Combination:
    """One combination, with a configuration that has it."""

    branch: str
    """Name for people: the values by which it differs from the others."""
    load: dict[str, Any]
    config: TrialConfig
    stage: StageConfig | None = None
    """The stage before trials that has this configuration; None: the trials themselves."""


@dataclass(frozen=True)
class Combinations:
    """The combinations to measure."""

    chosen: tuple[Combination, ...]
    total: int
    """Number of distinct combinations among the extremes of the space."""
    explained: str
    """Reason of the choice, one line; empty if all are chosen."""


@dataclass(frozen=True)
class _Drawn:
    config: TrialConfig
    load: dict[str, Any]
    params: Mapping[str, Any]
    stage: StageConfig | None


def combinations(space: Space, *, limit: int = MOST) -> Combinations:
    """Return the distinct combinations among every choice and both ends of every range, at most ``limit``.

    With more than that, each model gets its turn: first its largest combination (batch, then image), then its smallest,
    then the others from the largest down.
    """
    found: dict[str, _Drawn] = {}
    for drawn in _extremes(space):
        found.setdefault(canonical_json(drawn.load), drawn)
    every = list(found.values())
    names = dict(zip(map(id, every), _names([_of_load(drawn.params) for drawn in every]), strict=True))
    chosen = every if len(every) <= limit else _in_turns(every)[:limit]
    explained = (
        ""
        if len(every) <= limit
        else f"{len(every)} combinations, {limit} of them measured (--limit): of each model in turn the largest batch "
        "and image, then the smallest, then the others from the largest down."
    )
    return Combinations(
        tuple(
            Combination(names[id(drawn)] or str(drawn.load["model"]["name"]), drawn.load, drawn.config, drawn.stage)
            for drawn in chosen
        ),
        len(every),
        explained,
    )


def _extremes(space: Space) -> Iterator[_Drawn]:
    """Yield configurations with every choice and both ends of every range that can matter, in all combinations."""
    for variant in space.bases:
        points = [({} if variant is None else {VARIANT: variant}) | point for point in _points(space.tree, ())]
        if len(points) > _MOST_BUILT:
            points = random.Random(0).sample(points, _MOST_BUILT)  # noqa: S311 - not for secrets
        for point in points:
            with suppress(ConfigError):  # these values do not go together
                yield from _drawn(space.build(partial(_chosen, point)))


def _drawn(proposal: Proposal) -> Iterator[_Drawn]:
    variant = {} if proposal.variant is None else {VARIANT: proposal.variant}
    params = {**variant, **proposal.params}
    yield _Drawn(proposal.config, load_of(proposal.config.to_document()), params, None)
    for stage in proposal.config.stages:
        yield _Drawn(stage.config, load_of(stage.config.to_document()), {"stage": stage.id, **params}, stage)


def _chosen(point: Mapping[str, Any], name: str, domain: Domain) -> Any:
    first = domain.choices[0] if domain.kind == "categorical" else domain.low
    return point.get(name, first)


def _points(tree: Tree, path: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return the values, by domain, of all combinations of what can matter; other domains take their first value."""
    match tree:
        case Group(children):
            parts = [_points(child, (*path, key)) for key, child in children.items()]
            return [{name: value for part in point for name, value in part.items()} for point in product(*parts)]
        case Varied(name, domain):
            if domain.kind == "categorical":
                picked = list(zip(domain.choices, tree.options, strict=True))
                picked = picked if _matters(path) else picked[:1]
                return [{name: value, **inner} for value, option in picked for inner in _points(option, path)]
            ends = dict.fromkeys((domain.low, domain.high))
            return [{name: value} for value in (ends if _matters(path) else [domain.low])]
    return [{}]


def _matters(path: tuple[str, ...]) -> bool:
    """Return whether memory or speed can depend on a field, by its path in TrialConfig."""
    top, last = path[0], path[-1]
    if top in _NAMED:
        return len(path) == 1 or last == "name"
    if top == "model" and last in _OF_MODEL_ALONE:
        return False
    if top == "image":
        return len(path) == 1 or last in _OF_IMAGE
    return top in ("model", "tasks", "mixup", "stages", *_WHOLE) and not last.endswith(("dropout", "drop_path"))


def _in_turns(found: list[_Drawn]) -> list[_Drawn]:
    by_model = defaultdict(list)
    for drawn in found:
        by_model[drawn.config.model.name].append(drawn)
    turns = []
    for group in by_model.values():
        falling = sorted(group, key=lambda drawn: (drawn.config.batch_size, drawn.config.image.size), reverse=True)
        turns.append([falling[0], *falling[:0:-1][:1], *falling[1:-1]])
    return [drawn for turn in zip_longest(*turns) for drawn in turn if drawn is not None]


def _of_load(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the drawn values on which memory or speed can depend."""
    return {
        name: value for name, value in params.items() if name in (VARIANT, "stage") or _matters(tuple(name.split(".")))
    }


def _names(rows: list[dict[str, Any]]) -> list[str]:
    """Return each row's values, without those that all rows share."""
    shared = {
        name
        for name in {name for row in rows for name in row}
        if all(name in row for row in rows) and len({str(row[name]) for row in rows}) == 1
    }
    return [", ".join(f"{name}={_shown(row[name])}" for name in row if name not in shared) for row in rows]


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
