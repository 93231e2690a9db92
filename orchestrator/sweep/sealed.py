"""Select the trials for which the sealed test part is read once a sweep is over.

These are the winner; with several objectives, every trial of the front; under ``repeat`` or ``folds``, every seed or
fold of the best configuration; under ``confirm``, only the fresh seeds of the confirmed winner. An ablation without
early stopping reads it for every completed trial.
"""

from __future__ import annotations

from orchestrator.journal.sweep_state import SweepState, TrialState
from orchestrator.spec.model import NoScheduler, SweepSpec


def winners(state: SweepState, spec: SweepSpec) -> list[TrialState]:
    """Return the trials whose test metrics are due."""
    if spec.confirm is None and spec.variants and isinstance(spec.scheduler, NoScheduler):
        return [trial for trial in state.trials.values() if trial.result]
    if state.started.further:
        front = [ranked.configuration for ranked in state.ranking() if ranked.front == 1]
        return [trial for configuration in front for trial in configuration.judged]
    winner = state.winner()
    if winner is None or (spec.confirm is not None and not winner.confirmed):
        return []
    return winner.judged


def unread(trial: TrialState) -> dict[int, list[str]]:
    """Return the labels whose test metrics are due, by the epoch whose weights are kept for them."""
    unread: dict[int, list[str]] = {}
    for label, epoch in trial.kept_epochs.items():
        if label not in trial.tests:
            unread.setdefault(epoch, []).append(label)
    return unread
