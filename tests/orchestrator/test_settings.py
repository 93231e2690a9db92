"""Folders and addresses from the environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from agr_core.errors import InputError
from orchestrator.settings import Settings, bypassing_proxies, sqlite_path
from orchestrator.tracking import open_tracker


def test_a_new_home_is_for_its_owner_alone_and_an_existing_one_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = os.umask(0o022)
    try:
        monkeypatch.setenv("AGR_HOME", str(tmp_path / "new" / "home"))
        assert Settings.from_environment().home.stat().st_mode & 0o777 == 0o700
        shared = tmp_path / "shared"
        shared.mkdir(mode=0o750)
        monkeypatch.setenv("AGR_HOME", str(shared))
        assert Settings.from_environment().home.stat().st_mode & 0o777 == 0o750
    finally:
        os.umask(before)


def test_a_home_that_cannot_be_made_is_no_error_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AGR_HOME", str(tmp_path / "file" / "home"))
    assert Settings.from_environment().home == tmp_path / "file" / "home"


@pytest.mark.parametrize("folder", ["plain", "feature%2Fx", "a?b", "a#b", "a b", "a%3Fb", "ü", "a&b=c"])
def test_the_embedded_database_lies_in_the_home_folder_whatever_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    monkeypatch.setenv("AGR_HOME", str(tmp_path / folder))

    uri = Settings.from_environment().tracking_uri

    assert make_url(uri).database == str(tmp_path / folder / "mlflow.db")
    assert sqlite_path(uri) == tmp_path / folder / "mlflow.db"
    open_tracker(uri).check()
    assert (tmp_path / folder / "mlflow.db").exists()
    assert [path.name for path in tmp_path.iterdir()] == [folder]


def test_an_account_without_a_home_folder_is_asked_to_set_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AGR_HOME")
    monkeypatch.delenv("HOME")
    become_unknown = "os.setuid(54321)" if os.geteuid() == 0 else "pwd.getpwuid = {}.__getitem__"
    script = f"import os, pwd; from orchestrator.settings import home_folder; {become_unknown}; home_folder()"

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert "InputError: this account has no home folder: set AGR_HOME" in done.stderr


@pytest.mark.parametrize("name", ["AGR_HOME", "AGR_STORAGE", "MLFLOW_TRACKING_URI"])
@pytest.mark.parametrize(
    ("value", "named"),
    [("$HOME/agr", r"holds \$HOME"), ("${DATA}/agr", r"holds \$\{DATA\}"), ("/tmp/caf\udce9", "not UTF-8")],
)
def test_a_value_that_no_part_of_a_sweep_could_use_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, named: str
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(InputError, match=rf"{name}=.*{named}"):
        Settings.from_environment()


def test_a_dollar_sign_alone_is_part_of_a_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AGR_HOME", str(tmp_path / "5$"))

    assert Settings.from_environment().home == tmp_path / "5$"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, "localhost,127.0.0.1,::1"),
        ({"NO_PROXY": "a.example, localhost"}, "a.example,localhost,127.0.0.1,::1"),
        ({"no_proxy": "b.example", "NO_PROXY": "a.example"}, "b.example,a.example,localhost,127.0.0.1,::1"),
    ],
)
def test_loopback_is_added_to_what_needs_no_proxy(before: dict[str, str], after: str) -> None:
    assert bypassing_proxies(before) == {"no_proxy": after, "NO_PROXY": after}


def test_the_command_asks_loopback_past_a_proxy_and_its_children_import_nothing_from_where_the_user_stands(
    tmp_path: Path,
) -> None:
    (tmp_path / "random.py").write_text("raise ImportError('a script of mine')")
    child = "import random, os, requests; print(requests.utils.get_environ_proxies('http://127.0.0.1:1'))"
    script = (
        "import subprocess, sys\nfrom orchestrator.settings import prepare_process\nprepare_process()\n"
        f"sys.exit(subprocess.run([sys.executable, '-c', {child!r}]).returncode)"
    )

    done = subprocess.run(
        [sys.executable, "-P", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "http_proxy": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (0, "{}\n"), done.stderr


def test_under_uv_run_ray_does_not_upload_the_folder_where_the_user_stands() -> None:
    """Ray's hook is on by default: it makes the working folder a part of every job that ``uv run`` starts."""
    flag = "from ray._private.ray_constants import RAY_ENABLE_UV_RUN_RUNTIME_ENV as on\nprint(on)"
    script = f"from orchestrator.settings import prepare_process\nprepare_process()\n{flag}"
    said = [
        subprocess.run([sys.executable, "-c", each], capture_output=True, text=True, check=True).stdout.strip()
        for each in (flag, script)
    ]
    assert said == ["True", "False"]
