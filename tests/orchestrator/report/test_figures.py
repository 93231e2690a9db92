"""The figures of the page: a pure function of states, for finished, running and empty sweeps."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from agr_core.errors import InputError, IntegrityError
from agr_core.evaluation.predictions import Classified, Predictions
from orchestrator.journal.events import AttemptFailed, BaselineMeasured
from orchestrator.report.evidence import Evidence
from orchestrator.report.groups import _from_predictions
from orchestrator.report.page import figures_of, page_html
from orchestrator.storage import layout

Recorder = Callable[..., Any]
NOW = 1_767_400_000.0


def figures(*sweeps: Any) -> dict[str, Any]:
    evidence = Evidence(sweeps[0].storage)
    return figures_of(evidence, evidence.states([sweep.sweep_id for sweep in sweeps]), now=NOW)


def finished(record_sweep: Recorder, **more: Any) -> Any:
    """Twelve trials, the fourth of which is the best; half of them are stopped after one epoch."""
    document = {"search": {"algorithm": "tpe", "trials": 12}, "scheduler": {"name": "asha", "grace_epochs": 1}}
    sweep = record_sweep(document=document, **more)
    sweep.record(BaselineMeasured(time=sweep.tick(), split_digest="5" * 64, metrics={"val/age_mae": 15.0}))
    for number in range(12):
        params = {"optimizer.name": ("adam", "sgd")[number % 2], "optimizer.lr": 0.001 * (number + 1)}
        value = 5.0 + abs(number - 3)
        if number % 2:
            sweep.trial(number, [value + 2, value], params=params, files=number < 6)
        else:
            sweep.trial(number, [value + 2], "pruned", params=params)
    sweep.end()
    return sweep


def test_a_finished_sweep_has_every_part(record_sweep: Recorder) -> None:
    doc = figures(finished(record_sweep))
    head = doc["head"]
    assert (head["value"], head["baseline"], head["metric"]) == (5.0, 15.0, "age_mae")
    assert doc["sweeps"][0]["counts"] == {"completed": 6, "pruned": 6}
    assert doc["sweeps"][0]["message"] is None
    assert [curve["rank"] for curve in doc["curves"]["best"]] == [1, 2, 3, 4, 5, 6]
    assert len(doc["curves"]["others"]) == 6
    assert doc["curves"]["baseline"] == 15.0
    assert doc["survival"]["reached"] == [[1, 12], [2, 6]]
    assert doc["survival"]["rungs"] == [1, 3]
    assert doc["importance"]["predicted"] == 6
    assert {axis["path"] for axis in doc["parallel"]["axes"]} == {"optimizer.name", "optimizer.lr"}
    assert len(doc["parallel"]["lines"]) == 12
    assert [side["trial"] for side in doc["confusion"][0]["sides"]] == [
        row["trial"] for row in doc["leaderboard"]["rows"][:2]
    ]
    assert doc["errors"]["rows"] == []
    assert len(json.loads(json.dumps(doc, allow_nan=False))["leaderboard"]["rows"]) == 12


def test_the_command_of_a_row_names_sweep_trial_and_storage(record_sweep: Recorder) -> None:
    sweep = finished(record_sweep)
    first = figures(sweep)["leaderboard"]["rows"][0]
    assert first["rerun"] == f"agr rerun {sweep.sweep_id}/{first['trial']} --storage {sweep.storage.uri}"


def test_a_sweep_without_trials_says_so(record_sweep: Recorder) -> None:
    sweep = record_sweep()
    doc = figures(sweep)
    assert doc["running"]
    assert doc["sweeps"][0]["message"] == "No trial was created yet."
    assert doc["head"] is None
    assert doc["importance"]["message"].startswith("0 trials with a value")
    sweep.end("stopped")
    assert figures(sweep)["sweeps"][0]["message"] == "It ended before its first trial."


def test_a_running_sweep_shows_what_there_is(record_sweep: Recorder) -> None:
    sweep = record_sweep()
    trial = sweep.create(0)
    sweep.start(trial)
    sweep.report(trial, 1, 9.0)
    waiting = sweep.create(1)
    doc = figures(sweep)
    assert doc["sweeps"][0]["message"] == "No trial has completed yet, so none is ranked."
    assert (doc["sweeps"][0]["training"], doc["sweeps"][0]["waiting"]) == (1, 1)
    outcomes = {row["trial"]: row["outcome"] for row in doc["leaderboard"]["rows"]}
    assert outcomes == {trial: "running", waiting: "waiting"}
    (lane,) = doc["timeline"]["lanes"]
    assert lane["bars"][0]["to"] == NOW


def test_lanes_of_a_node_hold_trials_that_ran_at_once(record_sweep: Recorder) -> None:
    sweep = record_sweep()
    first, second = sweep.create(0), sweep.create(1)
    sweep.start(first)
    sweep.start(second)
    for trial in (first, second):
        sweep.report(trial, 1, 9.0)
        sweep.end_trial(trial, "completed", [9.0])
    sweep.trial(2, [8.0])
    sweep.end()
    lanes = figures(sweep)["timeline"]["lanes"]
    assert [[bar["number"] for bar in lane["bars"]] for lane in lanes] == [[0, 2], [1]]


def test_errors_name_trial_cause_and_text(record_sweep: Recorder) -> None:
    sweep = record_sweep()
    trial = sweep.create(0)
    sweep.start(trial)
    failed = {"trial_id": trial, "attempt": 0, "error": "ran out <of> memory", "cause": "out_of_memory"}
    sweep.record(AttemptFailed(time=sweep.tick(), charged=True, **failed))
    sweep.end_trial(trial, "failed", [], error="no attempt is left")
    rows = figures(sweep)["errors"]["rows"]
    assert [(row["what"], row["text"]) for row in rows] == [
        ("failed", "no attempt is left"),
        ("attempt 0: out_of_memory", "ran out <of> memory"),
    ]


def predictions(images: int = 40) -> Predictions:
    """Every fifth age is off by ten years; every image of the second race is off by two more."""
    ages = np.arange(images, dtype=np.float32) + 10
    race = (np.arange(images) % 2).astype(np.int64)
    off = np.where(np.arange(images) % 5 == 0, 10.0, 1.0) + 2 * race
    return Predictions(
        sample_ids=tuple(map(str, range(images))),
        years={"age_low": ages, "age_high": ages, "age_predicted": (ages + off).astype(np.float32)},
        classes={"race": Classified(("White", "Black"), race, race)},
    )


def test_stored_predictions_give_intervals_of_value_and_groups(record_sweep: Recorder) -> None:
    sweep = record_sweep()
    trial = sweep.trial(0, [3.8])
    sweep.end()
    key = layout.predictions(layout.attempt(sweep.sweep_id, trial, 0), "val", 1)
    sweep.storage.write(key, predictions().to_parquet())
    doc = figures(sweep)
    interval = doc["head"]["interval"]
    assert interval["over"] == "40 validation images, one seed"
    assert interval["low"] < 3.8 < interval["high"]
    by_race = next(each for each in doc["groups"]["figures"] if (each["figure"], each["by"]) == ("age_mae", "race"))
    assert [group["mean"] for group in by_race["groups"]] == pytest.approx([2.8, 4.8])
    assert by_race["gap"] == pytest.approx(2.0)
    assert by_race["low"] <= 2.0 <= by_race["high"]
    assert all(group["low"] < group["mean"] < group["high"] for group in by_race["groups"])
    assert not [each for each in doc["groups"]["figures"] if (each["figure"], each["by"]) == ("race_acc", "race")]


def test_hits_and_misses_have_an_interval_within_0_and_1() -> None:
    """Wilson's interval of 4 hits among 4 images is 0.510 to 1."""
    genders = np.zeros(8, dtype=np.int64)
    races = (np.arange(8) < 4).astype(np.int64)
    hits = np.array([0, 0, 1, 1, 0, 0, 0, 0], dtype=np.int64)
    classes = {"race": Classified(("a", "b"), races, races), "gender": Classified(("f", "m"), genders, hits)}
    figures = _from_predictions(Predictions(sample_ids=tuple("abcdefgh"), classes=classes))
    (by_race,) = [each for each in figures if each["by"] == "race"]
    assert by_race["figure"] == "gender_acc"
    assert [(group["low"], group["high"]) for group in by_race["groups"]] == [
        (pytest.approx(0.510, abs=1e-3), pytest.approx(1.0)),
        (pytest.approx(0.150, abs=1e-3), pytest.approx(0.850, abs=1e-3)),
    ]


