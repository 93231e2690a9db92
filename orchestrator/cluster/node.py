"""Run this machine as a node: start Ray as the head or join one, and leave in good order."""

from __future__ import annotations

import json
import logging
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from agr_core.errors import InputError
from orchestrator.cluster import doorman
from orchestrator.cluster.gcs import Gcs, Node, parse_address
from orchestrator.cluster.labels import node_labels
from orchestrator.cluster.ports import DASHBOARD, Ports, own_address
from orchestrator.cluster.token import MODE, find_token
from orchestrator.cluster.versions import differences, versions
from orchestrator.errors import ClusterError
from orchestrator.ray_tune import warm
from orchestrator.settings import Settings

VERSIONS = "versions"
"""Key of the head's versions."""

MARK = "AGR_CLUSTER_NODE"
"""Environment variable of everything that runs on a node we started; its value is the node's mark."""

_OBJECT_STORE_BYTES = 200 * 2**20
"""Trials exchange nothing through Ray's object store; without this it takes 30 % of the memory."""

_PATIENCE = {"RAY_DASHBOARD_SUBPROCESS_MODULE_WAIT_READY_TIMEOUT": "120"}

_NO_METRICS = {"RAY_enable_metrics_collection": "false", "DASHBOARD_METRIC_PORT": "-1"}
"""Ray's metrics, which nothing here reads, are served without a token, on all addresses. The dashboard's own have no
switch: with a number that is no port it logs that it cannot serve them, and goes on."""

_TOO_SLOW = "timed out during startup"
_ATTEMPTS = 3
"""Number of attempts to start Ray. Ray limits the start of its agents to 15 s and its own to 30 s, which cannot be
changed (ray-project/ray#65983) and which a busy machine exceeds; at the next attempt, its files are cached."""

_START_S = 240.0
_SEEN_S = 30.0
_TERMINATE_S = 10.0
_POLL_S = 0.5


@dataclass(frozen=True, kw_only=True)
class NodeOptions:
    """Options of ``agr cluster head`` and ``join``."""

    host: str | None = None
    """Address of this machine that the other nodes reach; None: the one towards the head, or the internet."""
    port: int = 6379
    """First of the node's ports; on a head the one others join by."""
    cpus: int | None = None
    gpus: int | None = None
    usd_per_hour: float | None = None
    provider: str | None = None
    warm: int | None = None
    """Number of warm workers; None: one per core, if the memory is large enough."""


@dataclass(frozen=True, kw_only=True)
class Started:
    """The record of this machine's node, kept in ``AGR_HOME/cluster/node.json``."""

    address: str
    """Of the cluster, HOST:PORT."""
    host: str
    port: int
    is_head: bool
    mark: str
    node_id: str
    warm: int
    """Number of warm workers when no trial runs."""


def start_head(options: NodeOptions, settings: Settings) -> Started:
    """Start a cluster whose first node is this machine.

    Raises:
        InputError: If an option is invalid, or this machine is already a node.
        ClusterError: If Ray does not start.
    """
    _refuse_second(settings)
    find_token(create=True)
    host = options.host or own_address(("192.0.2.1", 9))  # a reserved address, to find the outgoing route
    ports = Ports(options.port)
    _check_ports(host, ports, head=True)
    address = f"{host}:{options.port}"
    started = _start(
        options,
        settings,
        address,
        host,
        ["--head", f"--dashboard-host={host}", "--no-monitor", *ports.options(head=True)],
    )
    Gcs(address).put(VERSIONS, versions())
    _call_doorman(address)
    _start_workers(started)
    return started


def join(address: str, options: NodeOptions, settings: Settings) -> Started:
    """Make this machine a node of the cluster at ``address``, after checks with the head.

    Raises:
        InputError: If an option is invalid, the token or the versions differ from the head's, the head cannot reach
        this
            machine, or it is a node already.
        ClusterError: If the head does not answer, or Ray does not start.
    """
    _refuse_second(settings)
    find_token()
    gcs = Gcs(address)
    theirs = gcs.get(VERSIONS)
    if theirs is None:
        raise ClusterError(f"the cluster at {address} was not started by `agr cluster head`, or is only just starting.")
    unlike = differences(theirs, versions())
    if unlike:
        raise InputError(f"this machine cannot join {address}: {'; '.join(unlike)}. Install the head's versions here.")
    host = options.host or own_address(parse_address(address))
    ports = Ports(options.port)
    _check_ports(host, ports, head=False)
    if any(node.alive and node.host == host for node in gcs.nodes()):
        raise InputError(
            f"the cluster already has a node at {host}. If it is this machine before a restart, wait half a minute "
            "until the head has noticed; if another machine has the same private address, join both by an overlay "
            "network (docs/clusters.md, Behind NAT)."
        )
    problems = doorman.ask_to_be_dialled(gcs, host, ports.dialled())
    if problems is None:
        raise ClusterError(
            f"the head at {address} does not answer whether it can reach this machine; it may be overloaded. Try again."
        )
    if problems:
        raise InputError(
            f"the head at {address} cannot reach this machine: {'; '.join(problems)}. Open its firewall to the head "
            f"(tcp {ports.node_manager}-{ports.runtime_env}, {ports.workers[0]}-{ports.workers[1]}), or give the "
            "address by which the head reaches it with --host; a machine behind NAT joins through a tunnel "
            "(docs/clusters.md, Behind NAT)."
        )
    started = _start(options, settings, address, host, [f"--address={address}", *ports.options(head=False)])
    _start_workers(started)
    return started


