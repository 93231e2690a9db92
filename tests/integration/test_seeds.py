"""Every system of the five reports runs: the two-core profile of each file in ``sweeps/seeds``, to its end."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from orchestrator.catalog.ids import new_sweep_id
from orchestrator.cli.main import app
from orchestrator.journal.events import SweepStarted
from orchestrator.journal.segments import read_state
from orchestrator.ray_tune.driver import Engine, start_sweep
from orchestrator.settings import Settings
from orchestrator.spec.load import Sweep, load_sweep
from orchestrator.storage import open_storage
from tests.parts.seeds import commands

pytestmark = pytest.mark.slow

SEEDS = Path(__file__).parents[2] / "sweeps" / "seeds"
FILES = sorted(path.stem for path in SEEDS.glob("*.yaml"))
OFTEN = ("s0_three_heads", "s1_multitask", "s2_multitask", "s3_mixup", "s4_bins", "s4_components")
"""Of each report the file that takes least; ``make nightly`` runs the others, which take minutes."""

_GENDERS = ("male", "female")
_SCORES = ("acc", "f1.{}", "precision.{}", "recall.{}")
_S0_RACES = ("East Asian", "Indian", "Black", "White", "Middle Eastern", "Latino_Hispanic", "Southeast Asian")
_UTKFACE_RACES = ("White", "Black", "Asian", "Indian", "Others")
_S2 = ("loss", "age_loss", "race_loss", "gender_loss", "age_mae", "race_acc", "gender_acc")


def _gender(part: str, positive: str) -> list[str]:
    """Accuracy, F1, precision and recall of a gender on a part."""
    return [f"{part}/gender_{score.format(positive)}" for score in _SCORES]


def _under(part: str, *figures: str) -> list[str]:
    return [f"{part}/{figure}" for figure in figures]


TABLES: dict[str, tuple[list[str], list[list[str]]]] = {
    "s0_backbones": (
        [f'{network}, ["{data}"]' for network in ("resnet", "mobilenet") for data in ("imdb", "wiki")],
        [["best/loss", "best/gender_acc", "test.utkface/gender_acc", "best/age_acc", "test.utkface/age_acc"]],
    ),
    "s0_three_heads": (
        ["resnet", "xception"],
        [
            _under("test", *(f"{task}_{figure}" for task in ("gender", "age", "race") for figure in ("loss", "acc"))),
            _under("test", *(f"age_acc.by_race.{race}" for race in _UTKFACE_RACES)),
        ],
    ),
    "s0_fairface": (
        ["resnet", "xception"],
        [
            _under("test", *(f"{task}_{figure}" for figure in ("acc", "loss") for task in ("gender", "age", "race"))),
            _under("test", *(f"age_acc.by_race.{race}" for race in _S0_RACES)),
        ],
    ),
    "s0_fusion": (
        ["joint", "fusion"],
        [
            _under("test", "gender_acc", "age_acc", "race_acc"),
            [
                f"{part}/oracle_{task}_acc.by_gender.{gender}"
                for gender in _GENDERS
                for task in ("age", "race")
                for part in ("train", "best")
            ],
        ],
    ),
    "s1_caffe": (
        ["model1", "model1_longer", "model2", "model3", "model4", "weight_decay", "dropout"],
        [_gender("test", "male")],
    ),
    "s1_celeba_transfer": (
        ["direct", "celeba_first"],
        [[*_gender("stage.celeba.test", "male"), *_gender("test", "male")]],
    ),
    "s1_multitask": (
        ["model6_sixteen_classes", "model7_two_heads", "model8_younger_than"],
        [
            [
                *(f"best.{label}.test/{task}_acc" for label in ("age", "gender", "both") for task in ("gender", "age")),
                "best.age.test/age_acc_exact_vector",
            ]
        ],
    ),
    "s1_resnet34": (
        [f"model{number}" for number in range(9, 15)],
        [
            [
                *_gender("best.accuracy.test", "female"),
                *_under("best.accuracy.test", "age_acc", "age_acc_exact_vector"),
                "stage.celeba.test/attributes_acc",
            ]
        ],
    ),
    "s2_multitask": (
        ["resnet50", "mobilenet", "mobilenet_transformer"],
        [_under("train", *_S2), _under("best", *_S2), _under("test", *_S2)],
    ),
    "s3_mixup": (
        ["plain", "rand_augment", "mixup", "both"],
        [[f"{part}/gender_acc" for part in ("train", "best", "test", "val_augmented", "test_augmented")]],
    ),
    "s3_multitask": (
        [
            *("age_only", "default", "shared_dropout", "shared_batch_norm", "two_layers"),
            *("wider", "adam", "sgd", "plateau"),
        ],
        [[f"{part}/{task}_acc" for task in ("age", "gender") for part in ("train", "best", "test")]],
    ),
    "s3_transfer": (
        [f"{model}, {way}" for way in ("direct", "celeba_first") for model in ("resnet10t", "mobilenetv1_100")],
        [[f"{part}/gender_acc" for part in ("train", "best", "test")]],
    ),
    "s4_bins": (
        [
            *("adience8", "[0,20,60]", "utk4", "[0,13,20,40,60]", "[0,3,13,20,40,60]"),
            *("utk7a", "utk7", "utk31", "every2", "year"),
        ],
        [_under("best", "age_f1", "age_acc", "age_mae")],
    ),
    "s4_variants": (
        [
            *("v01_base", "v02_utkface_only", "v03_densenet201", "v04_resnet152", "v05_augmented", "v06_three_bins"),
            *("v07_four_bins", "v08_seven_bins", "v09_weighted_sampler", "v10_grey", "v11_dropout", "v12_rmsprop"),
            *("v13_nadam", "v15_gender_hierarchy", "v16_ethnicity_hierarchy", "v17_facenet"),
            *("v18_residual_attention", "v19_three_tasks", "v20_agecnn"),
        ],
        [
            ["best.f1/age_f1", "best/age_mae"],
            [
                *(f"best.f1/age_f1.by_gender.{gender}" for gender in _GENDERS),
                "best.f1/age_f1.mean_by_gender",
                *(f"best.f1/age_f1.by_race.{race}" for race in _UTKFACE_RACES),
                "best.f1/age_f1.mean_by_race",
            ],
            _under("best.f1", "age_f1", "gender_f1", "race_f1"),
        ],
    ),
}
"""By file, the rows of its tables on the profile, and the columns of each of its commands."""

LEADERBOARDS = {
    "s3_hyperband": (8, "best/age_acc"),
    "s4_agecnn_age": (1, "best/age_f1"),
    "s4_agecnn_ethnicity": (1, "best/race_f1"),
    "s4_agecnn_gender": (1, "best/gender_f1"),
    "s4_components": (6, "best/age_mae"),
}
"""The files with one row or with a search: the number of trials on the profile, and the figure that ranks them."""

BLANK = {
    "s0_fusion": {"joint"},  # routes nothing
    "s1_celeba_transfer": {"direct"},  # without CelebA
    "s1_multitask": {"model6_sixteen_classes", "model7_two_heads"},  # no eight heads
    "s1_resnet34": {"model9", "model10", "model13", "model14"},
    "s3_multitask": {"age_only"},
    "s4_variants": set(TABLES["s4_variants"][0]) - {"v19_three_tasks"},
}
"""Rows that lack a column: a task, an encoding or a stage that the variant does not have."""


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One for all files, so that data sets are drawn and stages trained once."""
    return str(tmp_path_factory.mktemp("seeds"))


