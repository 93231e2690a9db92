"""Where things are, from the environment: the one module that reads it."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agr_core.errors import InputError


@dataclass(frozen=True)
class Settings:
    """Folders and addresses of this process. Credentials are not among them: the libraries read those themselves."""

    home: Path
    """``AGR_HOME``, default ``~/.agr``: everything that is kept on this machine."""

    storage: str
    """``AGR_STORAGE``: ``s3://bucket/prefix`` or a folder; default ``AGR_HOME/storage``."""

    tracking_uri: str
    """``MLFLOW_TRACKING_URI``; default SQLite at ``AGR_HOME/mlflow.db``."""

    ray_address: str | None
    """``RAY_ADDRESS``; None: an embedded Ray of this process."""

    cache_bytes: int | None = None
    """``AGR_CACHE_GB``, in bytes: most that data sets may take in ``cache``; None: 100 GB, or half of the free disk."""

    weights: str | None = None
    """``AGR_WEIGHTS``: folder or ``s3://bucket/prefix`` of weights, for machines without internet (docs/models.md)."""

    @classmethod
    def from_environment(cls) -> Settings:
        """The settings this process was started with. ``AGR_HOME`` is made if need be, for this account alone.

        Raises:
            InputError: If one of them is not what it should be.
        """
        home = home_folder()
        with suppress(OSError):  # where something is kept in it, that fails too, and says what for
            home.mkdir(mode=0o700, parents=True, exist_ok=True)  # it holds faces, results and the stack's keys
        return cls(
            home=home,
            storage=os.environ.get("AGR_STORAGE") or str(home / "storage"),
            tracking_uri=os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / 'mlflow.db'}",
            ray_address=os.environ.get("RAY_ADDRESS") or None,
            cache_bytes=_gigabytes("AGR_CACHE_GB"),
            weights=os.environ.get("AGR_WEIGHTS") or None,
        )

    @property
    def cache(self) -> Path:
        """Data sets and decoded images shared by all trials of this node."""
        return self.home / "cache"

    @property
    def mlflow_artifacts(self) -> Path:
        """Artifacts of the embedded MLflow."""
        return self.home / "mlartifacts"


def home_folder() -> Path:
    """``AGR_HOME``, default ``~/.agr``; whether it is there or not."""
    return Path(os.environ.get("AGR_HOME") or Path.home() / ".agr").expanduser().absolute()


def _gigabytes(name: str) -> int | None:
    text = os.environ.get(name)
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise InputError(f"{name}={text!r} must be a number of gigabytes above 0, such as {name}=50.")
    return int(value * 1e9)