def _start(options: NodeOptions, settings: Settings, address: str, host: str, arguments: list[str]) -> Started:
    from orchestrator.ray_tune.internals.core import COMMAND_MODULE

    number = warm.worker_count(options.warm, options.cpus)
    labels = node_labels(provider=options.provider, usd_per_hour=options.usd_per_hour, cache=settings.cache)
    labels[warm.LABEL] = str(number)
    command = [sys.executable, "-P", "-m", COMMAND_MODULE, "start", *arguments]
    command += ["--include-log-monitor=false"]  # it forwards workers' output to drivers, which do not use it
    command += [f"--node-ip-address={host}", f"--object-store-memory={_OBJECT_STORE_BYTES}", "--disable-usage-stats"]
    command += ["--labels=" + ",".join(f"{name}={value}" for name, value in labels.items())]
    command += [] if options.cpus is None else [f"--num-cpus={options.cpus}"]
    command += [] if options.gpus is None else [f"--num-gpus={options.gpus}"]
    for attempt in range(_ATTEMPTS):
        mark = secrets.token_hex(8)
        problem = _try_to_start(command, mark, warm.environment(number))
        if not problem:
            break
        _end_processes(mark)
        if _TOO_SLOW not in problem or attempt == _ATTEMPTS - 1:
            raise ClusterError(f"Ray did not start: {problem}; its logs are in /tmp/ray.")
    try:
        node_id = _wait_for(Gcs(address), host).node_id
    except ClusterError:
        _end_processes(mark)  # no record of the node exists that could end them later
        raise
    started = Started(
        address=address,
        host=host,
        port=options.port,
        is_head="--head" in arguments,
        mark=mark,
        node_id=node_id,
        warm=number,
    )
    record = _record(settings)
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(asdict(started), indent=2) + "\n", encoding="utf-8")
    return started


def _try_to_start(command: list[str], mark: str, for_workers: dict[str, str]) -> str:
    """Start Ray; return why it does not start, empty if it does."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    # `agr` and `python` of a job are those of this installation, whatever the shell's PATH was.
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)])
    try:
        done = subprocess.run(
            command,
            env={
                **_PATIENCE,
                **for_workers,
                **environment,
                **MODE,
                **_NO_METRICS,
                MARK: mark,
                "RAY_USAGE_STATS_ENABLED": "0",
            },
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_START_S,
        )
    except subprocess.TimeoutExpired:
        return f"no end after {_START_S:.0f} s"
    if done.returncode == 0:
        return ""
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return lines[-1] if lines else "it printed nothing"


def _wait_for(gcs: Gcs, host: str) -> Node:
    until = time.monotonic() + _SEEN_S
    while time.monotonic() < until:
        for node in gcs.nodes():
            if node.alive and node.host == host:
                return node
        time.sleep(0.1)
    raise ClusterError(f"Ray started, but the head does not list {host} after {_SEEN_S:.0f} s; see /tmp/ray.")


def _call_doorman(address: str) -> None:
    """Start the doorman on the head, where it stays."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    os.environ.pop("RAY_BACKEND_LOG_LEVEL", None)  # otherwise Ray's core prints it on standard error
    ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL, namespace=doorman.ACTOR_NAMESPACE)
    try:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        actor = ray.remote(doorman.Doorman).options(
            name=doorman.NAME, lifetime="detached", num_cpus=0, max_restarts=-1, scheduling_strategy=here
        )
        ray.get(actor.remote(address).watches.remote(), timeout=_START_S)
    except ray.exceptions.GetTimeoutError as error:
        raise ClusterError(
            f"the head runs, but the doorman, which answers joining machines, did not start within {_START_S:.0f} s. "
            "Run `agr cluster leave`, and start the head again."
        ) from error
    finally:
        ray.shutdown()


