"""The events of a sweep's journal: what happened, in order, as plain JSON lines.

The journal is the only record. The state of a sweep (``orchestrator.journal.sweep_state``), MLflow and the leaderboard
are derived from it. Times are seconds since the epoch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from agr_core.objective import BEST, Direction, Label, Objective
from orchestrator.journal.data_refs import DataRef as DataRef
from orchestrator.journal.data_refs import Name as Name
from orchestrator.journal.data_refs import StageRef as StageRef
from orchestrator.journal.event_base import EventBase
from orchestrator.journal.outcome import Cause, Outcome, SweepStatus
from orchestrator.journal.split_events import BaselineMeasured as BaselineMeasured
from orchestrator.journal.split_events import SplitAudited as SplitAudited
from orchestrator.journal.steering_events import BudgetNearlySpent as BudgetNearlySpent
from orchestrator.journal.steering_events import ControlReceived as ControlReceived
from orchestrator.journal.steering_events import HistoryTaken as HistoryTaken
from orchestrator.journal.steering_events import KnownTrial as KnownTrial
from orchestrator.journal.steering_events import NodeJoined as NodeJoined
from orchestrator.journal.steering_events import NodeLeft as NodeLeft
from orchestrator.journal.steering_events import NodeQuarantined as NodeQuarantined
from orchestrator.journal.steering_events import NodeShared as NodeShared
from orchestrator.journal.steering_events import Spent as Spent

if TYPE_CHECKING:
    from orchestrator.spec.load import Sweep


class SweepStarted(EventBase):
    """First event of a journal."""

    kind: Literal["sweep_started"] = "sweep_started"
    sweep_id: Name
    name: str
    experiment: str
    description: str = ""
    tags: tuple[str, ...] = ()
    objective: Objective
    further: tuple[Objective, ...] = Field(default=(), description="With several objectives, those after the first.")
    keep: dict[Label, Objective] = Field(
        default_factory=dict, description="By label, the objective that selects a further epoch whose weights are kept."
    )
    document: dict[str, Any] = Field(description="The sweep file after profiles and --set; sufficient to resume.")
    provenance: dict[str, Any] = Field(description="Versions, hardware, git commit; see orchestrator.provenance.")
    profile: str | None = Field(default=None, description="Profile of the file that the document was loaded with.")
    rerun_of: str | None = Field(default=None, description="ID of the trial that this one-trial sweep repeats.")
    stop_after_epochs: int | None = Field(default=None, description="Exact number of epochs of a re-run.")
    started_by: str | None = Field(default=None, description="Account and machine that started it, as user@host.")

    @classmethod
    def of(cls, sweep: Sweep, *, time: float, sweep_id: str, provenance: dict[str, Any], **more: Any) -> SweepStarted:
        """Return the first event of a loaded sweep; ``more`` are the fields that its file does not say."""
        spec = sweep.spec
        return cls(
            time=time,
            sweep_id=sweep_id,
            name=spec.name,
            experiment=spec.experiment or spec.name,
            description=spec.description,
            tags=spec.tags,
            objective=spec.objectives[0],
            further=spec.objectives[1:],
            keep=spec.keep,
            document=sweep.document,
            profile=sweep.profile,
            provenance=provenance,
            **more,
        )

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The objectives, the first one first."""
        return (self.objective, *self.further)

    @property
    def directions(self) -> tuple[Direction, ...]:
        """Direction of each objective."""
        return tuple(objective.direction for objective in self.objectives)

    @property
    def seeds(self) -> int:
        """Number of search trials of each configuration: one per seed, or per fold."""
        return self.folds or int((self.document.get("repeat") or {}).get("seeds", 1))

    @property
    def folds(self) -> int:
        """Number of folds of each configuration; 0 with a single split."""
        return int(self.document.get("folds") or 0)

    @property
    def trained_over(self) -> Literal["folds", "seeds"]:
        """The difference between the trials of one configuration: seed or fold."""
        return "folds" if self.folds else "seeds"

    @property
    def confirm_seeds(self) -> int:
        """Number of fresh seeds for the best configurations; 0 without confirmation."""
        return int((self.document.get("confirm") or {}).get("seeds", 0))

    @property
    def objective_document(self) -> Any:
        """Return the objective as in a sweep file: a mapping, or a list of several."""
        documents = [objective.model_dump(mode="json") for objective in self.objectives]
        return documents if self.further else documents[0]


