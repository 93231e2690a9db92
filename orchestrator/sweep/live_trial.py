"""State of a trial that has not ended, for its driver."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from orchestrator.journal.events import TrialCreated, TrialReopened


@dataclass(frozen=True)
class LiveTrial:
    """A trial that has not ended."""

    created: TrialCreated
    attempt: int = 0
    """Number of the running attempt, or of the next one."""
    node: str = ""
    """Address of the node of its last attempt; empty before the first, or if unknown."""
    node_id: str = ""
    running: bool = False
    """Whether an attempt is under way."""
    heard: float = 0.0
    """Time of its last event: an attempt's start, a stage, an epoch."""
    reconfigured: bool = False
    """Whether its configuration differs from the proposed one."""
    epoch: int = 0
    value: float | None = None
    best: tuple[int, float] | None = None
    point: tuple[float, ...] = ()
    """The value of each objective at the best epoch."""
    stages: frozenset[str] = frozenset()
    """Keys of the stages with obtained weights."""
    kept: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    """Best epoch and its value for each label of ``keep``."""
    reported_attempt: int | None = None
    failures: int = 0
    charges: tuple[str, ...] = ()
    """Failures that count as retries, by node (ID)."""
    finished: bool = False
    stopped_early: bool = False
    compared: bool = True
    """Whether the scheduler may stop it; False if a user requested more epochs."""

    @property
    def trial_id(self) -> str:
        """The trial's ID."""
        return self.created.trial_id

    @property
    def compared_as(self) -> int | None:
        """Configuration as which early stopping compares it; None: it is never stopped, as confirmations are not."""
        return self.created.configuration if self.compared and self.created.confirms is None else None

    @property
    def charged(self) -> int:
        """Number of failures that count as retries."""
        return len(self.charges)

    def after_restart(self, first_attempt: int) -> LiveTrial:
        """Return the trial under a new driver: no attempt runs, and the next one has an unused number.

        The earlier driver may have started the attempt noted here and one more since it stored its events.
        """
        return replace(self, running=False, attempt=max(self.attempt + 2, first_attempt))

    def set_going(self) -> LiveTrial:
        """Return the trial after it was ended for now; with a new attempt if its driver had started this one."""
        return replace(self, running=False, attempt=self.attempt + 1 if self.running else self.attempt)

    @classmethod
    def of(cls, event: TrialReopened) -> LiveTrial:
        """Return the living trial of a reopened one."""
        return cls(
            event.created,
            attempt=event.attempt,
            reconfigured=True,
            epoch=event.epoch,
            value=event.value,
            best=event.best,
            point=event.point,
            stages=frozenset(event.stages),
            kept=event.kept,
            reported_attempt=event.reported_attempt,
            compared=event.compared,
        )
