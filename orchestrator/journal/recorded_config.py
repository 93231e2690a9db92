"""Read configurations from a journal, which may use plug-ins that are not installed here."""

from __future__ import annotations

import json

from pydantic import ValidationError

from agr_core.config import DataConfig, TrialConfig
from agr_core.errors import InputError
from agr_core.plugins import packages
from orchestrator.journal.events import SweepStarted, TrialCreated


def recorded_config(created: TrialCreated, sweep: SweepStarted) -> TrialConfig:
    """Return the configuration of a recorded trial.

    Raises:
        InputError: If it is not valid here and the driver had plug-ins that are not installed here.
        pydantic.ValidationError: If it is not valid for another reason.
    """
    try:
        return TrialConfig.from_document(created.config)
    except ValidationError as error:
        recorded = sweep.provenance.get("plugins", {})
        absent = ", ".join(f"{name} {version}" for name, version in recorded.items() if name not in packages())
        if not absent:
            raise
        raise InputError(
            f"trial {created.trial_id} was trained where the plug-ins of {absent} were installed, and its "
            "configuration cannot be read without them. Install them here."
        ) from error


def recorded_data_config(created: TrialCreated) -> DataConfig:
    """Return the data settings of a recorded trial, for which no plug-in is needed."""
    return DataConfig.model_validate_json(json.dumps(created.config.get("data", {})))
