from __future__ import annotations

import gzip
import io
import lzma
import os
import shutil
import socket
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from agr_core.data.packed.pack import pack
from agr_core.data.readers.files import UnreadableFileError, open_files
from agr_core.data.readers.files import base as files_module
from agr_core.errors import DataError

from ..conftest import picture


def tar_of(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for member, data in members:
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_a_hostile_tar_is_read_without_following_anything_out_of_it(tmp_path: Path) -> None:
    archive = tar_of(
        tmp_path / "hostile.tar",
        (member("good.jpg"), b"good"),
        (member("folder", tarfile.DIRTYPE), b""),
        (member("link.jpg", tarfile.SYMTYPE, "/etc/passwd"), b""),
        (member("hard.jpg", tarfile.LNKTYPE, "good.jpg"), b""),
        (member("device.jpg", tarfile.CHRTYPE), b""),
        (member("/etc/absolute.jpg"), b"bad"),
        (member("a/../../up.jpg"), b"bad"),
        (member("..\\windows.jpg"), b"bad"),
        (member("C:\\windows.jpg"), b"bad"),
    )
    before = sorted(tmp_path.rglob("*"))
    with open_files(archive) as files:
        assert files.paths == ["good.jpg"]
        assert files.read("good.jpg") == b"good"
        assert dict(files.refused) == {
            "link.jpg": "a link",
            "hard.jpg": "a link",
            "device.jpg": "not a regular file",
            "/etc/absolute.jpg": "an absolute path",
            "a/../../up.jpg": "a path out of the archive",
            "..\\windows.jpg": "a path out of the archive",
            "C:\\windows.jpg": "an absolute path",
        }
    assert sorted(tmp_path.rglob("*")) == before


def test_a_hostile_zip_is_read_without_following_anything_out_of_it(tmp_path: Path) -> None:
    path = tmp_path / "hostile.zip"
    link = zipfile.ZipInfo("link.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("good.jpg", b"good")
        archive.writestr("folder/", b"")
        archive.writestr(link, "/etc/passwd")
        archive.writestr("../up.jpg", b"bad")
        archive.writestr("/absolute.jpg", b"bad")
    with open_files(path) as files:
        assert files.paths == ["good.jpg"]
        assert files.read("good.jpg") == b"good"
        assert dict(files.refused) == {
            "link.jpg": "a link",
            "../up.jpg": "a path out of the archive",
            "/absolute.jpg": "an absolute path",
        }


def test_an_encrypted_member_of_a_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.jpg", b"secret")
    data = bytearray(path.read_bytes())
    for signature, flags_at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + flags_at] |= 1
    path.write_bytes(data)
    with open_files(path) as files:
        assert files.paths == []
        assert files.refused == [("a.jpg", "encrypted")]


def test_linked_files_of_a_folder_are_read_but_linked_folders_are_not_entered(
    tmp_path: Path, write_folder: Callable[..., Path]
) -> None:
    elsewhere = write_folder({"far.jpg": b"far"}, "elsewhere")
    folder = write_folder({"near.jpg": b"near"})
    (folder / "linked.jpg").symlink_to(elsewhere / "far.jpg")
    (folder / "broken.jpg").symlink_to(tmp_path / "nowhere")
    (folder / "loop").symlink_to(folder)
    with open_files(folder) as files:
        assert files.paths == ["broken.jpg", "linked.jpg", "near.jpg"]
        assert files.read("linked.jpg") == b"far"
        assert files.refused == [("loop", "a link to a folder")]
        with pytest.raises(UnreadableFileError, match="No such file"):
            files.read("broken.jpg")


def test_a_name_that_is_not_utf8_is_refused_in_readable_form(tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "names.tar", (member("caf\udce9.jpg"), b"x"))
    with open_files(archive) as files:
        assert files.refused == [("caf\\udce9.jpg", "the name is not UTF-8")]


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_a_repeated_name_means_its_last_member_as_when_unpacking(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"twice.{kind}"
    if kind == "tar":
        tar_of(path, (member("a.jpg"), b"first"), (member("a.jpg"), b"second"))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.jpg", b"first")
            with pytest.warns(UserWarning, match="Duplicate name"):
                archive.writestr("a.jpg", b"second")
    with open_files(path) as files:
        assert files.read("a.jpg") == b"second"
        assert files.refused == [("a.jpg", "appears again later in the archive")]


@pytest.mark.parametrize("kind", ["folder", "tar", "zip"])
def test_a_file_larger_than_the_cap_is_not_read_whole(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_folder: Callable[..., Path]
) -> None:
    monkeypatch.setattr(files_module, "MAX_FILE_BYTES", 2**20)
    data = bytes(2**20 + 1)
    source = write_folder({"big.jpg": data})
    if kind == "tar":
        source = tar_of(tmp_path / "big.tar", (member("big.jpg"), data))
    elif kind == "zip":
        source = tmp_path / "big.zip"
        with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("big.jpg", data)
    with open_files(source) as files, pytest.raises(UnreadableFileError, match="larger than 1 MiB"):
        files.read("big.jpg")


def test_a_damaged_member_of_a_zip_is_unreadable_and_the_others_are_read(tmp_path: Path) -> None:
    path = tmp_path / "damaged.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("bad.jpg", b"A" * 100)
        archive.writestr("good.jpg", b"B" * 100)
    path.write_bytes(path.read_bytes().replace(b"A" * 100, b"A" * 99 + b"C"))
    with open_files(path) as files:
        assert files.read("good.jpg") == b"B" * 100
        with pytest.raises(UnreadableFileError, match="damaged in the archive"):
            files.read("bad.jpg")


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("text.tar", lambda good: b"this is text, not an archive" * 50),
        ("text.zip", lambda good: b"this is text, not an archive"),
        ("text.tar.gz", lambda good: b"this is text, not an archive"),
        ("cut.tar", cut),
        ("cut.tgz", lambda good: cut(gzip.compress(good))),
        ("cut.tar.xz", lambda good: cut(lzma.compress(good))),
        ("no.tar.xz", lambda good: b"no xz"),
    ],
    ids=["no tar", "no zip", "no gzip", "cut tar", "cut gzip", "cut xz", "no xz"],
)
def test_a_damaged_archive_is_refused(name: str, content: Callable[[bytes], bytes], tmp_path: Path) -> None:
    good = tar_of(tmp_path / "good.tar", (member("a.jpg"), bytes(range(256)) * 400)).read_bytes()
    path = tmp_path / name
    path.write_bytes(content(good))
    with pytest.raises(DataError, match=r"cannot be read as an archive .*; fetch or pack it again"), open_files(path):
        pass


