from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from orchestrator.catalog import control
from orchestrator.journal.events import ControlReceived
from orchestrator.journal.segments import read_events
from orchestrator.storage import layout
from tests.parts.sweeps import Clock, local, make_run, small_sweep

SWEEP = "small-20260101-000000-abcd"


def test_commands_come_oldest_first_and_without_those_that_were_obeyed(tmp_path: Path) -> None:
    storage = local(tmp_path)
    first = control.send(storage, SWEEP, "kill", {"trial_id": "a"})
    second = control.send(storage, SWEEP, "stop")
    assert control.pending(storage, SWEEP, obeyed=set()) == [first, second]
    assert control.pending(storage, SWEEP, obeyed={first.key}) == [second]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="emptied"),
        pytest.param(b"{}", id="nothing in it"),
        pytest.param(b'{"command": "stop", "argum', id="cut"),
        pytest.param(b"\xff\xfe\x00", id="no text"),
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(b'["stop"]', id="a list"),
        pytest.param(b'{"command": ["stop"], "arguments": {}}', id="a name that is none"),
        pytest.param(b'{"command": "kill", "arguments": "all"}', id="arguments that are text"),
        pytest.param(b'{"command": "stop", "arguments": {}, "sent": "now"}', id="a time that is none"),
        pytest.param(b'{"command": "extend", "arguments": {"trials": "many"}}', id="a number that is none"),
        pytest.param(b'{"command": "extend", "arguments": {"trials": NaN}}', id="not a number"),
        pytest.param(b'{"command": "enqueue", "arguments": {}}', id="no configuration"),
        pytest.param(b'{"command": "enqueue", "arguments": {"config": 3}}', id="a configuration that is none"),
        pytest.param(b'{"command": "narrow", "arguments": {"domains": ["x"]}}', id="domains that are none"),
        pytest.param(b'{"command": "continue", "arguments": {"trial_id": "x"}}', id="no epochs"),
        pytest.param(b'{"command": "retry", "arguments": {"trials": 4}}', id="trials that are none"),
        pytest.param(b'{"command": "set", "arguments": {"concurrency": {}}}', id="a concurrency that is none"),
    ],
)
def test_a_damaged_command_is_named_and_set_aside_and_the_sweep_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, data: bytes
) -> None:
    clock = Clock()
    storage = local(tmp_path)
    run = make_run(storage, small_sweep(), clock=clock)
    run.begin()
    key = f"{layout.control(SWEEP)}/00.json"
    storage.write(key, data)
    control.send(storage, SWEEP, "pause")

    for _ in range(2):
        clock.now += 3
        run.poll()

    events = [event for event in read_events(storage, SWEEP)[0] if isinstance(event, ControlReceived)]
    damaged, pause = sorted(events, key=lambda event: event.key != key)
    assert damaged.key == key
    assert damaged.refused
    assert (pause.command, pause.refused) == ("pause", ""), "a good command after it is obeyed"
    assert f"{key} is not obeyed" in caplog.text
    assert len(events) == 2, "each once"
    assert run.stop is None


def test_a_command_this_version_does_not_know_is_refused_and_not_ignored(tmp_path: Path) -> None:
    clock = Clock()
    storage = local(tmp_path)
    run = make_run(storage, small_sweep(), clock=clock)
    run.begin()
    control.send(storage, SWEEP, "dance")
    clock.now += 3
    run.poll()
    (received,) = [event for event in read_events(storage, SWEEP)[0] if isinstance(event, ControlReceived)]
    assert "'dance' is not a command" in received.refused
    assert run.stop is None
