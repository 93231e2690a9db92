"""``agr check`` on real Ray: a branch that does not fit, and two whose speeds differ, against a sweep's own figures.

A limit of main memory (``resources.memory``, as RLIMIT_DATA of each process) stands in for that of a GPU.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = pytest.mark.slow

SMALL = {"name": "basic_cnn", "conv_layers": 2, "base_features": 8, "hidden": 8}
SLOW = {"name": "basic_cnn", "conv_layers": 2, "base_features": 32, "hidden": 8}
LARGE = {"name": "basic_cnn", "conv_layers": 1, "base_features": 16, "hidden": 8192}
TRIAL = {
    "data": {"source": "synthetic", "synthetic": {"images": 3000, "size": 48}},
    "tasks": ["age"],
    "image": {"size": 48},
    "batch_size": 48,
    "schedule": {"name": "constant", "epochs": 3},
}
TEAM = {
    "trial": TRIAL | {"compute": {"processes": 2}},
    "scheduler": "none",
    "search": {"algorithm": "grid"},
}
MEASURED = 4
"""Measurements of each at most: other work on the machine slows down a part of one, and speeds up none."""


def _fastest(measured: list[list[float]]) -> float:
    """Ratio of the two branches' speeds, each at its fastest."""
    small, slow = (max(speeds) for speeds in zip(*measured, strict=True))
    return small / slow


def trained(agr: Any, file: str) -> list[float]:
    """Images a second of the small and of the slow branch in a sweep."""
    rates: dict[int, list[float]] = {}
    of_trial = {}
    for event in agr.events(agr.json("submit", file)["sweep_id"]):
        if event["kind"] == "trial_created":
            of_trial[event["trial_id"]] = event["config"]["model"]["base_features"]
        if event["kind"] == "trial_reported":
            rates.setdefault(of_trial[event["trial_id"]], []).append(event["metrics"]["time/images_per_s"])
    return [max(rates[8]), max(rates[32])]


@pytest.mark.alone
def test_a_branch_that_does_not_fit_and_two_that_differ_in_speed_are_found_and_remembered(agr: Any) -> None:
    file = agr.sweep_file(
        trial=TRIAL,
        space={"model": [SMALL, SLOW, LARGE]},
        search={"algorithm": "grid"},
        scheduler="none",
        resources={"cpus": 1, "memory": "1.4GB"},  # the slow one holds 0.5 to 1, the large one 1.7
    )
    checked = agr.run("check", file, "--json", code=1)
    assert "not enough main memory" in checked.stderr

    rows = json.loads(checked.stdout)
    assert [set(row) for row in rows] == [
        {"branch", "fits", "main_gb", "gpu_gb", "images_per_s", "start_s", "node"}
    ] * 3
    assert [row["fits"] for row in rows] == [True, True, False]
    assert "an image of the slowest" in checked.stderr

    two = agr.sweep_file(
        trial=TRIAL,
        space={"model": [SMALL, SLOW]},
        search={"algorithm": "grid"},
        scheduler="none",
        concurrency=1,  # a check measures one after the other too
    )
    checks = [[row["images_per_s"] for row in rows[:2]]]
    trainings = [trained(agr, two)]
    while _fastest(checks) != pytest.approx(_fastest(trainings), rel=0.2) and len(checks) < MEASURED:
        checks.append([row["images_per_s"] for row in agr.json("check", two)])
        trainings.append(trained(agr, two))
    assert _fastest(checks) == pytest.approx(_fastest(trainings), rel=0.2)
    planned = agr.json("plan", two, "--nodes", "1x0:cpu2", "--seeds", "1")
    assert any("agr check" in line for line in planned["assumed"])


def test_trials_of_several_processes_are_measured_by_as_many(agr: Any) -> None:
    file = agr.sweep_file(**TEAM, space={"model": [SMALL, LARGE]}, resources={"cpus": 2, "memory": "1.5GB"})
    checked = agr.run("check", file, "--json", code=1)
    small, large = json.loads(checked.stdout)

    assert (small["fits"], large["fits"]) == (True, False)
    assert "its 2 processes use" in checked.stderr
    assert "(not enough main memory)" in checked.stderr
    one = {"model": [SMALL]}
    alone = agr.json("check", agr.sweep_file(trial=TRIAL, space=one, search={"algorithm": "grid"}, scheduler="none"))
    assert small["main_gb"] > 1.5 * alone[0]["main_gb"], "of both processes"
    assert small["images_per_s"] > 0
