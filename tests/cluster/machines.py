"""Machines on one machine: each has a network, processes, host name, shared memory and /tmp of its own.

A machine is a process and the Linux namespaces it holds open, so killing that process with -9 is pulling the plug: all
that ran there is gone at once. Machines are joined by veth pairs to a bridge, which lives in namespaces of its own, so
nothing of the host's network is touched and several networks may exist side by side. Needs root.

    with Network(tmp_path) as network:
        head = network.machine("head")      # 10.77.0.2
        node = network.machine("node-1")    # 10.77.0.3
        head.run("ping", "-c1", node.address)
        node.cut(); node.mend(); node.kill()
        router = network.router("router")               # 10.77.0.4
        hidden = network.behind(router, "hidden")       # 192.168.7.2, which the others know as 10.77.0.4
        router.forward(22)                              # to hidden, who is else reached by nobody
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import psutil

ROOT = Path(__file__).parents[2]
SUBNET = "10.77.0"
PRIVATE = "192.168.7"
"""Behind every router the same, as in people's homes."""

PACKAGES = "/tmp/home/site-packages"
"""Packages that only this machine has; the folder is not there before a test installs one."""

_INIT = """
set -e
hostname "$1"
mount -t tmpfs -o size=1g tmpfs /dev/shm
mount --bind "$2" /tmp
ip link set lo up
echo ready
while :; do sleep 1000 & wait $!; done
"""
"""The first process of a machine. It is bash, because processes that lost their parent must be reaped by somebody."""


class Machine:
    """One machine. ``folder`` is its /tmp, seen from outside; /tmp/home is its home."""

    def __init__(self, name: str, address: str, folder: Path) -> None:
        self.name = name
        self.address = address
        self.folder = folder
        (folder / "home").mkdir(parents=True)
        # Whoever kills the tests kills the machines.
        options = ["--fork", "--kill-child=SIGKILL", "--pid", "--mount-proc", "--mount", "--net", "--uts", "--ipc"]
        self._holder = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", *options, "bash", "-c", _INIT, "init", name, str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None, "stdout is a pipe"
        assert self._holder.stdout.readline() == b"ready\n", f"machine {name} did not start"
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children").read_text()
        self.pid = int(children.split()[0])

    def environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        """What a login shell there has: nothing of ours but where programs and the project lie."""
        kept = {name: os.environ[name] for name in ("LANG", "PATH") if name in os.environ}
        ours = {"HOME": "/tmp/home", "COLUMNS": "120", "PYTHONPATH": f"{ROOT}:{PACKAGES}", "OMP_NUM_THREADS": "1"}
        return {**kept, **ours, "AWS_EC2_METADATA_DISABLED": "true", **extra}

    def start(
        self, *command: str, environment: Mapping[str, str] | None = None, log: str | None = None
    ) -> subprocess.Popen[str]:
        """A running command there; its words go to the file ``log`` of /tmp, or else to pipes."""
        output = (self.folder / log).open("ab") if log else None
        try:
            return subprocess.Popen(
                ["nsenter", "-t", str(self.pid), "-a", "--", "env", "-C", "/tmp", *command],
                env=self.environment(environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=output or subprocess.PIPE,
                stderr=subprocess.STDOUT if output else subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        finally:
            if output:
                output.close()

    def run(
        self, *command: str, environment: Mapping[str, str] | None = None, code: int = 0, timeout_s: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """A command there, to its end; fails with its words if it does not end with ``code``."""
        process = self.start(*command, environment=environment)
        out, err = process.communicate(timeout=timeout_s)
        said = f"{self.name}$ {' '.join(command)}: exit code {process.returncode}\n{out}\n{err}"
        assert process.returncode == code, said
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def cut(self) -> None:
        """Pull the network cable."""
        self.run("ip", "link", "set", "eth0", "down")

    def mend(self) -> None:
        """Put it back."""
        self.run("ip", "link", "set", "eth0", "up")

    def kill(self) -> None:
        """Pull the plug: kill -9 for all that runs there."""
        self._holder.kill()
        self._holder.wait()
        until = time.monotonic() + 10
        while not self._is_dead() and time.monotonic() < until:
            time.sleep(0.02)

    def _is_dead(self) -> bool:
        """Its first process is a zombie once all others are gone; some systems bury zombies seconds later."""
        try:
            return psutil.Process(self.pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    @property
    def runs(self) -> bool:
        """Whether the plug is in."""
        return self._holder.poll() is None


class Router(Machine):
    """A machine with one other behind it, of which the network sees the router alone (NAT)."""

    def translate(self) -> None:
        """What goes out gets the router's address; nothing comes in but answers and what is forwarded."""
        self.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        self.run("iptables", "-t", "nat", "-A", "POSTROUTING", "-o", "eth0", "-j", "MASQUERADE")
        unasked = ("-m", "conntrack", "!", "--ctstate", "ESTABLISHED,RELATED,DNAT")
        self.run("iptables", "-A", "FORWARD", "-i", "eth0", *unasked, "-j", "DROP")

    def forward(self, port: int) -> None:
        """Forward a tcp port to the machine behind, as providers do for SSH."""
        rule = ("-i", "eth0", "-p", "tcp", "--dport", str(port), "-j", "DNAT", "--to-destination", f"{PRIVATE}.2")
        self.run("iptables", "-t", "nat", "-A", "PREROUTING", *rule)


class Network:
    """Machines on one bridge; leaving it pulls every plug."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = folder.name
        self._machines: list[Machine] = []
        self._switch = Machine("switch", *self._next("switch"))
        self._machines.append(self._switch)
        self._switch.run("ip", "link", "add", "bridge0", "type", "bridge")
        self._switch.run("ip", "link", "set", "bridge0", "up")

    def __enter__(self) -> Network:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for machine in reversed(self._machines):
            if machine.runs:
                machine.kill()

    def machine(self, name: str) -> Machine:
        """A new machine, on the network."""
        return self._on_the_bridge(Machine(name, *self._next(name)))

    def router(self, name: str) -> Router:
        """A new router, on the network."""
        router = Router(name, *self._next(name))
        self._on_the_bridge(router)
        router.translate()
        return router

    def behind(self, router: Router, name: str) -> Machine:
        """A new machine behind a router that has none."""
        machine = Machine(name, f"{PRIVATE}.2", self._next(name)[1])
        self._machines.append(machine)
        _cable(router, "lan", machine)
        router.run("ip", "address", "add", f"{PRIVATE}.1/24", "dev", "lan")
        router.run("ip", "link", "set", "lan", "up")
        machine.run("ip", "route", "add", "default", "via", f"{PRIVATE}.1")
        return machine

    def _next(self, name: str) -> tuple[str, Path]:
        number = len(self._machines)
        return f"{SUBNET}.{number + 1}", self.folder / f"{number}-{name}"

    def _on_the_bridge(self, machine: Machine) -> Machine:
        self._machines.append(machine)
        port = f"port{len(self._machines)}"
        _cable(self._switch, port, machine)
        self._switch.run("ip", "link", "set", port, "master", "bridge0", "up")
        return machine


def _cable(device: Machine, port: str, machine: Machine) -> None:
    """From a port of a switch or router to a machine, which has its address there."""
    link = ["ip", "link", "add", port, "netns", str(device.pid), "type", "veth"]
    subprocess.run([*link, "peer", "name", "eth0", "netns", str(machine.pid)], check=True)
    machine.run("ip", "address", "add", f"{machine.address}/24", "dev", "eth0")
    machine.run("ip", "link", "set", "eth0", "up")
