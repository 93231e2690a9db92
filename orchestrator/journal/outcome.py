"""Outcomes of trials and status of sweeps: stated by the process that ends them, never inferred from epochs."""

from __future__ import annotations

from typing import Literal, get_args

Outcome = Literal["completed", "pruned", "diverged", "failed", "interrupted"]
"""completed: trained as configured, its own early stopping included; pruned: stopped by the scheduler; diverged: the
loss was not finite; failed: an error of code or data; interrupted: by the budget or a user."""

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)

Cause = Literal[
    "error", "worker_died", "node_lost", "moved", "out_of_memory", "disk_full", "no_plugin", "hung", "unfit_model"
]
"""Why an attempt failed. error: an exception in the worker; worker_died: its process ended; node_lost: its node left
the cluster; moved: it is about to; out_of_memory: of the GPU or the machine; disk_full: of its node, or of the storage;
no_plugin: its node lacks a package whose plug-ins the sweep uses; hung: no report within `limits.report`; unfit_model:
its model cannot be built or trained on such images, anywhere."""

SweepStatus = Literal["running", "paused", "completed", "stopped", "failed", "interrupted", "lost"]
"""completed: ended as the sweep file asked, budget included; stopped: by `agr stop`; interrupted: Ctrl-C or a signal,
to be resumed; lost: running, and its driver is silent (seen by readers, never written)."""