def test_a_gzip_that_unpacks_to_more_than_the_disk_bears_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage(NamedTuple):
        free: int

    bomb = tmp_path / "bomb.tar.gz"
    bomb.write_bytes(gzip.compress(bytes(5 * 2**20)))

    def small_disk(path: Any) -> Usage:
        return Usage(free=4 * 2**20)

    monkeypatch.setattr(shutil, "disk_usage", small_disk)
    with pytest.raises(DataError, match=r"more than half of the free disk.*TMPDIR"), open_files(bomb):
        pass


@pytest.mark.parametrize(
    ("name", "message"),
    [("nowhere", "does not exist"), ("faces.rar", "is not a folder, .tar, .tar.gz, .tgz, .tar.xz or .zip")],
)
def test_a_source_that_is_no_folder_or_archive_is_refused(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "faces.rar").write_bytes(b"Rar!")
    with pytest.raises(DataError, match=message), open_files(tmp_path / name):
        pass


# --------------------------------------------------------------------------------------------------------------------
# Archives in a folder


def archive_in(folder: Path, name: str, files: dict[str, bytes]) -> None:
    folder.mkdir(exist_ok=True)
    if name.endswith(".zip"):
        with zipfile.ZipFile(folder / name, "w") as archive:
            for path, data in files.items():
                archive.writestr(path, data)
        return
    with tarfile.open(folder / name, "w:gz" if name.endswith("gz") else "w") as tar:
        for path, data in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def test_archives_in_a_folder_are_read_as_if_they_were_folders(tmp_path: Path) -> None:
    archive_in(tmp_path / "raw", "part2.tar.gz", {"./part2/b.jpg": b"two", "../out.jpg": b"no"})
    archive_in(tmp_path / "raw", "part1.tar", {"part1/a.jpg": b"one"})
    archive_in(tmp_path / "raw", "more.zip", {"c.jpg": b"three"})
    (tmp_path / "raw/labels.txt").write_bytes(b"labels")
    with open_files(tmp_path / "raw") as files:
        assert {path: files.read(path) for path in files.paths} == {
            "labels.txt": b"labels",
            "more.zip/c.jpg": b"three",
            "part1.tar/part1/a.jpg": b"one",
            "part2.tar.gz/part2/b.jpg": b"two",
        }
        assert files.paths == sorted(files.paths)
        assert files.refused == [("part2.tar.gz/../out.jpg", "a path out of the archive")]


