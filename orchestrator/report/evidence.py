"""Inputs of a report: states, leaderboard, and per-image predictions of the two best trials."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agr_core.errors import IntegrityError
from agr_core.evaluation.predictions import Predictions
from orchestrator.errors import NotFoundError
from orchestrator.journal.segments import read_state
from orchestrator.journal.sweep_state import SweepState, TrialState, attempt_folder
from orchestrator.results.leaderboard import Row, rows
from orchestrator.storage import layout
from orchestrator.storage.base import Storage

Tables = Mapping[str, Mapping[str, Any]]
"""Confusion matrices of a trial's best epoch, by name: ``val/gender_confusion``."""


@dataclass(frozen=True)
class Stored:
    """Stored results of a trial's best epoch; None where they were deleted or never written."""

    predictions: Predictions | None = None
    tables: Tables = field(default_factory=dict)


class Evidence:
    """Reader of a report's inputs from a storage; stored results are read once and cached."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._stored: dict[tuple[str, str, int], Stored] = {}

    @property
    def storage_uri(self) -> str:
        """URI of the storage."""
        return self._storage.uri

    def states(self, sweep_ids: Sequence[str]) -> list[SweepState]:
        """Read the states of sweeps from their journals.

        Raises:
            NotFoundError: If a sweep has no journal.
        """
        return [read_state(self._storage, sweep_id) for sweep_id in sweep_ids]

    def rows(self, states: Sequence[SweepState]) -> list[Row]:
        """Build the leaderboard of sweeps.

        Raises:
            InputError: If the sweeps cannot be compared.
        """
        return rows(states, storage=self._storage)

    def stored(self, state: SweepState, trial: TrialState) -> Stored:
        """Read the stored results of the trial's best epoch.

        Raises:
            IntegrityError: If a stored file is malformed.
        """
        folder, report = attempt_folder(state.started.sweep_id, trial), trial.best_report
        if folder is None or report is None:
            return Stored()
        key = (state.started.sweep_id, trial.trial_id, report.epoch)
        if key not in self._stored:
            self._stored[key] = Stored(self._predictions(folder, report.epoch), self._tables(folder, report.epoch))
        return self._stored[key]

    def _predictions(self, folder: str, epoch: int) -> Predictions | None:
        key = layout.predictions(folder, "val", epoch)
        content = self._read(key)
        return None if content is None else Predictions.from_parquet(content, source=f"{self._storage.uri}/{key}")

    def _tables(self, folder: str, epoch: int) -> Tables:
        key = f"{folder}/metrics.jsonl"
        content = self._read(key)
        if content is None:
            return {}
        try:
            reports = [json.loads(line) for line in content.splitlines()]
            tables: Tables = next((report["tables"] for report in reports if report["epoch"] == epoch), {})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise IntegrityError(f"{self._storage.uri}/{key} is not a metrics file of a trial: {error}") from error
        return {name: table for name, table in tables.items() if name.startswith("val/")}

    def _read(self, key: str) -> bytes | None:
        try:
            return self._storage.read(key)
        except NotFoundError:
            return None
