from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from agr_core.errors import InputError
from orchestrator.cluster.gcs import Gcs
from orchestrator.cluster.token import find_token, reveal


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_a_head_without_a_token_gets_one_that_only_its_owner_reads(home: Path) -> None:
    token = find_token(create=True)
    path = home / ".ray" / "auth_token"
    assert token.created
    assert token.where == str(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(path.read_text()) == 64
    assert path.read_text() not in repr(token)


def test_a_token_is_kept(home: Path) -> None:
    find_token(create=True)
    first = reveal()
    assert not find_token(create=True).created
    assert reveal() == first


def test_a_token_that_others_can_read_is_closed_to_them(home: Path) -> None:
    path = home / ".ray" / "auth_token"
    path.parent.mkdir()
    path.write_text("secret\n")
    path.chmod(0o644)
    find_token()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert reveal() == "secret"


def test_joining_without_a_token_is_refused_with_how_to_get_it() -> None:
    with pytest.raises(InputError, match="ssh HEAD agr cluster token >"):
        find_token()


def test_without_a_token_the_head_is_not_asked() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(InputError, match="no cluster token"):
        Gcs(f"127.0.0.1:{server.getsockname()[1]}")


def test_an_empty_token_is_refused(home: Path) -> None:
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text("\n")
    with pytest.raises(InputError, match="is empty"):
        find_token()


def test_rays_variables_come_first(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = home / "other"
    other.write_text("from a path")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(other))
    assert reveal() == "from a path"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "from the environment")
    assert find_token().where == "RAY_AUTH_TOKEN"
    assert reveal() == "from the environment"
