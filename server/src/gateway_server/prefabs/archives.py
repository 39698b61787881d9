"""Unpacks archives of strangers into an empty folder: within limits, and never anywhere else.

Sizes are counted while reading, never believed; links, devices and every doubtful name refuse the whole archive.
"""

from __future__ import annotations

import errno
import gzip
import io
import os
import re
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from gateway_server.prefabs.paths import MAX_FILES, MAX_UNPACKED, Names, checked_path, is_junk
from gateway_server.prefabs.problems import PackageError, show

MAX_ARCHIVE = 512 * 1024**2
MAX_ENTRIES = 2 * MAX_FILES
MAX_RATIO = 200
#: Below this size a high compression ratio is nothing to worry about.
RATIO_FLOOR = 32 * 1024**2
CHUNK = 64 * 1024
MAX_HEADER = CHUNK
#: Before Python 3.11.10 and 3.12.6 the parser of tar headers looks at a row of digits as often as it is long
#: (CVE-2024-6232), and the whole process waits meanwhile. Nothing in a header needs so many.
MANY_DIGITS = re.compile(rb"[0-9]{256}")
#: They look from each of these to the end of the header, too; one is enough for any.
CHARSET = b"hdrcharset="
#: What headers take besides their contents, in all: they are many, or long, but not both.
MAX_HEADERS = MAX_ENTRIES * 2048

_GZIP, _ZIP = b"\x1f\x8b", b"PK"
_END_OF_ZIP = b"PK\x05\x06"
_ZIP64_LOCATOR = b"PK\x06\x07"


def is_archive(path: Path) -> bool:
    """Whether a file begins as those do that can be unpacked."""
    with path.open("rb") as file:
        return file.read(2) in (_GZIP, _ZIP)


def unpack(archive: Path, folder: Path) -> None:
    """Writes the files of a .tar.gz, .zip or .whl below `folder`, which must be empty."""
    size = archive.stat().st_size
    if size > MAX_ARCHIVE:
        raise PackageError.of(f"the archive is larger than {MAX_ARCHIVE // 1024**2} MiB")
    with archive.open("rb") as file:
        magic = file.read(2)
        file.seek(0)
        writer = _Writer(folder, size)
        if magic == _GZIP:
            with _foreign_errors("a gzipped tar archive"):
                _unpack_tar(file, writer)
        elif magic == _ZIP:
            with _foreign_errors("a zip archive"):
                _unpack_zip(file, writer)
        else:
            raise PackageError.of("a package is a folder, a wheel, or a .tar.gz or .zip archive of a folder")


@contextmanager
def _foreign_errors(kind: str) -> Iterator[None]:
    """Parsers raise whatever comes to hand on broken input; all of it means that the archive is broken."""
    try:
        yield
    except PackageError:
        raise
    except OSError as error:
        if error.errno in (None, errno.EINVAL):  # a checksum, or a position before the beginning; else it is the disk
            raise PackageError.of(f"this is not {kind} that can be read: {error}") from error
        raise
    except Exception as error:
        raise PackageError.of(f"this is not {kind} that can be read: {error or type(error).__name__}") from error


class _Writer:
    """Creates new files below one folder and counts what arrives."""

    def __init__(self, folder: Path, archive_size: int) -> None:
        self._folder = folder
        self._archive_size = archive_size
        self._names = Names()
        self._entries = 0
        self._written = 0

    def admit(self, name: str) -> str | None:
        """The path to write a member to; None if the member is not wanted."""
        self._entries += 1
        if self._entries > MAX_ENTRIES:
            raise PackageError.of(f"the archive holds more than {MAX_ENTRIES} entries")
        path = checked_path(name)
        return None if is_junk(path) else path

    def write(self, path: str, source: IO[bytes]) -> None:
        if path == ".":
            raise PackageError.of("a file of the archive has the name of the folder itself")
        self._names.add(path)
        target = self._folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            while chunk := source.read(CHUNK):
                self.count(len(chunk))
                file.write(chunk)

    def count(self, size: int) -> None:
        self._written += size
        if self._written > MAX_UNPACKED:
            raise PackageError.of(f"the package is larger than {MAX_UNPACKED // 1024**2} MiB when unpacked")
        if self._written > RATIO_FLOOR and self._written > MAX_RATIO * self._archive_size:
            raise PackageError.of(f"the archive unpacks to more than {MAX_RATIO} times its size")


