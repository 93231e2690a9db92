"""Before a sweep over several nodes: does each reach the sweep's storage, and what data does it hold?

A word goes there and back. The driver leaves one, which the node must find; the node leaves one, which the driver must
find. So a node whose credentials are wrong, whose network does not reach the store, or whose settings name another
store or a folder of its own, is named before any trial is lost on it. With its word a node says which data sets its
cache holds.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from agr_core.errors import AgrError
from orchestrator.errors import NotFoundError, SweepFailedError
from orchestrator.settings import Settings
from orchestrator.storage import is_remote, layout, open_storage
from orchestrator.storage.base import Storage
from orchestrator.storage.staging import held

TIMEOUT_S = 90.0
"""So long may all nodes together take, starting a worker included (seconds)."""


@dataclass(frozen=True)
class Answer:
    """What a node says."""

    problem: str = ""
    """Why it cannot use the storage; empty if it can."""
    data: frozenset[str] = frozenset()
    """Digests of the data sets in its cache."""


def ask_nodes(storage: Storage, sweep_id: str) -> dict[str, frozenset[str]]:
    """Let every node write to and read from the sweep's storage; returns the data that each holds, by node ID.

    Nothing is asked of a cluster of one node. A node that leaves the cluster meanwhile is none of it any more.

    Raises:
        SweepFailedError: If a node cannot; the text names each, with its reason.
    """
    nodes = _alive()
    if len(nodes) < 2:
        return {}
    word = secrets.token_hex(16)
    left = layout.probe(sweep_id, f"driver-{word}")
    storage.write(left, word.encode())
    try:
        answers = _ask_all(storage, sweep_id, nodes, word)
    finally:
        storage.delete(left)
    alive = _alive()
    problems = {node: answer.problem for node, answer in answers.items() if answer.problem and node in alive}
    if problems:
        told = "; ".join(f"{nodes[node]}: {problem}" for node, problem in problems.items())
        advice = "" if is_remote(storage.uri) else " A folder is of one machine: use s3://bucket/prefix on a cluster."
        raise SweepFailedError(
            f"{len(problems)} of {len(nodes)} nodes cannot use the storage {storage.uri}: {told}.{advice} Mend it "
            "there (a node's workers have the environment in which it joined), or let the node leave; then resume."
        )
    return {node: answer.data for node, answer in answers.items()}


def _ask_all(storage: Storage, sweep_id: str, nodes: dict[str, str], word: str) -> dict[str, Answer]:
    """The answer of each node, by its ID."""
    probe: Any = ray.remote(num_cpus=0, max_retries=0)(_probe)
    asked = {
        probe.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(
            storage.uri, sweep_id, node, word
        ): node
        for node in nodes
    }
    done, silent = ray.wait(list(asked), num_returns=len(asked), timeout=TIMEOUT_S)
    answers = {asked[each]: Answer(f"no answer in {TIMEOUT_S:.0f} s") for each in silent}
    for each in done:
        node, answer = asked[each], _answer_of(each)
        answers[node] = answer if answer.problem else _found_by_driver(answer, storage, sweep_id, node, word)
    return answers


def _answer_of(asked: Any) -> Answer:
    try:
        answer: Answer = ray.get(asked, timeout=5)
        return answer
    except (RayError, GetTimeoutError) as error:
        return Answer(str(error).strip().splitlines()[-1])


def _found_by_driver(answer: Answer, storage: Storage, sweep_id: str, node: str, word: str) -> Answer:
    key = layout.probe(sweep_id, f"{node}-{word}")
    try:
        if storage.read(key) != word.encode():
            return Answer("what it wrote came out different")
    except NotFoundError:
        return Answer("what it wrote is not in the driver's storage: it uses another one")
    storage.delete(key)
    return answer


def _probe(uri: str, sweep_id: str, node: str, word: str) -> Answer:
    """On a node: use the storage, and look into the cache."""
    try:
        storage = open_storage(uri)
        if storage.read(layout.probe(sweep_id, f"driver-{word}")) != word.encode():
            return Answer("what the driver wrote came out different")
        storage.write(layout.probe(sweep_id, f"{node}-{word}"), word.encode())
    except NotFoundError:
        return Answer("what the driver wrote is not there: it uses another storage")
    except AgrError as error:
        return Answer(str(error))
    return Answer(data=held(Settings.from_environment().cache))


def _alive() -> dict[str, str]:
    """Address of each living node, by its ID."""
    return {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
