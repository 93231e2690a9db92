"""Early stopping as a pure function of the epochs' metric values."""

from __future__ import annotations

from dataclasses import dataclass

from agr_core.config import EarlyStoppingConfig


@dataclass(frozen=True)
class StoppingState:
    """Best value so far and number of epochs since then."""

    best: float | None = None
    bad_epochs: int = 0


def after_epoch(config: EarlyStoppingConfig, state: StoppingState, value: float) -> StoppingState:
    """Return the state after an epoch whose watched metric was ``value``."""
    if state.best is None:
        return StoppingState(best=value)
    gain = state.best - value if config.direction == "minimize" else value - state.best
    if gain > config.min_delta:
        return StoppingState(best=value)
    return StoppingState(best=state.best, bad_epochs=state.bad_epochs + 1)


def should_stop(config: EarlyStoppingConfig, state: StoppingState) -> bool:
    """Return whether ``patience`` epochs have passed without an improvement."""
    return state.bad_epochs >= config.patience
