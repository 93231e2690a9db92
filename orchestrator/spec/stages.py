"""``stages``: successive trainings, ending with the trial itself; each starts from the best weights of another.

A stage holds its differences from the trial. It is merged over the fixed part and the variant, not over values drawn
from ``space``, so that trials share it; only ``model`` and ``image`` follow the space, because weights must fit. The
result is a TrialConfig whose ``init`` holds the complete configuration of the stage before it, recursively.

A stage on other data does not inherit the trial's settings for its own data: the partitions of each part, and the file
of a published split.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from agr_core.config import TrialConfig
from agr_core.registry import did_you_mean
from orchestrator.spec.explain import given
from orchestrator.spec.merge import Node, merge, read
from orchestrator.spec.source import DocPath, Source

STAGES = "stages"

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,29}")
_OWN = ("id", "init", "objective")
_FOLLOW_THE_SPACE = ("model", "image")
_SOURCES = ("source", "sources", "train", "synthetic")
_OF_ONE_DATA_SET = ("partitions", "path")
_WEIGHTS = ("weights", "weights_sha256", "weights_heads")


def lay_over(base: Node, layer: Node) -> Node:
    """Merge ``layer``, drawn from the space, over ``base``, converting the stages of either into ``init``.

    The stages must be valid (``check_stages``).
    """
    if not isinstance(base.value, dict) or not isinstance(layer.value, dict):
        return merge(base, layer)
    written = layer.child(STAGES) or base.child(STAGES)
    base, layer = _without(base, (STAGES,)), _without(layer, (STAGES,))
    if written is None or not written.value:
        return merge(base, layer)
    stages = [_Stage.read(item, (*written.origin, index)) for index, item in enumerate(written.value)]
    first = merge(base, _only(layer, _FOLLOW_THE_SPACE))
    later = _without_weights(first)
    made: dict[str, Node] = {}
    for before, stage in zip((None, *stages), stages[:-1], strict=False):
        config = merge(_for_data_of(stage.part, first if before is None else later), stage.part)
        if before is not None:
            config = _starting_from(config, made[stage.init or before.id])
        made[stage.id] = stage.as_init(config)
    last = _for_data_of(stages[-1].part, _without_weights(base))
    last = merge(merge(last, stages[-1].part), _without_initial(layer))
    return _starting_from(last, made[stages[-1].init or stages[-2].id])


def stage_ids(items: Sequence[Any]) -> str:
    """Return the stages of a list as one word: ``celeba>adience``; ``none`` for an empty one."""
    return ">".join(str(item.get("id")) if isinstance(item, dict) else "?" for item in items) or "none"


def check_stages(source: Source) -> bool:
    """Return whether configurations can be assembled from a document's stages.

    Problems of the lists are noted in ``source``; the resulting configurations are checked elsewhere.
    """
    noted = len(source.problems)
    sound = True
    variants = source.document.get("variants")
    fixed: list[DocPath] = [("trial",)]
    fixed += [("variants", label) for label in variants] if isinstance(variants, dict) else []
    places = [*fixed, ("space",)]
    if any(_says(source, path, STAGES) for path in places):
        for path in places:
            if _says(source, path, "init"):
                message = "`init` is made from `stages`: write one or the other; stages vary as whole lists."
                source.add((*path, "init"), message, key=True)
    for path in fixed:
        if _says(source, path, STAGES):
            sound &= _check_list(source.at((*path, STAGES)), (*path, STAGES), source)
    if _says(source, ("space",), STAGES):
        for path, items in _choices(source.at(("space", STAGES)), ("space", STAGES)):
            sound &= _check_list(items, path, source)
    return sound and len(source.problems) == noted


def _says(source: Source, path: DocPath, key: str) -> bool:
    return source.has(path) and isinstance(source.at(path), dict) and key in source.at(path)


def _choices(value: Any, path: DocPath) -> Iterator[tuple[DocPath, Any]]:
    if isinstance(value, dict) and isinstance(value.get("choice"), list):
        for index, items in enumerate(value["choice"]):
            yield (*path, "choice", index), items
    elif not (isinstance(value, list) and value and all(isinstance(item, list) for item in value)):
        yield path, value  # else parse_space says how lists vary


def _check_list(items: Any, path: DocPath, source: Source) -> bool:
    """Return whether it is a list of stages, each with a valid ID of its own."""
    if items is None or items == []:
        return True
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        message = "it must be a list of stages, {id: ..., what differs from the trial}, the last being the trial itself"
        source.add(path, f"{given(items)} given; {message}.")
        return False
    if len(items) == 1:
        message = "one stage alone is the trial itself; add what is trained before it, or write its fields into `trial`"
        source.add(path, f"{message}.")
    before: list[str] = []
    used: set[str] = set()
    for index, item in enumerate(items):
        here = (*path, index)
        if not isinstance(item.get("id"), str) or not _ID.fullmatch(item["id"]):
            words = "missing" if "id" not in item else f"{given(item['id'])} given"
            source.add((*here, "id"), f"{words}; `id` is 1 to 30 of letters, digits, - _ and begins with one of them.")
            return False
        if item["id"] in before:
            source.add((*here, "id"), f"two stages have the id {item['id']!r}; give each its own.")
        used |= _check_stage(item, here, before, last=index == len(items) - 1, source=source)
        before.append(item["id"])
    for index, stage in enumerate(before[:-1]):
        if stage not in used:
            source.add((*path, index, "id"), f"no stage starts from {stage!r}; drop it, or name it as an `init`.")
    return len(items) > 1


def _check_stage(item: dict[str, Any], path: DocPath, before: Sequence[str], *, last: bool, source: Source) -> set[str]:
    """Note the problems of a stage; return the stage that it starts from."""
    for key in (STAGES, "init.config") if isinstance(item.get("init"), str | None) else (STAGES, "init"):
        if key in item:
            source.add((*path, key), f"a stage cannot contain {key}; list all stages at one level.", key=True)
    if last and "objective" in item:
        message = "the last stage is the trial itself, whose best epoch the sweep's objective selects; drop it."
        source.add((*path, "objective"), message, key=True)
    if not before:
        if item.get("init") is not None:
            source.add((*path, "init"), "the first stage has none before it to start from; drop `init`.", key=True)
        return set()
    init = item.get("init") or before[-1]
    if init not in before:
        hint = did_you_mean(init, before) if isinstance(init, str) else ""
        source.add((*path, "init"), f"{given(init)} is not an earlier stage.{hint} Earlier: {', '.join(before)}.")
        return set(before)
    model = item.get("model")
    for key in ("weights", "weights_sha256"):
        if isinstance(model, dict) and key in model:
            message = f"this stage starts from the weights of {init!r}; drop the key, or this stage's `init`."
            source.add((*path, "model", key), message, key=True)
    return {str(init)}


@dataclass(frozen=True)
class _Stage:
    id: str
    init: str | None
    objective: Node | None
    part: Node
    origin: DocPath

    @classmethod
    def read(cls, item: dict[str, Any], origin: DocPath) -> _Stage:
        node = read(item, origin)
        part = _without(node, _OWN)
        return cls(str(item["id"]), item.get("init"), node.child("objective"), part, origin)

    def as_init(self, config: Node) -> Node:
        """Return the value of ``init`` for a training that starts from this stage."""
        fields = {"id": Node(self.id, (*self.origin, "id")), "config": config}
        if self.objective is not None:
            fields["objective"] = self.objective
        return Node(fields, self.origin)


def _starting_from(config: Node, init: Node) -> Node:
    """Return ``config`` with its initial weights from ``init``; fitting heads are loaded unless it disables that."""
    model = config.child("model") or Node({"name": Node(TrialConfig().model.name, config.origin)}, config.origin)
    if not isinstance(model.value, dict):  # invalid; TrialConfig reports it
        return Node({**config.value, "init": init}, config.origin)
    fields = {"weights_heads": Node("keep", init.origin), **model.value, "weights": Node("init", init.origin)}
    return Node({**config.value, "model": Node(fields, model.origin), "init": init}, config.origin)


def _for_data_of(part: Node, base: Node) -> Node:
    """Return ``base`` as the context of ``part``: without partitions and split file where ``part`` names other data."""
    data, own = base.child("data"), part.child("data")
    split = None if data is None else data.child("split")
    if data is None or own is None or split is None or not any(_differs(data, own, key) for key in _SOURCES):
        return base
    fields = {**data.value, "split": _without(split, _OF_ONE_DATA_SET)}
    return Node({**base.value, "data": Node(fields, data.origin)}, base.origin)


def _differs(base: Node, layer: Node, key: str) -> bool:
    below, above = base.child(key), layer.child(key)
    return above is not None and (below is None or below.plain() != above.plain())


def _without_weights(node: Node) -> Node:
    model = node.child("model")
    return node if model is None else Node({**node.value, "model": _without(model, _WEIGHTS)}, node.origin)


def _without_initial(layer: Node) -> Node:
    """Return the part drawn from the space, without the initial weights of the first stage."""
    model = layer.child("model")
    if model is None:
        return layer
    return Node({**layer.value, "model": _without(model, ("weights", "weights_sha256"))}, layer.origin)


def _without(node: Node, keys: Sequence[str]) -> Node:
    if not isinstance(node.value, dict):  # invalid; TrialConfig reports it
        return node
    return Node({key: child for key, child in node.value.items() if key not in keys}, node.origin)


def _only(node: Node, keys: Sequence[str]) -> Node:
    return Node({key: child for key, child in node.value.items() if key in keys}, node.origin)
