"""Data sets as MLflow's dataset inputs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from orchestrator.tracking.base import TrackedData


def dataset_inputs(data: Sequence[TrackedData]) -> list[Any]:
    """Return the argument of ``MlflowClient.log_inputs``."""
    from mlflow.entities import Dataset, DatasetInput

    return [
        DatasetInput(
            Dataset(data_set.name, data_set.digest, source_type="agr", source=json.dumps({"uri": data_set.source}))
        )
        for data_set in data
    ]
