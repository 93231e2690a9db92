"""Addresses of clusters that cannot be: told at once, with what was given, and not after minutes of Ray's own words."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result

from orchestrator.cluster.jobs import Head
from orchestrator.errors import ClusterError
from tests.parts.http_server import Answer, reply

SWEEP = Path(__file__).parents[3] / "sweeps" / "quickstart.yaml"


@pytest.fixture
def deaf() -> Iterator[int]:
    """The port of a server that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def nobody() -> int:
    """A port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def test_a_cluster_that_does_not_answer_is_named_with_its_option_or_variable(
    agr: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, nobody: int
) -> None:
    address = f"127.0.0.1:{nobody}"
    said = agr("submit", str(SWEEP), "--address", address, code=2).stderr
    assert f"error: --address {address}: no answer within" in said
    assert "RAY_ADDRESS" not in said

    monkeypatch.setenv("RAY_ADDRESS", address)
    assert f"error: RAY_ADDRESS {address}: no answer within" in agr("submit", str(SWEEP), code=2).stderr


@pytest.mark.timeout(60)
def test_a_head_that_does_not_answer_is_reported_and_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, nobody: int, deaf: int
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    for port in (nobody, deaf):
        with pytest.raises(ClusterError, match=f"no head answers at http://127.0.0.1:{port}"):
            Head(f"http://127.0.0.1:{port}")


@pytest.mark.parametrize(("status", "body"), [(404, "{}"), (200, '{"version": "1"}')])
def test_another_server_is_not_taken_for_an_old_head(
    monkeypatch: pytest.MonkeyPatch, serve: Callable[[Answer], str], status: int, body: str
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    address = f"http://{serve(lambda request: reply(request, status, body))}"
    with pytest.raises(ClusterError, match=rf"the server at {address} \(HTTP {status}\) is not the dashboard"):
        Head(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_head_on_the_loopback_address_is_refused_at_once(agr: Callable[..., Result], host: str) -> None:
    said = agr("cluster", "head", "--host", host, code=2).stderr
    assert f"error: --host {host}: no other machine reaches this one by it" in said
