"""Before a sweep over several nodes: does each of them reach the sweep's storage, with what it has been given?

A word goes there and back. The driver leaves one, which the node must find; the node leaves one, which the driver must
find. So a node whose credentials are wrong, whose network does not reach the store, or whose settings name another
store or a folder of its own, is named before any trial is lost on it.
"""

from __future__ import annotations

import secrets
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from agr_core.errors import AgrError
from orchestrator.errors import NotFoundError, SweepFailedError
from orchestrator.storage import is_remote, layout, open_storage
from orchestrator.storage.base import Storage

TIMEOUT_S = 90.0
"""So long may all nodes together take, starting a worker included (seconds)."""


def refuse_if_a_node_lacks_storage(storage: Storage, sweep_id: str) -> None:
    """Let every node write to and read from the sweep's storage; nothing is asked of a cluster of one node.

    A node that leaves the cluster meanwhile is none of it any more.

    Raises:
        SweepFailedError: If a node cannot; the text names each, with its reason.
    """
    nodes = _alive()
    if len(nodes) < 2:
        return
    word = secrets.token_hex(16)
    left = layout.probe(sweep_id, f"driver-{word}")
    storage.write(left, word.encode())
    try:
        problems = _ask_all(storage, sweep_id, nodes, word)
    finally:
        storage.delete(left)
    problems = {node: problem for node, problem in problems.items() if node in _alive()}
    if problems:
        told = "; ".join(f"{nodes[node]}: {problem}" for node, problem in problems.items())
        advice = "" if is_remote(storage.uri) else " A folder is of one machine: use s3://bucket/prefix on a cluster."
        raise SweepFailedError(
            f"{len(problems)} of {len(nodes)} nodes cannot use the storage {storage.uri}: {told}.{advice} Mend it "
            "there (a node's workers have the environment in which it joined), or let the node leave; then resume."
        )


def _ask_all(storage: Storage, sweep_id: str, nodes: dict[str, str], word: str) -> dict[str, str]:
    """By node ID, why a node cannot use the storage; nodes that can are left out."""
    probe: Any = ray.remote(num_cpus=0, max_retries=0)(_probe)
    asked = {
        probe.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(
            storage.uri, sweep_id, node, word
        ): node
        for node in nodes
    }
    done, silent = ray.wait(list(asked), num_returns=len(asked), timeout=TIMEOUT_S)
    problems = {asked[answer]: f"no answer in {TIMEOUT_S:.0f} s" for answer in silent}
    for answer in done:
        node = asked[answer]
        problem = _problem_of(answer) or _found_by_driver(storage, sweep_id, node, word)
        if problem:
            problems[node] = problem
    return problems


def _problem_of(answer: Any) -> str:
    try:
        return str(ray.get(answer, timeout=5))
    except (RayError, GetTimeoutError) as error:
        return str(error).strip().splitlines()[-1]


def _found_by_driver(storage: Storage, sweep_id: str, node: str, word: str) -> str:
    key = layout.probe(sweep_id, f"{node}-{word}")
    try:
        if storage.read(key) != word.encode():
            return "what it wrote came out different"
    except NotFoundError:
        return "what it wrote is not in the driver's storage: it uses another one"
    storage.delete(key)
    return ""


def _probe(uri: str, sweep_id: str, node: str, word: str) -> str:
    """On a node: why the storage cannot be used; empty if it can."""
    try:
        storage = open_storage(uri)
        if storage.read(layout.probe(sweep_id, f"driver-{word}")) != word.encode():
            return "what the driver wrote came out different"
        storage.write(layout.probe(sweep_id, f"{node}-{word}"), word.encode())
    except NotFoundError:
        return "what the driver wrote is not there: it uses another storage"
    except AgrError as error:
        return str(error)
    return ""


def _alive() -> dict[str, str]:
    """Address of each living node, by its ID."""
    return {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
