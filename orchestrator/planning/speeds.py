"""Durations of epochs and starts by configuration and hardware: from earlier sweeps and from ``agr check``."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from statistics import NormalDist, median
from typing import Any

from agr_core.errors import IntegrityError
from agr_core.identity import digest
from orchestrator.assets.measurements import Measurement, kept
from orchestrator.journal.segments import read_state
from orchestrator.journal.sweep_state import SweepState, TrialState
from orchestrator.planning.loads import load_of
from orchestrator.storage import layout
from orchestrator.storage.base import Storage

EPOCH_S = "time/epoch_s"
"""Metric of an epoch's duration, without what comes between two epochs."""

CHECK_DEVIATION = 0.15
"""Standard deviation of the logarithm of how much longer an epoch takes than `agr check` says (docs/plan.md)."""

TRAINED_DEVIATION = 0.05
"""The same of an epoch whose like was trained before: a machine is not equally fast every day."""

UNMEASURED_START_S = 5.0
"""Assumed seconds from a trial's start to its first epoch, if none was measured."""


@dataclass(frozen=True)
class Sample:
    """Measured duration of an epoch."""

    load: str
    """Digest of ``load_of`` the configuration."""
    model: str
    hardware: str
    """Kind of machine; empty in journals of earlier versions."""
    epoch_s: float
    of_check: bool = False
    """Whether `agr check` measured it, in a few steps."""


@dataclass(frozen=True)
class Starts:
    """Seconds from a trial's start to its first epoch."""

    cold_s: float
    """In a new worker process, which imports torch."""
    warm_s: float
    """In a worker that trained another trial before."""


