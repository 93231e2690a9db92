"""The events of a sweep's journal: what happened, in order, as plain JSON lines.

The journal is the one record; the state of a sweep (``orchestrator.state``), MLflow and the leaderboard are made from
it. Times are seconds since the epoch.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from agr_core.config import StrictModel
from agr_core.objective import BEST, Direction, Label, Objective
from orchestrator.outcome import Cause, Outcome, SweepStatus

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,199}$")]
"""An ID or digest: it becomes part of keys and file names, and journals come from buckets that others write to."""


class _Event(StrictModel):
    time: float = Field(description="When it happened, seconds since the epoch.")


class SweepStarted(_Event):
    """First event of a journal."""

    kind: Literal["sweep_started"] = "sweep_started"
    sweep_id: Name
    name: str
    experiment: str
    description: str = ""
    tags: tuple[str, ...] = ()
    objective: Objective
    further: tuple[Objective, ...] = Field(
        default=(), description="Where there are several objectives, those after the first."
    )
    keep: dict[Label, Objective] = Field(
        default_factory=dict, description="By label, what chooses further epochs whose weights are kept."
    )
    document: dict[str, Any] = Field(description="The sweep file after profiles and --set; enough to resume.")
    provenance: dict[str, Any] = Field(description="Versions, hardware, git commit; see orchestrator.provenance.")
    profile: str | None = Field(default=None, description="Profile of the file that the document was made with.")
    rerun_of: str | None = Field(default=None, description="ID of the trial that this one-trial sweep repeats.")
    stop_after_epochs: int | None = Field(default=None, description="A re-run trains exactly so many epochs.")

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """What is optimised, the first objective first."""
        return (self.objective, *self.further)

    @property
    def directions(self) -> tuple[Direction, ...]:
        """Direction of each objective."""
        return tuple(objective.direction for objective in self.objectives)

    @property
    def objective_document(self) -> Any:
        """The objective as a sweep file has it: a mapping, or a list of several."""
        documents = [objective.model_dump(mode="json") for objective in self.objectives]
        return documents if self.further else documents[0]


class KnownTrial(StrictModel):
    """A trial of an earlier sweep, as a point of this sweep's space."""

    trial_id: str
    point: dict[str, Any] = Field(description="Values by domain name.")
    outcome: Outcome
    values: tuple[float, ...] = Field(description="The value of each objective at its best epoch.")
    epochs: tuple[tuple[int, float], ...] = Field(description="Epochs and the (first) objective of each.")


class HistoryTaken(_Event):
    """The search was told what an earlier sweep found, before its first proposal."""

    kind: Literal["history_taken"] = "history_taken"
    sweep_id: str = Field(description="The earlier sweep.")
    trials: tuple[KnownTrial, ...]
    outside: int = Field(ge=0, description="Trials that lie outside this sweep's space, and were left out.")
    differing: tuple[str, ...] = Field(
        default=(), description="Fields that this sweep fixes and in which some of the trials differ."
    )


class DriverStarted(_Event):
    """A driver took the sweep, first or on resume."""

    kind: Literal["driver_started"] = "driver_started"
    driver_id: str
    host: str
    boot: str = Field(default="", description="Which machine of this name, by `boot_id`.")
    pid: int
    resumed: bool


class StageRef(StrictModel):
    """What a stage of a trial is trained on, by content; its configuration is in the trial's, in ``init``."""

    id: str
    key: Name = Field(description="Digest of all that the stage trains; equal stages are trained once.")
    data_uri: str
    data_digest: Name
    split_digest: Name
    weights_sha256: Name | None = Field(default=None, description="Initial weights of the first stage.")


