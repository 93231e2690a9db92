"""How many workers wait on a node. That they wait, and take trials, is in tests/cluster/test_gone.py."""

from __future__ import annotations

import pytest

from agr_core.errors import InputError
from orchestrator.ray_tune import warm
from orchestrator.ray_tune.internals import core


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """256 cores and 64 GB."""
    monkeypatch.setattr(core, "cpu_count", lambda: 256)
    monkeypatch.setattr(core, "system_memory", lambda: 64 * 10**9)


@pytest.mark.parametrize(
    ("asked", "cpus", "number"),
    [
        (None, None, 53),  # 6.4 GB at 120 MB each
        (None, 16, 16),
        (None, 0, 0),
        (200, None, 200),
        (0, None, 0),
    ],
)
def test_one_worker_a_core_waits_in_a_tenth_of_the_memory_or_as_many_as_asked(
    machine: None, asked: int | None, cpus: int | None, number: int
) -> None:
    assert warm.worker_count(asked, cpus) == number


def test_more_workers_than_cores_are_refused(machine: None) -> None:
    with pytest.raises(InputError, match=r"--warm 9: .* there are 8"):
        warm.worker_count(9, 8)


def test_a_node_without_waiting_workers_is_as_ray_makes_it() -> None:
    assert warm.environment(0) == {}
