"""Configurations in a journal, read where a plug-in of theirs is not installed."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from agr_core.config import DataConfig, TrialConfig
from agr_core.errors import InputError
from agr_core.objective import Objective
from orchestrator.journal.events import DataRef, SweepStarted, TrialCreated
from orchestrator.journal.recorded_config import recorded_config, recorded_data_config

CONFIG = {**TrialConfig().to_document(), "age": {"encoding": "brier", "bins": "utk7", "factor": 0.5}}


def _created(config: dict[str, Any]) -> TrialCreated:
    data = DataRef(data_uri="u", data_digest="d" * 64, split_digest="5" * 64)
    return TrialCreated(
        time=1.0,
        trial_id="t1",
        number=0,
        configuration=0,
        config=config,
        params={},
        proposal={},
        config_digest="c" * 64,
        **data.model_dump(),
    )


def _sweep(**plugins: str) -> SweepStarted:
    return SweepStarted(
        time=0.0,
        sweep_id="small-20260101-000000-abcd",
        name="small",
        experiment="small",
        objective=Objective(metric="val/loss", direction="minimize"),
        document={},
        provenance={"plugins": plugins},
    )


def test_a_plug_in_that_is_missing_here_is_named_with_the_version_that_trained() -> None:
    with pytest.raises(InputError, match=r"trial t1 was trained where the plug-ins of far-away 0\.3 were installed"):
        recorded_config(_created(CONFIG), _sweep(**{"far-away": "0.3"}))


def test_a_configuration_that_is_wrong_for_another_reason_is_not_blamed_on_plug_ins() -> None:
    with pytest.raises(ValidationError):
        recorded_config(_created(CONFIG), _sweep())
    plain = TrialConfig()
    assert recorded_config(_created(plain.to_document()), _sweep(**{"far-away": "0.3"})) == plain


def test_the_data_settings_need_no_plug_in() -> None:
    assert recorded_data_config(_created(CONFIG)) == DataConfig()
