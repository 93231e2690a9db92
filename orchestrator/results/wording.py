"""Names, settings and metrics of trials as short text, for tables and the tracker. Pure functions of the events."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from orchestrator.journal.events import TrialCreated

KEY_METRICS = ("age_mae", "age_interval_mae", "gender_acc", "race_acc", "age_cs5", "age_f1.utk7")
"""Metrics that a leaderboard shows beside the objective, the most informative first."""


_NAME_LENGTH = 60


_NAMED_FIRST = ("model.name", "optimizer.name")


def trial_name(created: TrialCreated, *, repeated: bool = False) -> str:
    """Return a readable name: the number and, in few words, what varies, as ``007 resnet10t adam onehot/utk7``."""
    params = dict(created.params)
    words = [f"{created.number:03d}"]
    if created.variant is not None:
        words.append(created.variant)
    encoding, bins = params.pop("age.encoding", None), params.pop("age.bins", None)
    ordered = {path: params[path] for path in (*_NAMED_FIRST, *params) if path in params}
    words += [value.rstrip("/").rsplit("/", 1)[-1] for value in ordered.values() if isinstance(value, str)]
    if encoding is not None or bins is not None:
        words.append("/".join(short(part) for part in (encoding, bins) if part is not None))
    if len(words) == 1:  # only numbers vary
        words += [f"{path.rsplit('.', 1)[-1]}={short(value)}" for path, value in ordered.items()]
    if repeated:
        words.append(f"seed {created.config['seed']}")
    name = " ".join(words)
    return name if len(name) <= _NAME_LENGTH else name[: _NAME_LENGTH - 1] + "…"


_IMPORTANT = ("model.name", "age.encoding", "optimizer.lr", "optimizer.name", "age.bins", "sampler.name")
"""Settings that differ between trials, the most informative first; all others follow."""


def setting(created: TrialCreated, *, without: Collection[str] = ()) -> str:
    """Return everything that varies as one line: names alone, numbers with their names, as ``resnet10t sgd lr=0.01``.

    ``without``: paths to leave out, as those that ``constants`` finds.
    """
    words = [] if created.variant is None else [created.variant]
    for path in by_importance(path for path in created.params if path not in without):
        value = created.params[path]
        words.append(short(value) if isinstance(value, str) else f"{path.rsplit('.', 1)[-1]}={short(value)}")
    return " ".join(words)


def by_importance(paths: Iterable[str]) -> list[str]:
    """Sort the paths of what varies by informativeness; the others keep their order."""
    position = {path: number for number, path in enumerate(_IMPORTANT)}
    return sorted(dict.fromkeys(paths), key=lambda path: position.get(path, len(position)))


def constants(params: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the paths with the same value in all trials that have them; empty for a single trial."""
    if len(params) < 2:
        return set()
    values: dict[str, list[Any]] = {}
    for of_trial in params:
        for path, value in of_trial.items():
            distinct = values.setdefault(path, [])
            if len(distinct) < 2 and value not in distinct:
                distinct.append(value)
    return {path for path, distinct in values.items() if len(distinct) == 1}


def rerun_command(sweep_id: str, trial_id: str, storage_uri: str) -> str:
    """Return the command that retrains a trial; it is valid in any folder."""
    return f"agr rerun {sweep_id}/{trial_id} --storage {storage_uri}"


def short(value: Any) -> str:
    """Format a param for a narrow column: numbers with three digits, lists without spaces."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.3g}"
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def varying(trials: Iterable[TrialCreated]) -> tuple[str, ...]:
    """Return the paths of what varies among some trials, in order of appearance, paths of one part adjacent."""
    paths = dict.fromkeys(path for trial in trials for path in trial.params)
    parts = {path.split(".", 1)[0]: None for path in paths}
    return tuple(path for part in parts for path in paths if path.split(".", 1)[0] == part)


def flat(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted path and value of every leaf of a configuration; lists are leaves."""
    for name, value in document.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def trial_params(created: TrialCreated) -> dict[str, Any]:
    """Return the complete configuration, flat, what varies first."""
    complete = dict(flat(created.config))
    varying = {path: complete.get(path, value) for path, value in created.params.items()}
    return {**varying, **complete}
