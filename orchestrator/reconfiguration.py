"""Half the batch for a trial that ran out of memory: another configuration, recorded and re-run as the trial's own."""

from __future__ import annotations

from agr_core.config import TrialConfig
from orchestrator.records import TrialReconfigured
from orchestrator.standing import LiveTrial


def half_batch(trial: LiveTrial, *, reason: str, time: float) -> TrialReconfigured | None:
    """The trial from now on; None if nothing smaller is left to try.

    It is halved once. A stage before the trial's own is shared with others, so it cannot change for one of them.
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
