"""Forecast of a sweep on a fleet, by simulating its search and scheduler for several seeds."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agr_core.errors import InputError
from orchestrator.journal.events import SweepStarted, TrialReported
from orchestrator.journal.segments import read_events
from orchestrator.planning.fleet import Nodes, slots_of
from orchestrator.planning.speeds import Starts
from orchestrator.simulation.curves import Curve, CurveOf
from orchestrator.simulation.driver import Cluster, Node, SimulatedDriver
from orchestrator.simulation.memory_storage import MemoryStorage
from orchestrator.simulation.world import START, Actor, World
from orchestrator.spec.load import Sweep

_MOST_STEPS = 3_000_000

_TURN_S = (0.01, 5.0)
"""Bounds of the simulated driver's turns, in seconds; a hundredth of an epoch, which measured epochs include."""


@dataclass(frozen=True)
class Cost:
    """Resources used by one simulated sweep."""

    epochs: int
    gpu_hours: float
    """GPU-hours held by trials."""
    hours: float
    usd: float
    idle_share: float
    """Idle share of the slots' time, 0 to 1."""


@dataclass(frozen=True)
class Spread:
    """Quantiles of a figure over the seeds."""

    p10: float
    p50: float
    p90: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Compute the quantiles of ``values``."""
        return cls(*(float(value) for value in np.percentile(values, (10, 50, 90))))

    def document(self) -> dict[str, float]:
        """Plain JSON."""
        return {"p10": round(self.p10, 4), "p50": round(self.p50, 4), "p90": round(self.p90, 4)}


@dataclass(frozen=True)
class Forecast:
    """Forecast for one fleet."""

    fleet: tuple[Nodes, ...]
    epochs: Spread
    gpu_hours: Spread
    hours: Spread
    usd: Spread
    idle_share: Spread

    def document(self) -> dict[str, Any]:
        """Plain JSON."""
        figures = ("epochs", "gpu_hours", "hours", "usd", "idle_share")
        return {
            "nodes": " + ".join(map(str, self.fleet)),
            **{name: getattr(self, name).document() for name in figures},
        }


def forecast(
    sweep: Sweep,
    fleet: Sequence[Nodes],
    *,
    curves: Callable[[int], CurveOf],
    starts: Starts,
    seeds: int,
    around_s: float = 0.0,
) -> Forecast:
    """Simulate the sweep on the fleet.

    Args:
        sweep: The sweep.
        fleet: The machines.
        curves: Returns the learning curves, with the durations of epochs, of a simulation by its number.
        starts: Time from a trial's start to its first epoch.
        seeds: Number of simulations.
        around_s: Seconds of the sweep before its first trial and after its last.

    Raises:
        InputError: If no trial fits on the machines, or the sweep never ends.
    """
    slots = slots_of(fleet, sweep.spec.resources)
    if sweep.spec.search is None or (sweep.spec.search.trials is None and sweep.spec.budget.wall is None):
        raise InputError("the sweep has neither search.trials nor budget.wall, so it has no end; give one of them.")
    costs = [_cost(sweep, fleet, slots, curves(seed), starts, around_s, seed=seed) for seed in range(seeds)]
    figures = ("epochs", "gpu_hours", "hours", "usd", "idle_share")
    return Forecast(tuple(fleet), *(Spread.of([getattr(cost, name) for cost in costs]) for name in figures))


def _cost(
    sweep: Sweep,
    fleet: Sequence[Nodes],
    slots: Sequence[int],
    curves: CurveOf,
    starts: Starts,
    around_s: float,
    *,
    seed: int,
) -> Cost:
    world = World(f"plan/{seed}")
    storage = MemoryStorage(world.clock)
    spec = sweep.spec
    started = SweepStarted.of(sweep, time=world.now, sweep_id=f"{sweep.spec.name}-20260101-000000-0000", provenance={})
    cluster = Cluster([Node(f"node {number}", room) for number, room in enumerate(slots) if room])
    waits = Waits(curves, starts, new_workers=sum(slots))
    with tempfile.TemporaryDirectory(prefix="agr-plan-") as scratch:
        driver = SimulatedDriver(
            world,
            Actor("driver"),
            sweep,
            started,
            storage,
            cluster,
            waits.curve,
            Path(scratch),
            lambda _: storage,
            start_s=waits.start_s,
            turn_s=waits.turn_s,
        )
        driver.begin()
        world.run(lambda: driver.over, most_steps=_MOST_STEPS)
    if driver.problem:
        raise InputError(f"the sweep cannot be simulated: {driver.problem}")
    events, _ = read_events(storage, started.sweep_id)
    hours = (world.now - START + around_s) / 3600
    return Cost(
        epochs=sum(isinstance(event, TrialReported) for event in events),
        gpu_hours=driver.busy_s / 3600 * spec.resources.gpus,
        hours=hours,
        usd=hours * sum(nodes.count * nodes.usd_per_hour for nodes in fleet),
        idle_share=1 - driver.busy_s / (hours * 3600 * sum(slots)),
    )


@dataclass
class Waits:
    """Durations of one simulated sweep: the first trial of each slot starts a worker process, later ones reuse it."""

    curves: CurveOf
    starts: Starts
    new_workers: int
    _shortest_s: float = math.inf

    def curve(self, config: Mapping[str, Any]) -> Curve:
        """Return the curve of a configuration, and note how long its epochs take."""
        curve = self.curves(config)
        self._shortest_s = min(self._shortest_s, curve.epoch_s)
        return curve

    def start_s(self) -> float:
        """Return the seconds of the next start."""
        self.new_workers -= 1
        return self.starts.cold_s if self.new_workers >= 0 else self.starts.warm_s

    def turn_s(self) -> float:
        """Return the seconds of a turn of the driver."""
        least, most = _TURN_S
        return least if self._shortest_s == math.inf else min(most, max(least, self._shortest_s / 100))
