"""Detect domains in the notation of other tools, and translate them.

Known are the notations of W&B sweeps, NNI search spaces, Ray Tune's ``grid_search`` and Optuna-like ``low``/``high``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_RANGE_KEYS = ({"min", "max"}, {"low", "high"})
_WANDB = {"values", "value", "min", "max", "distribution", "q", "mu", "sigma", "probabilities"}
_NNI = {"_type", "_value"}
_NNI_RANGES = {"uniform": "uniform", "quniform": "uniform", "loguniform": "loguniform", "qloguniform": "loguniform"}


def translation(value: Mapping[str, Any]) -> str | None:
    """Return the translation of a mapping that is a domain of another tool; None if it is none.

    A domain that has no counterpart here, such as a normal distribution, is translated to a range to fill in.
    """
    keys = set(value)
    if "_type" in keys and keys <= _NNI:
        return _from_nni(value["_type"], value.get("_value"))
    if keys == {"grid_search"}:
        return _text(value["grid_search"])
    if keys == {"value"}:
        return _text(value["value"])
    if "values" in keys and keys <= _WANDB:
        return _text(value["values"])
    if any(ends <= keys for ends in _RANGE_KEYS) and keys <= _WANDB | {"low", "high", "log", "step"}:
        return _range(value)
    if "distribution" in keys and keys <= _WANDB:
        return "{uniform: [lowest, highest]}"
    return None


def _from_nni(kind: Any, given: Any) -> str:
    if kind == "choice":
        return _text(given)
    if kind == "randint" and isinstance(given, list) and len(given) == 2 and all(type(end) is int for end in given):
        return f"{{randint: {_text([given[0], given[1] - 1])}}}"  # NNI's upper end is not a value, ours is
    if isinstance(kind, str) and kind in _NNI_RANGES and isinstance(given, list) and len(given) in (2, 3):
        step = f", step: {_text(given[2])}" if len(given) == 3 and kind == "quniform" else ""
        return f"{{{_NNI_RANGES[kind]}: {_text(given[:2])}{step}}}"
    return "{uniform: [lowest, highest]}"


def _range(value: Mapping[str, Any]) -> str:
    low, high = (value["min"], value["max"]) if "min" in value else (value["low"], value["high"])
    name = "randint" if isinstance(low, int) and isinstance(high, int) else "uniform"
    distribution = str(value.get("distribution", ""))
    if "int" in distribution:
        name = "randint"
    elif "uniform" in distribution:
        name = "uniform"
    if "log" in distribution or value.get("log") is True:
        name = f"log{name}"
    step = value.get("q", value.get("step"))
    return f"{{{name}: {_text([low, high])}{'' if step is None else f', step: {_text(step)}'}}}"


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
