"""A sweep that loses a node, its network, another node and its driver, and comes out as if nothing had happened."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from agr_core.evaluation.names import is_of_the_machine
from orchestrator.cli.driving import started_of
from orchestrator.cluster.ports import DASHBOARD, Ports
from orchestrator.ray_tune.driver import Engine, start_sweep
from orchestrator.settings import Settings
from orchestrator.spec.load import sweep_from_document
from orchestrator.storage import open_storage
from tests.cluster.conftest import BIN, Cluster, random_sweep
from tests.cluster.machines import Machine

SWEEP = random_sweep("disturbed", 12, tasks=("age", "gender"), epochs=8)
CUT_S = 30


def histories(events: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """By number of the trial: its configuration, the figures of each epoch, and its ends. No IDs, no times."""
    numbers: dict[str, int] = {}
    trials: dict[int, dict[str, Any]] = {}
    for event in events:
        if event["kind"] == "trial_created":
            numbers[event["trial_id"]] = event["number"]
            trials[event["number"]] = {"config": event["config"], "epochs": [], "ends": []}
        elif event["kind"] == "trial_reported":
            figures = {name: value for name, value in event["metrics"].items() if not is_of_the_machine(name)}
            trials[numbers[event["trial_id"]]]["epochs"].append((event["epoch"], event["value"], figures))
        elif event["kind"] == "trial_ended":
            trials[numbers[event["trial_id"]]]["ends"].append((event["outcome"], event["epochs"], event["value"]))
    return trials


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, Any]]:
    """The same sweep where nothing happens: driven from here, with a Ray and a storage of its own, and no MLflow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AGR_HOME", str(tmp_path_factory.mktemp("alone") / "home"))
        settings = Settings.from_environment()
        engine = Engine(settings=settings, storage=open_storage(settings.storage), read_sealed=False)
        sweep = sweep_from_document(SWEEP)
        result = start_sweep(sweep, started_of(sweep), engine, on_begin=lambda: None)
    segments = sorted(Path(settings.storage, "sweeps", result.sweep_id, "journal").glob("*.jsonl"))
    return histories([json.loads(line) for segment in segments for line in segment.read_text().splitlines()])


@pytest.fixture(scope="module")
def sweep_id(cluster: Cluster) -> str:
    """The sweep with all that happens to it, over."""
    head = cluster.head("head", "--usd-per-hour", "0.1", cpus=1)
    killed, cut, drained = cluster.join("node-1", "node-2", "node-3", options=("--provider", "here"), cpus=1)
    sweep_id = cluster.submit(SWEEP)
    cluster.wait_for(sweep_id, "trial_reported", 6)
    cut.cut()
    mend_at = time.monotonic() + CUT_S
    killed.kill()
    leaving = drained.start(str(BIN / "agr"), "cluster", "leave", environment=cluster.environment)
    said = leaving.communicate(timeout=300)[1]
    assert leaving.returncode == 0, said
    time.sleep(max(0.0, mend_at - time.monotonic()))
    cut.mend()
    kill_driver(head)
    cluster.wait(sweep_id, "completed", "failed", "stopped", timeout_s=600)
    return sweep_id


def kill_driver(head: Machine) -> None:
    """Kill -9 the process that drives the sweep."""
    pids = head.run("pgrep", "-f", "orchestrator.cli.main (drive|resume)").stdout.split()
    assert len(pids) == 1, pids
    head.run("kill", f"-{int(signal.SIGKILL)}", pids[0])


def test_every_trial_is_closed_exactly_once_in_the_journal(cluster: Cluster, sweep_id: str) -> None:
    events = cluster.events(sweep_id)
    created = [event["trial_id"] for event in events if event["kind"] == "trial_created"]
    ended = Counter(event["trial_id"] for event in events if event["kind"] == "trial_ended")
    assert len(created) == SWEEP["search"]["trials"]
    assert ended == Counter(created)
    assert {event["outcome"] for event in events if event["kind"] == "trial_ended"} == {"completed"}


