"""Commands to a running sweep from another process, on real Ray, with a driver that is killed in between."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from orchestrator.catalog import control
from orchestrator.storage import open_storage

pytestmark = pytest.mark.slow

LR = {"loguniform": [1.0e-4, 1.0e-2]}


def wait_for(agr: Any, sweep_id: str, condition: Any, seconds: float = 90) -> list[dict[str, Any]]:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        events: list[dict[str, Any]] = agr.events(sweep_id)
        if condition(events):
            return events
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds} s: {[event['kind'] for event in agr.events(sweep_id)]}")


def has(kind: str, **fields: Any) -> Any:
    return lambda events: any(
        e["kind"] == kind and all(e[name] == value for name, value in fields.items()) for e in events
    )


def test_a_steered_sweep_is_killed_resumed_extended_and_continued(agr: Any, tmp_path: Path) -> None:
    file = agr.sweep_file(
        trial={
            "data": {"source": "synthetic", "synthetic": {"images": 120, "size": 32}},
            "tasks": ["age"],
            "image": {"size": 32},
            "batch_size": 60,
            "schedule": {"name": "constant", "epochs": 40},
            "model": {"name": "basic_cnn", "conv_layers": 2, "base_features": 4, "hidden": 8},
        },
        space={"optimizer": {"name": "nadam", "lr": LR}},
        search={"algorithm": "random", "trials": 3, "seed": 7},
        scheduler="none",
    )
    driver = agr.start("submit", file, stderr=tmp_path / "said.txt")
    folder = agr.home / "storage" / "sweeps"
    while not folder.exists() or not list(folder.glob("*/journal/*.jsonl")):
        assert driver.poll() is None, (tmp_path / "said.txt").read_text()
        time.sleep(0.2)
    sweep_id = next(folder.glob("*/journal")).parent.name
    wait_for(agr, sweep_id, has("trial_reported", epoch=1))
    control.send(open_storage(str(agr.home / "storage")), sweep_id, "pause")  # before the sweep is over
    wait_for(agr, sweep_id, has("control_received", command="pause"))
    agr.run("enqueue", sweep_id, "optimizer.lr=0.002")
    agr.run("narrow", sweep_id, "optimizer.lr={loguniform: [1.0e-3, 1.0e-2]}")
    wait_for(agr, sweep_id, lambda events: agr.json("status", sweep_id)["trials"]["running"] == 0)
    assert agr.json("status", sweep_id)["status"] == "paused"
    driver.kill()
    driver.wait()

    outside = agr.run("enqueue", sweep_id, "optimizer.lr=0.5", code=2).stderr
    assert "nearest inside is 0.01" in outside
    assert len(outside.strip().splitlines()) == 1
    result = agr.json("resume", sweep_id)
    assert (result["status"], result["trials"]["completed"], result["trials"]["interrupted"]) == ("completed", 4, 0)
    extended = agr.json("extend", sweep_id, "--trials", "1")
    assert (extended["status"], extended["trials"]["completed"]) == ("completed", 5)

    events = agr.events(sweep_id)
    rates = [event["config"]["optimizer"]["lr"] for event in events if event["kind"] == "trial_created"]
    assert all(rate >= 1e-3 for rate in rates[rates.index(0.002) :])
    assert all("@" in event["sender"] for event in events if event["kind"] == "control_received")
    trial_id = extended["best"]["trial_id"]
    continued = agr.json("continue", trial_id, "--epochs", "42")
    assert continued["trials"]["completed"] == 5
    log = agr.run("logs", trial_id).stdout
    assert "epoch 41:" in log
    assert "epoch 39:" not in log, "it goes on from its checkpoint"
    assert agr.json("rerun", trial_id)["identical"], "to the bit what training 42 epochs from the start gives"
    status = agr.json("status", sweep_id)
    assert status["spent"]["wall_s"] > 0
    assert status["spent"]["usd"] is None, "the node has no price"


def test_a_driver_killed_after_each_command_leaves_the_histories_of_an_undisturbed_sweep(
    agr: Any, tmp_path: Path, read_histories: Any
) -> None:
    def file(name: str) -> str:
        return str(
            agr.sweep_file(
                name=name,
                trial={
                    "data": {"source": "synthetic", "synthetic": {"images": 120, "size": 32}},
                    "tasks": ["age"],
                    "image": {"size": 32},
                    "batch_size": 60,
                    "schedule": {"name": "constant", "epochs": 80},
                    "model": {"name": "basic_cnn", "conv_layers": 2, "base_features": 4, "hidden": 8},
                },
                space={"optimizer": {"name": "nadam", "lr": LR}},
                search={"algorithm": "tpe", "trials": 3, "seed": 7},
                scheduler="none",
            )
        )

    undisturbed = agr.json("submit", file("whole"))["sweep_id"]
    driver = agr.start("submit", file("killed"), stderr=tmp_path / "submitted.txt")
    folder = agr.home / "storage" / "sweeps"
    while not list(folder.glob("killed-*/journal/*.jsonl")):
        assert driver.poll() is None, (tmp_path / "submitted.txt").read_text()
        time.sleep(0.1)
    sweep_id = next(folder.glob("killed-*")).name
    events = wait_for(agr, sweep_id, has("trial_reported", epoch=1))
    first = next(event["trial_id"] for event in events if event["kind"] == "trial_created")
    commands = (
        ("pause", sweep_id),
        ("kill", first),
        ("retry", sweep_id, "--outcome", "interrupted", first),
        ("set", sweep_id, "concurrency=50%"),
    )
    for number, command in enumerate(commands, start=1):
        agr.run(*command)
        wait_for(agr, sweep_id, has("control_received", command=command[0], refused=""))
        driver.kill()
        driver.wait()
        if number < len(commands):
            driver = agr.start("resume", sweep_id, stderr=tmp_path / f"resumed-{number}.txt")
            wait_for(agr, sweep_id, lambda events, n=number: sum(e["kind"] == "driver_started" for e in events) > n)
    result = agr.json("resume", sweep_id)

    assert (result["status"], result["trials"]["completed"], result["trials"]["interrupted"]) == ("completed", 3, 0)
    ours, whole = (read_histories(agr.events(each)) for each in (sweep_id, undisturbed))
    for trial in (*ours, *whole):
        trial["ends"] = trial["ends"][-1:]  # the killed trial has an end before it was tried again
    assert ours == whole
