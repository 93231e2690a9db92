from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from rich.console import Console

from orchestrator.cli.progress import Progress
from orchestrator.journal import read_events, read_state
from orchestrator.records import ControlReceived, StageReused, StageTrained


def shown(sweep: Any, *, recalled: int = 0, terminal: bool = False) -> str:
    """What a progress prints of a sweep's events, those before ``recalled`` being an earlier driver's."""
    events, _ = read_events(sweep.storage, sweep.sweep_id)
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=160, color_system=None)
    progress = Progress(read_state(sweep.storage, sweep.sweep_id).started.objectives, planned=4, console=console)
    if recalled:
        from orchestrator.state import SweepState

        for trial in SweepState.from_events(events[:recalled]).trials.values():
            progress.recall(trial)
    with progress:
        for event in events[recalled:]:
            progress(event)
        if terminal:
            console.print(progress._table())
    return out.getvalue()


def test_each_ended_trial_is_one_line_where_there_is_no_terminal(record_sweep: Callable[..., Any]) -> None:
    sweep = record_sweep()
    first, second = sweep.trial(0, [9.0, 4.0]), sweep.trial(1, [8.0], "pruned")
    lines = shown(sweep).splitlines()
    assert len(lines) == 2
    assert "1/4" in lines[0]
    assert first in lines[0]
    assert "completed" in lines[0]
    assert "4" in lines[0]
    assert second in lines[1]
    assert "pruned" in lines[1]


def test_a_resumed_sweep_goes_on_counting_where_the_last_driver_stopped(record_sweep: Callable[..., Any]) -> None:
    """The unfinished trial was created under the first driver, and the second one hears of its epochs only."""
    sweep = record_sweep()
    sweep.trial(0, [9.0, 4.0])
    half = sweep.create(1)
    sweep.start(half)
    sweep.report(half, 1, 7.0)
    before = len(read_events(sweep.storage, sweep.sweep_id)[0])
    sweep.start(half, attempt=2)
    sweep.report(half, 2, 6.0, attempt=2)
    sweep.end_trial(half, "completed", [7.0, 6.0])
    lines = shown(sweep, recalled=before).splitlines()
    assert len(lines) == 1
    assert "2/4" in lines[0]
    assert half in lines[0]


def test_the_table_shows_the_best_and_what_runs(record_sweep: Callable[..., Any]) -> None:
    sweep = record_sweep()
    best = sweep.trial(0, [9.0, 4.0])
    running = sweep.create(1)
    sweep.start(running)
    sweep.report(running, 1, 7.0)
    text = shown(sweep, terminal=True)
    assert "1/4 trials ended (1 completed)" in text
    assert best in text
    assert running in text
    assert "running" in text


def test_a_stage_that_a_trial_trained_for_all_is_told_and_its_reuse_is_not(record_sweep: Callable[..., Any]) -> None:
    sweep = record_sweep()
    first, second = sweep.create(0), sweep.create(1)
    figures = {"stage": "celeba", "key": "k", "weights_sha256": "w", "epochs": 9, "best_epoch": 4, "value": 1.5}
    sweep.record(StageTrained(time=sweep.tick(), trial_id=first, attempt=0, seconds=61.2, **figures))
    sweep.record(StageReused(time=sweep.tick(), trial_id=second, attempt=0, seconds=0.1, **figures))
    (line,) = shown(sweep).splitlines()
    assert line.startswith(first)
    assert "stage celeba trained, 9 epochs in 61 s" in line


def test_what_somebody_asked_for_is_one_line_and_columns_stay_apart(record_sweep: Callable[..., Any]) -> None:
    sweep = record_sweep()
    trial = sweep.create(0)
    sweep.start(trial)
    sweep.record(ControlReceived(time=sweep.tick(), command="kill", arguments={"trial_id": trial}, key="k"))
    sweep.end_trial(trial, "interrupted", [9.0])
    asked, ended = shown(sweep).splitlines()
    assert asked == f"received: kill {trial}"
    assert "interrupted  val/age_mae" in ended
