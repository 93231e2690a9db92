"""Resource requests of trials, including main memory, which most sweep files leave open.

Ray counts the memory that trials request, and places no more of them on a node than fit. If the sweep file does not
state it, trials request an estimate; each epoch reports the memory in use (``memory/main_gb``), and the estimate
follows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping

from orchestrator.spec.model import ResourcesSpec

Resources = Mapping[str, float]
"""Amounts by Ray's names; memory in bytes."""

A_PROCESS = 10**9
"""Initial memory request of a process, in bytes: torch, timm, a small model and its batches."""

TEAM_HOLDER = {"memory": float(2**20)}
"""Request of the worker of a trial whose processes Ray Train places; Tune requires a non-empty request."""


class Needs:
    """Request of a trial to Ray, for all its processes together.

    Args:
        spec: Resources in the sweep file.
        processes: Processes that train a trial.
        held: Returns the largest main memory, in bytes, that a trial of the sweep has used; called only if the sweep
        file
            does not set it.
    """

    def __init__(self, spec: ResourcesSpec, *, processes: int = 1, held: Callable[[], float] = lambda: 0.0) -> None:
        wanted = {"CPU": spec.cpus, "GPU": spec.gpus, "memory": float(spec.memory or A_PROCESS * processes)}
        self._asked = {name: amount for name, amount in wanted.items() if amount > 0}
        self._least = self._asked["memory"]
        self._said = spec.memory is not None
        self._held = held
        self._learned = 0.0
        self._most = math.inf
        self._more: dict[str, float] = {}

    def of(self, trial_id: str) -> dict[str, float]:
        """Return the request of a trial that starts now."""
        return {**self._asked, "memory": max(self._asked["memory"], self._more.get(trial_id, 0.0))}

    def of_any(self) -> dict[str, float]:
        """Return the request of a new trial."""
        return dict(self._asked)

    @property
    def outgrown(self) -> bool:
        """Whether trials use more memory than at the last ``learn``."""
        return not self._said and step_above(self._held()) > self._learned

    def learn(self, nodes: Collection[Resources]) -> None:
        """Raise the memory request to the observed use, if a node would otherwise run too many trials.

        A changed request needs a new worker, so it grows in steps, and only if necessary. On nodes that all have less
        memory than one trial uses, one trial runs at a time.
        """
        self._most = max((node.get("memory", 0.0) for node in nodes if fitting(self._but_memory(), node)), default=0.0)
        if self._said or not self._most:
            return
        self._learned = step_above(self._held())
        more = {**self._asked, "memory": min(max(self._least, self._learned), self._most)}
        overfilled = any(fitting(more, node) < fitting(self._asked, node) for node in nodes)
        if overfilled or more["memory"] < self._asked["memory"]:
            self._asked = more

    def give_more(self, trial_id: str) -> bool:
        """Double the memory request of a trial that ran out of main memory; return False if no node has enough."""
        had = self.of(trial_id)["memory"]
        if self._said or had >= self._most:
            return False
        self._more[trial_id] = min(2 * had, self._most)
        return True

    def kept_off(self, node: Resources) -> int:
        """Return the number of trials that a node would run more if it were not for the estimated memory."""
        return 0 if self._said else fitting(self._but_memory(), node) - fitting(self._asked, node)

    def _but_memory(self) -> dict[str, float]:
        return {name: amount for name, amount in self._asked.items() if name != "memory"}


def step_above(memory: float) -> float:
    """Return ``memory`` (bytes) rounded up to the next of 1, 1.25, 1.5, 1.75, 2, 2.5, ... times ``A_PROCESS``."""
    if memory <= A_PROCESS:
        return float(A_PROCESS)
    quarter = A_PROCESS * 2.0 ** math.floor(math.log2(memory / A_PROCESS)) / 4
    return math.ceil(memory / quarter) * quarter


def fitting(trial: Resources, node: Resources) -> int:
    """Return the number of trials that fit a node with these resources."""
    fits = []
    for name, wanted in trial.items():
        has = node.get(name, 0.0)
        # A trial with a share of a GPU cannot use two of them, so whole GPUs are counted one by one.
        of_shared_gpus = name == "GPU" and wanted < 1
        fits.append(has * (1 // wanted) if of_shared_gpus else has // wanted)
    return int(min(fits)) if fits else 0
