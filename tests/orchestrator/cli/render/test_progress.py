from __future__ import annotations

import io
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from orchestrator.cli.render.progress import Progress
from orchestrator.cli.render.terminal import Terminal
from orchestrator.journal.events import (
    BaselineMeasured,
    ControlReceived,
    DriverStarted,
    NodeJoined,
    StageReused,
    StageTrained,
)
from orchestrator.journal.segments import read_events, read_state


def progress_of(sweep: Any, *, width: int) -> Progress:
    """A progress that heard of all events of a sweep and printed nowhere."""
    progress = Progress(sweep.started, 12, Terminal(file=io.StringIO(), width=width))
    for event in read_events(sweep.storage, sweep.sweep_id)[0]:
        progress(event)
    return progress


def shown(sweep: Any, *, recalled: int = 0, terminal: bool = False, planned: int = 4) -> str:
    """What a progress prints of a sweep's events, those before ``recalled`` being an earlier driver's."""
    events, _ = read_events(sweep.storage, sweep.sweep_id)
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=160, color_system=None)
    progress = Progress(read_state(sweep.storage, sweep.sweep_id).started, planned=planned, console=console)
    if recalled:
        from orchestrator.journal.sweep_state import SweepState

        progress.recall(SweepState.from_events(events[:recalled]))
    with progress:
        for event in events[recalled:]:
            progress(event)
        if terminal:
            for line in progress.lines():
                console.print(line)
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


def test_a_resumed_sweep_continues_the_counts_of_the_last_driver(record_sweep: Callable[..., Any]) -> None:
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


def test_the_live_view_shows_the_best_and_what_runs_and_the_five_best_stay(record_sweep: Callable[..., Any]) -> None:
    sweep = record_sweep(document={"name": "faces", "budget": {"wall": "2h"}})
    values = (9.0, 4.0, 8.0, 7.0, 6.0, 5.0)
    trials = [
        sweep.trial(number, [value, value + 1], params={"optimizer.lr": value}) for number, value in enumerate(values)
    ]
    sweep.record(BaselineMeasured(time=sweep.tick(), split_digest="5" * 64, metrics={"val/age_mae": 15.0}))
    running, starting, queued = (sweep.create(number) for number in (6, 7, 8))
    for trial in (running, starting):
        sweep.start(trial)
    for epoch, value in enumerate((9.0, 7.0, 5.0), start=1):
        sweep.report(running, epoch, value)

    text = shown(sweep, terminal=True, planned=12)
    view = text[text.rindex("best ") :]
    assert "6/12 trials ended" in text
    assert "6 completed, 1 running, 1 starting, 1 queued" in text
    assert f"best {trials[1]}  val/age_mae 4  (baseline 15)" in text
    assert "lr=4" in view
    assert " of 2:00:00" in view
    assert f"{running}  3/6  5         █▅▁" in view
    assert f"{starting}  0/6  starting" in view
    assert queued not in view
    stay = re.findall(r"[1-5]  ([0-9a-f]{8})  \d", text)
    assert stay == [trials[number] for number in (1, 5, 4, 3, 2)]


def test_dollars_and_gpu_hours_are_shown_with_their_budgets_and_what_is_left(record_sweep: Callable[..., Any]) -> None:
    budget = {"wall": "2h", "usd": 5.0, "gpu_hours": 10.0}
    sweep = record_sweep(document={"name": "faces", "budget": budget, "resources": {"gpus": 2}})
    sweep.now = time.time() - 3600.0
    joined = {"node_id": "a", "node": "10.0.0.1", "usd_per_hour": 1.25}
    sweep.record(
        DriverStarted(time=sweep.now, driver_id="d", host="lab", pid=1, resumed=False),
        NodeJoined(time=sweep.now, **joined),
    )
    trial = sweep.create(0)
    sweep.start(trial)

    lines = [line.plain for line in progress_of(sweep, width=60).lines()]
    assert any(re.fullmatch(r"budget 1:00:0\d of 2:00:00, (1:00:00|59:5\d) left", line) for line in lines)
    assert "budget 1.25 of 5 $, 3.75 left" in lines
    assert "budget 2 of 10 GPU-hours, 8 left" in lines
    assert max(map(len, lines)) <= 60

    extended = {"key": "k", "command": "extend", "arguments": {"usd": 3.0}, "sender": "ada@lab", "sent": sweep.now}
    sweep.record(ControlReceived(time=time.time(), **extended))
    lines = [line.plain for line in progress_of(sweep, width=200).lines()]
    assert "budget 1.25 of 8 $, 6.75 left" in "; ".join(lines)


