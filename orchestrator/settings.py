"""Settings of this process from the environment: the only module that reads it."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from agr_core.errors import InputError


@dataclass(frozen=True)
class Settings:
    """Folders and addresses of this process. The libraries read credentials themselves."""

    home: Path
    """``AGR_HOME``, default ``~/.agr``: all local files of agr."""

    storage: str
    """``AGR_STORAGE``: ``s3://bucket/prefix`` or a folder; default ``AGR_HOME/storage``."""

    tracking_uri: str
    """``MLFLOW_TRACKING_URI``; default SQLite at ``AGR_HOME/mlflow.db``."""

    ray_address: str | None
    """``RAY_ADDRESS``; None: an embedded Ray of this process."""

    cache_bytes: int | None = None
    """``AGR_CACHE_GB``, in bytes: maximum size of ``cache``; None: 100 GB, or half of the free disk."""

    weights: str | None = None
    """``AGR_WEIGHTS``: folder or ``s3://bucket/prefix`` of weights, for machines without internet (docs/models.md)."""

    usd_per_hour: float | None = None
    """``AGR_USD_PER_HOUR``: price of this machine, for sweeps on it alone; cluster nodes have price labels."""

    notify: str | None = None
    """``AGR_NOTIFY``: Apprise addresses for notifications of sweep ends. They hold secrets."""

    @classmethod
    def from_environment(cls) -> Settings:
        """Return the settings of this process. ``AGR_HOME`` is created if missing, for this account alone.

        Raises:
            InputError: If a variable has an invalid value.
        """
        home = home_folder()
        with suppress(OSError):  # a later write to it fails too, with a more specific error
            home.mkdir(mode=0o700, parents=True, exist_ok=True)  # it holds faces, results and the stack's keys
        return cls(
            home=home,
            storage=_text("AGR_STORAGE") or str(home_storage(home)),
            tracking_uri=_text("MLFLOW_TRACKING_URI") or sqlite_uri(home / "mlflow.db"),
            ray_address=os.environ.get("RAY_ADDRESS") or None,
            cache_bytes=_gigabytes("AGR_CACHE_GB"),
            weights=_text("AGR_WEIGHTS"),
            usd_per_hour=_dollars("AGR_USD_PER_HOUR"),
            notify=_text("AGR_NOTIFY"),
        )

    @property
    def cache(self) -> Path:
        """Data sets and decoded images shared by all trials of this node."""
        return self.home / "cache"

    @property
    def mlflow_artifacts(self) -> Path:
        """Artifacts of the embedded MLflow."""
        return self.home / "mlartifacts"


def home_storage(home: Path) -> Path:
    """Return the storage folder of ``AGR_HOME``, the default of ``AGR_STORAGE``."""
    return home / "storage"


def home_folder() -> Path:
    """Return ``AGR_HOME``, default ``~/.agr``; it need not exist.

    Raises:
        InputError: If there is no home folder, or its name has characters that a part of the system cannot handle.
    """
    try:
        return Path(_text("AGR_HOME") or Path.home() / ".agr").expanduser().absolute()
    except RuntimeError as error:  # no HOME, and no entry in passwd, as in many containers
        raise InputError(
            "this account has no home folder: set AGR_HOME to a folder for what agr keeps on this machine."
        ) from error
    except FileNotFoundError as error:
        raise InputError(
            "the working folder of this shell no longer exists: change to one that does (`cd`)."
        ) from error


def sqlite_uri(path: Path) -> str:
    """Return the SQLAlchemy address of an SQLite file; ``%``, ``?`` and ``#`` are escaped."""
    return f"sqlite:///{quote(str(path), safe='/ +')}"


def sqlite_path(uri: str) -> Path | None:
    """Return the file of an SQLite address; None for another address."""
    scheme, separator, path = uri.partition("sqlite:///")
    return Path(unquote(path.partition("?")[0])) if separator and not scheme else None


def _text(name: str) -> str | None:
    """Return a variable's value; None if unset or empty.

    Raises:
        InputError: If it is not UTF-8, or names another variable, which the shell should have replaced.
    """
    text = os.environ.get(name)
    if not text:
        return None
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"{name}={text.encode('utf-8', 'backslashreplace').decode()} holds bytes that are not UTF-8, which "
            "databases and stores do not take: give another name."
        ) from error
    if unexpanded := _VARIABLE.search(text):
        raise InputError(
            f"{name}={text!r} holds {unexpanded[0]}, which no shell has replaced: write the value itself, or the line "
            "without single quotes."
        )
    return text


_VARIABLE = re.compile(r"\$(?:\{[A-Za-z_]\w*\}|[A-Za-z_]\w*)")


def _gigabytes(name: str) -> int | None:
    value = _number(name, "a number of gigabytes above 0", least=math.nextafter(0, 1), example="50")
    return None if value is None else int(value * 1e9)


def _dollars(name: str) -> float | None:
    return _number(name, "dollars an hour", least=0.0, example="0.40")


def _number(name: str, what: str, *, least: float, example: str) -> float | None:
    """Return the finite number, ``least`` or more, of a variable; None if it is not set."""
    text = os.environ.get(name)
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value < math.inf:
        raise InputError(f"{name}={text!r} must be {what}, such as {name}={example}.")
    return value


_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def prepare_process() -> None:
    """Set process-wide options that must not depend on the user's environment; called by ``main``.

    - Code is not imported from the current folder: an ``mlflow.py`` there belongs to the user.
    - Requests to loopback addresses never use a proxy.
    - Ray, under ``uv run``, does not upload the working folder to its workers.
    """
    os.environ["PYTHONSAFEPATH"] = "1"
    os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
    os.environ.update(bypassing_proxies(os.environ))


def bypassing_proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """Return ``NO_PROXY``, in both spellings that libraries read, with the loopback addresses added."""
    named = [part.strip() for name in ("no_proxy", "NO_PROXY") for part in environment.get(name, "").split(",")]
    value = ",".join(dict.fromkeys(part for part in (*named, *_LOOPBACK) if part))
    return {"no_proxy": value, "NO_PROXY": value}
