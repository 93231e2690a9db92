"""What a delivery keeps in memory of a sweep and of each trial."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.journal.sweep_state import TrialState


@dataclass(frozen=True)
class Place:
    """The tracker's experiment and run of a sweep."""

    tracking_uri: str
    experiment_id: str
    run_id: str
    link: str


@dataclass(slots=True)
class DeliveredTrial:
    """Delivered part of a trial."""

    run_id: str
    epoch: int = 0
    described: bool = False
    parked: bool = False  # closed because its sweep was interrupted; it may continue
    closed: bool = False
    tested: int = 0  # labels whose test figures have arrived
    rank: str | None = None


def release(trial: TrialState) -> None:
    """Let go of the epochs that a trial's run has and nothing asks for again.

    The leaderboard at the sweep's end needs those of the kept weights.
    """
    kept = set(trial.kept_epochs.values())
    trial.reports[:] = [report for report in trial.reports if report.epoch in kept]