class _Inflated(io.RawIOBase):
    """The tar stream inside a gzip file: read forward only, in pieces that fit in memory, up to a total."""

    def __init__(self, source: IO[bytes]) -> None:
        super().__init__()
        self._source = gzip.GzipFile(fileobj=source)
        self._position = 0
        self._in_headers = 0
        self.is_in_content = False
        """Whether what is read is a file, and not a header."""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def read(self, size: int = -1) -> bytes:
        if self.is_in_content:
            return self._take(size)  # in pieces of the reader, which are larger than a header from Python 3.14 on
        if not 0 <= size <= MAX_HEADER:
            raise PackageError.of(f"the archive holds a header of more than {MAX_HEADER // 1024} KiB")
        data = self._take(size)
        self._in_headers += len(data)
        if self._in_headers > MAX_HEADERS or data.count(CHARSET) > 1 or MANY_DIGITS.search(data):
            raise PackageError.of("the archive holds headers that would take long to read")
        return data

    def _take(self, size: int) -> bytes:
        data = self._source.read(size)
        self._position += len(data)
        # Headers and padding of many small files come on top of the contents.
        if self._position > MAX_UNPACKED + MAX_HEADERS:
            raise PackageError.of(f"the package is larger than {MAX_UNPACKED // 1024**2} MiB when unpacked")
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET or offset < self._position:
            raise PackageError.of("the archive cannot be read from beginning to end")
        while self._position < offset and self._take(min(CHUNK, offset - self._position)):
            pass
        return self._position


def _unpack_tar(file: IO[bytes], writer: _Writer) -> None:
    stream = _Inflated(file)
    with tarfile.open(fileobj=stream, mode="r:") as archive:
        while (member := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # else every header would stay in memory
            path = writer.admit(member.name)
            if path is None or member.isdir():  # what is not wanted may be anything: environments are full of links
                continue
            if not member.isreg() or member.issparse():
                raise PackageError.of(f"{show(member.name)} is a link, a device or another special file")
            source = archive.extractfile(member)
            assert source is not None
            stream.is_in_content = True
            writer.write(path, source)
            stream.is_in_content = False
    stream.is_in_content = True
    while stream.read(CHUNK):  # to the end, where the checksum stands
        pass


def _unpack_zip(file: IO[bytes], writer: _Writer) -> None:
    _check_directory_size(file)
    with zipfile.ZipFile(file) as archive:
        if sum(info.file_size for info in archive.infolist()) > MAX_UNPACKED:
            raise PackageError.of(f"the package is larger than {MAX_UNPACKED // 1024**2} MiB when unpacked")
        for info in archive.infolist():
            path = writer.admit(info.orig_filename)
            if path is None or info.is_dir():
                continue
            _check_member(info)
            with archive.open(info) as source:
                writer.write(path, source)


def _check_member(info: zipfile.ZipInfo) -> None:
    # Files without a Unix mode (written on other systems) have type 0.
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
        raise PackageError.of(f"{show(info.filename)} is a link, a device or another special file")
    if info.flag_bits & 0x1:
        raise PackageError.of(f"{show(info.filename)} is encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise PackageError.of(f"{show(info.filename)} is compressed by a method other than deflate")


def _check_directory_size(file: IO[bytes]) -> None:
    """The list of members is read into memory at once, so its size must be known beforehand."""
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - 22 - 65535 - 20))
    tail = file.read()
    at = tail.rfind(_END_OF_ZIP)
    record = tail[at : at + 22]
    if at < 0 or len(record) < 22:
        raise PackageError.of("this is not a zip archive that can be read: its end is missing")
    entries = int.from_bytes(record[10:12], "little")
    size = int.from_bytes(record[12:16], "little")
    zip64 = tail[max(0, at - 20) : at].startswith(_ZIP64_LOCATOR)
    if zip64 or entries > MAX_ENTRIES or size > MAX_ENTRIES * 512:
        raise PackageError.of(f"the archive holds more than {MAX_ENTRIES} entries")
    file.seek(0)
