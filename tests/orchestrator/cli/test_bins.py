"""``agr bins suggest``: bins from what a recorded trial's model takes for what."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from agr_core.bins import Bins
from agr_core.config import DataConfig, SyntheticConfig, TrialConfig
from agr_core.data.splits.splits import read_split
from agr_core.errors import InputError
from agr_core.labels.encodings import build_encoding
from agr_core.models import build_model
from agr_core.trainer.checkpoint import TensorFile
from orchestrator.assets.datasets import prepare_data, stage
from orchestrator.cli.bins import _narrow_bins
from orchestrator.journal.segments import read_state
from orchestrator.settings import Settings
from orchestrator.storage import layout

Record = Callable[..., str]
DATA = DataConfig(source="synthetic", synthetic=SyntheticConfig(images=300, size=32))


@pytest.fixture
def record(record_sweep: Callable[..., Any], tmp_path: Path) -> Record:
    """Records an untrained trial on drawn faces, with its weights."""

    def make(**params: Any) -> str:
        sweep = record_sweep()
        ref = prepare_data(DATA, storage=sweep.storage, cache=Settings.from_environment().cache)
        digests = {"data_digest": ref.data_digest, "split_digest": ref.split_digest, "data_uri": ref.data_uri}
        small = {"model.base_features": 4, "model.hidden": 8, "image.size": 32}
        trial: str = sweep.trial(0, [9.0], params={**small, **params}, **digests)
        config = TrialConfig.from_document(read_state(sweep.storage, sweep.sweep_id).trials[trial].created.config)
        outputs = build_encoding(config.age).outputs
        model = build_model(config, age_outputs=outputs, num_genders=2, num_races=5)
        key = layout.best_weights(layout.attempt(sweep.sweep_id, trial, 0), 1)
        sweep.storage.write(key, TensorFile.of(model.state_dict()).content)
        return trial

    return make


@pytest.mark.parametrize("age", [{"age.encoding": "onehot", "age.bins": "every2"}, {"age.encoding": "regression"}])
def test_suggested_bins_cover_the_validation_images_and_can_be_trained_on(
    record: Record, agr: Callable[..., Result], age: dict[str, Any]
) -> None:
    trial = record(**age)

    found = json.loads(agr("bins", "suggest", trial, "--bins", "4", "--json").stdout)

    config = TrialConfig.from_document({"age": {"encoding": "onehot", "bins": found["bins"]}})
    assert list(config.age.bins) == found["bins"]  # type: ignore[union-attr]
    assert len(found["bins"]) == 4
    assert (
        found["images"] == sum(found["images_by_bin"].values()) == pytest.approx(300 * DATA.split.fractions[1], abs=3)
    )
    assert all(count >= 0.03 * found["images"] for count in found["images_by_bin"].values())
    assert found["score"] == pytest.approx(sum(found["shares"].values()) / 4)
    assert found["schemes"].keys() <= {"utk4"}


def test_the_suggestion_is_printed_as_a_line_for_the_sweep_file(record: Record, agr: Callable[..., Result]) -> None:
    trial = record(**{"age.encoding": "regression"})
    found = json.loads(agr("bins", "suggest", trial, "--bins", "3", "--json").stdout)
    text = agr("bins", "suggest", trial, "--bins", "3").stdout
    assert f"bins: {found['bins']}" in text.splitlines()
    assert f"score {found['score']:.3f}" in text


@pytest.mark.parametrize(
    ("params", "options", "words"),
    [
        ({"age.bins": "utk7"}, (), "bins of more than 2 years"),
        ({"age.encoding": "regression"}, ("--weigh", "all"), "bins, ages or images"),
        ({"age.encoding": "regression"}, ("--bins", "40"), "cannot be made of these ages"),
        ({"tasks": ["gender"]}, (), "was not trained on ages"),
    ],
    ids=["wide bins", "weigh", "too many", "no ages"],
)
def test_what_cannot_be_suggested_is_refused(
    record: Record, agr: Callable[..., Result], params: dict[str, Any], options: tuple[str, ...], words: str
) -> None:
    result = agr("bins", "suggest", record(**params), *options, code=2)
    assert result.stderr.startswith("error: ")
    assert words in result.stderr


def test_ages_are_those_of_the_validation_part_alone(
    record: Record, agr: Callable[..., Result], tmp_path: Path, record_sweep: Any
) -> None:
    trial = record(**{"age.encoding": "regression"})
    found = json.loads(agr("bins", "suggest", trial, "--bins", "2", "--json").stdout)
    settings = Settings.from_environment()
    sweep = record_sweep("other-20260103-030405-beef")
    ref = prepare_data(DATA, storage=sweep.storage, cache=settings.cache)
    split = read_split(stage(ref, storage=sweep.storage, cache=settings.cache).split)
    assert found["images"] == len(split.rows("val"))


@pytest.mark.parametrize(
    ("age", "narrow"),
    [
        ({"encoding": "onehot", "bins": "utk31"}, "utk31"),
        ({"encoding": "onehot", "bins": "every2"}, "every2"),
        ({"encoding": "onehot", "bins": "year"}, "utk31"),
        ({"encoding": "regression"}, "utk31"),
    ],
    ids=str,
)
def test_bins_are_made_of_the_trials_own_narrow_ones_or_of_the_reports_31(age: dict[str, Any], narrow: str) -> None:
    config = TrialConfig.from_document({"age": age})
    assert _narrow_bins(config, "t0") == Bins.from_spec(narrow)


@pytest.mark.parametrize("bins", ["utk7", "adience8", [0, 20, 60], [0, 4, 6, 8]], ids=str)
def test_a_trial_of_wide_bins_cannot_tell_what_is_within_them(bins: Any) -> None:
    config = TrialConfig.from_document({"age": {"encoding": "onehot", "bins": bins}})
    with pytest.raises(InputError, match=r"train one with age\.bins: utk31, every2 or year, or without bins"):
        _narrow_bins(config, "t0")
