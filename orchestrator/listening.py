"""Ports: test whether a port is free, open a listening socket, and test whether a server answers."""

from __future__ import annotations

import socket

from agr_core.errors import InputError

ANSWER_S = 5.0
"""Longest wait for a connection, in seconds."""


def is_free(host: str, port: int) -> bool:
    """Return whether a server could listen on this port of a local address now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: ignore connections that are still closing.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def answers(host: str, port: int, timeout_s: float = ANSWER_S) -> bool:
    """Return whether a server accepts connections at this address within ``timeout_s`` seconds."""
    try:
        socket.create_connection((host, port), timeout=timeout_s).close()
    except OSError:
        return False
    return True


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket on a port of a local address, 0 for any free port.

    Raises:
        InputError: If the port is taken.
    """
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()  # connections made before the server runs are queued
    except OSError as error:
        listener.close()
        raise InputError(
            f"port {port} of {host} cannot be used ({error.strerror}); choose another with --port."
        ) from error
    return listener
