"""Files of a tar or zip archive; the format is detected by content, not by name.

Archives are untrusted, but archive parsers trust them. Limits here bound the memory and time spent on names,
directories and compression; any other parser failure becomes one error about the archive.
"""

from __future__ import annotations

import gzip
import lzma
import shutil
import stat
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Protocol

from agr_core.data.parser_errors import PARSER_ERRORS
from agr_core.data.readers.files.base import (
    Files,
    LeftOut,
    UnreadableFileError,
    is_image_name,
    open_regular,
    unsafe_name,
)
from agr_core.data.readers.files.zip_names import open_zip
from agr_core.errors import DataError

MAX_MEMBERS = 2_000_000
"""Maximum number of files in an archive; the largest face data set has a quarter of it."""

MAX_NAME_BYTES = 2**20
"""Maximum size of a tar member's name and attributes, in bytes."""

MAX_DIRECTORY_BYTES = 64 * 2**20
"""Maximum size of a zip's central directory, in bytes."""

MAX_EXPANSION = 100
"""Maximum expansion of a compressed tar; images do not compress."""

_XZ_MEMORY_BYTES = 256 * 2**20
_ALWAYS_UNPACKED = 64 * 2**20
_CHUNK_BYTES = 2**20
_ZIP_ENCRYPTED = 0x1
_REPEATED = LeftOut("appears again later in the archive")
_LINK = LeftOut("a link")
_FIRST_MEMBERS = 1000
_GZIP, _XZ, _ZIP = b"\x1f\x8b", b"\xfd7zXZ\0", (b"PK\x03\x04", b"PK\x05\x06")
_ZIP_END = b"PK\x05\x06"
_ZIP_END_BYTES = 22 + 2**16  # end record of a zip and its longest comment
_HEADERS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)


