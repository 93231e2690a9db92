"""Results of stages that trials share: ``stages/<key>/done.json``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from agr_core.config import StrictModel
from orchestrator.journal.events import Name
from orchestrator.storage import layout
from orchestrator.storage.base import Storage
from orchestrator.storage.documents import read_model


class StageDone(StrictModel):
    """Result of a stage, written once by the worker that trained it."""

    outcome: Literal["completed", "diverged"]
    owner: str = Field(description="<sweep>/<trial> of that worker.")
    error: str | None = Field(default=None, description="Reason of a divergence.")
    weights_sha256: Name | None = Field(default=None, description="Weights of its best epoch, in the storage.")
    epochs: int | None = Field(default=None, ge=1)
    best_epoch: int | None = Field(default=None, ge=1)
    value: float | None = Field(default=None, description="Its objective at the best epoch.")

    @model_validator(mode="after")
    def _complete(self) -> StageDone:
        needed = (self.weights_sha256, self.epochs, self.best_epoch, self.value)
        if self.outcome == "completed" and None in needed:
            raise ValueError("a completed stage names weights_sha256, epochs, best_epoch and value")
        if self.outcome == "diverged" and self.error is None:
            raise ValueError("a diverged stage names its error")
        return self


def read_stage_done(storage: Storage, key: str) -> StageDone:
    """Return the result of the stage with this key.

    Raises:
        NotFoundError: If it was not trained to its end.
        DamagedError: If the document is not what a worker writes.
    """
    return read_model(storage, layout.stage_done(key), StageDone)
