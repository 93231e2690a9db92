"""What only the local storage has: files, folders, processes that are killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import AlreadyExistsError, StorageError, StorageFullError
from orchestrator.storage.local import LocalStorage


def test_an_object_is_a_file_with_its_bytes_and_nothing_stays_beside_it(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.write("a/b.json", b"{}")
    storage.create("a/c.json", b"{}")
    with pytest.raises(AlreadyExistsError):
        storage.create("a/c.json", b"[]")

    assert (tmp_path / "a/b.json").read_bytes() == b"{}"
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["b.json", "c.json"]


def test_a_writer_killed_in_the_middle_leaves_the_old_object_and_nothing_listed(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.write("a", b"old")
    code = (
        "import sys; from pathlib import Path; from orchestrator.storage.local import LocalStorage\n"
        "storage = LocalStorage(Path(sys.argv[1]))\n"
        "while True: storage.write('a', b'new' * 10_000_000)"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    try:
        deadline = time.monotonic() + 20
        while not (hidden := [path for path in tmp_path.iterdir() if path.name.startswith(".")]):
            assert time.monotonic() < deadline
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait()

    assert hidden
    assert storage.read("a") in (b"old", b"new" * 10_000_000)
    assert [found.key for found in storage.list("")] == ["a"]


def test_the_last_object_of_a_folder_takes_the_folder_with_it(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.write("a/b/c", b"x")
    storage.write("a/d", b"x")

    storage.delete("a/b/c")
    assert storage.folders("a") == ()
    assert storage.folders("") == ("a",)
    storage.delete("a/d")
    assert storage.folders("") == ()
    assert tmp_path.is_dir()


def test_writing_and_emptying_the_same_folder_at_once_loses_no_write(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)

    def write_and_delete(name: str) -> None:
        for _ in range(60):
            storage.write(f"a/b/{name}", b"x")
            assert storage.read(f"a/b/{name}") == b"x"
            storage.delete(f"a/b/{name}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write_and_delete, "wxyz"))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_removed_between_mkdir_and_its_check_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    is_dir = Path.is_dir
    removed = []

    def remove_once(path: Path) -> bool:  # what another process's ``delete`` does at the worst moment
        if not removed:
            path.rmdir()
            removed.append(path)
        return is_dir(path)

    monkeypatch.setattr(Path, "is_dir", remove_once)
    storage = LocalStorage(tmp_path)
    storage.write("a/b", b"x")

    assert removed == [tmp_path / "a"]
    assert storage.read("a/b") == b"x"


def test_an_object_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.write("a", b"x")
    storage.write("b/c", b"x")

    for refused in (lambda: storage.write("a/b", b"y"), lambda: storage.write("b", b"y")):
        with pytest.raises(StorageError, match=r"writing '.*' in .* failed: .*directory|exists.*set AGR_STORAGE"):
            refused()
    with pytest.raises(StorageError, match="creating 'a/b'"):
        storage.create("a/b", b"y")
    assert storage.read("a") == storage.read("b/c") == b"x"


def test_a_full_disk_is_named_and_keeps_the_old_object(small_disk: Any, tmp_path: Path) -> None:
    storage = LocalStorage(small_disk.folder)
    storage.write("a", b"old")
    small_disk.fill()
    with pytest.raises(
        StorageFullError, match=f"writing 'a' .*No space left .* The disk of {storage.uri} is full: free"
    ):
        storage.write("a", b"x" * 100_000)
    assert storage.read("a") == b"old"
    assert {path.name for path in small_disk.folder.iterdir()} == {"a", "ballast"}

    elsewhere = LocalStorage(tmp_path / "elsewhere")
    elsewhere.write("b", b"x" * 100_000)
    with pytest.raises(
        StorageFullError, match=f"reading 'b' .* The disk of {small_disk.folder} is full: free some of it"
    ):
        elsewhere.download("b", small_disk.folder / "b")


def test_a_disk_that_refuses_is_a_storage_error_and_keeps_the_old_object(tmp_path: Path) -> None:
    LocalStorage(tmp_path).write("a", b"old")
    code = (
        "import resource, sys; from pathlib import Path; from orchestrator.storage.local import LocalStorage\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"  # as a full disk: the write fails half way
        "LocalStorage(Path(sys.argv[1])).write('a', b'x' * 100_000)"
    )
    writer = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)

    assert "StorageError: writing 'a' in" in writer.stderr
    assert "File too large. Check the folder's permissions and file system" in writer.stderr
    assert LocalStorage(tmp_path).read("a") == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