def test_dollars_without_a_budget_are_shown_too(record_sweep: Callable[..., Any]) -> None:
    sweep = record_sweep(document={"name": "faces"})
    sweep.now = time.time() - 3600.0
    sweep.record(NodeJoined(time=sweep.now, node_id="a", node="10.0.0.1", usd_per_hour=1.25))
    assert "1.25 $ spent" in [line.plain for line in progress_of(sweep, width=60).lines()]


def test_a_resumed_sweep_has_its_baseline_and_what_it_has_spent(record_sweep: Callable[..., Any]) -> None:
    sweep = record_sweep(document={"name": "faces", "budget": {"usd": 5.0}})
    sweep.now = time.time() - 3600.0
    sweep.record(NodeJoined(time=sweep.now, node_id="a", node="10.0.0.1", usd_per_hour=1.25))
    best = sweep.trial(0, [9.0, 4.0])
    sweep.record(BaselineMeasured(time=sweep.tick(), split_digest="5" * 64, metrics={"val/age_mae": 15.0}))
    progress = Progress(sweep.started, 12, Terminal(file=io.StringIO(), width=80))
    progress.recall(read_state(sweep.storage, sweep.sweep_id))
    lines = [line.plain for line in progress.lines()]
    assert f"best {best}  val/age_mae 4  (baseline 15)" in lines
    assert "budget 1.25 of 5 $, 3.75 left" in lines


def test_the_lines_fit_sixty_columns_and_cut_no_id(record_sweep: Callable[..., Any]) -> None:
    sweep = record_sweep()
    params = {"model.name": "mobilenet_transformer", "age.encoding": "label_distribution"}
    for number in range(3):
        sweep.trial(number, [9.0 - number], params={**params, "optimizer.lr": 0.001 * (number + 1)})
    live = [sweep.create(number, params) for number in range(3, 6)]
    for trial in live:
        sweep.start(trial)
        sweep.report(trial, 1, 7.0)
    lines = progress_of(sweep, width=60).lines()
    assert max(len(line.plain) for line in lines) <= 60
    assert [line.plain.split()[0] for line in lines[-3:]] == live


def test_the_driver_s_activity_before_the_first_epoch_is_shown(record_sweep: Callable[..., Any]) -> None:
    sweep = record_sweep()
    out = io.StringIO()
    progress = Progress(sweep.started, 4, Terminal(file=out, width=80))
    with progress:
        progress.doing("starting Ray")
    assert out.getvalue() == "starting Ray ...\n"
    assert progress.lines()[-1].plain == "starting Ray (0 s)"


def test_the_first_epoch_tells_how_long_the_sweep_takes_here(record_sweep: Callable[..., Any]) -> None:
    sweep = record_sweep()
    sweep.now = time.time()
    trial = sweep.create(0)
    sweep.start(trial)
    sweep.report(trial, 1, 9.0, **{"time/epoch_s": 50.0})
    assert "(50.0 s) at most 20 min here: 4 trials of 6 epochs, 1 at a time" in shown(sweep)


def test_a_trained_stage_is_announced_and_its_reuse_is_not(record_sweep: Callable[..., Any]) -> None:
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


def test_a_terminal_that_can_do_nothing_gets_lines(
    record_sweep: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = record_sweep()
    trial = sweep.trial(0, [9.0])
    monkeypatch.setenv("TERM", "dumb")
    out = io.StringIO()
    progress = Progress(sweep.started, 4, Console(file=out, force_terminal=True, width=160, color_system=None))
    with progress:
        for event in read_events(sweep.storage, sweep.sweep_id)[0]:
            progress(event)
    (line,) = out.getvalue().splitlines()
    assert f"1/4  {trial}  completed" in line
    assert "\x1b" not in line