class _Reads(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _BoundedTarInfo(tarfile.TarInfo):
    """A tar header with bounded sizes; ``tarfile`` would read any declared size."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.size < 0:
            raise tarfile.ReadError(f"a member claims {self.size} bytes")
        if self.type in _HEADERS and self.size > MAX_NAME_BYTES:
            raise tarfile.ReadError(f"the name of a member takes {self.size:,} bytes")
        if self.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError("a member is stored sparsely")
        member: tarfile.TarInfo = super()._proc_member(archive)  # type: ignore[misc] # the hook that tarfile's subclasses have
        return member

    def _proc_gnusparse_10(self, *_: object) -> None:
        raise tarfile.ReadError("a member is stored sparsely")


class TarFiles(Files):
    """Files of a tar archive; of repeated names, the last one counts, as in unpacking."""

    def __init__(self, source: Path, archive: tarfile.TarFile) -> None:
        super().__init__(source)
        self._archive = archive
        self._members: dict[str, tuple[int, int]] = {}  # offset and size
        for count, member in enumerate(_members(archive)):
            if count >= MAX_MEMBERS:
                raise DataError(f"{source} has more than {MAX_MEMBERS:,} files; pack it in parts.")
            if member.isdir():
                continue
            reason = unsafe_name(member.name) or _not_regular(member)
            if reason is not None:
                self._refuse(member.name, reason)
                continue
            if member.name in self._members:
                self._refuse(member.name, _REPEATED)
            self._members[member.name] = (member.offset_data, member.size)
        self.paths = sorted(self._members)

    def open(self, path: str) -> IO[bytes]:
        """Open a member as a stream."""
        member = tarfile.TarInfo(path)
        member.offset_data, member.size = self._members[path]
        file = self._archive.extractfile(member)
        assert file is not None  # it is a regular member
        return file

    def _read(self, path: str, limit: int) -> bytes:
        try:
            with self.open(path) as file:
                return file.read(limit)
        except (tarfile.TarError, OSError, EOFError, ValueError, OverflowError) as error:
            raise UnreadableFileError(f"damaged in the archive ({error})") from error


class ZipFiles(Files):
    """Files of a zip archive; of repeated names, the last one counts, as in unpacking.

    Backslashes in names, written by some Windows programs, are read as slashes, as the format requires.
    """

    def __init__(self, source: Path, archive: zipfile.ZipFile, mismarked: Mapping[str, str]) -> None:
        super().__init__(source)
        self._archive = archive
        self._members: dict[str, zipfile.ZipInfo] = {}
        for member in archive.infolist():
            if member.orig_filename in mismarked:
                self._refuse(mismarked[member.orig_filename], "the name is not UTF-8")
                continue
            name = member.filename.replace("\\", "/")
            if name.endswith("/"):
                continue
            reason = unsafe_name(name) or _not_plain(member)
            if reason is not None:
                self._refuse(member.filename, reason)
                continue
            if name in self._members:
                self._refuse(name, _REPEATED)
            self._members[name] = member
        self.paths = sorted(self._members)

    def open(self, path: str) -> IO[bytes]:
        """Open a member as a stream."""
        try:
            return self._archive.open(self._members[path])
        except NotImplementedError as error:  # raised by zipfile for unknown compression
            raise UnreadableFileError(f"packed in a way that cannot be read ({error})") from error
        except PARSER_ERRORS as error:
            raise UnreadableFileError(f"damaged in the archive ({error})") from error

    def _read(self, path: str, limit: int) -> bytes:
        with self.open(path) as file:
            try:
                return file.read(limit)
            except PARSER_ERRORS as error:
                raise UnreadableFileError(f"damaged in the archive ({error})") from error


def open_archive(source: Path, stack: ExitStack) -> Files:
    """Open the files of an archive until ``stack`` is closed.

    Raises:
        DataError: If it is not a readable archive, is damaged, or exceeds the limits.
    """
    try:
        return _archive_files(source, stack)
    except DataError:
        raise
    except UnreadableFileError as error:
        raise DataError(f"{source} cannot be read as an archive: it is {error}; give a file.") from error
    except MemoryError as error:
        raise DataError(f"{source} cannot be read as an archive: it takes too much memory; pack it again.") from error
    except PARSER_ERRORS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{source} cannot be read as an archive ({reason}); fetch or pack it again.") from error


def first_image(source: Path) -> str | None:
    """Return the name of an archive's first image, read no further than that; None if there is none near its start.

    Raises:
        DataError: As ``open_archive``.
    """
    with ExitStack() as stack:
        try:
            file = stack.enter_context(open_regular(source))
            if file.read(4) in _ZIP:
                return next((path for path in open_archive(source, stack).paths if is_image_name(path)), None)
            file.seek(0)
            archive = stack.enter_context(tarfile.open(fileobj=file, mode="r:*", tarinfo=_BoundedTarInfo))
            some = (member for _, member in zip(range(_FIRST_MEMBERS), _members(archive), strict=False))
            return next((member.name for member in some if member.isreg() and is_image_name(member.name)), None)
        except DataError:
            raise
        except PARSER_ERRORS as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DataError(f"{source} cannot be read as an archive ({reason}); fetch or pack it again.") from error


def _archive_files(source: Path, stack: ExitStack) -> Files:
    file = stack.enter_context(open_regular(source))
    header = file.read(6)
    file.seek(0)
    if header.startswith(_ZIP):
        _check_directory(file)
        archive, mismarked = open_zip(file)
        return ZipFiles(source, stack.enter_context(archive), mismarked)
    if source.name.lower().endswith(".zip"):
        raise DataError(f"{source} cannot be read as an archive (it is not a zip); fetch or pack it again.")
    plain: IO[bytes] = file
    if header.startswith(_GZIP):
        plain = stack.enter_context(_unpacked(source, iter_read(stack.enter_context(gzip.GzipFile(fileobj=file)))))
    elif header == _XZ:
        plain = stack.enter_context(_unpacked(source, _unpacked_xz(file)))
    tar = tarfile.open(fileobj=plain, mode="r:", tarinfo=_BoundedTarInfo)  # noqa: SIM115 - closed by the stack
    return TarFiles(source, stack.enter_context(tar))


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members of a tar one by one, without keeping them in the archive object."""
    while (member := archive.next()) is not None:
        archive.members = []  # type: ignore[attr-defined] # documented by its use in tarfile; else it grows with the archive
        yield member


@contextmanager
def _unpacked(source: Path, chunks: Iterator[bytes]) -> Iterator[IO[bytes]]:
    """Unpack a compressed tar to an anonymous temporary file: members need seeking, which gzip and xz lack."""
    spare = shutil.disk_usage(tempfile.gettempdir()).free // 2
    worth = max(_ALWAYS_UNPACKED, MAX_EXPANSION * source.stat().st_size)
    with tempfile.TemporaryFile() as plain:
        for chunk in chunks:
            plain.write(chunk)
            if plain.tell() > spare:
                raise DataError(
                    f"{source} unpacks to more than half of the free disk in {tempfile.gettempdir()}; "
                    "free some, or set TMPDIR to a larger disk."
                )
            if plain.tell() > worth:
                raise DataError(f"{source} unpacks to more than {MAX_EXPANSION} times its size; images do not.")
        plain.seek(0)
        yield plain


def iter_read(stream: _Reads) -> Iterator[bytes]:
    """Yield the bytes of a stream in chunks."""
    while chunk := stream.read(_CHUNK_BYTES):
        yield chunk


def _unpacked_xz(file: _Reads) -> Iterator[bytes]:
    """Yield the unpacked bytes of a .xz file; ``lzma.LZMAFile`` would allocate any memory the file declares."""
    decompressor = lzma.LZMADecompressor(memlimit=_XZ_MEMORY_BYTES)
    rest = b""
    while data := rest or file.read(_CHUNK_BYTES):
        rest = b""
        if decompressor.eof:  # another stream follows, unless it is padding
            data = data.lstrip(b"\0")
            if not data:
                continue
            decompressor = lzma.LZMADecompressor(memlimit=_XZ_MEMORY_BYTES)
        yield decompressor.decompress(data, max_length=_CHUNK_BYTES)
        while not decompressor.eof and not decompressor.needs_input:
            yield decompressor.decompress(b"", max_length=_CHUNK_BYTES)
        rest = decompressor.unused_data
    if not decompressor.eof:
        raise EOFError("it ends before its end marker")


def _check_directory(file: IO[bytes]) -> None:
    """Refuse a zip that declares a central directory larger than that of any data set."""
    size = file.seek(0, 2)
    file.seek(max(0, size - _ZIP_END_BYTES))
    end = file.read()
    position = end.rfind(_ZIP_END)
    if position >= 0 and len(end) >= position + 16:
        (claimed,) = struct.unpack("<L", end[position + 12 : position + 16])
        if claimed > MAX_DIRECTORY_BYTES:
            raise zipfile.BadZipFile(f"its table of contents takes {claimed:,} bytes")
    file.seek(0)


def _not_regular(member: tarfile.TarInfo) -> str | None:
    if member.issym() or member.islnk():
        return _LINK
    return None if member.isreg() else "not a regular file"


def _not_plain(member: zipfile.ZipInfo) -> str | None:
    if stat.S_ISLNK(member.external_attr >> 16):
        return _LINK
    return "encrypted" if member.flag_bits & _ZIP_ENCRYPTED else None