class TrialCreated(_Event):
    """A configuration was proposed and became a trial."""

    kind: Literal["trial_created"] = "trial_created"
    trial_id: Name
    number: int = Field(ge=0, description="Counted from 0 within the sweep.")
    configuration: int = Field(ge=0, description="Number of the configuration; differs from number under repeat.")
    repeat: int = Field(default=0, ge=0, description="Which repetition of the configuration, from 0.")
    confirms: str | None = Field(
        default=None, description="ID of the trial whose configuration this one trains again, with a fresh seed."
    )
    variant: str | None = None
    config: dict[str, Any] = Field(description="The complete TrialConfig.")
    params: dict[str, Any] = Field(description="What varies in this sweep: flat dotted TrialConfig paths.")
    proposal: dict[str, Any] = Field(description="What the search needs to be restored exactly.")
    config_digest: str
    data_digest: Name
    split_digest: Name
    data_uri: str = Field(description="Where nodes fetch the packed data set: a storage URI of a folder.")
    weights_sha256: Name | None = Field(
        default=None, description="Initial weights, in the sweep's storage; None: random, or timm fetches its own."
    )
    stages: tuple[StageRef, ...] = Field(default=(), description="The stages it starts from, the first one first.")

    @property
    def proposed(self) -> bool:
        """Whether the search proposed it; a repetition or a confirmation says nothing to the search."""
        return self.repeat == 0 and self.confirms is None

    @property
    def initial_weights_key(self) -> str | None:
        """What its digest holds of the weights that it starts from: its last stage's key, or a file's SHA-256."""
        return self.stages[-1].key if self.stages else self.weights_sha256


class AttemptStarted(_Event):
    """An attempt of a trial began to train."""

    kind: Literal["attempt_started"] = "attempt_started"
    trial_id: Name
    attempt: int = Field(ge=0)
    node: str = Field(description="Address of the node; empty if its worker did not say.")
    node_id: str = Field(default="", description="Ray's ID of the node, new with each start of it; empty if unknown.")


class TeamPlaced(_Event):
    """The processes that train a trial together are on a node, which may be another than that of the worker."""

    kind: Literal["team_placed"] = "team_placed"
    trial_id: Name
    attempt: int = Field(ge=0)
    node: str = Field(description="Its address.")
    node_id: str = Field(description="Ray's ID of it.")


class TrialReconfigured(_Event):
    """A trial begins again with another configuration than it was created with, which is its own from now on."""

    kind: Literal["trial_reconfigured"] = "trial_reconfigured"
    trial_id: str
    config: dict[str, Any] = Field(description="The complete TrialConfig that is trained now.")
    params: dict[str, Any] = Field(description="What varies in this sweep, with the values of now.")
    config_digest: str
    reason: str = Field(description="One line.")

    def applied_to(self, created: TrialCreated) -> TrialCreated:
        """The trial as if it had been created so."""
        return created.model_copy(
            update={"config": self.config, "params": self.params, "config_digest": self.config_digest}
        )


class _StageObtained(_Event):
    trial_id: Name
    attempt: int = Field(ge=0)
    stage: str = Field(description="ID of the stage in the trial's configuration.")
    key: str
    weights_sha256: Name = Field(description="Weights of its best epoch, in the sweep's storage.")
    epochs: int = Field(ge=1)
    best_epoch: int = Field(ge=1)
    value: float = Field(description="The stage's own objective at its best epoch.")
    seconds: float = Field(ge=0, description="Until the trial had the weights.")


class StageTrained(_StageObtained):
    """A trial trained a stage that it starts from."""

    kind: Literal["stage_trained"] = "stage_trained"


class StageReused(_StageObtained):
    """A trial took the weights of a stage that another trial had trained, perhaps after waiting for it."""

    kind: Literal["stage_reused"] = "stage_reused"


class DataStaged(_Event):
    """An attempt of a trial had its data on its node: what that took, and what it was spared because of others."""

    kind: Literal["data_staged"] = "data_staged"
    trial_id: str
    attempt: int = Field(ge=0)
    fetched_bytes: int = Field(ge=0, description="Bytes it fetched from the storage.")
    spent_s: float = Field(ge=0, description="Seconds it fetched, checked and decoded, or waited for who did.")
    saved_s: float = Field(ge=0, description="Seconds that this had taken others, less those it waited.")


class TrialReported(_Event):
    """A trial finished an epoch."""

    kind: Literal["trial_reported"] = "trial_reported"
    trial_id: Name
    attempt: int = Field(ge=0)
    epoch: int = Field(ge=1)
    value: float = Field(description="The objective of this epoch.")
    metrics: dict[str, float] = Field(
        description="train/..., val/..., time/..., memory/...: all single figures of the epoch."
    )
    finished: bool = Field(default=False, description="The trial's last epoch, by its own configuration.")
    stopped_early: bool = Field(default=False, description="Finished by its own early stopping.")


