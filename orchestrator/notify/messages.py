"""Notification messages derived from the events of a sweep."""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.journal.events import (
    AttemptFailed,
    AttemptStarted,
    BudgetNearlySpent,
    ControlReceived,
    DriverStarted,
    Event,
    NodeLeft,
    NodeQuarantined,
    SweepEnded,
    TrialEnded,
)

IDLE_S = 600.0
"""Time without a running trial, in seconds, before a message is sent."""


@dataclass(frozen=True)
class Message:
    """Title and text, without secrets."""

    title: str
    text: str


@dataclass
class Messages:
    """Derives the messages of one sweep from its events."""

    sweep_id: str
    _running: set[str] = field(default_factory=set)
    _idle_since: float | None = None
    _paused: bool = False
    _over: bool = False

    def of(self, event: Event) -> Message | None:
        """Return the message for an event; None if it needs no message."""
        self._follow(event)
        match event:
            case SweepEnded(status="failed"):
                return self._message("failed", event.reason)
            case SweepEnded():
                spent = "" if event.spent is None or event.spent.usd is None else f" {event.spent.usd:.4g} dollars."
                return self._message(
                    event.status, f"{event.reason or 'It ended as asked'}. {event.wall_s:.0f} s.{spent}"
                )
            case BudgetNearlySpent():
                return self._message(
                    f"budget.{event.budget} is {event.spent / event.limit:.0%} used",
                    f"{event.spent:.4g} of {event.limit:.4g}. `agr extend {self.sweep_id}` adds to it.",
                )
            case NodeQuarantined():
                return self._message(f"node {event.node} is quarantined", f"It gets no more trials: {event.error}")
            case NodeLeft(drained=False):
                return self._message(
                    f"node {event.node} is lost", "Its trials continue on other nodes from their checkpoints."
                )
            case _:
                return None

    def idle(self, now: float) -> Message | None:
        """Return a message, once, if no trial has run for ``IDLE_S`` seconds; else None."""
        if self._idle_since is None or self._paused or self._over or now - self._idle_since < IDLE_S:
            return None
        self._idle_since = None
        minutes = IDLE_S / 60
        return self._message(
            f"nothing has run for {minutes:.0f} minutes", "Its nodes cost money. `agr status` shows why."
        )

    def _follow(self, event: Event) -> None:
        match event:
            case DriverStarted():
                self._running.clear()
                self._idle_since, self._over, self._paused = event.time, False, False
            case AttemptStarted():
                self._running.add(event.trial_id)
                self._idle_since = None
            case AttemptFailed() | TrialEnded():
                self._running.discard(event.trial_id)
                if not self._running:
                    self._idle_since = event.time
            case ControlReceived(command="pause" | "resume") if not event.refused:
                self._paused = event.command == "pause"
                self._idle_since = event.time
            case SweepEnded():
                self._over = True
            case _:
                pass

    def _message(self, title: str, text: str) -> Message:
        return Message(f"{self.sweep_id}: {title}", text)
