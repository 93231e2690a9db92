"""A sweep each trial of which two processes train, by Ray Train, on gloo."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Agr

pytestmark = pytest.mark.cluster


def test_two_processes_train_a_trial_and_one_writes(agr: Agr) -> None:
    sweep = agr.sweep_file(
        name="team",
        trial={
            "data": {"source": "synthetic", "synthetic": {"images": 200, "size": 32}},
            "tasks": ["age", "gender"],
            "image": {"size": 32},
            "batch_size": 40,
            "schedule": {"name": "constant", "epochs": 2},
            "model": {"name": "basic_cnn", "conv_layers": 2, "base_features": 4, "hidden": 8},
            "compute": {"processes": 2},
        },
        space=None,
        search={"algorithm": "random", "trials": 1},
        scheduler="none",
        resources={"cpus": 2, "memory": "1GB"},
        concurrency=None,
    )
    ended = agr.json("submit", sweep)

    assert ended["trials"]["completed"] == 1
    events = agr.events(ended["sweep_id"])
    kinds = [event["kind"] for event in events]
    assert kinds.count("attempt_started") == kinds.count("trial_ended") == 1
    (staged,) = (event for event in events if event["kind"] == "data_staged")
    assert staged["saved_s"] > 0 or staged["spent_s"] > 0
    reports = [event for event in events if event["kind"] == "trial_reported"]
    assert [report["epoch"] for report in reports] == [1, 2]
    assert reports[0]["metrics"]["val/images"] == 20, "of both processes"

    trial = agr.home / "storage/sweeps" / ended["sweep_id"] / "trials" / ended["best"]["trial_id"]
    assert [path.name for path in trial.iterdir()] == ["attempt-0"]
    lines = (trial / "attempt-0/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]
    log = (trial / "attempt-0/log.txt").read_text()
    assert (log.count("epoch 1:"), log.count("epoch 2:")) == (1, 1)
    shown = agr.json("status", ended["sweep_id"])
    assert shown["data"]["spent_s"] + shown["data"]["saved_s"] > 0
