from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from agr_core.errors import IntegrityError
from orchestrator import control
from orchestrator.errors import NotFoundError
from orchestrator.storage import layout
from sweeps import Clock, local, make_run, small_sweep

SWEEP = "small-20260101-000000-abcd"


def test_commands_come_oldest_first_and_without_those_that_were_obeyed(tmp_path: Path) -> None:
    storage = local(tmp_path)
    first = control.send(storage, SWEEP, "kill", {"trial_id": "a"})
    second = control.send(storage, SWEEP, "stop")
    assert control.pending(storage, SWEEP, obeyed=set()) == [first, second]
    assert control.pending(storage, SWEEP, obeyed={first.key}) == [second]


def test_an_object_that_is_no_command_is_named(tmp_path: Path) -> None:
    storage = local(tmp_path)
    storage.write(f"{layout.control(SWEEP)}/00.json", b"{}")
    with pytest.raises(IntegrityError, match=r"00\.json is not a command"):
        control.pending(storage, SWEEP, obeyed=set())


def test_a_command_this_version_does_not_know_is_refused_and_not_ignored(tmp_path: Path) -> None:
    clock = Clock()
    storage = local(tmp_path)
    run = make_run(storage, small_sweep(), clock=clock)
    run.begin()
    control.send(storage, SWEEP, "dance")
    clock.now += 3
    with pytest.raises(NotFoundError, match="'dance'"):
        run.poll()
