"""Halve the batch of a trial that ran out of memory: a new configuration, recorded and re-run as the trial's own."""

from __future__ import annotations

from agr_core.config import TrialConfig
from orchestrator.journal.events import TrialReconfigured
from orchestrator.sweep.live_state import LiveTrial


def half_batch(trial: LiveTrial, *, reason: str, time: float) -> TrialReconfigured | None:
    """Return the reconfiguration with half the batch; None if it was halved already or cannot be.

    A stage before the trial's own is shared with other trials, so it cannot change for one of them.
    """
    created = trial.created
    config = TrialConfig.from_document(created.config)
    in_a_stage = len(trial.stages) < len({ref.key for ref in created.stages})
    if trial.reconfigured or in_a_stage or config.batch_size == 1:
        return None
    halved = TrialConfig.from_document({**created.config, "batch_size": config.batch_size // 2})
    varies = "batch_size" in created.params
    return TrialReconfigured(
        time=time,
        trial_id=trial.trial_id,
        config=halved.to_document(),
        params={**created.params, "batch_size": halved.batch_size} if varies else created.params,
        config_digest=halved.digest(
            data_digest=created.data_digest,
            split_digest=created.split_digest,
            weights_sha256=created.initial_weights_key,
        ),
        reason=f"half the batch ({config.batch_size} to {halved.batch_size}): {reason}",
    )