class DriverStarted(EventBase):
    """A driver took ownership of the sweep, at its start or on resume."""

    kind: Literal["driver_started"] = "driver_started"
    driver_id: str
    host: str
    boot: str = Field(default="", description="The machine's `boot_id`, because host names repeat.")
    pid: int
    resumed: bool
    previous_heartbeat: float | None = Field(
        default=None,
        description="The last heartbeat in the sweep's summary before this driver, seconds since the epoch: until then "
        "the driver before it lived. None where there was no summary.",
    )
    restart: int = Field(default=0, ge=0, description="Restarts of a driver that died, by its job; 0: by a user.")
    drift: tuple[str, ...] = Field(
        default=(),
        description="What can change a trial's bits and differs from the sweep's start (versions, code, hardware), a "
        "line each. Attempts that begin from here on run under it.",
    )


class TrialCreated(DataRef, EventBase):
    """A configuration was proposed and became a trial."""

    kind: Literal["trial_created"] = "trial_created"
    trial_id: Name
    number: int = Field(ge=0, description="Counted from 0 within the sweep.")
    configuration: int = Field(ge=0, description="Number of the configuration; differs from number under repeat.")
    repeat: int = Field(default=0, ge=0, description="Index of the repetition, or fold, of the configuration, from 0.")
    confirms: str | None = Field(
        default=None, description="ID of the trial whose configuration this one trains again, with a fresh seed."
    )
    variant: str | None = None
    enqueued: str | None = Field(default=None, description="Key of the command that asked for this configuration.")
    config: dict[str, Any] = Field(description="The complete TrialConfig.")
    params: dict[str, Any] = Field(description="What varies in this sweep: flat dotted TrialConfig paths.")
    proposal: dict[str, Any] = Field(description="State from which the search is restored exactly.")
    config_digest: str
    weights_sha256: Name | None = Field(
        default=None, description="Initial weights, in the sweep's storage; None: random, or timm fetches its own."
    )
    stages: tuple[StageRef, ...] = Field(default=(), description="Stages before the trial, in order of training.")

    @property
    def proposed(self) -> bool:
        """Whether the search proposed it; repetitions and confirmations are not reported to the search."""
        return self.repeat == 0 and self.confirms is None

    @property
    def initial_weights_key(self) -> str | None:
        """Digest of its initial weights: the key of its last stage, or the SHA-256 of a file."""
        return self.stages[-1].key if self.stages else self.weights_sha256


class AttemptStarted(EventBase):
    """An attempt of a trial began training."""

    kind: Literal["attempt_started"] = "attempt_started"
    trial_id: Name
    attempt: int = Field(ge=0)
    node: str = Field(description="Address of the node; empty if its worker did not report one.")
    node_id: str = Field(default="", description="Ray's ID of the node, new with each start of it; empty if unknown.")


class TeamPlaced(EventBase):
    """The processes that train a trial together run on a node, which may differ from the worker's."""

    kind: Literal["team_placed"] = "team_placed"
    trial_id: Name
    attempt: int = Field(ge=0)
    node: str = Field(description="Its address.")
    node_id: str = Field(description="Ray's ID of it.")


class TrialReconfigured(EventBase):
    """A trial begins again with another configuration, which replaces the one it was created with."""

    kind: Literal["trial_reconfigured"] = "trial_reconfigured"
    trial_id: str
    config: dict[str, Any] = Field(description="The complete TrialConfig from now on.")
    params: dict[str, Any] = Field(description="What varies in this sweep, with the new values.")
    config_digest: str
    reason: str = Field(description="One line.")

    def applied_to(self, created: TrialCreated) -> TrialCreated:
        """Return the creation event with this configuration."""
        return created.model_copy(
            update={"config": self.config, "params": self.params, "config_digest": self.config_digest}
        )


