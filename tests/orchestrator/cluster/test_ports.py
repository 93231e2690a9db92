from __future__ import annotations

import socket

import pytest

from agr_core.errors import InputError
from orchestrator.cluster.gcs import parse_address
from orchestrator.cluster.ports import Ports


def test_all_ports_are_different_and_below_those_of_outgoing_connections() -> None:
    ports = Ports(6379)
    numbers = [int(option.rpartition("=")[2]) for option in ports.options(head=True)]
    assert len(set(numbers)) == len(numbers)
    assert max(numbers) < 32768


def test_what_the_head_dials_is_let_through_by_the_printed_rules() -> None:
    ports = Ports(7000)
    (rule,) = ports.rules("10.0.0.2", head=False)
    ranges = [part.split("-") for part in rule.rpartition(": ")[2].split(", ")]
    for port in ports.dialled():
        assert any(int(first) <= port <= int(last) for first, last in ranges)


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        base = listener.getsockname()[1] - 1
        assert listener.getsockname()[1] in Ports(base).taken("127.0.0.1", head=False)


def test_the_workers_port_that_the_head_dials_must_be_free_where_a_machine_joins() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert port in Ports(port - 1000).taken("127.0.0.1", head=False)
        assert port not in Ports(port - 1000).taken("127.0.0.1", head=True)


@pytest.mark.parametrize("address", ["10.0.0.1", ":6379", "10.0.0.1:x", "10.0.0.1:70000", "http://10.0.0.1:6379"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(InputError, match="write HOST:PORT"):
        parse_address(address)
