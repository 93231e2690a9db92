"""A journal forged by somebody who may write to the bucket: refused with its address, never followed elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from agr_core.errors import AgrError, IntegrityError
from orchestrator.journal.events import AttemptStarted
from orchestrator.journal.segments import read_state
from orchestrator.storage import layout


def last_event(sweep: Any) -> dict[str, Any]:
    """The trial's creation, as it stands in the journal."""
    number = max(int(info.key[-12:-6]) for info in sweep.storage.list(layout.journal(sweep.sweep_id)))
    event: dict[str, Any] = json.loads(sweep.storage.read(layout.segment(sweep.sweep_id, number)).splitlines()[-1])
    return event


@pytest.mark.parametrize(
    "change",
    [
        {"trial_id": "../../../other-sweep/trials/0"},
        {"trial_id": "a/b"},
        {"trial_id": "\x1b[2J"},
        {"data_digest": "../../../../root/.ssh"},
        {"split_digest": "/etc/passwd"},
        {"weights_sha256": "../x"},
        {"number": -1},
        {"number": 1e400},
        {"time": "now"},
        {"config": "rm -rf"},
        {"unheard_of": 1},
        {"kind": "unheard_of"},
    ],
    ids=str,
)
def test_a_forged_event_is_refused_with_its_address(record_sweep: Callable[..., Any], change: dict[str, Any]) -> None:
    sweep = record_sweep()
    sweep.create(0)
    forged = json.dumps(last_event(sweep) | change).replace("Infinity", "1e400").encode()
    sweep.storage.write(layout.segment(sweep.sweep_id, 4), forged)

    with pytest.raises(IntegrityError, match=r"000004\.jsonl is not a journal segment"):
        read_state(sweep.storage, sweep.sweep_id)


@pytest.mark.parametrize("label", ["../../escaped", "/tmp/escaped", "", "a" * 31, ".hidden"])
def test_a_label_that_is_a_path_is_refused(record_sweep: Callable[..., Any], label: str) -> None:
    """`agr sync` brings the weights kept for a label into a file of that name."""
    sweep = record_sweep()
    sweep.trial(0, [3.0, 2.0])
    ended = last_event(sweep)
    assert ended["kind"] == "trial_ended"
    number = max(int(info.key[-12:-6]) for info in sweep.storage.list(layout.journal(sweep.sweep_id)))
    forged = json.dumps(ended | {"kept_epochs": {label: 2}}).encode()
    sweep.storage.write(layout.segment(sweep.sweep_id, number), forged)

    with pytest.raises(IntegrityError, match=r"jsonl is not a journal segment"):
        read_state(sweep.storage, sweep.sweep_id)


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 5_000, '{"kind": "trial_ended"}', "\x00", '{"a":' * 5_000], ids=range(6)
)
def test_what_is_no_event_is_refused(record_sweep: Callable[..., Any], text: str) -> None:
    sweep = record_sweep()
    sweep.storage.write(layout.segment(sweep.sweep_id, 3), text.encode())

    with pytest.raises(IntegrityError, match=r"000003\.jsonl"):
        read_state(sweep.storage, sweep.sweep_id)


def test_events_of_a_trial_that_was_never_created_are_refused(record_sweep: Callable[..., Any]) -> None:
    sweep = record_sweep()
    sweep.writer.append(AttemptStarted(time=1.0, trial_id="feedbeef", attempt=0, node="n"))
    sweep.writer.flush()

    with pytest.raises(AgrError, match="feedbeef"):
        read_state(sweep.storage, sweep.sweep_id)


@pytest.mark.parametrize("name", ["000003.jsonl.bak", "x.jsonl", "-00001.jsonl"])
def test_another_file_among_the_segments_is_named(record_sweep: Callable[..., Any], name: str) -> None:
    sweep = record_sweep()
    sweep.storage.write(f"{layout.journal(sweep.sweep_id)}/{name}", b"{}")

    with pytest.raises(IntegrityError, match=f"{name} is not a journal segment"):
        read_state(sweep.storage, sweep.sweep_id)
