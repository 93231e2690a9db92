"""Idle nodes leave the cluster: a watcher process lets its node leave, then runs a command that ends the machine.

The watcher is a separate process beside the node's Ray, so it outlives drivers and the node. It polls the head for two
facts: whether trials use the node, and which sweeps have run and are over.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from agr_core.errors import AgrError, InputError
from orchestrator.cluster.gcs import Gcs, Node
from orchestrator.cluster.node import MARK, Started, joined_node, leave, this_node
from orchestrator.errors import ClusterError
from orchestrator.ray_tune.prices import SWEEP_NOTE
from orchestrator.settings import Settings

LOOK_S = 5.0
"""Time between two polls of the cluster, in seconds."""

_LEAVE_S = 600.0

Reason = Literal["idle", "end"]


@dataclass(frozen=True, kw_only=True)
class IdleRule:
    """Conditions for a node to leave by itself, and the command to run then."""

    idle_s: float | None = None
    """Idle time of the node (no trial uses it), in seconds."""
    on_idle: str | None = None
    """Shell command, after the node has left because it was idle."""
    on_end: str | None = None
    """Shell command, after the node has left because every sweep that ran since it joined is over."""

    def command(self, reason: Reason) -> str | None:
        """Return the command to run."""
        return self.on_idle if reason == "idle" else self.on_end

    def check(self) -> None:
        """Refuse a command that would never run.

        Raises:
            InputError: If ``on_idle`` has no ``idle_s``.
        """
        if self.on_idle is not None and self.idle_s is None:
            raise InputError("--on-idle needs --idle, the time without a trial, such as --idle 20m.")


@dataclass
class IdleWatch:
    """Decision when a node leaves, from successive observations."""

    rule: IdleRule
    _free_since: float | None = None
    _seen: set[str] = field(default_factory=set)
    """Sweeps that ran while the node was there."""

    def look(self, now: float, *, free: bool, sweeps: Mapping[str, bool]) -> Reason | None:
        """Return why the node is to leave now; None if it stays.

        Args:
            now: Time in seconds, of any monotonic clock.
            free: Whether no trial uses the node.
            sweeps: Whether each known sweep of the cluster is over, by ID.
        """
        self._seen |= {sweep_id for sweep_id, over in sweeps.items() if not over}
        if not free:
            self._free_since = None
            return None
        self._free_since = now if self._free_since is None else self._free_since
        if self.rule.on_end is not None and self._seen and all(sweeps.get(sweep_id, False) for sweep_id in self._seen):
            return "end"
        idle = self.rule.idle_s is not None and now - self._free_since >= self.rule.idle_s
        return "idle" if idle else None


def leave_once(folder: Path, mark: str, reason: Reason, rule: IdleRule, leave_node: Callable[[], None]) -> bool:
    """Let the node leave and run the command, unless another watcher of this node did; return whether this one did."""
    try:
        with (folder / f"left-{mark}.json").open("x", encoding="utf-8") as file:
            file.write(json.dumps({"reason": reason, "at": time.time()}) + "\n")
    except FileExistsError:
        return False
    leave_node()
    command = rule.command(reason)
    if command is not None:
        with (folder / f"left-{mark}.log").open("ab") as log:
            subprocess.run(("/bin/sh", "-c", command), stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False)
    return True


def start_watcher(rule: IdleRule, settings: Settings) -> None:
    """Watch this machine's node from a separate process, which ends with the node."""
    folder = settings.home / "cluster"
    (folder / "idle.json").write_text(json.dumps(asdict(rule)) + "\n", encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != MARK}  # it outlives the node's Ray
    with (folder / "idle.log").open("ab") as log:
        subprocess.Popen(
            (sys.executable, "-P", "-m", "orchestrator.cli.main", "cluster", "watch"),
            env=environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def watch(settings: Settings, *, say: Callable[[str], None]) -> None:
    """Watch this machine's node until it has left.

    A node whose Ray has ended by itself, as it does a minute after its head is lost, has not left: nothing uses the
    machine, and it costs money.
    """
    node = this_node(settings)
    if node is None:
        raise InputError("this machine is not a node of a cluster (of this AGR_HOME): nothing to watch.")
    folder = settings.home / "cluster"
    rule = IdleRule(**json.loads((folder / "idle.json").read_text(encoding="utf-8")))
    decides = IdleWatch(rule)
    ended = False
    while (joined := joined_node(settings)) is not None and joined.mark == node.mark:
        time.sleep(LOOK_S)
        if this_node(settings) is None:
            if not ended:
                say("the node's Ray has ended without `agr cluster leave`; from now on it counts as idle")
            ended = True
            reason = decides.look(time.monotonic(), free=True, sweeps={})
        else:
            free, sweeps = _observe(node, say)
            reason = decides.look(time.monotonic(), free=free, sweeps=sweeps)
        if reason is not None:
            say(f"the node leaves: {reason}")
            leave_once(folder, node.mark, reason, rule, lambda: _leave(settings, say))
            return


def _observe(node: Started, say: Callable[[str], None]) -> tuple[bool, dict[str, bool]]:
    """Return whether nothing runs on the node, and which sweeps are over."""
    try:
        gcs = Gcs(node.address)
        return is_free(node, gcs.nodes()), sweeps_of(gcs)
    except ClusterError as error:  # a head that is busy, or gone: then nothing runs here either
        say(str(error))
        return True, {}


def is_free(node: Started, nodes: list[Node]) -> bool:
    """Return whether nothing runs on the node; a head is free only once it is alone."""
    own = next((other_node for other_node in nodes if other_node.node_id == node.node_id), None)
    others = [other_node for other_node in nodes if other_node.alive and other_node.node_id != node.node_id]
    return (own is None or own.is_idle()) and not (node.is_head and others)


def sweeps_of(gcs: Gcs) -> dict[str, bool]:
    """Return whether each sweep that has run on the cluster is over, by ID."""
    notes: dict[str, Any] = {key.removeprefix(SWEEP_NOTE): gcs.get(key) for key in gcs.keys(SWEEP_NOTE)}
    return {sweep_id: bool(note["over"]) for sweep_id, note in notes.items() if note is not None}


def _leave(settings: Settings, say: Callable[[str], None]) -> None:
    try:
        leave(settings, deadline_s=_LEAVE_S, force=False, say=say)
    except AgrError as error:  # the command ends the machine all the same
        say(str(error))
