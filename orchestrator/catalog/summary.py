"""The summary of a sweep: status, counts, best trial and heartbeat in one small document.

Its driver overwrites it at every flush and at every heartbeat. ``agr list`` and ``agr status`` read it instead of the
journal, and a driver that resumes the sweep learns from it how long its predecessor lived.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import Field, ValidationError

from agr_core.config import StrictModel
from agr_core.objective import Objective
from orchestrator.errors import DamagedError
from orchestrator.journal.annotations import Annotations
from orchestrator.journal.outcome import SweepStatus
from orchestrator.journal.segments import JournalHead
from orchestrator.journal.steering_events import Spent
from orchestrator.storage import layout
from orchestrator.storage.base import Storage
from orchestrator.storage.documents import first_problem, parse_object, with_digest, without_digest

HEARTBEAT_S = 5.0
"""Longest time between two writes of the summary by a living driver, in seconds."""

LOST_AFTER_S = 30.0
"""Age of the last heartbeat, in seconds by the storage's clock, from which a driver counts as dead: its sweep is lost
and may be resumed."""

DRIVEN = ("running", "paused")
"""Statuses of a sweep that has a driver, unless that is silent."""

CopyFigure = Literal["fetched_bytes", "spent_s", "saved_s"]
"""A sum over the trials that brought their data to their nodes; see ``DataStaged``."""


class SummaryError(DamagedError):
    """This version cannot read a sweep's summary."""

    def __init__(self, sweep_id: str, file: str, problem: str) -> None:
        self.sweep_id = sweep_id
        super().__init__(
            f"{file} is not a sweep's summary that this version reads: {problem}. `agr repair {sweep_id}` writes it "
            "again from the journal."
        )


class TrialCounts(StrictModel):
    """Number of ended trials by outcome, and of trials still running."""

    completed: int = Field(ge=0)
    pruned: int = Field(ge=0)
    diverged: int = Field(ge=0)
    failed: int = Field(ge=0)
    interrupted: int = Field(ge=0)
    running: int = Field(ge=0)


class BestTrial(StrictModel):
    """The trial that represents the best configuration so far; see ``orchestrator.journal.best``."""

    trial_id: str
    value: float | tuple[float, ...] = Field(
        description="Mean of the objective over the configuration's seeds; of several objectives one value each."
    )

    @classmethod
    def of(cls, trial_id: str, point: tuple[float, ...]) -> BestTrial:
        """Return the best trial, with the value of each objective."""
        return cls(trial_id=trial_id, value=point[0] if len(point) == 1 else point)

    @property
    def point(self) -> tuple[float, ...]:
        """The value of each objective."""
        return self.value if isinstance(self.value, tuple) else (self.value,)


class QuarantinedNode(StrictModel):
    """A node that gets no more trials."""

    node: str = Field(description="Its address.")
    error: str = Field(description="The last error there.")


class Left(StrictModel):
    """The rest of the sweep's budgets; None without such a budget, or if the sum is unknown."""

    usd: float | None = Field(default=None, ge=0)
    gpu_hours: float | None = Field(default=None, ge=0)
    wall_s: float | None = Field(default=None, ge=0)


class Seconds(StrictModel):
    """Quantiles of a remaining time, in seconds: 10, 50 and 90 %."""

    p10: float = Field(ge=0)
    p50: float = Field(ge=0)
    p90: float = Field(ge=0)

    @classmethod
    def of(cls, p10: float, p50: float, p90: float) -> Seconds:
        """Return the quantiles, rounded to tenths of a second."""
        return cls(p10=round(max(0.0, p10), 1), p50=round(max(0.0, p50), 1), p90=round(max(0.0, p90), 1))

    def after(self, seconds: float) -> Seconds:
        """Return what is left of it after the given seconds."""
        return Seconds.of(self.p10 - seconds, self.p50 - seconds, self.p90 - seconds)


class Rates(StrictModel):
    """Current speed of the sweep."""

    usd_per_hour: float = Field(default=0.0, ge=0, description="Price of the cluster's nodes.")
    epochs_per_minute: float = Field(default=0.0, ge=0, description="Over the last five minutes.")
    busy_share: float | None = Field(default=None, ge=0, le=1, description="Share of the slots on which trials run.")


class TrialAnnotations(StrictModel):
    """What users wrote about a trial."""

    tags: dict[str, str] = Field(default_factory=dict, description="Tags by `agr tag`.")
    notes: tuple[str, ...] = Field(default=(), description="Notes by `agr note`, oldest first.")