def test_without_predictions_groups_are_those_reported(record_sweep: Recorder) -> None:
    sweep = record_sweep()
    trial = sweep.create(0)
    sweep.start(trial)
    by_race = {"val/age_mae.by_race.White": 2.0, "val/age_mae.by_race.Black": 5.0, "val/images.by_race.White": 9.0}
    sweep.report(trial, 1, 3.0, **by_race, **{"val/age_mae.gap_by_race": 3.0})
    sweep.end_trial(trial, "completed", [3.0])
    sweep.end()
    (figure,) = figures(sweep)["groups"]["figures"]
    assert [(group["name"], group["mean"], group["images"]) for group in figure["groups"]] == [
        ("White", 2.0, 9.0),
        ("Black", 5.0, None),
    ]
    assert figure["low"] is None


def test_several_sweeps_share_a_page_and_others_are_refused(record_sweep: Recorder) -> None:
    first = finished(record_sweep)
    second = record_sweep("other-20260103-030405-abcd")
    second.trial(0, [4.0])
    second.end()
    doc = figures(first, second)
    assert doc["leaderboard"]["several"]
    assert doc["head"]["sweep_id"] == second.sweep_id
    assert len(doc["leaderboard"]["rows"]) == 13
    third = record_sweep("third-20260103-030405-abcd")
    third.trial(0, [4.0], split_digest="6" * 64)
    with pytest.raises(InputError, match="different"):
        figures(first, third)
    evidence = Evidence(first.storage)
    with pytest.raises(InputError, match="no sweep given"):
        figures_of(evidence, [])


def test_a_damaged_metrics_file_is_named(record_sweep: Recorder) -> None:
    sweep = record_sweep()
    trial = sweep.trial(0, [4.0], files=True)
    sweep.end()
    key = f"{layout.attempt(sweep.sweep_id, trial, 0)}/metrics.jsonl"
    sweep.storage.write(key, b"{}\n")
    with pytest.raises(IntegrityError, match=r"metrics\.jsonl"):
        figures(sweep)


def test_the_page_holds_what_trials_wrote_as_data_alone(record_sweep: Recorder) -> None:
    sweep = record_sweep(description="</script><script>alert(1)</script>")
    sweep.trial(0, [4.0])
    doc = figures(sweep)
    page = page_html(doc, title="<b>title")
    assert "alert(1)</script>" not in page
    assert "<title>&lt;b&gt;title</title>" in page
    text = page.partition('id="figures">')[2].partition("</script>")[0]
    assert json.loads(text) == doc
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page
