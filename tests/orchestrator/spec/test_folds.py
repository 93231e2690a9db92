"""``folds``: what is held out in each, and what a sweep with folds may not say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from agr_core.config import TrialConfig
from agr_core.data.splits.splits import make_split
from orchestrator.errors import SpecError
from orchestrator.spec.folds import at_fold
from orchestrator.spec.load import Sweep, sweep_from_document
from orchestrator.sweep.settings import SweepSettings
from tests.parts.sweeps import local, make_run

FOLDS = 5


def _sweep(**fields: Any) -> Sweep:
    return sweep_from_document(
        {
            "name": "folded",
            "objective": {"metric": "val/age_mae", "direction": "minimize"},
            "variants": {"base": {}},
            "folds": FOLDS,
            **fields,
        }
    )


def _table(images: int = 120) -> pd.DataFrame:
    """Faces of 40 people, three images each, in five published folds."""
    random = np.random.default_rng(0)
    ages = random.integers(1, 80, images)
    return pd.DataFrame(
        {
            "sample_id": [f"{image:03d}" for image in range(images)],
            "age": ages.astype(float),
            "age_low": ages.astype(float),
            "age_high": ages.astype(float),
            "gender": "male",
            "race": None,
            "subject": [f"s{image // 3}" for image in range(images)],
            "partition": [str(image // 3 % FOLDS) for image in range(images)],
            "source": "faces",
            "sha256": [f"{image:064x}" for image in range(images)],
        }
    )


@pytest.mark.parametrize("split", [{}, {"strategy": "official"}])
def test_over_all_folds_each_image_is_tested_once_and_no_subject_is_on_two_sides(split: dict[str, Any]) -> None:
    config = TrialConfig.from_document({"data": {"split": split}})
    table = _table()
    tested, validated = [], []
    for fold in range(FOLDS):
        cut = make_split(table, at_fold(config, fold, folds=FOLDS).data.split)
        subjects = [set(table["subject"].iloc[cut.rows(part)]) for part in ("train", "val", "test")]
        assert sum(map(len, subjects)) == len(set.union(*subjects)), "a subject is on two sides"
        tested += cut.rows("test").tolist()
        validated += cut.rows("val").tolist()
        if split:
            assert set(table["partition"].iloc[cut.rows("test")]) == {str(fold)}
    assert sorted(tested) == sorted(validated) == list(range(len(table)))


def test_a_configuration_at_a_fold_is_put_at_another_one() -> None:
    config = TrialConfig.from_document({"data": {"split": {"seed": 7, "by": ["gender"]}}, "seed": 3})
    third = at_fold(at_fold(config, 0, folds=4), 3, folds=4)
    assert third.data.split.model_dump(exclude_defaults=True) == {
        "strategy": "kfold",
        "by": ("gender",),
        "seed": 7,
        "folds": 4,
        "fold": 3,
    }
    assert third.model_copy(update={"data": config.data}) == config


def test_a_stage_on_the_same_images_holds_out_the_same_ones() -> None:
    sweep = _sweep(
        trial={
            "stages": [
                {"id": "same", "data": {"source": "synthetic"}},
                {"id": "other", "init": None, "data": {"source": "synthetic:7"}},
            ]
        }
    )
    config = at_fold(sweep.space.build(lambda _, domain: domain.choices[0]).config, 2, folds=FOLDS)
    folds = {stage.id: stage.config.data.split.fold for stage in config.stages}
    assert config.data.split.fold == 2
    assert folds == {stage.id: (2 if stage.config.data.source == config.data.source else 0) for stage in config.stages}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"repeat": {"seeds": 2}}, "folds=5 with repeat.seeds=2"),
        ({"scheduler": "asha"}, "folds=5 with scheduler=asha: folds of one configuration must train equally long"),
        ({"confirm": {"top": 1, "seeds": 2}}, "folds=5 with confirm.top=1"),
        ({"search": {"algorithm": "tpe", "trials": 4}}, "folds=5 with search.algorithm=tpe"),
        ({"trial": {"data": {"split": {"strategy": "random"}}}}, "folds with data.split.strategy=random"),
        (
            {"trial": {"data": {"split": {"strategy": "official", "partitions": {"train": ["0"], "test": ["1"]}}}}},
            "folds with data.split.partitions",
        ),
        ({"space": {"data": {"split": {"seed": {"choice": [1, 2]}}}}}, "may not vary in `space` under `folds`"),
        ({"folds": 2}, "must be at least 3"),
    ],
)
def test_what_folds_exclude_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError) as found:
        _sweep(**fields)
    assert said in str(found.value)


def test_a_driver_creates_a_trial_for_each_fold_of_each_configuration_with_one_seed(tmp_path: Path) -> None:
    sweep = _sweep(variants={"base": {}, "light": {"augment": "light"}}, trial={"seed": 3})
    settings = SweepSettings.of(sweep.spec, max_epochs=sweep.max_epochs)
    run = make_run(local(tmp_path), sweep, seeds=settings.seeds, folds=settings.folds)
    run.begin()
    created = []
    while (trial := run.next_trial(100)) is not None:
        created.append(trial)
    assert run.planned == len(created) == 2 * FOLDS
    assert [(trial.configuration, trial.repeat) for trial in created] == [
        (configuration, fold) for configuration in range(2) for fold in range(FOLDS)
    ]
    splits = [trial.config["data"]["split"] for trial in created]
    assert [(split["strategy"], split["folds"], split["fold"]) for split in splits] == [
        ("kfold", FOLDS, fold) for _ in range(2) for fold in range(FOLDS)
    ]
    assert {trial.config["seed"] for trial in created} == {3}