class Summary(StrictModel):
    """A driver's summary of its sweep. Fields with a default are missing in documents of earlier versions."""

    sweep_id: str
    name: str
    status: SweepStatus = Field(description="As its driver wrote it; see `status_after`.")
    started: float = Field(description="Seconds since the epoch.")
    heartbeat: float = Field(
        description="When its driver wrote the document, in seconds since the epoch by the driver's own clock. Whether "
        "the driver lives is a question of the storage's clock; see `orchestrator.catalog.liveness`."
    )
    wall_s: float = Field(description="Seconds that drivers of the sweep had run by then.")
    budget_wall_s: float | None
    objective: Objective | tuple[Objective, ...]
    trials: TrialCounts
    stages: dict[Literal["trained", "reused"], int] = Field(default_factory=dict)
    data: dict[CopyFigure, int | float] = Field(default_factory=dict)
    quarantined: tuple[QuarantinedNode, ...] = ()
    planned: int | None = Field(description="Number of trials asked for; None if only a budget ends the sweep.")
    test_reads: int = 0
    best: BestTrial | None
    rerun_of: str | None
    journal: JournalHead | None = Field(default=None, description="The newest segment of the journal.")
    spent: Spent | None = Field(default=None, description="What the sweep has used.")
    left: Left = Field(default_factory=Left)
    eta_s: Seconds | None = Field(default=None, description="Time until its end; None if unknown.")
    rates: Rates = Field(default_factory=Rates)
    tags: dict[str, str] = Field(default_factory=dict, description="Tags of the sweep by `agr tag`.")
    notes: tuple[str, ...] = Field(default=(), description="Notes on the sweep by `agr note`, oldest first.")
    annotated_trials: dict[str, TrialAnnotations] = Field(
        default_factory=dict, description="Tags and notes of its trials, by trial ID; trials without any lack."
    )

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The objectives, the first one first."""
        return (self.objective,) if isinstance(self.objective, Objective) else self.objective

    def status_after(self, silence_s: float) -> SweepStatus:
        """Return the status; ``lost`` if the sweep is running and its driver is silent (``is_silent``)."""
        return "lost" if self.status in DRIVEN and is_silent(silence_s) else self.status

    def trial_counts(self, silence_s: float) -> dict[str, int]:
        """Return the number of trials by outcome, without zeros; open trials are named by the sweep's status."""
        words = {"running": "running", "paused": "suspended"}
        counts = self.trials.model_dump()
        counts[words.get(self.status_after(silence_s), "to resume")] = counts.pop("running")
        return {name: count for name, count in counts.items() if count}

    def beaten(self, now: float) -> Summary:
        """Return the document with a heartbeat at ``now``, up to which its driver has run."""
        passed = max(0.0, now - self.heartbeat)
        wall_s = round(self.wall_s + (0.0 if self.status == "paused" else passed), 3)
        spent = self.spent
        if spent is not None:
            usd = None if spent.usd is None else round(spent.usd + self.rates.usd_per_hour * passed / 3600, 6)
            spent = spent.model_copy(update={"wall_s": wall_s, "usd": usd})
        eta_s = None if self.eta_s is None else self.eta_s.after(passed)
        return self.model_copy(update={"heartbeat": now, "wall_s": wall_s, "spent": spent, "eta_s": eta_s})

    def annotated(self, annotations: Annotations, head: JournalHead | None) -> Summary:
        """Return the document of an ended sweep with other notes and tags, which the newest segment holds."""
        return self.model_copy(update={**annotation_fields(annotations), "journal": head})

    def document(self, silence_s: float) -> dict[str, Any]:
        """Return plain JSON for users and programs, with the status after ``silence_s`` seconds without a heartbeat."""
        return {**self.model_dump(mode="json", exclude={"journal"}), "status": self.status_after(silence_s)}


def annotation_fields(annotations: Annotations) -> dict[str, Any]:
    """Return the fields of a summary that hold what users wrote about the sweep and its trials."""
    trials = sorted({*annotations.tags, *annotations.notes} - {None}, key=str)
    written = {
        str(trial_id): TrialAnnotations(tags=annotations.tags_of(trial_id), notes=tuple(annotations.texts(trial_id)))
        for trial_id in trials
    }
    return {
        "tags": annotations.tags_of(None),
        "notes": tuple(annotations.texts(None)),
        "annotated_trials": {trial_id: what for trial_id, what in written.items() if what.tags or what.notes},
    }


def is_silent(silence_s: float) -> bool:
    """Return whether a driver whose last heartbeat was ``silence_s`` seconds ago counts as dead."""
    return silence_s > LOST_AFTER_S


def write_summary(storage: Storage, summary: Summary) -> None:
    """Replace the sweep's summary."""
    text = json.dumps(with_digest(summary.model_dump(mode="json")), indent=1)
    storage.write(layout.summary(summary.sweep_id), text.encode("utf-8"))


def read_summary(storage: Storage, sweep_id: str) -> Summary:
    """Return the summary of a sweep.

    Raises:
        NotFoundError: If there is none: its driver has only just begun, or `agr rm` was interrupted.
        SummaryError: If this version does not read it, it was changed after it was written, or it is another sweep's.
    """
    key = layout.summary(sweep_id)
    file = f"{storage.uri}/{key}"
    data = storage.read(key)
    try:
        document = parse_object(data, file)
        summary = Summary.model_validate_json(
            json.dumps({name: document[name] for name in document if name != "sha256"})
        )
        without_digest(document, file)
    except DamagedError as error:
        raise SummaryError(sweep_id, file, str(error).removeprefix(f"{file} is damaged: ").rstrip(".")) from error
    except ValidationError as error:
        raise SummaryError(sweep_id, file, first_problem(error)) from error
    if summary.sweep_id != sweep_id:
        raise SummaryError(sweep_id, file, f"sweep_id: it is the summary of {summary.sweep_id!r}")
    return summary
