"""``agr note`` and ``agr tag``: journalled, shown, found again, and of no effect on what the sweep used."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.catalog import control
from orchestrator.catalog.rebuilt import rebuild_summary
from orchestrator.catalog.summary import read_summary
from orchestrator.integrity.verify import Verifier
from orchestrator.journal.events import ControlReceived
from orchestrator.journal.segments import read_state
from orchestrator.journal.totals import WallClock
from orchestrator.simulation.memory_tracker import MemoryTracker
from orchestrator.tracking.delivery import Syncer

Recorder = Callable[..., Any]


def ended(record_sweep: Recorder) -> tuple[Any, str]:
    sweep = record_sweep()
    trial = sweep.trial(0, [9.0, 7.0])
    sweep.trial(1, [6.0])
    sweep.end()
    return sweep, trial


def test_notes_and_tags_of_an_ended_sweep_are_journalled_and_shown(record_sweep: Recorder, agr: Any) -> None:
    sweep, trial = ended(record_sweep)
    before = read_summary(sweep.storage, sweep.sweep_id)

    assert agr("note", sweep.sweep_id, "  the learning rates are too high ").exit_code == 0
    assert agr("tag", sweep.sweep_id, "baseline", "reviewed=yes").exit_code == 0
    assert agr("note", trial, "confuses children").exit_code == 0
    said = agr("tag", trial, "keep", "lr=low", "--json")
    assert json.loads(said.stdout) == {
        "sweep_id": sweep.sweep_id, "command": "tag", "journalled": True,
        "arguments": {"tags": {"keep": "", "lr": "low"}, "trial_id": trial},
    }  # fmt: skip
    assert agr("tag", trial, "--remove", "lr").exit_code == 0

    state = read_state(sweep.storage, sweep.sweep_id)
    assert state.annotations.texts(None) == ["the learning rates are too high"]
    assert state.annotations.tags_of(trial) == {"keep": ""}
    assert state.annotations.notes[None][0].author == control.sender()
    assert state.status == "completed"
    after = read_summary(sweep.storage, sweep.sweep_id)
    assert (after.heartbeat, after.wall_s, after.best) == (before.heartbeat, before.wall_s, before.best)
    problems = Verifier(sweep.storage).sweep(sweep.sweep_id).problems
    assert not [problem for problem in problems if problem.key.startswith("sweeps/")]  # the chain goes on

    (listed,) = json.loads(agr("list", "--json").stdout)
    assert listed["tags"] == {"baseline": "", "reviewed": "yes"}
    assert listed["notes"] == ["the learning rates are too high"]
    shown = json.loads(agr("show", trial, "--json").stdout)
    assert shown["tags"] == {"keep": ""}
    assert [note["text"] for note in shown["notes"]] == ["confuses children"]
    screen = agr("show", trial).stdout
    assert "tags: keep" in screen
    assert "confuses children" in screen
    assert "baseline, reviewed=yes" in agr("status", sweep.sweep_id).stdout


def test_tags_and_notes_are_searched(record_sweep: Recorder, agr: Any) -> None:
    sweep, trial = ended(record_sweep)
    agr("tag", sweep.sweep_id, "reviewed=yes")
    agr("note", sweep.sweep_id, "Learning rates too high")
    agr("tag", trial, "keep")

    def found(*options: str) -> list[str]:
        return [listed["sweep_id"] for listed in json.loads(agr("list", "--json", *options).stdout)]

    assert (
        found("--tag", "reviewed") == found("--tag", "reviewed=yes") == found("--search", "RATES") == [sweep.sweep_id]
    )
    assert found("--tag", "reviewed=no") == found("--tag", "reviewed", "--search", "dropout") == []
    assert "no sweep or trial in" in agr("list", "--tag", "other").stderr
    rows = json.loads(agr("leaderboard", sweep.sweep_id, "--tag", "keep", "--json").stdout)
    assert [(row["trial_id"], row["rank"]) for row in rows] == [(trial, 2)]


def test_a_search_finds_sweeps_by_what_is_written_on_their_trials(record_sweep: Recorder, agr: Any) -> None:
    sweep, trial = ended(record_sweep)
    agr("tag", trial, "keep=yes")
    agr("note", trial, "confuses Children")

    line = f"trial {sweep.sweep_id}/{trial}: keep=yes; confuses Children"
    for options in (("--tag", "keep"), ("--search", "children"), ("--tag", "keep=yes", "--search", "confuses")):
        said = agr("list", *options)
        assert sweep.sweep_id in said.stdout
        assert line in said.stderr
    assert "no sweep or trial" in agr("list", "--tag", "keep", "--search", "adults").stderr
    assert "trial" not in agr("list").stderr
    (listed,) = json.loads(agr("list", "--tag", "keep", "--json").stdout)
    assert listed["annotated_trials"] == {trial: {"tags": {"keep": "yes"}, "notes": ["confuses Children"]}}

    agr("tag", sweep.sweep_id, "baseline")
    agr("tag", trial, "--remove", "keep")
    rebuilt = rebuild_summary(sweep.storage, sweep.sweep_id)
    assert rebuilt.annotated_trials == read_summary(sweep.storage, sweep.sweep_id).annotated_trials
    assert rebuilt.annotated_trials[trial].tags == {}


def test_a_note_days_later_is_no_time_of_the_driver(record_sweep: Recorder) -> None:
    """The clock of the budget, and the dollars of the nodes, end with the driver's own events."""
    sweep, _ = ended(record_sweep)
    wall = WallClock()
    state = read_state(sweep.storage, sweep.sweep_id)
    last = state.spending.last
    note = ControlReceived(time=last + 86_400, command="note", arguments={"text": "x"}, key="k")
    for event in (sweep.started, state.drivers[0], note):
        wall.apply(event)
    assert wall.last_event == state.drivers[0].time
    state.apply(note)
    assert state.spending.last == last


