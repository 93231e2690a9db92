"""What a trial takes of a node, and what of its main memory, of which most sweeps do not speak.

Ray counts the memory that trials ask for, and places no more of them on a node than it has. Where the sweep does not
say what one takes, they ask for a guess; each epoch reports what its trial holds (``memory/main_gb``), and the guess
follows that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping

from orchestrator.spec.model import ResourcesSpec

Resources = Mapping[str, float]
"""Amounts by Ray's names; memory in bytes."""

A_PROCESS = 10**9
"""Main memory (bytes) that a process is given until more is known: torch, timm, a small model and its batches."""

TEAM_HOLDER = {"memory": float(2**20)}
"""What the worker of a trial takes whose processes Ray Train places: Tune wants it to take something."""


class Needs:
    """What a trial asks of Ray, all its processes together.

    Args:
        spec: What the sweep says.
        processes: Processes that train a trial.
        held: Gives the most main memory (bytes) that a trial of the sweep was seen to hold; asked only if the sweep
            does not say what one takes.
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
        """What a certain trial asks for if it starts now."""
        return {**self._asked, "memory": max(self._asked["memory"], self._more.get(trial_id, 0.0))}

    def of_any(self) -> dict[str, float]:
        """What a new trial asks for."""
        return dict(self._asked)

    @property
    def outgrown(self) -> bool:
        """Whether trials hold more than when nodes were last looked at."""
        return not self._said and step_above(self._held()) > self._learned

    def learn(self, nodes: Collection[Resources]) -> None:
        """Let trials ask for as much memory as they hold, where one of the nodes would else run too many of them.

        A trial that asks for more than the last one is given a new worker: so it grows in steps, and not without need.
        On nodes that all have less than one trial holds, one runs at once.
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
        """Give a trial that ran out of main memory twice as much as it asked for; False if no node has more for it."""
        had = self.of(trial_id)["memory"]
        if self._said or had >= self._most:
            return False
        self._more[trial_id] = min(2 * had, self._most)
        return True

    def kept_off(self, node: Resources) -> int:
        """Trials that a node would run at once if it were not for the memory that the sweep does not speak of."""
        return 0 if self._said else fitting(self._but_memory(), node) - fitting(self._asked, node)

    def _but_memory(self) -> dict[str, float]:
        return {name: amount for name, amount in self._asked.items() if name != "memory"}


def step_above(memory: float) -> float:
    """``memory`` (bytes) or up to a quarter more: the next of 1, 1.25, 1.5, 1.75, 2, 2.5, ... times ``A_PROCESS``."""
    if memory <= A_PROCESS:
        return float(A_PROCESS)
    quarter = A_PROCESS * 2.0 ** math.floor(math.log2(memory / A_PROCESS)) / 4
    return math.ceil(memory / quarter) * quarter


def fitting(trial: Resources, node: Resources) -> int:
    """Trials that fit a node with these resources."""
    fits = []
    for name, wanted in trial.items():
        has = node.get(name, 0.0)
        # A trial with a share of a GPU cannot use two of them, so whole GPUs are counted one by one.
        of_shared_gpus = name == "GPU" and wanted < 1
        fits.append(has * (1 // wanted) if of_shared_gpus else has // wanted)
    return int(min(fits)) if fits else 0