class _StageObtained(EventBase):
    trial_id: Name
    attempt: int = Field(ge=0)
    stage: str = Field(description="ID of the stage in the trial's configuration.")
    key: str
    weights_sha256: Name = Field(description="Weights of its best epoch, in the sweep's storage.")
    epochs: int = Field(ge=1)
    best_epoch: int = Field(ge=1)
    value: float = Field(description="The stage's own objective at its best epoch.")
    seconds: float = Field(ge=0, description="Seconds until the trial had the weights.")
    metrics: dict[str, float] = Field(
        default_factory=dict, description="test/...: metrics of its test part with these weights, if requested."
    )


class StageTrained(_StageObtained):
    """A trial trained a stage that it starts from."""

    kind: Literal["stage_trained"] = "stage_trained"


class StageReused(_StageObtained):
    """A trial took the weights of a stage that another trial trained, perhaps after waiting for it."""

    kind: Literal["stage_reused"] = "stage_reused"


class DataStaged(EventBase):
    """An attempt has its data on its node: the cost of staging, and the cost saved by the node's cache."""

    kind: Literal["data_staged"] = "data_staged"
    trial_id: str
    attempt: int = Field(ge=0)
    fetched_bytes: int = Field(ge=0, description="Bytes fetched from the storage.")
    spent_s: float = Field(
        ge=0, description="Seconds of fetching, verifying and decoding, or of waiting for another process to do so."
    )
    saved_s: float = Field(ge=0, description="Seconds that the same work took other processes, less the waiting time.")
    hardware: str = Field(default="", description="Kind of machine: its GPUs, or its CPU; empty if unknown.")


class TrialReported(EventBase):
    """A trial finished an epoch."""

    kind: Literal["trial_reported"] = "trial_reported"
    trial_id: Name
    attempt: int = Field(ge=0)
    epoch: int = Field(ge=1)
    value: float = Field(description="The objective of this epoch.")
    metrics: dict[str, float] = Field(
        description="train/..., val/..., time/..., memory/...: all scalar metrics of the epoch."
    )
    finished: bool = Field(default=False, description="The trial's last epoch, by its own configuration.")
    stopped_early: bool = Field(default=False, description="Finished by its own early stopping.")
    files: dict[str, Name] = Field(
        default_factory=dict,
        description="SHA-256 of the files stored since the attempt's last report, by name in its folder; of "
        "metrics.jsonl the lines up to this epoch.",
    )


class AttemptFailed(EventBase):
    """An attempt ended with an error; the trial continues with another attempt or ends."""

    kind: Literal["attempt_failed"] = "attempt_failed"
    trial_id: Name
    attempt: int = Field(ge=0)
    error: str = Field(description="One line.")
    details: str = Field(default="", description="Traceback, if known.")
    cause: Cause = "error"
    charged: bool = Field(
        description="Whether it counts against the sweep's retries; not if its node is quarantined later."
    )


class TrialEnded(EventBase):
    """A trial is over; only TestOpened and TestRead follow, or TrialResumed if it is ``resumable``."""

    kind: Literal["trial_ended"] = "trial_ended"
    trial_id: Name
    outcome: Outcome
    epochs: int = Field(ge=0, description="Number of epochs reported.")
    value: float | None = Field(default=None, description="Best (first) objective over the reported epochs.")
    values: tuple[float, ...] = Field(
        default=(), description="With several objectives: all of them, at the best epoch by the first."
    )
    best_epoch: int | None = None
    kept_epochs: dict[Label, int] = Field(default_factory=dict, description="The best epoch for each label of `keep`.")
    stopped_early: bool = Field(default=False, description="By its own early stopping.")
    error: str | None = None
    attempt: int | None = Field(default=None, description="The attempt whose files are the trial's.")
    resumable: bool = Field(
        default=False, description="Ended with its whole sweep, by `agr stop`: `agr resume` takes it up again."
    )

    @property
    def point(self) -> tuple[float, ...]:
        """The value of each objective at the best epoch; empty without one."""
        return self.values or (() if self.value is None else (self.value,))


