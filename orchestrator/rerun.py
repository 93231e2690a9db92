"""Train a recorded trial again, and say whether it came out the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agr_core.config import DataConfig, TrialConfig
from agr_core.data.joined import open_data
from agr_core.data.splits import read_split
from agr_core.objective import Objective
from agr_core.reporting import EpochReport
from orchestrator import provenance
from orchestrator.datasets import DataRef, stage
from orchestrator.errors import NotFoundError
from orchestrator.records import StageRef
from orchestrator.settings import Settings
from orchestrator.spec.load import Sweep, sweep_from_document
from orchestrator.state import SweepState, TrialState
from orchestrator.storage import layout
from orchestrator.storage.base import Storage
from orchestrator.trial_metrics import reports_of

COMPARED = ("train/", "val/")
"""Figures that are a function of the configuration; others are times. ``best/`` are those of one epoch of ``val/``."""


@dataclass(frozen=True)
class Original:
    """A trial to be trained again."""

    sweep: SweepState
    trial: TrialState
    reports: tuple[EpochReport, ...]
    provenance: dict[str, Any]


def find_original(storage: Storage, sweep: SweepState, trial_id: str) -> Original:
    """The recorded trial and what it was trained with.

    Raises:
        NotFoundError: If it never reported an epoch: there is nothing to compare with.
    """
    trial = sweep.trials[trial_id]
    if not trial.reports:
        raise NotFoundError(
            f"trial {trial_id} reported no epoch (outcome: {trial.outcome or 'running'}), so there is nothing to "
            "compare a re-run with. `agr rerun` needs a trial with at least one epoch."
        )
    return Original(sweep, trial, reports_of(trial), _trial_provenance(storage, sweep, trial))


def _trial_provenance(storage: Storage, sweep: SweepState, trial: TrialState) -> dict[str, Any]:
    key = f"{layout.attempt(sweep.started.sweep_id, trial.trial_id, trial.reports[-1].attempt)}/trial.json"
    document: dict[str, Any] = json.loads(storage.read(key))["provenance"]
    return document


def rerun_sweep(original: Original, settings: Sequence[str]) -> Sweep:
    """A one-trial sweep of the original's configuration; ``settings`` are TrialConfig paths, ``optimizer.lr=0.01``.

    Raises:
        SpecError: If a setting does not fit.
    """
    started = original.sweep.started
    document: dict[str, Any] = {
        "name": f"{started.name[:54]}-rerun",
        "description": f"Trial {original.trial.trial_id} of {started.sweep_id}, trained again.",
        "experiment": started.experiment,
        "trial": original.trial.created.config,
        "objective": started.objective_document,
        "keep": {label: objective.model_dump(mode="json") for label, objective in started.keep.items()},
        "scheduler": "none",
        **{part: started.document[part] for part in ("resources", "retries", "limits") if part in started.document},
    }
    return sweep_from_document(document, overrides=[f"trial.{setting}" for setting in settings])


def drift(original: Original, storage: Storage, settings: Settings) -> list[str]:
    """What differs from when the original was trained and could change the result; one line each."""
    created = original.trial.created
    lines = []
    config = TrialConfig.from_document(created.config)
    again = config.digest(
        data_digest=created.data_digest,
        split_digest=created.split_digest,
        weights_sha256=created.initial_weights_key,
    )
    if again != created.config_digest:
        lines.append(f"configuration: its digest was {created.config_digest[:12]} and is {again[:12]} in this version.")
    refs = [data_ref(original), *(_stage_data(ref) for ref in created.stages)]
    for ref in dict.fromkeys(refs):
        lines += _data_drift(ref, storage, settings)
    return lines + provenance.drift(original.provenance, provenance.collect())


def data_ref(original: Original) -> DataRef:
    """The original's data and split, where they were stored."""
    created = original.trial.created
    return DataRef(data_uri=created.data_uri, data_digest=created.data_digest, split_digest=created.split_digest)


def recorded_data(original: Original) -> Callable[[DataConfig], DataRef]:
    """Gives what the original, and each stage before it, was trained on."""
    created = original.trial.created
    config = TrialConfig.from_document(created.config)
    known = {config.data.model_dump_json(): data_ref(original)}
    for before, ref in zip(config.stages, created.stages, strict=True):
        known[before.config.data.model_dump_json()] = _stage_data(ref)
    return lambda data: known[data.model_dump_json()]


def _stage_data(ref: StageRef) -> DataRef:
    return DataRef(data_uri=ref.data_uri, data_digest=ref.data_digest, split_digest=ref.split_digest)


def initial_weights(original: Original) -> str | None:
    """SHA-256 of the file of weights that the original, or the first stage before it, started from; None: none."""
    created = original.trial.created
    return created.stages[0].weights_sha256 if created.stages else created.weights_sha256


def _data_drift(ref: DataRef, storage: Storage, settings: Settings) -> list[str]:
    staged = stage(ref, storage=storage, cache=settings.cache)
    lines = []
    found = open_data(staged.packed).digest
    if found != ref.data_digest:
        lines.append(f"data: the digest was {ref.data_digest[:12]}, {ref.data_uri} now has {found[:12]}.")
    split = read_split(staged.split).digest
    if split != ref.split_digest:
        lines.append(f"split: the digest was {ref.split_digest[:12]} and is {split[:12]}.")
    return lines


def best_figures(reports: Sequence[EpochReport], objective: Objective) -> dict[str, float]:
    """``best/...``: the validation figures of the epoch that is best by ``objective``."""
    best = objective.best(reports)
    if best is None:
        return {}
    return {
        f"best/{name.removeprefix('val/')}": value
        for name, value in sorted(best.metrics.items())
        if name.startswith("val/")
    }


@dataclass(frozen=True)
class Comparison:
    """Original against re-run, figure by figure, epoch by epoch."""

    identical: bool
    max_abs_diff: float | None
    differences: tuple[str, ...]


def compare(original: Original, again: TrialState) -> Comparison:
    """Compare every ``train/`` and ``val/`` figure of every epoch, and so the best ones too.

    ``max_abs_diff`` is over figures both have; a figure or epoch that only one has is a difference too.
    """
    first = {report.epoch: report.metrics for report in original.reports}
    second = {report.epoch: report.metrics for report in again.reports}
    differences = [f"epoch {epoch} is only in one of them" for epoch in sorted(first.keys() ^ second.keys())]
    largest: float | None = None
    for epoch in sorted(first.keys() & second.keys()):
        for name in sorted(_compared(first[epoch]) | _compared(second[epoch])):
            if name not in first[epoch] or name not in second[epoch]:
                differences.append(f"epoch {epoch} {name}: only in one of them")
                continue
            difference = abs(first[epoch][name] - second[epoch][name])
            largest = difference if largest is None else max(largest, difference)
            if difference != 0.0:
                differences.append(f"epoch {epoch} {name}: {first[epoch][name]:.9g} was, {second[epoch][name]:.9g} is")
    return Comparison(not differences and largest is not None, largest, tuple(differences))


def _compared(metrics: Mapping[str, float]) -> set[str]:
    return {name for name in metrics if name.startswith(COMPARED)}
