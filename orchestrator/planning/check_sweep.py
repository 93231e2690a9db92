"""Check of a sweep before it starts: which combinations fit and how fast they train, and what follows from that."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from agr_core.objective import Objective
from orchestrator.assets.datasets import prepare_data
from orchestrator.assets.measurements import Measurement, keep
from orchestrator.assets.weights import resolve_weights
from orchestrator.planning.loads import Combination
from orchestrator.ray_tune.check import Checked, Kind, check
from orchestrator.settings import Settings
from orchestrator.spec.folds import at_fold
from orchestrator.spec.load import Sweep
from orchestrator.spec.model import ResourcesSpec
from orchestrator.storage.base import Storage
from orchestrator.tracking.runs import trial_of_run
from orchestrator.worker.job import Job

_UNEQUAL = 1.5
"""Ratio of costs from which the slowest and the fastest combination are named."""


@dataclass(frozen=True)
class Row:
    """Result of one combination on one kind of node."""

    branch: str
    checked: Checked

    @property
    def fits(self) -> bool:
        """Whether it can run there."""
        return self.checked.measured is not None

    def document(self) -> dict[str, object]:
        """Plain JSON."""
        measured = self.checked.measured
        return {
            "branch": self.branch,
            "fits": self.fits,
            "main_gb": _rounded(None if measured is None else measured.main_gb),
            "gpu_gb": _rounded(None if measured is None else measured.gpu_gb),
            "images_per_s": _rounded(None if measured is None else measured.images_per_s),
            "start_s": _rounded(None if measured is None else measured.start_s),
            "node": self.checked.kind.name,
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def check_sweep(
    sweep: Sweep,
    combinations: Sequence[Combination],
    kinds: Sequence[Kind],
    *,
    storage: Storage,
    settings: Settings,
    done: Callable[[Row], None],
) -> list[Row]:
    """Measure combinations on each kind of node and keep the figures in the storage.

    Raises:
        InputError: If the data or the initial weights cannot be used.
        StorageError: If a store refuses or does not answer.
    """
    jobs = [_job(sweep, combination, storage, settings) for combination in combinations]
    results = check(
        jobs,
        sweep.spec.resources,
        kinds,
        concurrency=sweep.spec.concurrency,
        done=lambda checked: done(Row(combinations[checked.index].branch, checked)),
    )
    for checked in results:
        if checked.measured is not None:
            figures = vars(checked.measured)
            keep(storage, Measurement(load=combinations[checked.index].load, time=time.time(), **figures))
    return [Row(combinations[checked.index].branch, checked) for checked in results]


def _job(sweep: Sweep, combination: Combination, storage: Storage, settings: Settings) -> Job:
    config, stage, spec = combination.config, combination.stage, sweep.spec
    if spec.folds is not None and stage is None:
        config = at_fold(config, 0, folds=spec.folds)
    data = prepare_data(config.data, storage=storage, cache=settings.cache)
    if config.init is not None:  # the weights of a stage that is not trained yet; they change neither memory nor speed
        model = config.model.model_copy(update={"weights": "none", "weights_sha256": None})
        config = config.model_copy(update={"init": None, "model": model})
    weights = resolve_weights(config.model, storage=storage, settings=settings, trial_of_run=trial_of_run)
    objectives = spec.objectives
    if stage is not None:
        objectives = (Objective(metric=stage.objective.metric, direction=stage.objective.direction),)
    return Job(
        sweep_id="check",
        trial_id="check",
        attempt=0,
        storage=storage.uri,
        config=config.to_document(),
        objective=objectives[0].model_dump(mode="json"),
        further=tuple(objective.model_dump(mode="json") for objective in objectives[1:]),
        keep={} if stage is not None else {label: aim.model_dump(mode="json") for label, aim in spec.keep.items()},
        data=data,
        weights_sha256=weights,
    )


def consequences(rows: Sequence[Row], resources: ResourcesSpec) -> Iterator[str]:
    """Yield what follows from the figures, one line each."""
    for row in rows:
        if not row.fits:
            reason = f"not enough {row.checked.lacks}" if row.checked.lacks else row.checked.problem
            yield f"does not run on {row.checked.kind.name}: {row.branch} ({reason})"
    for kind in dict.fromkeys(row.checked.kind.name for row in rows):
        of_kind = [row for row in rows if row.checked.kind.name == kind and row.fits]
        if of_kind:
            yield from _beside(of_kind, resources)
            yield from _unequal(of_kind)


def _beside(rows: Sequence[Row], resources: ResourcesSpec) -> Iterator[str]:
    """Yield how many of the largest trials fit beside each other."""
    kind = rows[0].checked.kind
    main = max(rows, key=lambda row: _figure(row, "main_gb"))
    held = _figure(main, "main_gb")
    if held:
        fits = math.floor(kind.memory / 1e9 / held)
        yield (
            f"{kind.name}: {fits} of the largest ({held:.3g} GB: {main.branch}) fit into its main memory beside each "
            "other"
        )
    gpu = max(rows, key=lambda row: _figure(row, "gpu_gb"))
    held = _figure(gpu, "gpu_gb")
    total = gpu.checked.measured.gpu_total_gb if gpu.checked.measured is not None else None
    if held and total:
        fits = math.floor(total / held)
        asked = f"gpus: {resources.gpus:g} asks for {math.floor(1 / resources.gpus)}" if 0 < resources.gpus < 1 else ""
        least = math.ceil(100 / fits) / 100 if fits else 1.0
        advice = f"; {asked}, and gpus: {least:g} would fit" if asked else f"; gpus: {least:g} would use that"
        yield f"{kind.name}: {fits} of the largest ({held:.3g} of {total:.3g} GB: {gpu.branch}) fit on a GPU{advice}"


def _unequal(rows: Sequence[Row]) -> Iterator[str]:
    fastest = max(rows, key=lambda row: _figure(row, "images_per_s"))
    slowest = min(rows, key=lambda row: _figure(row, "images_per_s"))
    times = _figure(fastest, "images_per_s") / _figure(slowest, "images_per_s")
    if times >= _UNEQUAL:
        yield (
            f"{rows[0].checked.kind.name}: an image of the slowest ({slowest.branch}) costs {times:.2g} times that of "
            f"the fastest ({fastest.branch})"
        )


def _figure(row: Row, name: str) -> float:
    value = getattr(row.checked.measured, name)
    return float(value or 0.0)
