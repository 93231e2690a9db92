"""Delivery of results to MLflow, the user interface for browsing them.

MLflow is derived from the journal, which stays the record.
"""

from __future__ import annotations

from pathlib import Path

from orchestrator.errors import TrackerError
from orchestrator.tracking.address import without_credentials
from orchestrator.tracking.base import Tracker
from orchestrator.tracking.mlflow_tracker import MlflowTracker

__all__ = ["open_tracker"]

_SCHEMES = ("http://", "https://", "sqlite:///", "postgresql+psycopg2://", "postgresql://")


def open_tracker(uri: str, artifacts: Path | None = None) -> Tracker:
    """Return the tracker at ``uri``: an MLflow server, or an MLflow database without one. Nothing is contacted yet.

    Args:
        uri: ``http(s)://...``, ``sqlite:///FILE`` or ``postgresql://...``. Credentials in it are used, never shown.
        artifacts: Folder for the artifacts of new experiments, if no server decides that.

    Raises:
        TrackerError: If MLflow does not accept such an address.
    """
    if not uri.startswith(_SCHEMES):
        raise TrackerError(
            f"the MLflow address {without_credentials(uri)!r} is not one of {', '.join(_SCHEMES)}...; "
            "set MLFLOW_TRACKING_URI to such an address, or unset it to use SQLite below AGR_HOME."
        )
    return MlflowTracker(uri, artifacts)
