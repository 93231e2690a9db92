"""Folders of processes that work, end and are killed."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.worker.scratch import Scratch

# Makes a folder, puts a file into it, says where it is, and stays until its input ends.
WORK = """
import sys
from orchestrator.worker.scratch import Scratch
scratch = Scratch("work")
(scratch.path / "last.safetensors").write_bytes(b"x" * 1000)
print(scratch.path, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty ``TMPDIR``."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


@contextmanager
def worker() -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Another process, and its folder."""
    process = subprocess.Popen([sys.executable, "-c", WORK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process, Path(process.stdout.readline().strip())
    finally:
        process.kill()
        process.communicate()


def test_what_a_killed_process_left_goes_with_the_next_folder_and_what_lives_stays(place: Path) -> None:
    with worker() as (_, living), worker() as (killed, left):
        assert (left / "last.safetensors").exists()
        killed.kill()
        killed.wait()

        mine = Scratch("mine")

        assert not left.exists()
        assert (living / "last.safetensors").exists()
        assert sorted(path.name for path in place.iterdir()) == sorted(
            name for path in (living, mine.path) for name in (path.name, f"{path.name}.lock")
        )
        mine.close()
    Scratch("after").close()
    assert list(place.iterdir()) == []


def test_a_folder_is_its_accounts_alone_and_names_its_purpose(place: Path) -> None:
    scratch = Scratch("0123abcd")
    assert scratch.path.parent == place
    assert scratch.path.name.startswith("agr-0123abcd-")
    assert scratch.path.stat().st_mode & 0o777 == 0o700
    scratch.close()


def test_a_link_that_somebody_put_there_is_not_followed(place: Path, tmp_path: Path) -> None:
    """Whoever else may write to /tmp could otherwise have a folder of ours removed."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("kept")
    (precious / "lock").touch()
    (place / "agr-one.lock").symlink_to(precious / "lock")
    (place / "agr-one").symlink_to(precious)
    (place / "agr-two.lock").touch()
    (place / "agr-two").symlink_to(precious)

    Scratch("mine").close()

    assert (precious / "file").read_text() == "kept"
    assert (precious / "lock").exists()
