"""What the stack asks of a service."""

from __future__ import annotations

import signal
from typing import Protocol

from orchestrator.services.process import Command


class NotReadyError(Exception):
    """A service does not answer yet; the text says what came instead."""


class Service(Protocol):
    """One server of the stack: how it is started, when it answers, how it ends. Its process is the stack's business."""

    name: str
    needs: tuple[str, ...]
    """Services that must answer before this one starts; they stand before it in the stack's order."""

    ports: tuple[str, ...]
    """Names of the TCP ports it listens on."""

    stop_signal: signal.Signals
    """On which its first process ends in good order."""

    grace_s: float
    """Seconds it may take to end before it is killed."""

    timeout_s: float
    """Seconds it may take to answer after the start."""

    @property
    def address(self) -> str:
        """Where clients find it."""
        ...

    def command(self) -> Command:
        """How to start it, after making what must be there before its first start.

        Raises:
            ServiceError: If it cannot run here: a package is missing, its data are of another version.
        """
        ...

    def check(self) -> None:
        """Ask it something real.

        Raises:
            NotReadyError: If it does not answer as it should.
        """
        ...

    def complete(self) -> None:
        """Make what clients expect to find, once it answers; nothing changes if it is there.

        Raises:
            NotReadyError: If it is not ready for that yet.
        """
        ...

    def clean(self) -> None:
        """Remove what it leaves behind outside the stack's folder, once it has ended."""
        ...
