"""How a trial ended and how a sweep stands: stated by who ended it, never inferred from epochs."""

from __future__ import annotations

from typing import Literal, get_args

Outcome = Literal["completed", "pruned", "diverged", "failed", "interrupted"]
"""completed: trained as configured, its own early stopping included; pruned: stopped by the scheduler; diverged: the
loss was not finite; failed: an error of code or data; interrupted: by the budget or a person."""

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)

SweepStatus = Literal["running", "paused", "completed", "stopped", "failed", "interrupted", "lost"]
"""completed: ended as the sweep file asked, budget included; stopped: by `agr stop`; interrupted: Ctrl-C or a signal,
to be resumed; lost: no heartbeat for 30 s while running (seen by readers, never written)."""
