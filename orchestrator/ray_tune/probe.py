"""Before a sweep on several nodes: check that each node reaches the storage, and list its cached data.

The driver and every node write a probe object, and each reads the other's. So a node with wrong credentials, without a
network path to the store, or with another store or a local folder in its settings is reported before a trial is lost
on it. The nodes also return the data sets in their caches.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from agr_core.errors import AgrError, InputError
from agr_core.plugins import lacking
from orchestrator.assets.node_cache import held
from orchestrator.errors import NotFoundError, SweepFailedError
from orchestrator.settings import Settings
from orchestrator.storage import is_remote, layout, open_storage
from orchestrator.storage.base import Storage

TIMEOUT_S = 90.0
"""Longest time for all nodes together, in seconds, including the start of a worker."""


def try_worker() -> None:
    """Start a worker process and wait for its answer.

    Raises:
        SweepFailedError: If none does.
    """
    answer: Any = ray.remote(num_cpus=0, max_retries=0)(_answer)
    try:
        ray.get(answer.remote(), timeout=TIMEOUT_S)
    except (RayError, GetTimeoutError) as error:
        raise SweepFailedError(
            f"Ray runs, but no worker process starts on it: {str(error).strip().splitlines()[-1]}. --debug shows more."
        ) from error


def _answer() -> None:
    """Run on a node: do nothing."""


@dataclass(frozen=True)
class Answer:
    """Result of a node's probe."""

    problem: str = ""
    """Reason why it cannot use the storage; empty if it can."""
    data: frozenset[str] = frozenset()
    """Digests of the data sets in its cache."""


def refuse_nodes_without(packages: Mapping[str, str]) -> None:
    """Check that every node has the packages whose plug-ins a sweep uses.

    Args:
        packages: Versions by the package's name; if empty, no node is asked.

    Raises:
        InputError: If a node lacks one or has another version; the text names each node and package.
        SweepFailedError: If a node does not answer.
    """
    nodes = _alive() if packages else {}
    if len(nodes) < 2:
        return
    ask: Any = ray.remote(num_cpus=0, max_retries=0)(_lacking)
    asked = {
        node: ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(dict(packages))
        for node in nodes
    }
    try:
        answers = dict(zip(asked, ray.get(list(asked.values()), timeout=TIMEOUT_S), strict=True))
    except (RayError, GetTimeoutError) as error:
        raise SweepFailedError(
            f"a node does not say which plug-ins it has: {str(error).strip().splitlines()[-1]}. Mend it, or let it "
            "leave; then submit or resume again."
        ) from error
    problems = [f"on {nodes[node]} {' and '.join(phrases)}" for node, phrases in answers.items() if phrases]
    if problems:
        wanted = ", ".join(f"{name} {version}" for name, version in packages.items())
        raise InputError(
            f"this sweep uses plug-ins of {wanted}, and {'; '.join(problems)}. Install there what is installed here "
            "and let the node leave and join again (its workers see what was installed when it joined), or let it "
            "leave."
        )


def _lacking(packages: dict[str, str]) -> list[str]:
    """Run on a node: name the packages that it lacks; a worker may have waited since before one was installed."""
    return lacking(packages, fresh=True)


def ask_nodes(storage: Storage, sweep_id: str) -> dict[str, frozenset[str]]:
    """Probe the storage from every node; return the cached data of each, by node ID.

    A cluster of one node is not probed. Nodes that leave the cluster meanwhile are ignored.

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
        advice = (
            ""
            if is_remote(storage.uri)
            else " Only one machine can read a folder: use s3://bucket/prefix on a cluster."
        )
        raise SweepFailedError(
            f"{len(problems)} of {len(nodes)} nodes cannot use the storage {storage.uri}: {told}.{advice} Fix that "
            "(a node's workers inherit the environment in which it joined), or let the node leave; then resume."
        )
    return {node: answer.data for node, answer in answers.items()}


def _ask_all(storage: Storage, sweep_id: str, nodes: dict[str, str], word: str) -> dict[str, Answer]:
    """Return the answer of each node, by its ID."""
    probe: Any = ray.remote(num_cpus=0, max_retries=0)(_probe)
    asked = {
        probe.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(
            storage.uri, sweep_id, node, word
        ): node
        for node in nodes
    }
    done, silent = ray.wait(list(asked), num_returns=len(asked), timeout=TIMEOUT_S)
    answers = {asked[reference]: Answer(f"no answer in {TIMEOUT_S:.0f} s") for reference in silent}
    for reference in done:
        node, answer = asked[reference], _answer_of(reference)
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
            return Answer("the driver read other bytes than the node wrote")
    except NotFoundError:
        return Answer("the node's object is not in the driver's storage: the node uses another storage")
    storage.delete(key)
    return answer


def _probe(uri: str, sweep_id: str, node: str, word: str) -> Answer:
    """Run on a node: probe the storage, and list the cache."""
    try:
        storage = open_storage(uri)
        if storage.read(layout.probe(sweep_id, f"driver-{word}")) != word.encode():
            return Answer("the node read other bytes than the driver wrote")
        storage.write(layout.probe(sweep_id, f"{node}-{word}"), word.encode())
    except NotFoundError:
        return Answer("the driver's object is not in the node's storage: the node uses another storage")
    except AgrError as error:
        return Answer(str(error))
    return Answer(data=held(Settings.from_environment().cache))


def _alive() -> dict[str, str]:
    """Return the address of each living node, by its ID."""
    return {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
