"""Where and with what a trial ran: enough to say, later, why its bits may differ. No environment, user or secret."""

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
from agr_core.identity import digest, file_digest

_COMPUTING = ("albumentations", "numpy", "opencv-python-headless", "pillow", "timm", "torch", "torchvision")
"""Packages that make pixels, weights and order. The others propose, store and show."""

PACKAGES = tuple(sorted((*_COMPUTING, "agr", "optuna", "pandas", "pyarrow", "ray", "scikit-learn")))
"""Distributions whose versions are recorded."""

_UNKNOWN = "unknown"
_TIMEOUT_S = 10


def collect() -> dict[str, Any]:
    """Versions, code and hardware of this process as plain JSON; looked up once in a process.

    ``python``; ``packages`` {distribution: version}; ``code`` {``digest`` of agr_core's sources, git ``commit``,
    whether the checkout is ``dirty``; both None outside of one}; ``host``; ``platform``; ``cpu`` {``model``, ``cores``,
    ``simd`` instruction sets}; ``memory_bytes``; ``gpus`` [name, ...].
    """
    return copy.deepcopy(_collected())


def drift(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """One line, ``what: before -> now``, for each difference that can change the bits of a trial."""
    before, after = _what_changes_bits(old), _what_changes_bits(new)
    return [
        f"{name}: {_shown(name, before[name], old)} -> {_shown(name, after[name], new)}"
        for name in before
        if before[name] != after[name]
    ]


def _what_changes_bits(provenance: Mapping[str, Any]) -> dict[str, str]:
    packages = provenance.get("packages", {})
    return {
        "python": provenance.get("python", _UNKNOWN),
        **{name: packages.get(name, _UNKNOWN) for name in _COMPUTING},
        "agr_core": provenance.get("code", {}).get("digest", _UNKNOWN),
        "cpu": f"{cpu['model']} {cpu['simd']}".strip() if (cpu := provenance.get("cpu")) else _UNKNOWN,
        "gpu": ", ".join(provenance.get("gpus", [])) or "none",
    }


def _shown(name: str, value: str, provenance: Mapping[str, Any]) -> str:
    if name != "agr_core" or value == _UNKNOWN:
        return value
    code = provenance["code"]
    commit = f"commit {code['commit'][:10]}" if code["commit"] else "no git checkout"
    return f"sources {value[:10]} ({commit}{', uncommitted changes' if code['dirty'] else ''})"


@lru_cache(maxsize=1)
def _collected() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "code": _code(Path(agr_core.__file__).parent),
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


def _code(package: Path) -> dict[str, Any]:
    sources = {path.relative_to(package).as_posix(): file_digest(path) for path in package.rglob("*.py")}
    # Only a checkout that has this file is ours; an installed package may lie in somebody else's.
    tracked = _output("git", "-C", str(package), "ls-files", "__init__.py")
    commit = _output("git", "-C", str(package), "rev-parse", "HEAD") if tracked else None
    dirty = bool(_output("git", "-C", str(package), "status", "--porcelain")) if commit else None
    return {"digest": digest(sources), "commit": commit, "dirty": dirty}


def _cpu_model() -> str:
    known = _cpu_information("model name") or _output("sysctl", "-n", "machdep.cpu.brand_string")
    return known or platform.processor() or platform.machine()


def _simd() -> str:
    """Vector instruction sets, which choose the kernels of torch, NumPy and OpenCV; virtual machines hide the model."""
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
    """What a command prints, or None where it is not installed, fails or hangs."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip()
