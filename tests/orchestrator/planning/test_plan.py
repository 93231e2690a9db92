"""What a sweep would cost: by hand where that is simple, from remembered speeds, and refused where nothing is known."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agr_core.errors import InputError
from agr_core.identity import digest
from orchestrator.assets.measurements import Measurement, keep
from orchestrator.cli.main import app
from orchestrator.planning.fleet import Nodes, slots_of
from orchestrator.planning.forecast import forecast
from orchestrator.planning.loads import load_of
from orchestrator.planning.recorded import Recorded, RecordedCurves
from orchestrator.planning.speeds import CHECK_DEVIATION, EPOCH_S, TRAINED_DEVIATION, Sample, Speeds, Starts, remembered
from orchestrator.simulation.curves import PowerLaws
from orchestrator.spec.model import ResourcesSpec
from tests.parts.sweeps import local, make_run, report, small_sweep

SEARCH = {"algorithm": "random", "trials": 6, "seed": 7}
FILE = "sweeps/quickstart.yaml"


def power_laws(sweep: Any, epoch_s: float) -> Any:
    return lambda seed: PowerLaws(sweep.spec.objectives, lambda _: epoch_s, seed=seed)


def test_without_early_stopping_it_costs_what_one_computes_by_hand() -> None:
    sweep = small_sweep(search=SEARCH, scheduler="none")  # 6 trials of 9 epochs
    found = forecast(
        sweep,
        [Nodes.parse("1x0:cpu2@3.60")],
        curves=power_laws(sweep, 100.0),
        starts=Starts(cold_s=40.0, warm_s=10.0),
        around_s=50.0,
        seeds=3,
    )
    assert found.epochs.p10 == found.epochs.p90 == 54
    by_hand_h = (50 + 40 + 10 + 10 + 3 * 9 * 100) / 3600  # two slots
    assert by_hand_h <= found.hours.p50 <= by_hand_h * 1.02
    assert found.usd.p50 == pytest.approx(3.60 * found.hours.p50)
    assert found.idle_share.p50 < 0.03


def test_early_stopping_saves_epochs_and_more_machines_save_hours() -> None:
    sweep = small_sweep(search={**SEARCH, "trials": 20})
    one, four = (
        forecast(sweep, [Nodes.parse(text)], curves=power_laws(sweep, 100.0), starts=Starts(1.0, 1.0), seeds=3)
        for text in ("1x0:cpu1@1", "4x0:cpu1@1")
    )
    assert one.epochs.p90 < 0.7 * 20 * 9
    assert four.hours.p50 < 0.5 * one.hours.p50
    assert four.idle_share.p50 > one.idle_share.p50


def test_gpus_are_shared_and_counted() -> None:
    assert Nodes.parse("2x4:RTX_4090@0.40").slots(ResourcesSpec(gpus=0.5)) == 8
    assert slots_of([Nodes.parse("2x4")], ResourcesSpec(gpus=2)) == [2, 2]
    with pytest.raises(InputError, match="no trial fits"):
        slots_of([Nodes.parse("3x1:T4")], ResourcesSpec(gpus=2))


@pytest.mark.parametrize("text", ["", "4", "0x4", "2x4:RTX 4090", "2x4@cheap", "x4"])
def test_nodes_written_otherwise_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="--nodes"):
        Nodes.parse(text)


def test_speeds_are_those_of_the_same_load_else_of_the_model_else_of_all(tmp_path: Path) -> None:
    storage = local(tmp_path)
    run = make_run(storage, small_sweep(search=SEARCH))
    run.begin()
    seconds = {}
    for _ in range(6):
        created = run.next_trial(1)
        assert created is not None
        run.attempt_started(created.trial_id, "host")
        epoch = report(1, 5.0, finished=True)
        seconds[created.trial_id] = 10.0 if created.config["model"]["name"] == "resnet10t" else 2.0
        run.epoch_reported(
            created.trial_id,
            type(epoch)(epoch=1, metrics={**epoch.metrics, EPOCH_S: seconds[created.trial_id]}, finished=True),
        )
        run.trial_over(created.trial_id)
        config = created.config
    run.end("completed")
    known = remembered(storage)
    speeds = known.speeds
    assert known.unreadable == ()
    assert speeds.sweeps == [run.sweep_id]
    assert set(seconds.values()) == {2.0, 10.0}
    assert speeds.epoch_s({**config, "model": {"name": "resnet10t"}, "batch_size": 7}) == 10.0
    assert 2.0 <= speeds.epoch_s({**config, "model": {"name": "another"}}) <= 10.0


def test_the_command_prints_json_and_says_what_is_assumed() -> None:
    result = CliRunner().invoke(
        app, ["plan", FILE, "--nodes", "2x0:cpu2@0.10", "--epoch-s", "4", "--seeds", "2", "--json"]
    )
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert [fleet["nodes"] for fleet in document["fleets"]] == ["1x0:cpu2@0.10", "2x0:cpu2@0.10", "4x0:cpu2@0.10"]
    assert set(document["fleets"][0]["usd"]) == {"p10", "p50", "p90"}
    assert any("power laws" in line for line in document["assumed"])


def test_without_a_measurement_it_says_what_to_run(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["plan", FILE, "--nodes", "1x0:cpu2", "--storage", str(tmp_path / "none")])
    assert result.exit_code == 2
    assert "agr check" in result.stderr
    assert "agr submit" in result.stderr
    assert "--epoch-s" in result.stderr


def test_what_agr_check_measured_counts_where_no_sweep_has_and_by_the_label_of_the_machine(tmp_path: Path) -> None:
    storage = local(tmp_path)
    base = small_sweep().space.build(lambda _, domain: domain.choices[0] if domain.choices else domain.low).config
    for hardware, epoch_s in (("4 x NVIDIA GeForce RTX 4090", 3.0), ("2 x AMD EPYC", 60.0)):
        keep(
            storage,
            Measurement(
                load=load_of(base.to_document()),
                hardware=hardware,
                images_per_s=100.0,
                epoch_s=epoch_s,
                start_s=8.0,
                build_s=0.5,
                main_gb=1.0,
                gpu_gb=None,
                time=0.0,
            ),
        )
    speeds = remembered(storage).speeds
    assert (speeds.checked, speeds.starts()) == (2, Starts(8.0, 0.5))
    assert speeds.on("RTX_4090").epoch_s(base.to_document()) == 3.0
    assert speeds.on("H100").epoch_s(base.to_document()) == 31.5, "of an unknown machine: the median of all"
    several = [speeds.on("RTX_4090").in_simulation(number, 5)(base.to_document()) for number in range(5)]
    assert several == sorted(several)
    assert several[2] == 3.0, "the middle simulation has the measured speed"
    assert several[4] / 3.0 == pytest.approx(math.exp(CHECK_DEVIATION * 1.2816), rel=1e-4), "the 90 % quantile"
    trained = Speeds([*speeds.samples, Sample(digest(load_of(base.to_document())), base.model.name, "T4", 5.0)])
    assert trained.epoch_s(base.to_document()) == 5.0
    slowest = trained.in_simulation(4, 5)(base.to_document())
    assert 5.0 < slowest < 5.0 * math.exp(TRAINED_DEVIATION * 1.3), "less is known of what was only checked"
    dropout = base.model_copy(update={"model": base.model.model_copy(update={"dropout": 0.1})})
    assert speeds.on("RTX_4090").epoch_s(dropout.to_document()) == 3.0, "dropout does not change the speed"


def test_recorded_curves_are_drawn_stretched_and_continued_where_early_stopping_cut_them() -> None:
    whole = Recorded("resnet10t", 4, (10.0, 8.0, 7.0, 6.0), diverged=False)
    cut = Recorded("basic_cnn", 4, (12.0, 11.0), diverged=False)
    curves = RecordedCurves([whole, cut], lambda _: 1.0, seed=3)
    base = small_sweep().space.build(lambda _, domain: domain.choices[0] if domain.choices else domain.low).config

    def drawn(model: str, epochs: int) -> tuple[float, ...]:
        config = base.to_document() | {"schedule": {"name": "constant", "epochs": epochs}}
        config["model"] = {"name": model}
        return curves(config).values

    def falls(values: tuple[float, ...]) -> list[float]:
        return [round(before - after, 6) for before, after in pairwise(values)]

    assert falls(drawn("resnet10t", 4)) == [2.0, 1.0, 1.0]
    assert falls(drawn("basic_cnn", 4)) == [1.0, 1.0, 1.0], "from epoch 2 on it falls as the whole one does"
    assert falls(drawn("resnet10t", 2)) == [2.0], "half as many epochs go as far as all"
    assert len(drawn("resnet10t", 7)) == 7
