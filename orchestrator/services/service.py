"""Interface of a service of the stack."""

from __future__ import annotations

import signal
from typing import Protocol

from orchestrator.services.process import Command


class NotReadyError(Exception):
    """A service does not answer yet; the text has its answer or error."""


class Service(Protocol):
    """One server of the stack: its start, its readiness check, its end. The stack manages its process."""

    name: str
    needs: tuple[str, ...]
    """Services that must answer before this one starts; they stand before it in the stack's order."""

    ports: tuple[str, ...]
    """Names of the TCP ports it listens on."""

    stop_signal: signal.Signals
    """Signal on which its first process ends in good order."""

    grace_s: float
    """Longest time to end before it is killed, in seconds."""

    timeout_s: float
    """Longest time to answer after the start, in seconds."""

    @property
    def address(self) -> str:
        """Address for clients."""
        ...

    def command(self) -> Command:
        """Return the start command, after creating what the first start needs.

        Raises:
            ServiceError: If it cannot run here: a package is missing, or its data are of another version.
        """
        ...

    def check(self) -> None:
        """Check that it works by a real request.

        Raises:
            NotReadyError: If its answer is missing or wrong.
        """
        ...

    def complete(self) -> None:
        """Create what clients expect once it answers; existing things stay unchanged.

        Raises:
            NotReadyError: If it is not ready for that yet.
        """
        ...

    def clean(self) -> None:
        """Remove its leftovers outside the stack's folder, once it has ended."""
        ...