def test_a_sweep_that_a_driver_may_run_gets_them_through_its_driver(record_sweep: Recorder, agr: Any) -> None:
    sweep = record_sweep()
    sweep.trial(0, [9.0])

    said = agr("note", sweep.sweep_id, "look at this one")

    assert "from its driver" in said.stderr
    (command,) = control.pending(sweep.storage, sweep.sweep_id, obeyed=set())
    assert (command.name, command.arguments) == ("note", {"text": "look at this one"})


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["note", "faces", "  "], "the note is empty"),
        (["note", "faces", "x" * 4001], "it may have 4,000"),
        (["note", "faces", "a\x1b[31mb"], "control character '\\x1b'"),
        (["tag", "faces"], "no tag is given"),
        (["tag", "faces", "two words"], "'two words' is not a valid tag name"),
        (["tag", "faces", "a=" + "x" * 201], "at most 200 characters"),
        (["tag", "nothing", "a"], "No trial starts with it, either"),
    ],
)
def test_bad_notes_and_tags_are_one_line(record_sweep: Recorder, agr: Any, words: list[str], reason: str) -> None:
    ended(record_sweep)
    said = agr(*words, code=2)
    assert reason in said.stderr
    assert said.stderr.count("\n") == 1


def test_mlflow_gets_them_also_after_the_end(record_sweep: Recorder, agr: Any) -> None:
    tracker = MemoryTracker()
    sweep, trial = ended(record_sweep)
    syncer = Syncer(sweep.storage, tracker, sweep.sweep_id)
    syncer.run_once()
    agr("tag", trial, "keep", "lr=low")
    agr("note", sweep.sweep_id, "first")
    agr("note", sweep.sweep_id, "second")
    syncer.run_once()

    runs = {run.tags.get("agr.trial_id"): run.tags for run in tracker.all_runs.values()}
    assert (runs[trial]["agr.tag.keep"], runs[trial]["agr.tag.lr"]) == ("yes", "low")
    assert runs[None]["agr.note"] == "second\nfirst"

    agr("tag", trial, "--remove", "lr")
    Syncer(sweep.storage, tracker, sweep.sweep_id).run_once()  # as `agr sync` in another process
    runs = {run.tags.get("agr.trial_id"): run.tags for run in tracker.all_runs.values()}
    assert (runs[trial]["agr.tag.keep"], runs[trial]["agr.tag.lr"]) == ("yes", "")
