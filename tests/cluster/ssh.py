"""Machines that are reached by SSH, as a provider hands them over: root lives in /tmp/home and is let in with a key."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from tests.cluster.machines import Machine


def make_key(machine: Machine) -> str:
    """A key pair at /tmp/home/key; the public half."""
    key = machine.folder / "home" / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    return key.with_suffix(".pub").read_text()


def with_ssh(machine: Machine, key: str) -> Machine:
    """Start an SSH server that takes the key."""
    home = machine.folder / "home"
    accounts = [line.split(":") for line in Path("/etc/passwd").read_text().splitlines()]
    mine = [[*account[:5], "/tmp/home", "/bin/bash"] if account[0] == "root" else account for account in accounts]
    (home / "passwd").write_text("".join(":".join(account) + "\n" for account in mine))
    machine.run("mount", "--bind", "/tmp/home/passwd", "/etc/passwd")
    (home / ".ssh").mkdir(mode=0o700, exist_ok=True)
    (home / ".ssh" / "authorized_keys").write_text(key)
    machine.run("dropbearkey", "-t", "ed25519", "-f", "/tmp/home/host_key")
    machine.start("dropbear", "-F", "-E", "-s", "-p", "22", "-r", "/tmp/home/host_key", log="dropbear.log")
    machine.run("bash", "-c", "until : < /dev/tcp/127.0.0.1/22; do sleep 0.05; done", timeout_s=30)
    return machine


def with_packages(machine: Machine, asked: bytes) -> Machine:
    """What `install.sh` leaves behind, which takes it minutes: the venv, and the digest of what ``asked`` for it."""
    venv = machine.folder / "home" / ".agr-venv"
    venv.mkdir()
    for part in ("bin", "lib", "pyvenv.cfg"):
        (venv / part).symlink_to(Path(sys.prefix) / part)
    (venv / ".installed").write_text(f"{hashlib.sha256(asked).hexdigest()}  -\n")
    return machine
