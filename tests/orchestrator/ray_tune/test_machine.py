"""What of a machine a sweep needs: folders that can be written to, and room for the names of Ray's sockets."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agr_core.errors import InputError
from orchestrator.ray_tune import machine
from orchestrator.ray_tune.machine import check_machine, is_of_a_driver, ray_folder
from orchestrator.settings import Settings

SESSION = "session_2026-11-29_21-30-03_594418_4194304/sockets/plasma_store.10"


def deep(folder: Path, length: int) -> Path:
    """A folder below ``folder`` with a name of ``length`` bytes."""
    made = folder / ("d" * (length - len(str(folder)) - 1))
    made.mkdir(parents=True)
    return made


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a short name, unlike pytest's."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="t") as folder:
        yield Path(folder)


def test_ray_gets_a_folder_of_this_account_alone_in_the_one_for_temporary_files(
    monkeypatch: pytest.MonkeyPatch, short: Path
) -> None:
    monkeypatch.setenv("TMPDIR", str(short))

    folder = ray_folder()

    assert folder.is_relative_to(short)
    assert folder.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
def test_a_long_name_sends_ray_to_another_folder_in_which_a_socket_can_be_made(
    monkeypatch: pytest.MonkeyPatch, short: Path, variable: str
) -> None:
    monkeypatch.setenv(variable, str(deep(short, 120)))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short))

    folder = ray_folder()

    path = folder / SESSION
    path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    path.unlink()
    for made in (path.parent, path.parent.parent):
        made.rmdir()


def test_the_longest_name_that_is_taken_still_fits(monkeypatch: pytest.MonkeyPatch, short: Path) -> None:
    def is_taken(length: int) -> bool:
        monkeypatch.setenv("TMPDIR", str(deep(short, length)))
        return ray_folder().is_relative_to(short)

    longest = max(length for length in range(18, 60) if is_taken(length))

    assert longest + len(f"/agr-ray-{os.geteuid()}/ray/{SESSION}") == 107


def test_a_folder_that_is_open_to_others_is_passed_over(monkeypatch: pytest.MonkeyPatch, short: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(short))
    (short / f"agr-ray-{os.geteuid()}").mkdir()
    (short / f"agr-ray-{os.geteuid()}").chmod(0o755)

    assert not ray_folder().is_relative_to(short)


def test_without_any_room_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch, short: Path) -> None:
    monkeypatch.setattr(machine, "_tops", lambda: [deep(short, 120), Path("/proc/none")])

    with pytest.raises(InputError, match=r"above 107 bytes.*/proc/none.*Set RAY_TMPDIR to a folder.*at most \d+ bytes"):
        ray_folder()


def settings(home: Path) -> Settings:
    return Settings(home=home, storage=str(home / "storage"), tracking_uri="sqlite:///x", ray_address=None)


def test_folders_are_made_for_this_account_alone(tmp_path: Path) -> None:
    check_machine(settings(tmp_path / "home"))

    assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in (tmp_path / "home").iterdir()) == ["cache", "logs"]


def test_a_home_that_cannot_be_written_to_is_named() -> None:
    with pytest.raises(InputError, match=r"folder /proc/agr cannot be written to: .*Set AGR_HOME"):
        check_machine(settings(Path("/proc/agr")))


def test_a_temporary_folder_that_cannot_be_written_to_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/proc/none")

    with pytest.raises(InputError, match=r"/proc/none cannot be written to.*Set TMPDIR"):
        check_machine(settings(tmp_path))


def test_a_working_folder_that_is_gone_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    try:
        with pytest.raises(InputError, match="working folder of this shell no longer exists"):
            check_machine(settings(tmp_path / "home"))
    finally:
        monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("command", [["python"], ["console script"]], ids=str)
@pytest.mark.parametrize(("address", "of_a_driver"), [("127.0.0.1:7", True), ("127.0.0.1:8", False)])
def test_a_ray_that_a_program_started_is_recognised_by_its_processes(
    tmp_path: Path, address: str, of_a_driver: bool, command: list[str]
) -> None:
    raylet = tmp_path / "raylet"  # a process of the name, and with the argument, that Ray's has
    raylet.write_text("#!/bin/sh\nread line\n")
    raylet.chmod(0o755)
    program = tmp_path / "agr"
    program.write_text(
        f"#!{sys.executable}\n"  # the process of a console script has the script's name
        "import subprocess, sys\n"
        f"child = subprocess.Popen([{str(raylet)!r}, '--gcs-address=127.0.0.1:7'], stdin=subprocess.PIPE)\n"
        "print('up', flush=True)\nsys.stdin.read()\nchild.stdin.close()\nchild.wait()\n"
    )
    program.chmod(0o755)
    run = [str(program)] if command == ["console script"] else [sys.executable, str(program)]
    process = subprocess.Popen(run, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        assert is_of_a_driver(address) == of_a_driver
    finally:
        process.communicate()
