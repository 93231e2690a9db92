"""The job of a worker: one attempt of one trial."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from orchestrator.journal.events import DataRef, SweepStarted, TrialCreated


@dataclass(frozen=True, kw_only=True)
class Job:
    """All inputs of one attempt of one trial; plain JSON on its way through Tune."""

    sweep_id: str
    trial_id: str
    attempt: int
    storage: str
    config: dict[str, Any]
    objective: dict[str, Any]
    keep: dict[str, dict[str, Any]]
    data: DataRef
    further: tuple[dict[str, Any], ...] = ()
    """Objectives after the first; they are reported but do not select epochs."""
    weights_sha256: str | None = None
    stages: tuple[dict[str, Any], ...] = ()
    """Training inputs of the stages in order; their configurations are in ``config``."""
    last_journalled_epoch: int = 0
    """Last epoch in the journal: earlier ones are trained if need be, and not reported again."""
    resume: bool = False
    """Look for a checkpoint of an earlier attempt."""
    stop_after_epochs: int | None = None
    team: dict[str, float] | None = None
    """Total Ray resources of the processes that train it together; None: the worker trains it alone."""
    avoided: tuple[str, ...] = ()
    """IDs of nodes that must not run those processes."""
    packages: dict[str, str] = field(default_factory=dict)
    """Versions of the packages whose plug-ins the sweep uses, by the package's name."""

    @classmethod
    def of(
        cls,
        created: TrialCreated,
        sweep: SweepStarted,
        *,
        storage: str,
        attempt: int = 0,
        last_journalled_epoch: int = 0,
        packages: Mapping[str, str] | None = None,
    ) -> Job:
        """Return the job of a trial; later attempts than the first look for a checkpoint."""
        return cls(
            sweep_id=sweep.sweep_id,
            trial_id=created.trial_id,
            attempt=attempt,
            storage=storage,
            config=created.config,
            objective=sweep.objective.model_dump(mode="json"),
            further=tuple(objective.model_dump(mode="json") for objective in sweep.further),
            keep={label: objective.model_dump(mode="json") for label, objective in sweep.keep.items()},
            data=created.data,
            weights_sha256=created.weights_sha256,
            stages=tuple(ref.model_dump(mode="json") for ref in created.stages),
            last_journalled_epoch=last_journalled_epoch,
            resume=attempt > 0,
            stop_after_epochs=sweep.stop_after_epochs,
            packages=dict(packages or {}),
        )

    def to_json(self) -> str:
        """Return one JSON string: Tune copies and flattens nested configurations many times."""
        return json.dumps(asdict(self) | {"data": self.data.model_dump(mode="json")})

    @classmethod
    def from_json(cls, text: str) -> Job:
        """Parse the result of ``to_json``."""
        fields = json.loads(text)
        return cls(**fields | {"data": DataRef.model_validate(fields["data"])})


@dataclass(frozen=True)
class Placed:
    """The node, by address and Ray's ID, on which processes train a trial together."""

    node: str
    node_id: str