def test_all_that_was_to_happen_happened(cluster: Cluster, sweep_id: str) -> None:
    events = cluster.events(sweep_id)
    hosts = {event["node"] for event in events if event["kind"] == "attempt_started"}
    assert len(hosts) == 4
    drivers = [event["restart"] for event in events if event["kind"] == "driver_started"]
    assert drivers == [0, 1], "the driver that was killed is started again by itself, by its job on the head"
    failed = [event for event in events if event["kind"] == "attempt_failed"]
    assert failed
    moved = [event for event in failed if "drained" in event["error"]]
    assert moved
    assert not any(event["charged"] for event in moved)


def test_only_the_ports_of_the_table_listen_beyond_the_loopback_address(cluster: Cluster, sweep_id: str) -> None:
    script = (
        "import json, psutil\n"
        "sockets = [s for s in psutil.net_connections('tcp') if s.status == psutil.CONN_LISTEN]\n"
        "names = {s.pid: ' '.join(psutil.Process(s.pid).cmdline())[:200] for s in sockets if s.pid}\n"
        "print(json.dumps([[s.laddr.ip.removeprefix('::ffff:'), s.laddr.port, names.get(s.pid)] for s in sockets]))\n"
    )
    sockets = json.loads(cluster.head_machine.run(sys.executable, "-c", script).stdout)
    ports = Ports(6379)
    first, last = ports.workers
    meant = {*range(ports.base, ports.runtime_env + 1), ports.client, DASHBOARD, *range(first, last + 1)}
    open_to_others = {port: name for at, port, name in sockets if at != "::1" and not at.startswith("127.")}
    assert {ports.base, ports.node_manager, DASHBOARD} <= open_to_others.keys()
    assert {port: name for port, name in open_to_others.items() if port not in meant} == {}
    assert ports.metrics not in {port for _, port, _ in sockets}, "it needs no token"


def test_every_trial_is_closed_exactly_once_in_mlflow(cluster: Cluster, sweep_id: str) -> None:
    cluster.agr(cluster.laptop, "sync")  # waits for the one that delivers
    runs = cluster.runs(sweep_id)
    created = [event["trial_id"] for event in cluster.events(sweep_id) if event["kind"] == "trial_created"]
    assert Counter(run["tags"]["agr.trial_id"] for run in runs) == Counter(created)
    assert {(run["status"], run["tags"]["agr.outcome"]) for run in runs} == {("FINISHED", "completed")}


def test_results_equal_those_of_an_undisturbed_sweep(
    cluster: Cluster, sweep_id: str, undisturbed: dict[int, dict[str, Any]]
) -> None:
    assert histories(cluster.events(sweep_id)) == undisturbed


def test_logs_are_read_from_the_laptop(cluster: Cluster, sweep_id: str) -> None:
    trial = cluster.status(sweep_id)["best"]["trial_id"]
    assert "epoch 8: " in cluster.agr(cluster.laptop, "logs", trial)


def test_a_client_without_the_token_is_refused(cluster: Cluster, sweep_id: str) -> None:
    wrong = {"RAY_AUTH_TOKEN": "0" * 64}
    path = cluster.write(SWEEP)
    said = cluster.agr(cluster.laptop, "submit", path, "--address", cluster.url, "--detach", environment=wrong, code=2)
    assert "refuses this machine's token" in said
    address = f"{cluster.head_address}:6379"
    said = cluster.agr(cluster.laptop, "cluster", "status", "--address", address, environment=wrong, code=2)
    assert "refuses this machine's token" in said
    plain = f"import urllib.request; urllib.request.urlopen('{cluster.url}/api/jobs/')"
    assert "401" in cluster.laptop.run(sys.executable, "-c", plain, code=1).stderr
    # Ray's client says why on its debug log alone, and asks again after so long, then twice and four times that.
    bare = (
        "import logging, ray; logging.getLogger('ray.util.client').setLevel(logging.DEBUG); "
        f"ray.init('ray://{cluster.head_address}:6386')"
    )
    impatient = {"RAY_AUTH_MODE": "disabled", "RAY_CLIENT_INITIAL_CONNECTION_TIMEOUT_S": "1"}
    said = cluster.laptop.run(sys.executable, "-c", bare, environment=impatient, code=1).stderr
    assert "Invalid or missing authentication token" in said


