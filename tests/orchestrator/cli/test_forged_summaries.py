"""A forged or older summary: commands end in words, the sweep is shown from its journal, and no other one is hidden."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

from orchestrator.storage import layout

Recorder = Callable[..., Any]
GONE = object()
FORGED: dict[str, dict[str, Any]] = {
    "trials null": {"trials": None},
    "trials list": {"trials": [1]},
    "trials text": {"trials": {"completed": "x"}},
    "best text": {"best": "x"},
    "best value text": {"best": {"trial_id": "a", "value": "x"}},
    "best value null": {"best": {"trial_id": "a", "value": None}},
    "another best": {"best": {"trial_id": "deadbeef", "value": 0.001}},
    "no best": {"best": GONE},
    "no sweep_id": {"sweep_id": GONE},
    "sweep_id a number": {"sweep_id": 5},
    "sweep_id a path": {"sweep_id": "../../../../etc"},
    "another sweep_id": {"sweep_id": "healthy-20260103-030405-abcd"},
    "status list": {"status": [1]},
    "planned text": {"planned": "x"},
    "heartbeat NaN": {"heartbeat": float("nan")},
    "started NaN": {"started": float("nan")},
    "no objective": {"objective": GONE},
    "quarantined text": {"quarantined": ["x"]},
    "budget text": {"budget_wall_s": "x"},
    "wall text": {"wall_s": "x"},
    "journal text": {"journal": "x"},
    "an older journal": {"journal": {"segment": 1, "sha256": "0" * 64}},
}


@pytest.mark.parametrize("change", FORGED.values(), ids=FORGED)
def test_a_forged_summary_hides_no_sweep_and_shows_no_other_figure(
    record_sweep: Recorder, agr: Callable[..., Result], change: dict[str, Any]
) -> None:
    healthy = record_sweep("healthy-20260103-030405-abcd")
    sweep = record_sweep()
    best = sweep.trial(0, [5.0, 4.0])
    sweep.end()
    key = layout.summary(sweep.sweep_id)
    document = json.loads(sweep.storage.read(key)) | change
    forged = {name: value for name, value in document.items() if value is not GONE}
    sweep.storage.write(key, json.dumps(forged).encode())

    listed = agr("list", "--all", "--json")
    shown = {each["sweep_id"]: each for each in json.loads(listed.stdout)}
    assert set(shown) == {healthy.sweep_id, sweep.sweep_id}
    assert shown[sweep.sweep_id]["best"] == {"trial_id": best, "value": 4.0}
    assert "summary.json is not a sweep's summary" in listed.stderr
    assert "completed" in agr("status", sweep.sweep_id).stdout
    assert "no driver runs it" in agr("stop", sweep.sweep_id, code=2).stderr
    agr("gc", "--dry-run")
