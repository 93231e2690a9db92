"""What a terminal of 60, 80 and 140 columns shows: nothing that one would copy is cut, and lines fit where they can."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

Recorder = Callable[..., Any]

WIDTHS = (60, 80, 140)

LONG = {
    "model.name": "mobilenet_transformer",
    "age.encoding": "label_distribution",
    "optimizer.name": "nadam",
    "optimizer.weight_decay": 0.00012345,
}


@pytest.fixture
def sweep(record_sweep: Recorder) -> Any:
    """A sweep with every outcome and long settings."""
    sweep = record_sweep("which-encoding-20260102-030405-abcd", name="which-encoding")
    for number, (values, outcome) in enumerate(
        (([9.0, 7.0, 6.0], "completed"), ([9.0, 8.0], "completed"), ([12.0], "pruned"), ([], "failed"))
    ):
        params = {**LONG, "optimizer.lr": 0.0012345 * (number + 1), "batch_size": 16}
        sweep.trial(number, values, outcome, params=params)
    sweep.end()
    return sweep


def screen(sweep: Any, width: int, *arguments: str, **environment: str) -> str:
    """What a command shows on a terminal of this width."""
    ours, theirs = pty.openpty()
    known = {**os.environ, "AGR_STORAGE": sweep.storage.uri, "COLUMNS": str(width), "TERM": "xterm-256color"}
    command = [sys.executable, "-m", "orchestrator.cli.main", *arguments]
    process = subprocess.Popen(command, stdout=theirs, stderr=subprocess.DEVNULL, env={**known, **environment})
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux's word for the end of a terminal
            break
        if not part:
            break
        shown += part
    os.close(ours)
    assert process.wait() == 0
    return shown.decode().replace("\r\n", "\n")


def plain(sweep: Any, width: int, *arguments: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", screen(sweep, width, *arguments))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("command", [["list"], ["leaderboard", "last"], ["show", "best"], ["compare", "0", "1"]])
def test_nothing_is_cut_and_lines_fit(sweep: Any, width: int, command: list[str], trials: list[str]) -> None:
    command = [trials[int(word)] if word.isdigit() else word for word in command]
    lines = plain(sweep, width, *command).splitlines()

    assert "…" not in "".join(lines)
    prose = ("mean / majority", "best trial, ", "sweep ", "  agr ", "no room for")  # the terminal wraps these
    too_long = [line for line in lines if len(line.rstrip()) > width and not line.startswith(prose)]
    assert too_long == []
    words = {word for line in lines for word in line.split()}
    copied = {
        "list": {sweep.sweep_id, "completed"},
        "leaderboard": {*trials, "completed", "pruned", "failed"},
        "show": {trials[0], "(completed)", "label_distribution", "mobilenet_transformer", "0.00123"},
        "compare": {*trials[:2], "0.00123", "0.00247"},
    }
    assert copied[command[0]] <= words


@pytest.mark.parametrize("width", WIDTHS)
def test_a_table_wider_than_the_screen_goes_on_below_with_its_rows_named_again(
    record_sweep: Recorder, width: int
) -> None:
    variants = {"base": {}, "label_distribution": {"x": 1}, "coral_without_weights": {"y": 1}}
    sweep = record_sweep(document={"variants": variants, "repeat": {"seeds": 3}})
    trials = []
    for number in range(9):
        row, repeat = divmod(number, 3)
        place = {"configuration": row, "repeat": repeat, "variant": [*variants][row]}
        trials.append(sweep.trial(number, [7.0 + row + 0.1 * repeat * row], params={"seed": repeat}, **place))

    text = plain(sweep, width, "table", "faces", "--cols", "age_mae,gender_acc,race_acc,loss,age_cs5")

    lines = text.splitlines()
    assert "…" not in text
    assert [line for line in lines if len(line.rstrip()) > width] == []
    heads = [line.split() for line in lines if line.startswith("variant")]
    assert len(heads) == {60: 5, 80: 3, 140: 2}[width]
    assert [name for head in heads for name in head[1:]] == [
        "against",
        "age_mae",
        "gender_acc",
        "race_acc",
        "loss",
        "age_cs5",
    ]
    assert sum(line.split()[:1] == ["coral_without_weights"] for line in lines) == len(heads) + 1
    assert {*trials, "label_distribution"} <= {word for line in lines for word in line.split()}


@pytest.fixture
def trials(sweep: Any) -> list[str]:
    from orchestrator.journal.segments import read_state

    return list(read_state(sweep.storage, sweep.sweep_id).trials)


def test_more_room_shows_more_columns_and_a_constant_is_shown_at_no_width(sweep: Any) -> None:
    heads = [plain(sweep, width, "leaderboard", "last").splitlines()[0].split() for width in (*WIDTHS, 300)]
    assert all(set(narrow) <= set(wide) for narrow, wide in pairwise(heads))
    assert "lr" in heads[0]
    assert "batch_size" not in heads[-1]
    assert "model" not in heads[-1]  # every trial's is the same


@pytest.mark.parametrize("command", [["list"], ["leaderboard", "last"], ["show", "best"]])
def test_forty_columns_wrap_and_cut_nothing(sweep: Any, trials: list[str], command: list[str]) -> None:
    text = plain(sweep, 40, *command)
    assert "…" not in text
    assert (sweep.sweep_id if command == ["list"] else trials[0]) in text


def test_no_color_is_honoured(sweep: Any) -> None:
    assert "\x1b[3" in screen(sweep, 80, "leaderboard", "last")  # a colour
    assert "\x1b[3" not in screen(sweep, 80, "leaderboard", "last", NO_COLOR="1")


def test_show_is_one_screen_with_all_that_varies(record_sweep: Recorder) -> None:
    sweep = record_sweep()
    groups = {"val/images.by_race.White": 10.0, "val/age_mae.by_race.White": 6.0}
    groups |= {"val/images.by_race.Asian": 20.0, "val/age_mae.by_race.Asian": 7.5}
    best, second = sweep.create(0, {"optimizer.lr": 0.002, "sampler.name": "shuffle"}), sweep.create(1)
    for trial, value in ((best, 7.0), (second, 7.25)):
        sweep.start(trial)
        sweep.report(trial, 1, value, **groups)
        sweep.end_trial(trial, "completed", [value])

    text = plain(sweep, 80, "show", best)
    assert len(text.splitlines()) <= 40
    assert "val/age_mae 7   rank 1 of 2" in text
    assert f"the best, 0.25 ahead of {second} (7.25)" in text
    assert "sampler.name  shuffle" in text  # the default, and varied all the same
    assert "worst group: Asian (race): age_mae 7.5, 20 images; of all 7" in text
    for command in (f"agr show {best} --all", f"agr predict photos/ --model {best}", f"agr rerun {best}"):
        assert command in text
    behind = plain(sweep, 80, "show", second)
    assert f"0.25 behind the best, {best} (7)" in behind
    assert f"agr compare {second} {best}" in behind


def test_compare_draws_the_objective_of_all_trials(sweep: Any, trials: list[str]) -> None:
    lines = plain(sweep, 60, "compare", *trials[:2]).splitlines()
    assert lines[0] == "val/age_mae"
    drawn = [line.partition("│")[2] for line in lines[1:13]]
    assert lines[1].startswith("9 │a")
    assert lines[12].startswith("6 │")
    assert lines[12].endswith("a")
    assert "b" in "".join(drawn)
    assert any(line.startswith(f"b  {trials[1]} ") for line in lines)