def test_an_archive_beside_images_is_not_read_because_they_may_be_its_own(tmp_path: Path) -> None:
    archive_in(tmp_path / "raw", "faces.zip", {"faces/a.jpg": b"one"})
    (tmp_path / "raw/faces").mkdir()
    (tmp_path / "raw/faces/a.jpg").write_bytes(b"one")
    with open_files(tmp_path / "raw") as files:
        assert sorted(files.paths) == ["faces.zip", "faces/a.jpg"]


def test_a_damaged_archive_in_a_folder_is_refused_by_name(tmp_path: Path) -> None:
    archive_in(tmp_path / "raw", "good.tar", {"a.jpg": b"one"})
    (tmp_path / "raw/bad.zip").write_bytes(b"PK no zip")
    with pytest.raises(DataError, match=r"raw/bad.zip cannot be read as an archive"), open_files(tmp_path / "raw"):
        pass


def test_an_archive_beside_a_stray_picture_is_read_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    archive_in(tmp_path / "raw", "faces.zip", {"faces/a.jpg": b"one"})
    (tmp_path / "raw/preview.png").write_bytes(b"stray")
    (tmp_path / "raw/more.zip").write_bytes(b"PK no zip")
    with open_files(tmp_path / "raw") as files:
        assert files.paths == ["faces.zip/faces/a.jpg", "preview.png"]
        ((name, reason),) = files.refused
    assert name == "more.zip"
    assert "cannot be read as an archive" in reason


# --------------------------------------------------------------------------------------------------------------------
# A file system that is not tame


def test_what_is_no_file_is_named_and_nothing_waits_for_it(tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"one")
    os.mkfifo(folder / "pipe.jpg")
    (folder / "linked-pipe.jpg").symlink_to("pipe.jpg")
    with socket.socket(socket.AF_UNIX) as server, open_files(folder) as before:
        assert before.paths == ["a.jpg"]
        server.bind(str(folder / "socket.jpg"))
        (folder.joinpath(os.fsdecode(b"caf\xe9.jpg"))).write_bytes(b"x")
        with open_files(folder) as files:
            assert files.paths == ["a.jpg"]
            assert files.refused == [
                ("caf\\udce9.jpg", "the name is not UTF-8"),
                ("linked-pipe.jpg", "a named pipe"),
                ("pipe.jpg", "a named pipe"),
                ("socket.jpg", "a socket"),
            ]
    os.mkfifo(tmp_path / "pipe.tar")
    with pytest.raises(DataError, match="it is a named pipe, not a regular file"), open_files(tmp_path / "pipe.tar"):
        pass


def test_a_file_that_becomes_a_pipe_after_it_was_listed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"one")
    with open_files(tmp_path) as files:
        (tmp_path / "a.jpg").unlink()
        os.mkfifo(tmp_path / "a.jpg")
        with pytest.raises(UnreadableFileError, match="a named pipe, not a regular file"):
            files.read("a.jpg")


def test_names_with_backslashes_are_folders_in_a_zip(tmp_path: Path) -> None:
    archive_in(tmp_path, "windows.zip", {"faces\\sub\\": b"", "faces\\sub\\a.jpg": b"one"})
    with open_files(tmp_path / "windows.zip") as files:
        assert files.paths == ["faces/sub/a.jpg"]
        assert files.read("faces/sub/a.jpg") == b"one"
        assert files.refused == []


@pytest.mark.parametrize("name", ["plain.tar.gz", "plain.tgz", "gzip.tar", "plain.tar.xz"])
def test_a_tar_is_opened_by_what_it_is_not_by_its_name(name: str, tmp_path: Path) -> None:
    archive_in(tmp_path, "made.tgz" if name == "gzip.tar" else "made.tar", {"a.jpg": b"one"})
    next(tmp_path.glob("made.*")).rename(tmp_path / name)
    with open_files(tmp_path / name) as files:
        assert files.read("a.jpg") == b"one"


