"""From what people type to IDs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agr_core.errors import IntegrityError
from agr_core.objective import Objective
from orchestrator.errors import AmbiguousIdError, NotFoundError, TrackerUnavailableError
from orchestrator.lookup import (
    LOST_AFTER_S,
    find_sweep,
    find_trial,
    label_of,
    read_start,
    read_summary,
    run_ids,
    summaries,
)
from orchestrator.settings import Settings
from orchestrator.storage import layout
from orchestrator.sync import Syncer
from orchestrator.tracking import open_tracker
from orchestrator.tracking.memory import MemoryTracker

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


def test_an_ambiguous_sweep_lists_the_candidates(record_sweep: Recorder) -> None:
    first, second = record_sweep("faces-20260102-030405-abcd"), record_sweep("faces-20260103-030405-abcd")

    with pytest.raises(AmbiguousIdError, match=f"{first.sweep_id}, {second.sweep_id}"):
        find_sweep(first.storage, "faces")


def test_an_unknown_sweep_says_where_was_looked_and_what_to_do(record_sweep: Recorder) -> None:
    sweep = record_sweep()

    with pytest.raises(NotFoundError, match=f"no sweep starts with 'nothing' in {sweep.storage.uri}.*agr list"):
        find_sweep(sweep.storage, "nothing")


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

    with pytest.raises(AmbiguousIdError, match=f"'{shared}' is ambiguous: {sweep.sweep_id}/{shared}.*Type more of it"):
        find_trial(sweep.storage, shared)


def test_an_unknown_trial_says_what_to_do(record_sweep: Recorder) -> None:
    sweep = record_sweep()

    with pytest.raises(NotFoundError, match=r"no trial starts with 'zzz'.*agr leaderboard"):
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
    assert find_trial(sweep.storage, ids[sweep.sweep_id, trial]) == (sweep.sweep_id, trial)
    assert syncer.place is not None
    for foreign in ("f" * 32, syncer.place.run_id):  # not there; the sweep's own run
        with pytest.raises(NotFoundError, match=f"no trial's run {foreign}"):
            find_trial(sweep.storage, foreign)


def test_an_mlflow_run_is_not_looked_for_where_mlflow_does_not_answer(
    record_sweep: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")

    with pytest.raises(TrackerUnavailableError, match=r"127\.0\.0\.1:9"):
        find_trial(record_sweep().storage, "f" * 32)


def test_run_ids_of_a_sweep_that_was_never_delivered_are_none(record_sweep: Recorder) -> None:
    assert run_ids(MemoryTracker(), record_sweep().started) == {}


def test_the_start_of_a_sweep_is_its_first_event(record_sweep: Recorder) -> None:
    sweep = record_sweep()

    assert read_start(sweep.storage, sweep.sweep_id) == sweep.started
    with pytest.raises(NotFoundError, match="no sweep 'nothing'"):
        read_start(sweep.storage, "nothing")


def test_a_running_sweep_whose_driver_fell_silent_is_lost(record_sweep: Recorder) -> None:
    sweep = record_sweep()

    assert read_summary(sweep.storage, sweep.sweep_id, now=sweep.now + LOST_AFTER_S - 1)["status"] == "running"
    assert read_summary(sweep.storage, sweep.sweep_id, now=sweep.now + LOST_AFTER_S + 1)["status"] == "lost"


def test_a_sweep_that_ended_is_never_lost(record_sweep: Recorder) -> None:
    sweep = record_sweep()
    sweep.end("interrupted")

    assert read_summary(sweep.storage, sweep.sweep_id, now=sweep.now + 1e6)["status"] == "interrupted"


@pytest.mark.parametrize("text", [b"{", b"[]", b"{}", b'{"heartbeat": null, "status": "running"}'])
def test_a_damaged_summary_is_named(record_sweep: Recorder, text: bytes) -> None:
    sweep = record_sweep()
    sweep.storage.write(layout.summary(sweep.sweep_id), text)

    with pytest.raises(IntegrityError, match=r"summary\.json is not a sweep's summary"):
        read_summary(sweep.storage, sweep.sweep_id, now=0.0)


def test_summaries_come_newest_first_without_sweeps_that_only_begin(record_sweep: Recorder) -> None:
    old = record_sweep("z-20260102-030405-abcd")
    new = record_sweep("a-20260103-030405-abcd")
    new.now += 1e5
    new._events[0] = new.started = new.started.model_copy(update={"time": new.now})
    new.end()
    old.storage.write(f"{layout.control('b-20260104-030405-abcd')}/1.json", b"{}")

    found = [summary["sweep_id"] for summary in summaries(old.storage, now=new.now)]

    assert found == [new.sweep_id, old.sweep_id]


@pytest.mark.parametrize("text", [b"{", b"[]", b'{"heartbeat": 1, "status": "running"}'])
def test_a_damaged_summary_hides_no_other(record_sweep: Recorder, text: bytes) -> None:
    broken, fine = record_sweep("a-20260102-030405-abcd"), record_sweep("b-20260102-030405-abcd")
    broken.storage.write(layout.summary(broken.sweep_id), text)
    heard: list[IntegrityError] = []

    found = [each["sweep_id"] for each in summaries(fine.storage, now=fine.now, unreadable=heard.append)]

    assert found == [fine.sweep_id]
    assert [broken.sweep_id in str(error) for error in heard] == [True]


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
