"""Ports that are taken, and ports that are free."""

from __future__ import annotations

import socket

from orchestrator.listening import is_free


def test_a_port_with_a_listener_is_not_free_and_is_free_again_afterwards() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not is_free("127.0.0.1", port)
    assert is_free("127.0.0.1", port)