def test_a_tar_xz_of_several_streams_and_padding_is_read_to_its_end(tmp_path: Path) -> None:
    tar = tar_of(tmp_path / "a.tar", (member("a.jpg"), bytes(range(256)) * 9000)).read_bytes()
    half = len(tar) // 2
    joined = lzma.compress(tar[:half]) + bytes(4) + lzma.compress(tar[half:]) + bytes(8)
    (tmp_path / "a.tar.xz").write_bytes(joined)
    with open_files(tmp_path / "a.tar.xz") as files:
        assert files.read("a.jpg") == bytes(range(256)) * 9000


# --------------------------------------------------------------------------------------------------------------------
# Archives that claim more than a data set needs


def long_name(path: Path, claimed: int) -> Path:
    """A tar whose first header claims a name of so many bytes."""
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, claimed
    path.write_bytes(header.tobuf(tarfile.GNU_FORMAT) + b"a" * min(claimed, 2**21) + bytes(1024))
    return path


@pytest.mark.parametrize("claimed", [2**30, 2**62], ids=["a name of a GB", "a name past the end of files"])
def test_a_tar_is_not_believed_how_long_a_name_is(claimed: int, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"the name of a member takes {claimed:,} bytes"):
        open_files(long_name(tmp_path / "long.tar", claimed)).__enter__()


def test_a_compressed_tar_that_unpacks_to_a_hundred_times_its_size_is_refused(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.tar.gz"
    bomb.write_bytes(gzip.compress(bytes(65 * 2**20), compresslevel=1))
    with pytest.raises(DataError, match="unpacks to more than 100 times its size"), open_files(bomb):
        pass


def test_an_xz_that_asks_for_much_memory_is_refused(tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 2**30}]
    (tmp_path / "greedy.tar.xz").write_bytes(lzma.compress(bytes(100), filters=filters))
    with (
        pytest.raises(DataError, match=r"cannot be read as an archive.*[Mm]emory"),
        open_files(tmp_path / "greedy.tar.xz"),
    ):
        pass


def test_a_tar_whose_member_ends_past_the_largest_offset_is_refused(tmp_path: Path) -> None:
    huge = tarfile.TarInfo("a.jpg")
    huge.size = 2**64
    (tmp_path / "huge.tar").write_bytes(huge.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(DataError, match="cannot be read as an archive"), open_files(tmp_path / "huge.tar"):
        pass


def test_a_name_of_a_zip_that_is_not_the_utf8_it_claims_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    archive_in(tmp_path, "a.zip", {"ä_name.jpg": b"one", "b.jpg": b"two", "ö.jpg": b"three"})
    path = tmp_path / "a.zip"
    path.write_bytes(path.read_bytes().replace("ä".encode(), b"\xff\xff"))
    with open_files(path) as files:
        assert {name: files.read(name) for name in files.paths} == {"b.jpg": b"two", "ö.jpg": b"three"}
        assert files.refused == [("\\xff\\xff_name.jpg", "the name is not UTF-8")]


def test_a_source_of_which_nothing_can_be_read_says_why(tmp_path: Path) -> None:
    archive = tmp_path / "secret.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("20_0_0_2017.jpg", picture(1))
        opened.writestr("21_0_0_2017.jpg", picture(2))
    data = bytearray(archive.read_bytes())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the bit "encrypted" of each header
        start = data.find(mark)
        while start >= 0:
            data[start + flags] |= 1
            start = data.find(mark, start + 4)
    archive.write_bytes(data)
    with pytest.raises(DataError, match=r"none of its 2 files can be read: encrypted.* \(2 times\)"):
        pack(str(archive), tmp_path / "packed")


def test_archives_that_are_not_read_are_called_so(tmp_path: Path) -> None:
    folder = tmp_path / "faces"
    folder.mkdir()
    (folder / "20_0_0_2017.jpg").write_bytes(picture(1))
    for name in ("more.7z", "more.rar", "more.tar.zst"):
        (folder / name).write_bytes(b"?")
    packed = pack(str(folder), tmp_path / "packed")
    assert {entry["file"]: entry["reason"] for entry in packed.manifest["skipped"]} == dict.fromkeys(
        ("more.7z", "more.rar", "more.tar.zst"), "an archive of a kind that is not read; unpack it"
    )