def started(sweep: Sweep) -> SweepStarted:
    return SweepStarted.of(sweep, time=time.time(), sweep_id=new_sweep_id(sweep.spec.name), provenance={})


def test_every_file_has_a_table_or_a_leaderboard() -> None:
    assert sorted([*TABLES, *LEADERBOARDS]) == FILES


@pytest.mark.usefixtures("ray_address")
@pytest.mark.parametrize(
    "name", [name if name in OFTEN else pytest.param(name, marks=pytest.mark.nightly) for name in FILES]
)
def test_the_two_core_profile_runs_to_its_end(name: str, storage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGR_HOME", storage)
    sweep = load_sweep(SEEDS / f"{name}.yaml", profile="cpu", overrides=["concurrency=1"])
    engine = Engine(
        settings=Settings.from_environment(),
        storage=open_storage(storage),
        read_sealed=name in TABLES and not name.startswith("s4"),  # S4 has no test part
    )
    result = start_sweep(sweep, started(sweep), engine, on_begin=lambda: None)

    assert result.status == "completed", result.reason
    assert sweep.spec.search is not None
    assert result.counts["completed"] + result.counts["pruned"] == sweep.spec.search.trials, _errors(engine, result)
    assert result.best is not None
    for trial in read_state(engine.storage, result.sweep_id).trials.values():
        assert sweep.spec.objectives[0].value(trial.reports[-1].metrics) == trial.reports[-1].value

    printed = commands(name, "table")
    assert len(printed) == (len(TABLES[name][1]) if name in TABLES else 1)
    for number, command in enumerate(printed):
        done = CliRunner().invoke(app, [*command[1:], "--json", "--storage", storage])
        assert done.exit_code == 0, done.output
        if name in TABLES:
            assert command[:3] == ["agr", "table", sweep.spec.name]
            rows, columns = TABLES[name]
            _check_table(json.loads(done.stdout), rows, columns[number], blank=BLANK.get(name, set()))
        else:
            assert command[:3] == ["agr", "leaderboard", sweep.spec.name]
            _check_leaderboard(json.loads(done.stdout), *LEADERBOARDS[name])


def _check_leaderboard(rows: list[dict[str, Any]], trials: int, metric: str) -> None:
    assert len(rows) == trials
    figures = [row["metrics"][metric] for row in rows if row["outcome"] == "completed"]
    assert figures == sorted(figures, reverse=not metric.endswith("mae"))


def _check_table(table: dict[str, Any], rows: list[str], columns: list[str], *, blank: set[str]) -> None:
    assert [row["label"] for row in table["rows"]] == rows
    assert [column["metric"] for column in table["columns"]] == columns
    for row in table["rows"]:
        lacking = set(columns) - set(row["cells"])
        assert not lacking or row["label"] in blank, (row["label"], lacking)


def _errors(engine: Engine, result: Any) -> list[str | None]:
    trials = read_state(engine.storage, result.sweep_id).trials.values()
    return [None if trial.ended is None else trial.ended.error for trial in trials]
