"""Provenance of a trial: software and hardware that explain differences in its bits. No environment, user or secret."""

from __future__ import annotations

import copy
import os
import platform
import shutil
import socket
import subprocess
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

import agr_core
from agr_core.code_digest import FORM, code_digest
from agr_core.plugins import packages
from orchestrator.settings import Settings

_COMPUTING = ("albumentations", "numpy", "opencv-python-headless", "pillow", "timm", "torch", "torchvision")
"""Packages that make pixels, weights and order. The others propose, store and show."""

DISTRIBUTION = "agr-sweeps"
"""The name under which this project is installed; its version is that of the `agr` command."""

PACKAGES = tuple(sorted((*_COMPUTING, DISTRIBUTION, "optuna", "pandas", "pyarrow", "ray", "scikit-learn")))
"""Distributions whose versions are recorded."""

_UNKNOWN = "unknown"
_TIMEOUT_S = 10


def collect() -> dict[str, Any]:
    """Return versions, code and hardware of this process as plain JSON; collected once per process.

    ``python``; ``packages`` and ``plugins`` {distribution: version}; ``code`` {``digest`` of what agr_core does, its
    ``form``, git ``commit``, whether the checkout is ``dirty``; both None outside of one}; ``host``; ``platform``;
    ``cpu`` {``model``, ``cores``, ``simd`` instruction sets}; ``memory_bytes``; ``gpus`` [name, ...].
    """
    return copy.deepcopy(_collected())


def hardware() -> str:
    """Return what decides the speed of this machine: ``4 x NVIDIA H200``, or ``8 x`` its CPU without a GPU."""
    found = _collected()
    if found["gpus"]:
        return f"{len(found['gpus'])} x {found['gpus'][0]}"
    return f"{found['cpu']['cores']} x {found['cpu']['model']}"


def drift(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return one line, ``what: before -> now``, for each difference that can change the bits of a trial.

    Digests of the code that were computed in two forms cannot be compared: the line then names both commits. There is
    none when both sides are one clean commit.
    """
    before, after = _what_changes_bits(old), _what_changes_bits(new)
    lines = [f"{name}: {before[name]} -> {after[name]}" for name in before if before[name] != after[name]]
    was, now = old.get("plugins", {}), new.get("plugins", {})
    for name in sorted({**was, **now}):
        if was.get(name) != now.get(name):
            lines.append(f"plug-in {name}: {was.get(name, 'not installed')} -> {now.get(name, 'not installed')}")
    return lines + _code_drift(old.get("code", {}), new.get("code", {}))


def _what_changes_bits(provenance: Mapping[str, Any]) -> dict[str, str]:
    packages = provenance.get("packages", {})
    return {
        "python": provenance.get("python", _UNKNOWN),
        **{name: packages.get(name, _UNKNOWN) for name in _COMPUTING},
        "cpu": f"{cpu['model']} {cpu['simd']}".strip() if (cpu := provenance.get("cpu")) else _UNKNOWN,
        "gpu": ", ".join(provenance.get("gpus", [])) or "none",
    }


def _code_drift(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    before, after = old.get("digest", _UNKNOWN), new.get("digest", _UNKNOWN)
    if before == after:
        return []
    forms = [code.get("form", 1) for code in (old, new)]
    if _UNKNOWN in (before, after) or forms[0] == forms[1]:
        return [f"agr_core: {_shown(old)} -> {_shown(new)}"]
    if old["commit"] is not None and old["commit"] == new["commit"] and not (old["dirty"] or new["dirty"]):
        return []
    return [
        f"agr_core: cannot be compared, its digest was recorded in form {forms[0]} and now has form {forms[1]}; "
        f"compare the sources yourself: {_checkout(old)} -> {_checkout(new)}"
    ]


def _shown(code: Mapping[str, Any]) -> str:
    return f"sources {code['digest'][:10]} ({_checkout(code)})" if "digest" in code else _UNKNOWN


def _checkout(code: Mapping[str, Any]) -> str:
    commit = f"commit {code['commit'][:10]}" if code["commit"] else "no git checkout"
    return f"{commit}{', uncommitted changes' if code['dirty'] else ''}"


@lru_cache(maxsize=1)
def _collected() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "plugins": packages(),
        "code": _code(Path(agr_core.__file__).parent, Settings.from_environment().cache),
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "cpu": {"model": _cpu_model(), "cores": os.cpu_count(), "simd": _simd()},
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": _gpus(),
    }


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"


def _code(package: Path, cache: Path) -> dict[str, Any]:
    # Only a checkout that has this file is ours; an installed package may lie inside another checkout.
    tracked = _output("git", "-C", str(package), "ls-files", "__init__.py")
    commit = _output("git", "-C", str(package), "rev-parse", "HEAD") if tracked else None
    dirty = bool(_output("git", "-C", str(package), "status", "--porcelain")) if commit else None
    return {"digest": code_digest(package, cache=cache), "form": FORM, "commit": commit, "dirty": dirty}


def _cpu_model() -> str:
    model = _cpu_information("model name") or _output("sysctl", "-n", "machdep.cpu.brand_string")
    return model or platform.processor() or platform.machine()


def _simd() -> str:
    """Return the vector instruction sets, which select kernels of torch, NumPy and OpenCV; VMs may hide the model."""
    flags = (_cpu_information("flags") or _cpu_information("Features")).split()
    return " ".join(sorted(flag for flag in flags if flag.startswith(("amx", "asimd", "avx", "fma", "sve"))))


def _cpu_information(name: str) -> str:
    information = Path("/proc/cpuinfo")  # Linux only
    lines = information.read_text(encoding="utf-8").splitlines() if information.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name), "")


def _gpus() -> list[str]:
    names = _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
    return [] if names is None else names.splitlines()


def _output(*command: str) -> str | None:
    """Return a command's output, or None if it is not installed, fails or hangs."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip()