class TrialResumed(EventBase):
    """A trial that was ended with its sweep continues from its checkpoint, because the sweep was resumed."""

    kind: Literal["trial_resumed"] = "trial_resumed"
    trial_id: str


class TrialReopened(EventBase):
    """An ended trial continues: it is retried, or trains more epochs. The event holds all that its driver needs."""

    kind: Literal["trial_reopened"] = "trial_reopened"
    trial_id: Name
    reason: str = Field(description="One line.")
    outcome: Outcome = Field(description="How it had ended.")
    created: TrialCreated = Field(description="With the configuration that it trains from now on.")
    compared: bool = Field(description="Whether the scheduler may stop it, and the search learns how it ends.")
    attempt: int = Field(ge=0, description="Number of its next attempt.")
    epoch: int = Field(ge=0, description="Epochs reported so far, which stay.")
    value: float | None = Field(description="The objective of the last of them.")
    best: tuple[int, float] | None = Field(description="The best of them and its objective.")
    point: tuple[float, ...] = Field(description="The value of each objective at the best epoch.")
    kept: dict[Label, tuple[int, float]] = Field(description="Best epoch and its value for each label of `keep`.")
    reported_attempt: int | None = Field(description="The attempt that reported the last epoch.")
    stages: tuple[str, ...] = Field(description="Keys of the stages whose weights it has.")


class TestOpened(EventBase):
    """The sealed test part is about to be read with the weights of one epoch of a trial.

    Journalled before the read, so that it counts even if the process dies before the result is journalled.
    """

    kind: Literal["test_opened"] = "test_opened"
    __test__ = False  # not a pytest class
    trial_id: str
    epoch: int = Field(ge=1)
    labels: tuple[Label, ...] = Field(description="Names of the kept weights: best, or labels of `keep`.")


class TestRead(EventBase):
    """Test metrics of one trial, and other evaluations with its kept weights."""

    kind: Literal["test_read"] = "test_read"
    __test__ = False  # not a pytest class
    trial_id: Name
    label: Label = Field(default=BEST, description="Name of the kept weights: best, or a label of `keep`.")
    metrics: dict[str, float] = Field(
        description="test/... of the kept weights, and train/... and val_augmented/... where asked for."
    )
    tables: dict[str, Any] = Field(default_factory=dict)
    files: dict[str, Name] = Field(
        default_factory=dict, description="SHA-256 of the predictions stored, by name in the attempt's folder."
    )

    @property
    def is_of_test(self) -> bool:
        """Whether the test part, or a foreign test set, was read; not if only other parts were evaluated."""
        return not self.metrics or any(name.startswith("test") for name in self.metrics)


class SweepEnded(EventBase):
    """A driver released the sweep; a resumed sweep continues after it."""

    kind: Literal["sweep_ended"] = "sweep_ended"
    status: SweepStatus
    reason: str = ""
    wall_s: float = Field(ge=0, description="Run time of all drivers of this sweep so far, in seconds.")
    spent: Spent | None = Field(default=None, description="What the sweep has used so far; None in earlier journals.")


Event = Annotated[
    SweepStarted
    | HistoryTaken
    | DriverStarted
    | TrialCreated
    | AttemptStarted
    | TeamPlaced
    | TrialReconfigured
    | StageTrained
    | StageReused
    | DataStaged
    | TrialReported
    | AttemptFailed
    | NodeQuarantined
    | TrialEnded
    | TestOpened
    | TrialResumed
    | TrialReopened
    | TestRead
    | BaselineMeasured
    | SplitAudited
    | ControlReceived
    | NodeJoined
    | NodeLeft
    | NodeShared
    | BudgetNearlySpent
    | SweepEnded,
    Field(discriminator="kind"),
]

_EVENT: TypeAdapter[Event] = TypeAdapter(Event)


def parse_event(line: str | bytes) -> Event:
    """Parse one journal line.

    Raises:
        pydantic.ValidationError: If this version knows no such event.
    """
    return _EVENT.validate_json(line)


def dump_event(event: Event) -> str:
    """Return one journal line, without the line end."""
    return event.model_dump_json()
