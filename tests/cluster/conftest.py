"""Fixtures: a rented cluster on one machine, with store, laptop, head and nodes as separate ``machines``.

    def test_...(cluster: Cluster) -> None:
        head = cluster.head()                                    # agr cluster head
        node, _ = cluster.join("node-1", "node-2")               # agr cluster join
        sweep = cluster.submit(SWEEP)                            # agr submit --detach, from the laptop
        node.kill()                                              # the plug; also: cut(), mend()
        summary = cluster.wait(sweep, "completed")               # agr status, from the laptop
        cluster.events(sweep); cluster.runs(sweep)               # the journal; MLflow's runs

Everything is real: Ray with its token, SeaweedFS, MLflow, `agr`. Starting a node costs about four seconds of a core,
the head eight, so a module's tests share one cluster where they can. Never skipped where CI is set.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.cluster.machines import Machine, Network

BIN = Path(sys.executable).parent
_S3, _MLFLOW = 8333, 5000
_ANSWERS_S = 300
_LOOK_S = 2.0  # each poll is a process that takes at least half a second of a core from the nodes


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests of this folder as cluster tests."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.cluster)


_PROGRAMS = (
    "ip", "nsenter", "setpriv", "unshare", "iptables", "wg-quick", "wireguard-go", "dropbear", "ssh", "rsync",
)  # fmt: skip
_PACKAGES = "iproute2 util-linux iptables wireguard-tools wireguard-go dropbear-bin openssh-client rsync"


def missing() -> str:
    """Return why a network of machines cannot be created here; empty if it can."""
    if os.geteuid() != 0:
        return "network namespaces need root, and this is not root"
    if BIN.resolve().is_relative_to("/tmp"):
        return f"each machine has a /tmp of its own, and {BIN} is below /tmp: clone to another folder"
    if not Path("/dev/net/tun").exists():
        return "there is no /dev/net/tun, which a tunnel needs"
    absent = [program for program in _PROGRAMS if shutil.which(program) is None]
    return f"not installed: {', '.join(absent)} (Debian: apt-get install {_PACKAGES})" if absent else ""


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """Return an empty network; skip with the reason if impossible, fail instead if CI is set."""
    lack = missing()
    if lack and os.environ.get("CI"):
        pytest.fail(f"CI must run the cluster tests: {lack}")
    if lack:
        pytest.skip(lack)
    with Network(tmp_path_factory.mktemp("network")) as created:
        yield created


@pytest.fixture(scope="module")
def cluster(network: Network) -> Cluster:
    """Return a cluster with a store and a laptop; tests start head and nodes."""
    return Cluster(network)


def random_sweep(
    name: str, trials: int, *, images: int = 1200, tasks: Sequence[str] = ("age",), epochs: int = 6, **more: Any
) -> dict[str, Any]:
    """Return a sweep of trials that take a few seconds each; ``more``: further parts of its file."""
    return {
        "name": name,
        "trial": {
            "data": {"source": "synthetic", "synthetic": {"images": images, "size": 32}},
            "tasks": list(tasks),
            "image": {"size": 32},
            "batch_size": 60,
            "schedule": {"name": "cosine", "epochs": epochs},
            "model": {"name": "basic_cnn", "conv_layers": 2, "base_features": 8, "hidden": 8},
        },
        "space": {"optimizer": [{"name": "nadam", "lr": {"loguniform": [1.0e-4, 1.0e-2]}}]},
        "search": {"algorithm": "random", "trials": trials, "seed": 7},
        "scheduler": "none",
        "objective": {"metric": "val/age_mae", "direction": "minimize"},
        **more,
    }


class Cluster:
    """Machines and their processes. ``secrets_used`` holds all credentials."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.laptop = network.machine("laptop")
        self.store = network.machine("store")
        self.bucket = "agr"
        self.access_key, self.secret_key = f"AKTEST{secrets.token_hex(5).upper()}", secrets.token_urlsafe(30)
        self.mlflow_password = secrets.token_urlsafe(20)
        self.token = secrets.token_hex(32)
        self.head_address = ""
        self.head_machine: Machine = self.laptop  # until there is one
        self._start_store()
        self.make_bucket()
        self.give_token(self.laptop)

    # ---- environment of every machine

    @property
    def secrets_used(self) -> dict[str, str]:
        """Return name and value of each credential."""
        return {
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "MLFLOW_TRACKING_PASSWORD": self.mlflow_password,
            "the token": self.token,
        }

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment that a user sets on a node and on the laptop."""
        return {
            "AGR_HOME": "/tmp/home/agr",
            "AGR_STORAGE": f"s3://{self.bucket}/sweeps-of-{self.network.name}",
            "AWS_ENDPOINT_URL": f"http://{self.store.address}:{_S3}",
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "MLFLOW_TRACKING_URI": f"http://{self.store.address}:{_MLFLOW}",
            "MLFLOW_TRACKING_USERNAME": "agr",
            "MLFLOW_TRACKING_PASSWORD": self.mlflow_password,
        }

    def give_token(self, machine: Machine) -> None:
        """Write the token to the path that Ray reads."""
        folder = machine.folder / "home" / ".ray"
        folder.mkdir(exist_ok=True)
        (folder / "auth_token").write_text(self.token)

    # ---- the cluster

    def agr(
        self,
        machine: Machine,
        *arguments: str,
        code: int = 0,
        environment: Mapping[str, str] | None = None,
        timeout_s: float = 300,
    ) -> str:
        """Run an ``agr`` command on a machine; return its output, or its error message."""
        mine = {**self.environment, **(environment or {})}
        done = machine.run(str(BIN / "agr"), *arguments, environment=mine, code=code, timeout_s=timeout_s)
        return done.stdout if code == 0 else done.stderr

    def head(
        self, name: str = "head", *options: str, cpus: int = 2, before: Callable[[Machine], None] | None = None
    ) -> Machine:
        """Start a new machine as the head of a new cluster; ``before`` is done to it first."""
        machine = self.network.machine(name)
        if before is not None:
            before(machine)
        self.give_token(machine)
        self.wait_for_mlflow()
        command = ("cluster", "head", "--host", machine.address, "--cpus", str(cpus), *options)
        self.agr(machine, *command, timeout_s=600)
        self.head_address, self.head_machine = machine.address, machine
        return machine

    def join(
        self,
        *names: str,
        options: Sequence[str] = (),
        cpus: int = 2,
        before: Callable[[Machine], None] | None = None,
    ) -> list[Machine]:
        """Start new machines as nodes; ``before`` is done to each first."""
        machines = [self.network.machine(name) for name in names]
        for machine in machines:
            if before is not None:
                before(machine)
            self.give_token(machine)
            self.agr(
                machine, "cluster", "join", f"{self.head_address}:6379", "--cpus", str(cpus), *options, timeout_s=600
            )
        return machines

    @property
    def url(self) -> str:
        """Return the URL for job submission."""
        return f"http://{self.head_address}:8265"

    # ---- sweeps, from the laptop

    def write(self, sweep: Mapping[str, Any]) -> str:
        """Write a sweep file on the laptop; return its path there."""
        path = self.laptop.folder / "home" / f"{sweep['name']}.yaml"
        YAML(typ="safe").dump(dict(sweep), path)
        return f"/tmp/home/{path.name}"

    def submit(self, sweep: Mapping[str, Any], *options: str) -> str:
        """Submit a sweep and detach; return its ID."""
        return self.agr(self.laptop, "submit", self.write(sweep), "--address", self.url, "--detach", *options).strip()

    def resume(self, sweep_id: str) -> None:
        """Resume a sweep on the head."""
        self.agr(self.laptop, "resume", sweep_id, "--address", self.url, "--detach")

    def status(self, sweep_id: str) -> dict[str, Any]:
        """Return the output of ``agr status``."""
        summary: dict[str, Any] = json.loads(self.agr(self.laptop, "status", sweep_id, "--json"))
        return summary

    def wait(self, sweep_id: str, *statuses: str, timeout_s: float = 240) -> dict[str, Any]:
        """Wait until the sweep has one of these statuses; return its summary."""
        until = time.monotonic() + timeout_s
        while (summary := self.status(sweep_id))["status"] not in statuses:
            assert time.monotonic() < until, f"sweep {sweep_id} is {summary} after {timeout_s:.0f} s"
            time.sleep(_LOOK_S)
        return summary

    def events(self, sweep_id: str) -> list[dict[str, Any]]:
        """Return the events of the journal, read through the store."""
        prefix = f"sweeps-of-{self.network.name}/sweeps/{sweep_id}/journal/"
        script = (
            "import boto3, sys\n"
            "from botocore.config import Config\n"
            "s3 = boto3.client('s3', config=Config(s3={'addressing_style': 'path'}))\n"
            "pages = s3.get_paginator('list_objects_v2').paginate(Bucket=sys.argv[1], Prefix=sys.argv[2])\n"
            "for key in sorted(entry['Key'] for page in pages for entry in page.get('Contents', ())):\n"
            "    sys.stdout.write(s3.get_object(Bucket=sys.argv[1], Key=key)['Body'].read().decode())\n"
        )
        done = self.laptop.run(sys.executable, "-c", script, self.bucket, prefix, environment=self.environment)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def wait_for(self, sweep_id: str, kind: str, number: int, timeout_s: float = 120) -> list[dict[str, Any]]:
        """Wait for a number of events of a kind in the journal; return them."""
        until = time.monotonic() + timeout_s
        while len(events := [event for event in self.events(sweep_id) if event["kind"] == kind]) < number:
            assert time.monotonic() < until, f"{len(events)} of {number} {kind} after {timeout_s:.0f} s"
            time.sleep(_LOOK_S / 2)
        return events

    def runs(self, sweep_id: str) -> list[dict[str, Any]]:
        """Return tags and status of MLflow's runs of the sweep's trials."""
        script = (
            "import json, mlflow, sys\n"
            "client = mlflow.MlflowClient()\n"
            "ids = [e.experiment_id for e in client.search_experiments()]\n"
            "found = client.search_runs(ids, f\"tags.`agr.sweep_id` = '{sys.argv[1]}'\", max_results=1000)\n"
            "rows = [{'status': r.info.status, 'tags': r.data.tags, 'metrics': r.data.metrics} for r in found]\n"
            "print(json.dumps([row for row in rows if 'agr.trial_id' in row['tags']]))\n"
        )
        done = self.laptop.run(sys.executable, "-c", script, sweep_id, environment=self.environment)
        runs: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
        return runs

    # ---- the store

    def _start_store(self) -> None:
        home = self.store.folder / "home"
        pair = {"accessKey": self.access_key, "secretKey": self.secret_key}
        actions = ["Admin", "Read", "List", "Tagging", "Write"]
        identities = {"identities": [{"name": "agr", "credentials": [pair], "actions": actions}]}
        (home / "identities.json").write_text(json.dumps(identities))
        (home / "weed").mkdir()
        weed = str(Path(sysconfig.get_path("scripts")) / "weed")
        self.store.start(
            weed, "-logtostderr=true", "server", "-dir=/tmp/home/weed", f"-ip={self.store.address}", "-ip.bind=0.0.0.0",
            "-filer=true", "-s3=true", "-s3.config=/tmp/home/identities.json", f"-s3.port={_S3}", "-s3.iam=false",
            "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.peers=none", "-master.telemetry=false",
            "-master.volumeSizeLimitMB=128", "-volume.max=0", log="weed.log",
        )  # fmt: skip
        self.store.start(
            sys.executable, "-m", "mlflow", "server", "--host", self.store.address, "--port", str(_MLFLOW),
            "--workers", "1", "--backend-store-uri", "sqlite:////tmp/home/mlflow.db",
            "--artifacts-destination", "/tmp/home/artifacts", "--allowed-hosts", "*",
            environment={"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            log="mlflow.log",
        )  # fmt: skip

    def make_bucket(self) -> None:
        """Wait until the S3 server accepts writes."""
        self._until_answers(
            "import boto3\n"
            "from botocore.config import Config\n"
            "once = Config(s3={'addressing_style': 'path'}, retries={'total_max_attempts': 1}, connect_timeout=2)\n"
            "s3 = boto3.client('s3', config=once)\n",
            f"s3.create_bucket(Bucket={self.bucket!r}); s3.put_object(Bucket={self.bucket!r}, Key='probe', Body=b'')",
        )

    def wait_for_mlflow(self) -> None:
        """Wait for MLflow. It starts slowly, so only tests that need it wait, and never while a head starts."""
        address = f"http://{self.store.address}:{_MLFLOW}/health"
        self._until_answers("import urllib.request\n", f"urllib.request.urlopen({address!r})")

    def _until_answers(self, before: str, ask: str) -> None:
        script = (
            f"import time\n{before}until = time.monotonic() + {_ANSWERS_S}\n"
            f"while True:\n try:\n  {ask}\n  break\n"
            " except Exception:\n  if time.monotonic() > until: raise\n  time.sleep(0.5)\n"
        )
        self.laptop.run(sys.executable, "-c", script, environment=self.environment, timeout_s=_ANSWERS_S + 60)
