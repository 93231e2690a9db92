"""Check the driver's machine before a sweep exists: writable folders, and room for socket names."""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

from agr_core.errors import InputError
from orchestrator.settings import Settings

_SOCKET_BYTES = 107
"""Longest name of a Unix socket on Linux (``sun_path`` without its final zero)."""

_GCS = re.compile(r"--?gcs[-_]address=(.+)")

_LONGEST_SOCKET = "/session_2026-01-02_03-04-05_678901_4194304/sockets/plasma_store.10"
"""Path that Ray appends to its temporary folder, with the largest process ID."""


OF_ANOTHER = (
    "RAY_ADDRESS is {address!r}, and the Ray that answers ({joined}) belongs to another program on this machine and "
    "ends with it. Unset RAY_ADDRESS to use this machine, or give the address of a cluster (`agr cluster head`)."
)


def check_machine(settings: Settings) -> None:
    """Check the folders that a driver and its trials write to, and that the Ray it would join ends with no driver.

    Raises:
        InputError: If one of them cannot be used; the text names the setting.
    """
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise InputError(
            "the working folder of this shell no longer exists: change to one that does (`cd`)."
        ) from error
    for folder, setting in (
        (settings.home, "AGR_HOME"),
        (settings.cache, "AGR_HOME"),
        (settings.home / "logs", "AGR_HOME"),
        (Path(tempfile.gettempdir()), "TMPDIR"),
    ):
        if reason := _unwritable(folder):
            raise InputError(f"the folder {folder} cannot be written to: {reason}. Set {setting} to one that can.")
    if settings.ray_address == "auto" and (strangers := only_rays_of_drivers()):
        raise InputError(OF_ANOTHER.format(address="auto", joined=", ".join(strangers)))


def ray_folder() -> Path:
    """Return the folder for an embedded Ray's sessions, private to this account, since Ray opens its own to all.

    Raises:
        InputError: If no folder of this machine can be written to and leaves room for the names of Ray's sockets.
    """
    reasons = []
    for top in _tops():
        folder = top / f"agr-ray-{os.geteuid()}" / "ray"
        reason = _unusable(folder)
        if not reason:
            return folder
        reasons.append(f"{top} ({reason})")
    room = _SOCKET_BYTES - len(_LONGEST_SOCKET) - len(f"/agr-ray-{os.geteuid()}/ray")
    raise InputError(
        f"Ray has no folder for its sockets: {', '.join(reasons)}. Set RAY_TMPDIR to a folder that can be written to, "
        f"with a name of at most {room} bytes."
    )


def is_of_a_driver(gcs_address: str) -> bool:
    """Return whether a Ray on this machine is embedded in a program, and ends with it, not started by ``ray start``."""
    return _rays().get(gcs_address, False)


def only_rays_of_drivers() -> list[str]:
    """Return the GCS addresses of all Rays on this machine; empty if one of them was started by ``ray start``."""
    rays = _rays()
    return sorted(rays) if all(rays.values()) else []


def _rays() -> dict[str, bool]:
    """Return the Rays with a process on this machine: GCS address, and whether each is embedded in a program."""
    found: dict[str, bool] = {}
    for process in psutil.process_iter(["name", "cmdline"]):
        if process.info["name"] != "raylet":
            continue
        address = next((match[1] for part in process.info["cmdline"] or () if (match := _GCS.fullmatch(part))), None)
        if address is None:
            continue
        try:
            parent = process.parent()
            # By its executable: a console script, such as `agr`, has a name of its own.
            embedded = parent is not None and _is_python(parent) and "start" not in parent.cmdline()
        except psutil.Error:  # gone meanwhile
            embedded = False
        found[address] = found.get(address, True) and embedded
    return found


def _is_python(process: psutil.Process) -> bool:
    try:
        return Path(process.exe()).name.startswith("python")
    except psutil.AccessDenied:  # of another account
        return str(process.name()).startswith("python")


def _tops() -> list[Path]:
    """Return folders for temporary files, the configured one first."""
    named = [os.environ.get(name) for name in ("RAY_TMPDIR", "TMPDIR", "XDG_RUNTIME_DIR")]
    usual = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - what is made in them is of this account alone
    return [Path(top) for top in dict.fromkeys((*named, *usual)) if top]


def _unusable(folder: Path) -> str:
    """Return why Ray cannot use a private folder inside a folder; empty if it can."""
    if len(os.fsencode(folder)) + len(_LONGEST_SOCKET) > _SOCKET_BYTES:
        return f"a socket's name would be above {_SOCKET_BYTES} bytes"
    if reason := _unwritable(folder):
        return reason
    status = folder.parent.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        return f"{folder.parent} is not a folder of this account alone"
    return ""


def _unwritable(folder: Path) -> str:
    """Return why no file can be created in a folder, which is created if missing; empty if one can."""
    try:
        for missing in _missing(folder):
            missing.mkdir(mode=0o700, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return error.strerror or str(error)


def _missing(folder: Path) -> Iterator[Path]:
    """Return the folders to create, the topmost first."""
    yield from (path for path in reversed((folder, *folder.parents)) if not path.exists())
