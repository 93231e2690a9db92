"""Plain Ray Tune in the process of a driver: a sweep leaves nothing of its own behind."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from ray import tune
from ray.tune.schedulers import FIFOScheduler

sys.path.insert(0, str(Path(__file__).parent))
from test_between_trials import sweep_with

from tests.parts.faults import Empty, no_fault, trainable

pytestmark = pytest.mark.slow


def test_plain_tune_works_in_the_process_of_a_sweep(ray_address: str, tmp_path: Path) -> None:
    class Plain(tune.Trainable):  # type: ignore[misc]
        def setup(self, config: dict[str, Any]) -> None:
            self.lr = config["lr"]

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.setup(new_config)
            return True

        def step(self) -> dict[str, Any]:
            return {"error": self.lr, "done": True}

    level, environment = logging.getLogger("ray").level, dict(os.environ)
    state = sweep_with(tmp_path, trainable(Empty, no_fault), concurrency=1)
    assert {trial.outcome for trial in state.trials.values()} == {"completed"}
    assert logging.getLogger("ray").level == level
    assert dict(os.environ) == environment

    analysis = tune.run(
        Plain,
        config={"lr": tune.grid_search([1.0, 2.0, 3.0])},
        scheduler=FIFOScheduler(),
        resources_per_trial={"cpu": 1},
        reuse_actors=True,
        storage_path=str(tmp_path / "plain"),
        verbose=0,
    )
    assert sorted(trial.last_result["error"] for trial in analysis.trials) == [1.0, 2.0, 3.0]
    assert analysis.get_best_config("error", "min") == {"lr": 1.0}