@dataclass
class Speeds:
    """What was measured."""

    samples: list[Sample] = field(default_factory=list)
    cold_s: list[float] = field(default_factory=list)
    """Seconds from the start of a trial to its first epoch, in workers that were new."""
    warm_s: list[float] = field(default_factory=list)
    """The same in workers that had trained a trial before."""
    around_s: list[float] = field(default_factory=list)
    """Seconds of a sweep before its first trial and after its last."""
    sweeps: list[str] = field(default_factory=list)
    checked: int = 0
    """Number of combinations that `agr check` measured."""

    @property
    def hardware(self) -> list[str]:
        """The kinds of machines, each once."""
        return list(dict.fromkeys(sample.hardware for sample in self.samples if sample.hardware))

    def add(self, state: SweepState) -> None:
        """Add the measurements of a sweep."""
        before = len(self.samples)
        trials = list(state.trials.values())
        first_end = min((trial.ended.time for trial in trials if trial.ended is not None), default=None)
        for trial in trials:
            epoch_s = _epoch_s(trial)
            if epoch_s is None:
                continue
            config = trial.created.config
            model = str(config["model"]["name"])
            self.samples.append(Sample(digest(load_of(config)), model, trial.hardware, epoch_s))
            if trial.started_at is not None and not trial.failures:
                started_s = max(0.0, trial.reports[0].time - trial.started_at - epoch_s)
                cold = first_end is None or trial.started_at < first_end
                (self.cold_s if cold else self.warm_s).append(started_s)
        if len(self.samples) > before:
            self.sweeps.append(state.started.sweep_id)
            self._add_around(state)

    def _add_around(self, state: SweepState) -> None:
        """Note what a sweep takes besides its trials, if one driver ran it to its end."""
        starts = [trial.started_at for trial in state.trials.values() if trial.started_at is not None]
        ends = [trial.ended.time for trial in state.trials.values() if trial.ended is not None]
        if len(state.drivers) == 1 and state.ended is not None and starts and ends:
            before_s = min(starts) - state.drivers[0].time
            self.around_s.append(max(0.0, before_s) + max(0.0, state.ended.time - max(ends)))

    def add_measurement(self, measurement: Measurement) -> None:
        """Add what `agr check` measured of a combination."""
        model = str(measurement.load["model"]["name"])
        load = digest(measurement.load)
        self.samples.append(Sample(load, model, measurement.hardware, measurement.epoch_s, of_check=True))
        self.cold_s.append(measurement.start_s)
        self.warm_s.append(measurement.build_s)
        self.checked += 1

    def on(self, label: str) -> Speeds:
        """Return the measurements on machines whose name contains a label of ``--nodes``; all if there are none."""
        wanted = _plain(label)
        there = [sample for sample in self.samples if wanted and wanted in _plain(sample.hardware)]
        return replace(self, samples=there) if there else self

    def epoch_s(self, config: Mapping[str, Any]) -> float:
        """Return the duration of an epoch, in seconds.

        It is the median of equal load, else of the same model, else of all; of trials if any trained it, else of
        `agr check`.
        """
        return median(sample.epoch_s for sample in self._like(config))

    def in_simulation(self, number: int, simulations: int) -> Callable[[Mapping[str, Any]], float]:
        """Return the durations of epochs by configuration in one of several simulations.

        Measured speeds are off, most of them in the same direction. So each simulation has all epochs longer, or all
        shorter, by a quantile of the normal distribution of that error; the middle one has them as measured.

        Args:
            number: The simulation, from 0.
            simulations: Their number.
        """
        quantile = NormalDist().inv_cdf((number + 0.5) / simulations)

        def epoch_s(config: Mapping[str, Any]) -> float:
            like = self._like(config)
            deviation = CHECK_DEVIATION if like[0].of_check else TRAINED_DEVIATION
            return median(sample.epoch_s for sample in like) * math.exp(deviation * quantile)

        return epoch_s

    def _like(self, config: Mapping[str, Any]) -> list[Sample]:
        """Return what tells most about a configuration; either all of it is of `agr check` or nothing."""
        load, model = digest(load_of(config)), str(config["model"]["name"])
        of_load = [sample for sample in self.samples if sample.load == load]
        of_model = [sample for sample in self.samples if sample.model == model]
        like = of_load or of_model or self.samples
        return [sample for sample in like if not sample.of_check] or like

    def starts(self) -> Starts:
        """Return the duration of a trial's start."""
        cold_s = median(self.cold_s) if self.cold_s else UNMEASURED_START_S
        return Starts(cold_s, median(self.warm_s) if self.warm_s else cold_s)

    def sweep_s(self) -> float:
        """Return the seconds of a sweep before its first trial and after its last; 0 if unknown."""
        return median(self.around_s) if self.around_s else 0.0


def _epoch_s(trial: TrialState) -> float | None:
    """Return the seconds from report to report, else those that the worker measured; None without an epoch.

    From report to report, an epoch has its checkpoint and the driver's answer too.
    """
    between = [
        later.time - earlier.time
        for earlier, later in zip(trial.reports, trial.reports[1:], strict=False)
        if earlier.attempt == later.attempt and later.epoch == earlier.epoch + 1
    ]
    if between:
        return max(1e-3, median(between))
    measured = [report.metrics[EPOCH_S] for report in trial.reports if EPOCH_S in report.metrics]
    return median(measured) if measured else None


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


@dataclass(frozen=True)
class Remembered:
    """What a storage knows of earlier sweeps."""

    speeds: Speeds
    states: tuple[SweepState, ...]
    unreadable: tuple[str, ...]
    """IDs of sweeps with an unreadable journal."""


def remembered(storage: Storage) -> Remembered:
    """Return the speeds of all sweeps of a storage and of `agr check`, and the sweeps."""
    speeds, states, unreadable = Speeds(), [], []
    for sweep_id in storage.folders(layout.SWEEPS):
        if not storage.exists(layout.segment(sweep_id, 1)):
            continue
        try:
            state = read_state(storage, sweep_id)
        except IntegrityError:
            unreadable.append(sweep_id)
            continue
        speeds.add(state)
        states.append(state)
    for measurement in kept(storage):
        speeds.add_measurement(measurement)
    return Remembered(speeds, tuple(states), tuple(unreadable))