def _start_workers(started: Started) -> None:
    try:
        warm.fill_up(started.host, Ports(started.port).node_manager, started.warm)
    except ClusterError as error:
        raise ClusterError(f"{error}. Run `agr cluster leave`, and start the head again.") from error


def _check_ports(host: str, ports: Ports, *, head: bool) -> None:
    if host == "localhost" or host.startswith("127."):
        raise InputError(
            f"--host {host}: no other machine reaches this one by it, and Ray would replace it. Leave --host out; one "
            "machine needs no cluster: `agr submit FILE --detach`."
        )
    if not _is_ours(host):
        own = sorted(_own_addresses())
        raise InputError(
            f"--host {host}: this machine has no such address; it has {', '.join(own)}. A public address that a "
            "provider maps to the machine cannot be used by Ray; an overlay network can (docs/clusters.md, Behind NAT)."
        )
    taken = ports.taken(host, head=head)
    if taken:
        raise InputError(
            f"in use on {host}: tcp {', '.join(map(str, taken))}. End what listens there (`agr cluster leave`?), or "
            "choose other ports with --port."
        )


def _is_ours(host: str) -> bool:
    return host in _own_addresses()


def _own_addresses() -> set[str]:
    return {entry.address for entries in psutil.net_if_addrs().values() for entry in entries if "." in entry.address}


# ---- the record of this machine's node


def this_node(settings: Settings) -> Started | None:
    """Return this machine's node; None if it is none, or its Ray has ended."""
    started = joined_node(settings)
    return started if started is not None and _processes(started.mark) else None


def joined_node(settings: Settings) -> Started | None:
    """Return the node that this machine joined as and did not leave as; its Ray may have ended by itself."""
    try:
        return Started(**json.loads(_record(settings).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def _record(settings: Settings) -> Path:
    return settings.home / "cluster" / "node.json"


def _refuse_second(settings: Settings) -> None:
    node = this_node(settings)
    if node is not None:
        what = "the head" if node.is_head else "a node"
        raise InputError(
            f"this machine is {what} of the cluster at {node.address} already; run `agr cluster leave` first."
        )


# ---- leaving


def leave(settings: Settings, *, deadline_s: float, force: bool, say: Callable[[str], None]) -> None:
    """Drain this machine's node, wait until nothing runs on it, and end its Ray.

    A head that leaves takes the cluster with it; while other nodes are there only with ``force``.

    Raises:
        InputError: If this machine is no node, or without ``force`` the head of others, or has no token.
    """
    node = this_node(settings)
    if node is None:
        raise InputError("this machine is not a node of a cluster (of this AGR_HOME): nothing to leave.")
    if not force:  # this needs neither the head nor the token
        try:
            gcs = Gcs(node.address)
            others = [other for other in gcs.nodes() if other.alive and other.node_id != node.node_id]
        except ClusterError as error:
            say(f"{error} Ending the node's processes.")
        else:
            if node.is_head and others:
                raise InputError(
                    f"this is the head, and {len(others)} other nodes are in the cluster: "
                    f"{', '.join(other.host for other in others)}. Let them leave first, or end all with --force."
                )
            if not node.is_head:
                _drain(gcs, node, deadline_s, say)
    _end_processes(node.mark)
    _record(settings).unlink(missing_ok=True)


def _drain(gcs: Gcs, node: Started, deadline_s: float, say: Callable[[str], None]) -> None:
    gcs.drain(node.node_id, reason="agr cluster leave", deadline_s=deadline_s)
    say(f"draining {node.host}: its trials move at the end of their epochs; waiting up to {deadline_s:.0f} s")
    until = time.monotonic() + deadline_s
    while time.monotonic() < until:
        here = next((listed for listed in gcs.nodes() if listed.node_id == node.node_id), None)
        if here is None or not here.alive or here.is_idle():
            return
        time.sleep(_POLL_S)
    say(f"still busy after {deadline_s:.0f} s: its trials end here, and continue elsewhere from their last checkpoints")


def _processes(mark: str) -> list[psutil.Process]:
    """Return the processes with the node's mark, and their descendants: Ray's workers overwrite their environment."""
    processes: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error, PermissionError, ProcessLookupError):
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == mark:
                processes |= {member.pid: member for member in (process, *process.children(recursive=True))}
    processes.pop(os.getpid(), None)
    return list(processes.values())


def _end_processes(mark: str) -> None:
    """End all processes of a node: terminate, then kill."""
    processes = _processes(mark)
    for ask in (psutil.Process.terminate, psutil.Process.kill):
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                ask(process)
        _, processes = psutil.wait_procs(processes, timeout=_TERMINATE_S)


def dashboard_url(node: Started) -> str:
    """Return the address for submitting jobs to a head."""
    return f"http://{node.host}:{DASHBOARD}"