class AttemptFailed(_Event):
    """An attempt ended by an error; the trial goes on with another attempt or ends."""

    kind: Literal["attempt_failed"] = "attempt_failed"
    trial_id: Name
    attempt: int = Field(ge=0)
    error: str = Field(description="One line.")
    details: str = Field(default="", description="Traceback, as far as known.")
    cause: Cause = "error"
    charged: bool = Field(
        description="Whether it counts against the sweep's retries; not if its node is quarantined later."
    )


class NodeQuarantined(_Event):
    """A node failed trial after trial, or its disk is full: it gets no more, and its failures are charged to nobody."""

    kind: Literal["node_quarantined"] = "node_quarantined"
    node: str = Field(description="Its address.")
    node_id: str = Field(description="Ray's ID of it; started anew it has another, and is given trials again.")
    failures: int = Field(ge=1, description="Failures in a row, with no epoch reported in between.")
    error: str = Field(description="The last of them, one line.")


class TrialEnded(_Event):
    """A trial is over; only TestOpened and TestRead follow, or TrialResumed where it is ``resumable``."""

    kind: Literal["trial_ended"] = "trial_ended"
    trial_id: Name
    outcome: Outcome
    epochs: int = Field(ge=0, description="Epochs reported.")
    value: float | None = Field(
        default=None, description="Best objective over the reported epochs; the first of several."
    )
    values: tuple[float, ...] = Field(
        default=(), description="Several objectives: all of them, at the epoch that is best by the first."
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
        """The value of each objective at the best epoch; nothing without one."""
        return self.values or (() if self.value is None else (self.value,))


class TrialResumed(_Event):
    """A trial that was ended with its sweep goes on from its checkpoint, now that the sweep does."""

    kind: Literal["trial_resumed"] = "trial_resumed"
    trial_id: str


class TestOpened(_Event):
    """The sealed test part is about to be read with the weights of one epoch of a trial.

    Journalled before, so that a read counts even if nobody lives to tell what it gave.
    """

    kind: Literal["test_opened"] = "test_opened"
    __test__ = False  # not a pytest class
    trial_id: str
    epoch: int = Field(ge=1)
    labels: tuple[Label, ...] = Field(description="Which of the kept weights they are: best, or labels of `keep`.")


class TestRead(_Event):
    """What the sealed test part gave for one trial."""

    kind: Literal["test_read"] = "test_read"
    __test__ = False  # not a pytest class
    trial_id: Name
    label: Label = Field(default=BEST, description="Which of the kept weights: best, or a label of `keep`.")
    metrics: dict[str, float] = Field(description="test/... of the kept weights.")
    tables: dict[str, Any] = Field(default_factory=dict)


class BaselineMeasured(_Event):
    """What predicting the mean age and the commonest class scores on a split's validation part."""

    kind: Literal["baseline_measured"] = "baseline_measured"
    split_digest: str
    metrics: dict[str, float] = Field(description="val/... of the baseline.")


class ControlReceived(_Event):
    """A command of a person reached the driver."""

    kind: Literal["control_received"] = "control_received"
    command: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    key: str = Field(description="Name of the control object, so that it is obeyed once.")


class SweepEnded(_Event):
    """A driver let go of the sweep; a resumed one goes on after it."""

    kind: Literal["sweep_ended"] = "sweep_ended"
    status: SweepStatus
    reason: str = ""
    wall_s: float = Field(ge=0, description="Seconds of all drivers of this sweep so far.")


def label_name(name: str, label: str) -> str:
    """What a label's figure is called beside the others: ``best.age/age_mae``, ``best.age.test/age_mae``.

    ``name`` is ``best/...`` of the epoch kept for it, or ``test/...`` with the weights of that epoch.
    """
    part, _, figure = name.partition("/")
    return f"best.{label}/{figure}" if part == "best" else f"best.{label}.{part}/{figure}"


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
    | TestRead
    | BaselineMeasured
    | ControlReceived
    | SweepEnded,
    Field(discriminator="kind"),
]

_EVENT: TypeAdapter[Event] = TypeAdapter(Event)


def parse_event(line: str | bytes) -> Event:
    """The event of one journal line.

    Raises:
        pydantic.ValidationError: If the line is not an event this version knows.
    """
    return _EVENT.validate_json(line)


def dump_event(event: Event) -> str:
    """One journal line, without the line end."""
    return event.model_dump_json()
