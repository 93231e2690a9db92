"""A node that is killed under a trial of several processes, on real Ray."""

from __future__ import annotations

import json
import threading
from collections import Counter
from pathlib import Path

import pytest
import ray

from orchestrator.journal.events import AttemptFailed, DataStaged, Event, TeamPlaced, TrialReported
from orchestrator.journal.segments import read_events
from orchestrator.storage import open_storage
from tests.parts.faults import DOCUMENT, ExtraNode, run

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def trained_together(ray_address: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Event], str]:
    """A trial of two processes whose node is killed: its folder, the journal, the ID of the node.

    The node of the worker that holds them lives: it alone has the memory that one asks for.
    """
    tmp_path, monkeypatch = tmp_path_factory.mktemp("together"), pytest.MonkeyPatch()
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    in_the_way = ray.remote(num_cpus=1)(Counter).remote()  # so that the two processes do not fit beside the worker
    ray.get(in_the_way.total.remote())
    node = ExtraNode(ray_address, num_cpus=2, memory=2**19)
    placed: list[str] = []
    killed = threading.Event()

    def heard(event: Event) -> None:
        if isinstance(event, TeamPlaced):
            placed.append(event.node_id)
        if isinstance(event, TrialReported) and not killed.is_set():
            killed.set()
            node.kill()
            ray.kill(in_the_way)

    trial = {
        **DOCUMENT["trial"],
        "data": {"source": "synthetic", "synthetic": {"images": 600, "size": 16}},
        "schedule": {"name": "constant", "epochs": 30},
        "compute": {"processes": 2},
    }
    try:
        result, state = run(
            tmp_path, source=None, listener=heard, trial=trial, space={}, scheduler="none",
            resources={"cpus": 2, "memory": 1000}, search={"algorithm": "random", "trials": 1}, retries=0,
        )  # fmt: skip
    finally:
        node.kill()
        monkeypatch.undo()
    assert (result.status, result.counts["completed"]) == ("completed", 1)
    events, _ = read_events(open_storage(str(tmp_path / "storage")), result.sweep_id)
    (trial_id,) = state.trials
    return tmp_path / "storage/sweeps" / result.sweep_id / "trials" / trial_id, events, node.id


def test_a_killed_node_costs_no_retry_where_several_processes_train_a_trial(
    trained_together: tuple[Path, list[Event], str],
) -> None:
    _, events, node_id = trained_together
    assert [event.node_id == node_id for event in events if isinstance(event, TeamPlaced)] == [True, False]
    (failure,) = (event for event in events if isinstance(event, AttemptFailed))
    assert (failure.cause, failure.charged) == ("node_lost", False)
    reports = [event for event in events if isinstance(event, TrialReported)]
    assert [report.epoch for report in reports] == list(range(1, 31))
    attempts = [report.attempt for report in reports]
    assert attempts == sorted(attempts)
    assert set(attempts) == {0, 1}, "it went on from its checkpoint"


def test_two_processes_train_a_trial_and_one_writes(trained_together: tuple[Path, list[Event], str]) -> None:
    folder, events, _ = trained_together
    kinds = Counter(event.kind for event in events)
    assert (kinds["attempt_started"], kinds["data_staged"], kinds["trial_ended"]) == (2, 2, 1)
    assert all(e.spent_s + e.saved_s > 0 for e in events if isinstance(e, DataStaged))
    reports = [event for event in events if isinstance(event, TrialReported)]
    assert reports[0].metrics["val/images"] == 60, "of both processes"
    assert sorted(path.name for path in folder.iterdir()) == ["attempt-0", "attempt-1"]
    lines = (folder / "attempt-1/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == list(range(1, 31))
    log = (folder / "attempt-1/log.txt").read_text()
    assert log.count("epoch 30:") == 1
