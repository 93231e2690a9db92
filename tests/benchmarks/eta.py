"""How often does the interval of the time left hold the true end? Recorded learning curves, replayed as sweeps.

    python tests/benchmarks/eta.py [--sweeps 200]

Each sweep draws its trials from the recorded configurations (curves.csv), its scheduler, its number of trials and of
workers. The real successive halving ends trials; an epoch takes the recorded seconds, times a factor of the sweep's
machine, with 5 % of noise. At a third of the sweep's duration ``orchestrator.stats.eta`` is asked, as by the driver,
and the true end is compared. Exit code 0: 70 to 90 % of the ends lie between p10 and p90.
"""

from __future__ import annotations

import argparse
import heapq
import random
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from replay.table import Curve, Curves

from orchestrator.spec.load import Sweep, sweep_from_document
from orchestrator.stats.eta import Course, Eta, Length, eta
from orchestrator.sweep.halving import early_stopping
from orchestrator.sweep.settings import course_of

_START_S = 0.3
"""Seconds from a trial's start to its first epoch."""


@dataclass
class Trial:
    """One trial of a replayed sweep: when it started, and when each of its epochs ended."""

    start: float
    ends: list[float] = field(default_factory=list)
    completed: bool = False

    def at(self, now: float) -> tuple[Length, bool] | None:
        """What was known of it at a time, and whether it had ended; None if it had not begun."""
        if self.start > now:
            return None
        done = sum(end <= now for end in self.ends)
        over = done == len(self.ends)
        return Length(done, (self.ends[-1] if over else now) - self.start), over


@dataclass(frozen=True)
class Replayed:
    """A replayed sweep."""

    trials: list[Trial]
    planned: int
    slots: int
    course: Course

    @property
    def end(self) -> float:
        """When its last trial ended, in seconds from its start."""
        return max(trial.ends[-1] for trial in self.trials)

    def asked(self, now: float, *, seed: int) -> Eta | None:
        """The estimate at a time."""
        known = [found for trial in self.trials if (found := trial.at(now)) is not None]
        ended = [length for length, over in known if over]
        running = [length for length, over in known if not over]
        return eta(ended, running, self.planned - len(known), self.slots, self.course, seed=seed)


def document(chance: random.Random) -> dict[str, Any]:
    """A sweep file of drawn size, scheduler and length."""
    asha = {"name": "asha", "grace_epochs": chance.choice((1, 2)), "reduction_factor": chance.choice((2, 3))}
    return {
        "name": "replayed",
        "trial": {"schedule": {"name": "constant", "epochs": chance.choice((9, 18))}},
        "space": {"optimizer": {"name": "adam", "lr": {"loguniform": [1.0e-4, 1.0e-2]}}},
        "search": {"algorithm": "random", "trials": chance.randint(20, 60), "seed": 1},
        "scheduler": chance.choice((asha, asha, "none")),
        "objective": {"metric": "val/age_mae", "direction": "minimize"},
    }


def replay(curves: list[Curve], seed: int) -> Replayed:
    """Replay one sweep."""
    chance = random.Random(seed)
    sweep = sweep_from_document(document(chance))
    slots, machine = chance.choice((1, 2, 4, 8)), chance.uniform(1, 60)
    search = sweep.spec.search
    assert search is not None
    assert search.trials is not None
    return Replayed(
        _trials(sweep, curves, search.trials, slots, machine, chance),
        search.trials,
        slots,
        course_of(sweep.spec.scheduler, sweep.max_epochs),
    )


def _trials(
    sweep: Sweep, curves: list[Curve], count: int, slots: int, machine: float, chance: random.Random
) -> list[Trial]:
    rule = early_stopping(sweep)
    trials: list[Trial] = []
    of: list[Curve] = []
    queue: list[tuple[float, int]] = []  # the end of the next epoch of a trial

    def begin(now: float) -> None:
        if len(trials) == count:
            return
        number = len(trials)
        trials.append(Trial(now))
        of.append(chance.choice(curves))
        rule.added(str(number), number)
        heapq.heappush(queue, (now + _START_S * machine + _epoch_s(of[number], machine, chance), number))

    for _ in range(slots):
        begin(0.0)
    while queue:
        now, number = heapq.heappop(queue)
        trial, curve = trials[number], of[number]
        trial.ends.append(now)
        epoch = len(trial.ends)
        diverged = curve.diverged and epoch >= len(curve.values)
        last = epoch == sweep.max_epochs
        stops = diverged or last or rule.reported(str(number), epoch, curve.values[epoch - 1])
        if not stops:
            heapq.heappush(queue, (now + _epoch_s(curve, machine, chance), number))
            continue
        value = curve.values[min(epoch, len(curve.values)) - 1] if curve.values else None
        rule.ended(str(number), epoch, value)
        begin(now)
    return trials


def _epoch_s(curve: Curve, machine: float, chance: random.Random) -> float:
    return curve.seconds * machine * chance.uniform(0.95, 1.05)


def coverage(sweeps: int) -> Counter[str]:
    """Count where the true ends lie: ``inside``, ``earlier``, ``later``, or ``unsaid`` where nothing was estimated."""
    curves = Curves().every()
    found: Counter[str] = Counter()
    for seed in range(sweeps):
        sweep = replay(curves, seed)
        now = sweep.end / 3
        said = sweep.asked(now, seed=seed)
        if said is None:
            found["unsaid"] += 1
            continue
        left = sweep.end - now
        found["earlier" if left < said.p10 else "later" if left > said.p90 else "inside"] += 1
    return found


def main() -> None:
    """Print the shares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweeps", type=int, default=200)
    sweeps = parser.parse_args().sweeps
    found = coverage(sweeps)
    said = sweeps - found["unsaid"]
    print(f"{sweeps} replayed sweeps: {', '.join(f'{name} {count}' for name, count in sorted(found.items()))}")
    print(f"{found['inside'] / said:.0%} of the true ends lie between p10 and p90")
    sys.exit(0 if 0.7 <= found["inside"] / said <= 0.9 else 1)


if __name__ == "__main__":
    main()
