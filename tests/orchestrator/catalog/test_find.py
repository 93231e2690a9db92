"""From what people type to IDs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agr_core.objective import Objective
from orchestrator.catalog.find import (
    find_sweep,
    find_sweep_exactly,
    find_trial,
    label_of,
    read_start,
)
from orchestrator.errors import AmbiguousIdError, NotFoundError, TrackerUnavailableError
from orchestrator.settings import Settings
from orchestrator.simulation.memory_tracker import MemoryTracker
from orchestrator.storage import layout
from orchestrator.tracking import open_tracker
from orchestrator.tracking.delivery import Syncer
from orchestrator.tracking.runs import run_ids, trial_of_run

Recorder = Callable[..., Any]


def test_a_sweep_is_found_by_any_unique_beginning(record_sweep: Recorder) -> None:
    first, second = record_sweep("alpha-20260102-030405-abcd"), record_sweep("beta-20260102-030405-abcd")

    assert find_sweep(first.storage, "a") == first.sweep_id
    assert find_sweep(first.storage, "beta-2026") == second.sweep_id
    assert find_sweep(first.storage, second.sweep_id) == second.sweep_id


def test_a_whole_name_is_not_the_beginning_of_another(record_sweep: Recorder) -> None:
    first, again = record_sweep("faces-20260102-030405-abcd"), record_sweep("faces-rerun-20260103-030405-abcd")

    assert find_sweep(first.storage, "faces") == first.sweep_id
    assert find_sweep(first.storage, "faces-rerun") == again.sweep_id
    with pytest.raises(AmbiguousIdError, match=f"{first.sweep_id}, {again.sweep_id}"):
        find_sweep(first.storage, "faces-")


def test_a_name_means_the_newest_sweep_of_it_and_the_older_ones_are_listed(record_sweep: Recorder) -> None:
    sweeps = [
        record_sweep(f"faces-2026010{day}-030405-{tail}") for day, tail in ((2, "ffff"), (4, "0000"), (3, "aaaa"))
    ]
    for sweep in sweeps:
        sweep.trial(0, [9.0])
    oldest, newest, between = sweeps

    for text in ("faces", "fac", "faces-2026", "last"):
        older: list[str] = []
        assert find_sweep(newest.storage, text, older=older.extend) == newest.sweep_id
        assert older == ([] if text == "last" else [between.sweep_id, oldest.sweep_id])
    assert find_sweep(newest.storage, "faces-20260102") == oldest.sweep_id


def test_a_sweep_that_never_ran_anything_is_not_the_newest_of_its_name(record_sweep: Recorder) -> None:
    ran, refused = record_sweep("faces-20260102-030405-abcd"), record_sweep("faces-20260103-030405-abcd")
    ran.trial(0, [9.0])
    refused.end("failed", "nothing fits")
    ran.storage.write(layout.submission("faces-20260104-030405-abcd"), b"{}")

    assert find_sweep(ran.storage, "faces") == ran.sweep_id
    assert find_sweep(ran.storage, "last") == ran.sweep_id
    assert find_sweep(ran.storage, refused.sweep_id) == refused.sweep_id
    begun = record_sweep("faces-20260105-030405-abcd")  # no trial yet
    begun.storage.delete(layout.summary(begun.sweep_id))
    assert find_sweep(ran.storage, "faces") == begun.sweep_id


def test_what_cannot_be_undone_takes_no_newest_sweep(record_sweep: Recorder) -> None:
    first, second = record_sweep("faces-20260102-030405-abcd"), record_sweep("faces-20260103-030405-abcd")

    with pytest.raises(AmbiguousIdError, match=f"{first.sweep_id}, {second.sweep_id}"):
        find_sweep_exactly(first.storage, "faces")
    assert find_sweep_exactly(first.storage, "faces-20260102") == first.sweep_id


def test_best_is_the_best_trial_of_the_newest_sweep_or_of_the_one_before_the_slash(record_sweep: Recorder) -> None:
    older, newer = record_sweep("alpha-20260102-030405-abcd"), record_sweep("beta-20260103-030405-abcd")
    in_older = [older.trial(number, [value]) for number, value in enumerate((9.0, 4.0))][1]
    with pytest.raises(NotFoundError, match=f"sweep {newer.sweep_id} has no completed trial yet"):
        find_trial(older.storage, "beta/best")
    in_newer = newer.trial(0, [5.0])
    newer.trial(1, [8.0])

    assert find_trial(older.storage, "best") == (newer.sweep_id, in_newer)
    assert find_trial(older.storage, "last/best") == (newer.sweep_id, in_newer)
    assert find_trial(older.storage, "alpha/best@best") == (older.sweep_id, in_older)


def test_a_rank_is_that_of_the_leaderboard(record_sweep: Recorder) -> None:
    older, newer = record_sweep("alpha-20260102-030405-abcd"), record_sweep("beta-20260103-030405-abcd")
    third, first, second = (older.trial(number, [value]) for number, value in enumerate((9.0, 4.0, 5.0)))
    newer.trial(0, [5.0])
    in_newer = newer.trial(1, [8.0])

    assert find_trial(older.storage, "2nd") == (newer.sweep_id, in_newer)
    found = [find_trial(older.storage, f"alpha/{rank}") for rank in ("1st", "2nd", "3rd")]
    assert found == [(older.sweep_id, trial) for trial in (first, second, third)]
    with pytest.raises(NotFoundError, match=f"sweep {older.sweep_id} has 3 ranked configurations, so none has rank 4"):
        find_trial(older.storage, "alpha/4th")


def test_an_unknown_sweep_says_where_was_looked_and_what_to_do(record_sweep: Recorder) -> None:
    sweep = record_sweep()

    with pytest.raises(NotFoundError, match=f"no sweep starts with 'nothing' in {sweep.storage.uri}.*agr list"):
        find_sweep(sweep.storage, "nothing")
    with pytest.raises(NotFoundError, match=rf"Did you mean 'faces'\? Newest there: {sweep.sweep_id}"):
        find_sweep(sweep.storage, "facse")


def test_a_trial_is_found_in_whichever_sweep_it_is(record_sweep: Recorder) -> None:
    first, second = record_sweep("alpha-20260102-030405-abcd"), record_sweep("beta-20260102-030405-abcd")
    first.trial(0, [9.0], files=True)
    wanted = second.trial(0, [9.0], files=True)

    for text in (wanted, wanted[:4], f"beta/{wanted[:2]}"):
        assert find_trial(first.storage, text) == (second.sweep_id, wanted)


def test_a_trial_that_never_wrote_a_file_is_found_in_the_journal(record_sweep: Recorder) -> None:
    sweep = record_sweep()
    sweep.trial(0, [9.0], files=True)
    wanted = sweep.create(1)

    assert find_trial(sweep.storage, wanted[:5]) == (sweep.sweep_id, wanted)


def test_an_ambiguous_trial_lists_the_candidates_with_their_sweeps(record_sweep: Recorder) -> None:
    sweep = record_sweep()
    trials = [sweep.trial(number, [9.0], files=True) for number in range(17)]  # two of 17 share one of 16 beginnings
    beginnings = [trial[0] for trial in trials]
    shared = next(digit for digit in beginnings if beginnings.count(digit) > 1)

    with pytest.raises(AmbiguousIdError, match=f"'{shared}' is ambiguous: {sweep.sweep_id}/{shared}.*Give more"):
        find_trial(sweep.storage, shared)


def test_an_unknown_trial_says_what_to_do(record_sweep: Recorder) -> None:
    sweep = record_sweep()

    trial = sweep.create(0)
    with pytest.raises(NotFoundError, match=rf"no trial starts with 'zzz'.*Trials of .*: {trial}.*agr leaderboard"):
        find_trial(sweep.storage, "zzz")


def test_a_trial_is_found_by_its_mlflow_run_and_a_foreign_run_is_not(
    record_sweep: Recorder, embedded_mlflow: None
) -> None:
    sweep = record_sweep()
    trial = sweep.trial(0, [9.0])
    settings = Settings.from_environment()
    tracker = open_tracker(settings.tracking_uri, settings.mlflow_artifacts)
    syncer = Syncer(sweep.storage, tracker, sweep.sweep_id)
    syncer.run_once()
    ids = run_ids(tracker, sweep.started)

    assert ids.keys() == {(sweep.sweep_id, trial)}
    assert run_ids(tracker, sweep.started, [trial]) == ids
    assert run_ids(tracker, sweep.started, ["0" * 8]) == run_ids(tracker, sweep.started, []) == {}
    assert find_trial(sweep.storage, ids[sweep.sweep_id, trial], trial_of_run) == (sweep.sweep_id, trial)
    assert syncer.place is not None
    for foreign in ("f" * 32, syncer.place.run_id):  # not there; the sweep's own run
        with pytest.raises(NotFoundError, match=f"no trial's run {foreign}"):
            find_trial(sweep.storage, foreign, trial_of_run)


def test_an_mlflow_run_is_not_looked_for_where_mlflow_does_not_answer(
    record_sweep: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")

    with pytest.raises(TrackerUnavailableError, match=r"127\.0\.0\.1:9"):
        find_trial(record_sweep().storage, "f" * 32, trial_of_run)


def test_run_ids_of_a_sweep_that_was_never_delivered_are_none(record_sweep: Recorder) -> None:
    assert run_ids(MemoryTracker(), record_sweep().started) == {}


def test_the_start_of_a_sweep_is_its_first_event(record_sweep: Recorder) -> None:
    sweep = record_sweep()

    assert read_start(sweep.storage, sweep.sweep_id) == sweep.started
    with pytest.raises(NotFoundError, match="no sweep 'nothing'"):
        read_start(sweep.storage, "nothing")


def test_a_label_behind_a_trial_must_be_one_that_its_sweep_keeps(record_sweep: Recorder) -> None:
    sweep = record_sweep(keep={"gender": Objective(metric="val/gender_acc", direction="maximize")})
    trial = sweep.trial(0, [9.0], files=True)

    for text in (f"{trial}@gender", f"{trial[:4]}@best", trial):
        assert find_trial(sweep.storage, text) == (sweep.sweep_id, trial)
    assert [label_of(text) for text in ("1f3a@gender", "faces/1f3a@best", "1f3a")] == ["gender", "best", "best"]
    with pytest.raises(
        NotFoundError, match=r"keeps no epoch for 'gendr'\. Did you mean 'gender'\? It keeps: best, gend"
    ):
        find_trial(sweep.storage, f"{trial}@gendr")
