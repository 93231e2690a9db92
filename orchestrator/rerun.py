"""Train a recorded trial again and compare the results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agr_core.config import DataConfig, TrialConfig
from agr_core.data.packed.joined import open_data
from agr_core.data.splits.splits import read_split
from agr_core.objective import Objective
from agr_core.reporting import EpochReport
from orchestrator import provenance
from orchestrator.assets.datasets import stage
from orchestrator.catalog.find import trial_in
from orchestrator.errors import NotFoundError
from orchestrator.journal.events import DataRef
from orchestrator.journal.recorded_config import recorded_config
from orchestrator.journal.sweep_state import SweepState, TrialState
from orchestrator.results.attempt_files import recorded_provenance
from orchestrator.results.trial_metrics import reports_of
from orchestrator.settings import Settings
from orchestrator.spec.load import Sweep, sweep_from_document
from orchestrator.storage import layout
from orchestrator.storage.base import Storage

COMPARED = ("train/", "val/")
"""Figures that are a function of the configuration; others are times. ``best/`` are those of one epoch of ``val/``."""


@dataclass(frozen=True)
class Original:
    """A recorded trial to be trained again."""

    sweep: SweepState
    trial: TrialState
    reports: tuple[EpochReport, ...]
    provenance: dict[str, Any]


def find_original(storage: Storage, sweep: SweepState, trial_id: str) -> Original:
    """Return the recorded trial and its training inputs.

    Raises:
        NotFoundError: If it never reported an epoch: there is nothing to compare with.
        InputError: If it uses a plug-in that is not installed here.
    """
    trial = trial_in(sweep, trial_id)
    if not trial.reports:
        raise NotFoundError(
            f"trial {trial_id} reported no epoch (outcome: {trial.outcome or 'running'}), so there is nothing to "
            "compare a re-run with. `agr rerun` needs a trial with at least one epoch."
        )
    recorded_config(trial.created, sweep.started)
    return Original(sweep, trial, reports_of(trial), _trial_provenance(storage, sweep, trial))


def _trial_provenance(storage: Storage, sweep: SweepState, trial: TrialState) -> dict[str, Any]:
    folder = layout.attempt(sweep.started.sweep_id, trial.trial_id, trial.reports[-1].attempt)
    return recorded_provenance(storage, folder, trial)


def rerun_sweep(original: Original, settings: Sequence[str]) -> Sweep:
    """Return a one-trial sweep of the original's configuration; ``settings`` are like ``optimizer.lr=0.01``.

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
    """Return one line for each difference since the original's training that could change the result."""
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
    for ref in dict.fromkeys(trained.data for trained in (created, *created.stages)):
        lines += _data_drift(ref, storage, settings)
    return lines + provenance.drift(original.provenance, provenance.collect())


def recorded_data(original: Original) -> Callable[[DataConfig], DataRef]:
    """Return the data references of the original and of each stage before it."""
    created = original.trial.created
    config = TrialConfig.from_document(created.config)
    by_config = {config.data.model_dump_json(): created.data}
    for before, ref in zip(config.stages, created.stages, strict=True):
        by_config[before.config.data.model_dump_json()] = ref.data
    return lambda data: by_config[data.model_dump_json()]


def initial_weights(original: Original) -> str | None:
    """Return the SHA-256 of the weights file from which the original, or its first stage, started; None without one."""
    created = original.trial.created
    return created.stages[0].weights_sha256 if created.stages else created.weights_sha256


def _data_drift(ref: DataRef, storage: Storage, settings: Settings) -> list[str]:
    staged = stage(ref, storage=storage, cache=settings.cache)
    lines = []
    present = open_data(staged.packed).digest
    if present != ref.data_digest:
        lines.append(f"data: the digest was {ref.data_digest[:12]}, {ref.data_uri} now has {present[:12]}.")
    split = read_split(staged.split).digest
    if split != ref.split_digest:
        lines.append(f"split: the digest was {ref.split_digest[:12]} and is {split[:12]}.")
    return lines


def best_figures(reports: Sequence[EpochReport], objective: Objective) -> dict[str, float]:
    """Return ``best/...``: the validation metrics of the best epoch by ``objective``."""
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
    """Original against re-run, metric by metric, epoch by epoch."""

    identical: bool
    max_abs_diff: float | None
    differences: tuple[str, ...]
    added: tuple[str, ...] = ()
    """Metrics of the re-run that the original's version did not compute in any epoch; they are no difference."""


def compare(original: Original, again: TrialState) -> Comparison:
    """Compare every ``train/`` and ``val/`` metric of every epoch, and so the best ones too.

    ``max_abs_diff`` is over metrics that both have. An epoch that only one has is a difference too, and so is a metric,
    unless the original has it in no epoch: then its version did not know it.
    """
    first = {report.epoch: report.metrics for report in original.reports}
    second = {report.epoch: report.metrics for report in again.reports}
    differences = [f"epoch {epoch} is only in one of them" for epoch in sorted(first.keys() ^ second.keys())]
    known = {name for metrics in first.values() for name in _compared(metrics)}
    added = {name for metrics in second.values() for name in _compared(metrics)} - known
    largest: float | None = None
    for epoch in sorted(first.keys() & second.keys()):
        for name in sorted((_compared(first[epoch]) | _compared(second[epoch])) - added):
            if name not in first[epoch] or name not in second[epoch]:
                differences.append(f"epoch {epoch} {name}: only in one of them")
                continue
            difference = abs(first[epoch][name] - second[epoch][name])
            largest = difference if largest is None else max(largest, difference)
            if difference != 0.0:
                differences.append(f"epoch {epoch} {name}: {first[epoch][name]:.9g} was, {second[epoch][name]:.9g} is")
    return Comparison(not differences and largest is not None, largest, tuple(differences), tuple(sorted(added)))


def _compared(metrics: Mapping[str, float]) -> set[str]:
    return {name for name in metrics if name.startswith(COMPARED)}
