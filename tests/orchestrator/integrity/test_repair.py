"""A journal that is cut back to what is whole: what is kept, what is said to be lost, and that the sweep goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from orchestrator.catalog.summary import read_summary
from orchestrator.cli.main import app
from orchestrator.errors import DamagedError, SweepOwnedError
from orchestrator.integrity.repair import plan, repair
from orchestrator.integrity.verify import Verifier
from orchestrator.journal.segments import read_state
from orchestrator.storage import layout

Recorder = Callable[..., Any]


@pytest.fixture
def sweep(record_sweep: Recorder) -> Any:
    """Two completed trials, of which the second is the best, and its last sign of life an hour ago."""
    recorded = record_sweep()
    recorded.trial(0, [5.0, 4.0])
    recorded.trial(1, [4.5, 3.0])
    recorded.end()
    recorded.fall_silent()
    return recorded


def agr(sweep: Any, *arguments: str, code: int = 0) -> Any:
    result = CliRunner().invoke(app, [*arguments, "--storage", sweep.storage.uri])
    assert result.exit_code == code, result.output
    return result


def damage(sweep: Any, number: int) -> None:
    key = layout.segment(sweep.sweep_id, number)
    sweep.storage.write(key, sweep.storage.read(key)[:-9])
    sweep.fall_silent()


def test_a_whole_sweep_needs_no_repair_and_loses_nothing(sweep: Any) -> None:
    before = [(info.key, sweep.storage.read(info.key)) for info in sweep.storage.list("")]

    assert "nothing to repair" in agr(sweep, "repair", sweep.sweep_id, "--yes").stdout

    assert [(info.key, sweep.storage.read(info.key)) for info in sweep.storage.list("")] == before


def test_a_torn_end_is_cut_kept_aside_and_said(sweep: Any) -> None:
    first, second = read_state(sweep.storage, sweep.sweep_id).trials
    damage(sweep, 11)  # the second trial's end is in 12

    result = agr(sweep, "repair", sweep.sweep_id, "--yes")

    assert "000011.jsonl is not a journal segment" in result.stderr
    assert "kept: 10 segments, 2 trials" in result.stderr
    assert f"lost: the end of 1 trials: {second}" in result.stderr
    assert f"Continue with: agr resume {sweep.sweep_id}" in result.stderr
    state = read_state(sweep.storage, sweep.sweep_id)
    assert (state.status, [trial.outcome for trial in state.trials.values()]) == ("interrupted", ["completed", None])
    summary = read_summary(sweep.storage, sweep.sweep_id)
    assert summary.best is not None
    assert (summary.status, summary.best.trial_id) == ("interrupted", first)
    kept_aside = sorted(info.key[-12:] for info in sweep.storage.list(f"sweeps/{sweep.sweep_id}/cut"))
    assert kept_aside == ["000011.jsonl", "000012.jsonl", "000013.jsonl"]
    problems = Verifier(sweep.storage).sweep(sweep.sweep_id).problems
    assert [problem.key[:7] for problem in problems] == ["splits/"], "a recorded sweep has no split"
    assert "nothing to repair" in agr(sweep, "repair", sweep.sweep_id, "--yes").stdout


def test_a_lost_end_is_reported_and_the_summary_no_longer_has_it(sweep: Any) -> None:
    for number in (12, 13):
        sweep.storage.delete(layout.segment(sweep.sweep_id, number))
    sweep.fall_silent()

    result = agr(sweep, "repair", sweep.sweep_id, "--yes")

    assert "lost: 0 segments, 2 were already missing" in result.stderr
    best = read_summary(sweep.storage, sweep.sweep_id).best
    assert best is not None
    assert best.value == 4.0


def test_a_missing_summary_is_written_again_and_the_journal_left_alone(sweep: Any) -> None:
    written = read_summary(sweep.storage, sweep.sweep_id)
    sweep.storage.delete(layout.summary(sweep.sweep_id))

    agr(sweep, "repair", sweep.sweep_id, "--yes")

    again = read_summary(sweep.storage, sweep.sweep_id)
    assert (again.status, again.best, again.trials) == (written.status, written.best, written.trials)
    assert again.journal == written.journal


def test_without_a_whole_first_segment_nothing_is_touched(sweep: Any) -> None:
    sweep.storage.delete(layout.segment(sweep.sweep_id, 1))
    before = [info.key for info in sweep.storage.list("")]

    assert "nothing can be kept" in agr(sweep, "repair", sweep.sweep_id, "--yes", code=1).stderr

    assert [info.key for info in sweep.storage.list("")] == before


def test_asked_and_refused_nothing_is_touched(sweep: Any) -> None:
    damage(sweep, 11)
    before = [info.key for info in sweep.storage.list("")]

    result = CliRunner().invoke(app, ["repair", sweep.sweep_id, "--storage", sweep.storage.uri], input="n\n")

    assert result.exit_code == 1
    assert [info.key for info in sweep.storage.list("")] == before


def test_a_sweep_that_was_written_to_a_moment_ago_is_left_alone(sweep: Any) -> None:
    damage(sweep, 11)
    found = plan(sweep.storage, sweep.sweep_id)
    sweep.storage.write(layout.summary(sweep.sweep_id), sweep.storage.read(layout.summary(sweep.sweep_id)))

    with pytest.raises(SweepOwnedError, match="last heartbeat 0 s ago"):
        repair(sweep.storage, found)

    with pytest.raises(DamagedError):
        read_state(sweep.storage, sweep.sweep_id)


def test_verify_names_each_thing_that_is_not_as_it_was_recorded(sweep: Any, tmp_path: Path) -> None:
    (check,) = [Verifier(sweep.storage).sweep(sweep.sweep_id)]
    assert {problem.key for problem in check.problems} == {f"splits/{'5' * 64}.parquet"}, "a recorded sweep has none"
    damage(sweep, 11)
    result = agr(sweep, "verify", sweep.sweep_id, code=1)
    assert f"{sweep.sweep_id}  damaged  10 segments" in result.stdout
    assert "000011.jsonl is not a journal segment" in result.stdout
    assert "1 of 1 sweeps differ from their recorded digests" in result.stderr
