"""A trial's ID in ``search.start`` becomes its configuration."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from agr_core.errors import InputError
from orchestrator.errors import NotFoundError
from orchestrator.search.warm_start import with_trials_written_out
from tests.parts.sweeps import small_sweep

Recorder = Callable[..., Any]
SEARCH = {"algorithm": "tpe", "trials": 30, "seed": 7}


def test_a_trial_is_written_out_and_the_rest_stays(record_sweep: Recorder) -> None:
    recorded = record_sweep()
    params = {"model.name": "basic_cnn", "model.conv_layers": 3, "optimizer.name": "sgd", "optimizer.lr": 0.05}
    trial = recorded.trial(0, [9.0], params={**params, "optimizer.momentum": 0.9})
    sweep = small_sweep(search={**SEARCH, "start": [{"model": "resnet10t"}, trial]})

    found = with_trials_written_out(sweep, recorded.storage)

    assert found.document["search"]["start"] == [
        {"model": "resnet10t"},
        {
            "model": {"name": "basic_cnn", "conv_layers": 3},
            "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9},
        },
    ]
    assert found.start[1] == {
        "model": "basic_cnn",
        "model[basic_cnn].conv_layers": 3,
        "optimizer": "sgd",
        "optimizer[sgd].lr": 0.05,
        "optimizer[sgd].momentum": 0.9,
    }


def test_without_trials_nothing_changes(record_sweep: Recorder) -> None:
    sweep = small_sweep(search={**SEARCH, "start": [{"model": "resnet10t"}]})

    assert with_trials_written_out(sweep, record_sweep().storage) is sweep


def test_an_unknown_trial_and_one_outside_the_space_are_refused(record_sweep: Recorder) -> None:
    recorded = record_sweep()
    trial = recorded.trial(0, [9.0], params={"model.name": "basic_cnn", "model.conv_layers": 5})

    with pytest.raises(NotFoundError, match="no trial starts with 'nothing'"):
        with_trials_written_out(small_sweep(search={**SEARCH, "start": ["nothing"]}), recorded.storage)
    with pytest.raises(InputError, match=rf"trial {trial} of faces-.*: it is outside the space: model\.conv_layers: 5"):
        with_trials_written_out(small_sweep(search={**SEARCH, "start": [trial]}), recorded.storage)
