"""The time left, on sweeps replayed from recorded learning curves; ``eta.py`` replays 200."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from eta import coverage, replay
from replay.table import Curves


def test_the_interval_holds_the_true_end_of_most_replayed_sweeps() -> None:
    found = coverage(40)
    said = 40 - found["unsaid"]
    assert said >= 36
    assert 0.65 <= found["inside"] / said <= 0.95, found  # of 200: docs/measurements.md


def test_a_replayed_sweep_has_its_trials_and_never_more_of_them_than_slots_at_a_time() -> None:
    sweep = replay(Curves().every(), 3)
    assert len(sweep.trials) == sweep.planned
    for trial in sweep.trials:
        now = trial.start
        at_once = sum(other.start <= now < other.ends[-1] for other in sweep.trials)
        assert at_once <= sweep.slots
    assert any(len(trial.ends) < sweep.course.epochs for trial in sweep.trials)