def test_a_machine_that_the_head_cannot_reach_is_refused_with_the_reason_within_10_s(
    cluster: Cluster, sweep_id: str
) -> None:
    machine = cluster.network.machine("behind-nat")
    cluster.give_token(machine)
    machine.run("ip", "address", "add", "10.99.0.5/32", "dev", "lo")  # an address that the head has no way to
    begun = time.monotonic()
    said = cluster.agr(
        machine, "cluster", "join", f"{cluster.head_address}:6379", "--host", "10.99.0.5", "--cpus", "1", code=2
    )
    assert time.monotonic() - begun < 10
    assert "cannot reach this machine: 10.99.0.5:6380" in said
    assert "Behind NAT" in said


def test_a_machine_with_other_versions_is_refused(cluster: Cluster, sweep_id: str) -> None:
    machine = cluster.network.machine("older")
    cluster.give_token(machine)
    address = f"{cluster.head_address}:6379"
    note = (
        "from orchestrator.cluster.gcs import Gcs; import sys; gcs = Gcs(sys.argv[1]); found = gcs.get('versions'); "
        "gcs.put('versions', {**found, 'Ray': sys.argv[2] or '2.60.0'})"
    )
    machine.run(sys.executable, "-c", note, address, "2.99.0")
    try:
        said = cluster.agr(machine, "cluster", "join", address, code=2)
    finally:
        machine.run(sys.executable, "-c", note, address, "")
    assert "Ray is 2.60.0 here and 2.99.0 on the head" in said


def test_a_node_that_cannot_use_the_storage_is_named_before_the_sweep(cluster: Cluster, sweep_id: str) -> None:
    machine = cluster.network.machine("wrong-keys")
    cluster.give_token(machine)
    wrong = {"AWS_SECRET_ACCESS_KEY": "not-the-secret"}
    join = ("cluster", "join", f"{cluster.head_address}:6379", "--cpus", "1")
    cluster.agr(machine, *join, environment=wrong)
    refused = cluster.submit({**SWEEP, "name": "refused"})
    cluster.wait(refused, "failed")
    ended = next(event for event in cluster.events(refused) if event["kind"] == "sweep_ended")
    assert f"{machine.address}: " in ended["reason"]
    assert "refuses the credentials" in ended["reason"]
    assert cluster.head_address not in ended["reason"]
    machine.kill()


def test_no_credential_is_in_anything_written(cluster: Cluster, sweep_id: str) -> None:
    jobs = "from ray.job_submission import JobSubmissionClient as C; import sys; print(C(sys.argv[1]).list_jobs())"
    metadata = cluster.laptop.run(
        sys.executable, "-c", jobs, cluster.url, environment={"RAY_AUTH_MODE": "token"}
    ).stdout
    assert sweep_id in metadata
    found = []
    for name, secret in cluster.secrets_used.items():
        if name == "AWS_ACCESS_KEY_ID":
            continue  # it is a name; S3 servers log who asked
        assert secret not in metadata, name
        grep = ["grep", "-rlF", "--devices=skip", "--", secret, str(cluster.network.folder)]
        files = subprocess.run(grep, capture_output=True, text=True).stdout.splitlines()
        found += [f"{name} in {path}" for path in files if not is_where_it_belongs(Path(path))]
    assert found == []


def is_where_it_belongs(path: Path) -> bool:
    """The file a user keeps the token in, and the S3 server's list of keys."""
    return path.name == "auth_token" or path.name == "identities.json"
