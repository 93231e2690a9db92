from __future__ import annotations

import stat
from pathlib import Path

import pytest

from orchestrator.errors import ServiceError
from orchestrator.services.record import (
    ProcessRecord,
    StackFolder,
    StackRecord,
    choose_ports,
    write_private,
)


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    folder = StackFolder(tmp_path)
    record = StackRecord(
        ports={"s3": 20001}, processes={"s3": ProcessRecord(pid=12, created=1795302474.55, command=("weed", "server"))}
    )
    folder.write(record)
    assert folder.read() == record


def test_the_record_of_a_stack_that_was_never_up_is_empty(tmp_path: Path) -> None:
    assert StackFolder(tmp_path / "nothing").read() == StackRecord()


@pytest.mark.parametrize("text", ["", "{", '{"ports": {"s3": "x"}}', '{"format": 1, "unknown": 1}'])
def test_a_damaged_record_is_named_with_the_way_out(tmp_path: Path, text: str) -> None:
    folder = StackFolder(tmp_path)
    folder.record.write_text(text)
    with pytest.raises(ServiceError, match=r"stack\.json is damaged .* Delete it"):
        folder.read()


def test_a_record_of_another_format_is_refused(tmp_path: Path) -> None:
    folder = StackFolder(tmp_path)
    folder.record.write_text('{"format": 2}')
    with pytest.raises(ServiceError, match="format 2, this agr writes 1"):
        folder.read()


def test_a_private_file_can_be_read_by_its_owner_only_also_when_it_replaces_an_open_one(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, "new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["secret"]


def test_chosen_ports_differ_and_lie_below_those_of_outgoing_connections() -> None:
    names = [f"service{number}" for number in range(200)]
    ports = choose_ports(names, taken=range(20000, 31000))
    assert list(ports) == names
    assert len(set(ports.values())) == 200
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(31000 <= port < min(32000, lowest) for port in ports.values())


def test_no_free_port_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="no free port from 20000 to 31999"):
        choose_ports(["s3"], taken=range(20000, 32000))
