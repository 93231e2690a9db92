"""The pictures of the page's figures: there is one where there is something to show."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from agr_core.objective import Objective
from orchestrator.journal.events import TrialEnded
from orchestrator.report.evidence import Evidence
from orchestrator.report.page import figures_of
from orchestrator.report.pictures import pictures


def drawn(sweep: Any) -> dict[str, bytes]:
    evidence = Evidence(sweep.storage)
    return pictures(figures_of(evidence, evidence.states([sweep.sweep_id])))


def test_every_figure_has_a_picture(record_sweep: Callable[..., Any]) -> None:
    sweep = record_sweep()
    for number in range(12):
        params = {"optimizer.name": ("adam", "sgd")[number % 2], "optimizer.lr": 0.001 * (number + 1)}
        if number % 2:
            params["optimizer.momentum"] = 0.9
        gaps = {"val/age_mae.gap_by_race": 1.0, "val/age_mae.by_race.White": 4.0, "val/age_mae.by_race.Black": 5.0}
        trial = sweep.create(number, params)
        sweep.start(trial)
        values = [9.0 - number / 4, 8.0 - number / 4]
        for epoch, value in enumerate(values, start=1):
            sweep.report(trial, epoch, value, **gaps)
        sweep.end_trial(trial, "completed", values)
    sweep.end()
    made = drawn(sweep)
    assert made.keys() == {"curves", "rung_survival", "importance", "parallel_coordinates", "groups", "workers"}
    for picture in made.values():
        assert Image.open(io.BytesIO(picture)).width > 400


def test_an_empty_sweep_has_none(record_sweep: Callable[..., Any]) -> None:
    assert drawn(record_sweep()) == {}


def test_several_objectives_have_their_front_and_the_first_two_their_confusion(
    record_sweep: Callable[..., Any], tmp_path: Path
) -> None:
    further = (
        Objective(metric="val/gender_acc", direction="maximize"),
        Objective(metric="time/epoch_s", direction="minimize"),
    )
    sweep = record_sweep(further=further)
    points = {"cheap": (9.0, 0.70, 1.0), "good": (5.0, 0.90, 4.0), "middle": (7.0, 0.80, 2.0), "bad": (9.5, 0.60, 5.0)}
    trials = {}
    for number, (name, point) in enumerate(points.items()):
        trials[name] = trial = sweep.create(number, {"optimizer.lr": 0.001 * (number + 1)})
        sweep.start(trial)
        sweep.report(trial, 1, point[0], **{"val/gender_acc": point[1], "time/epoch_s": point[2]})
        sweep.write_files(trial, [point[0]])
        ended: dict[str, Any] = {"epochs": 1, "best_epoch": 1, "attempt": 0, "value": point[0], "values": point}
        sweep.record(TrialEnded(time=sweep.tick(), trial_id=trial, outcome="completed", **ended))
    sweep.end()

    evidence = Evidence(sweep.storage)
    figures = figures_of(evidence, evidence.states([sweep.sweep_id]))
    made = pictures(figures)

    assert {each["trial"]: each["front"] for each in figures["front"]["points"]} == {
        **{trials[name]: 1 for name in ("cheap", "good", "middle")},
        trials["bad"]: 2,
    }
    assert [each["name"] for each in figures["front"]["objectives"]] == [
        "val/age_mae",
        "val/gender_acc",
        "time/epoch_s",
    ]
    assert {"pareto_front", "confusion_gender"} <= made.keys()
    (tmp_path / "front.png").write_bytes(made["pareto_front"])
    (tmp_path / "confusion.png").write_bytes(made["confusion_gender"])
    front, confusion = (Image.open(io.BytesIO(made[name])) for name in ("pareto_front", "confusion_gender"))
    assert front.height > 1.2 * front.width  # one plot a further objective
    assert confusion.width > 1.4 * confusion.height  # two matrices side by side


def test_one_objective_has_no_front(record_sweep: Callable[..., Any]) -> None:
    sweep = record_sweep()
    sweep.trial(0, [9.0, 8.0])
    sweep.end()
    assert "pareto_front" not in drawn(sweep)
