"""A data folder as one archive, taken while the gateway runs, and a data folder made of it again.

The journal of calls is copied first: what the database has not taken over yet stands in it. Then the database, in one
transaction. Everything else is named by that copy and never changes in place, so that it can be read afterwards; what
was deleted in between is struck from the copy, which goes into the archive last.
An archive without a database was cut. Keys are part of it: it must be kept as safe as the folder itself.
"""

import contextlib
import gzip
import hashlib
import io
import json
import os
import shutil
import sqlite3
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from gateway_server.errors import Invalid
from gateway_server.store.local_objects import OBJECTS_FOLDER, object_path
from gateway_server.store.migrations import HEAD

FORMAT = 1
DATABASE = "gateway.db"
_HEADER = "backup.json"
_KEYS = ("admin.key", "master.key", "master.key.previous", "urls.key")
_JOURNAL = "journal"
_TOP = {_HEADER, "contents.json", DATABASE, _JOURNAL, *_KEYS, "prefabs", "environments", "objects"}
"""What lies in an archive beside each other."""
_BLOCK = 1 << 20
_UNFINISHED = ".unfinished-gateway-backup-"
_ABANDONED = 3600
"""Seconds without a write after which nobody works on a backup any more; locks are not to be had on every mount."""
_QUICK = 1
"""Level of compression: more costs several times the time for a tenth less."""
Progress = Callable[[int, int], None]
"""Takes bytes that are done, and all bytes."""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What an archive holds."""

    created_at: float
    """POSIX seconds."""
    schema: str
    versions: int
    """Of prefabs."""
    files: int
    files_elsewhere: int = 0
    """Files that are recorded, but do not lie in the folder: they are in another store, or lost."""
    bytes: int = 0
    """Of files and packages."""


def back_up(data: Path, target: Path, *, database: Path | None = None, progress: Progress | None = None) -> Contents:
    """Writes the archive; until it is whole it has another name.

    Raises:
        Invalid: there is no data folder, or the archive exists already.
        OSError: something cannot be read or written.
    """
    source = database or data / DATABASE
    if not source.is_file():
        raise Invalid(f"{data} is no data folder of a gateway: it has no {DATABASE}. Name one with --data.")
    if target.exists():
        raise Invalid(f"{target} exists already. Choose another name, or remove it.")
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target.parent)
    with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=target.parent) as scratch:
        snapshot, draft = Path(scratch, DATABASE), Path(scratch, target.name)
        journal = _read_journal(data)
        _copy_database(source, snapshot)
        with contextlib.closing(sqlite3.connect(snapshot)) as copy, _private(draft) as raw:
            copy.row_factory = sqlite3.Row
            writing = _Writing(data, source, copy, raw, target.suffix in (".gz", ".tgz"), progress)
            contents = writing.write(snapshot, journal)
        os.replace(draft, target)
    return contents


def _sweep(folder: Path) -> None:
    """Removes what killed runs left behind: it holds a copy of the database."""
    for left in folder.glob(f"{_UNFINISHED}*"):
        with contextlib.suppress(OSError):
            written = max(path.stat().st_mtime for path in _below(left))
            if written < time.time() - _ABANDONED:
                shutil.rmtree(left)


def restore(source: Path, data: Path, *, progress: Progress | None = None) -> Contents:
    """Makes a data folder of an archive. The folder must not exist yet, or be empty.

    Raises:
        Invalid: it is no whole archive of a gateway, or one from a newer gateway, or the folder is in use.
        OSError: something cannot be read or written.
    """
    if data.exists() and (not data.is_dir() or any(data.iterdir())):
        raise Invalid(f"{data} is not empty. Restore into a new folder, and start the gateway on that one.")
    is_there = data.exists()
    parent = data if is_there else data.parent  # a folder that is there stays: it may be a mount point
    parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".restore-", dir=parent))
    try:
        contents = _extract(source, draft, progress)
        if is_there:
            _move_up(draft, data)
        else:
            os.replace(draft, data)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return contents


def _move_up(draft: Path, data: Path) -> None:
    """Moves what lies in the draft into the folder around it: all of it, the database last, or nothing."""
    names = sorted((path.name for path in draft.iterdir()), key=DATABASE.__eq__)
    try:
        for name in names:
            os.replace(draft / name, data / name)
    except BaseException:
        for name in reversed(names):
            with contextlib.suppress(FileNotFoundError):
                os.replace(data / name, draft / name)
        raise
    with contextlib.suppress(PermissionError):  # of a mount point that is somebody else's
        os.chmod(data, 0o700)


class _Writing:
    """One archive on its way out."""

    def __init__(
        self, data: Path, live: Path, copy: sqlite3.Connection, raw: BinaryIO, packed: bool, progress: Progress | None
    ) -> None:
        self._data, self._live, self._copy = data, live, copy
        self._tar = _open(raw, packed)
        self._progress = progress or (lambda _done, _all: None)
        self._done, self._all, self._elsewhere = 0, 0, 0

    def write(self, snapshot: Path, journal: bytes) -> Contents:
        with self._tar:
            self._copy.execute("DELETE FROM pending_objects")
            self._copy.execute("DELETE FROM uploads")  # their parts are not taken along
            self._all = self._count()
            self._add_text(_HEADER, json.dumps({"format": FORMAT, "created_at": time.time(), "schema": HEAD}))
            for name in _KEYS:
                if (self._data / name).is_file():
                    self._add_text(name, (self._data / name).read_text())
            if journal:
                self._add_bytes(_JOURNAL, journal)
            self._add_packages()
            self._add_objects()
            self._strike_removed()
            self._copy.commit()
            contents = self._contents()
            self._add_text("contents.json", json.dumps(asdict(contents)))
            self._copy.close()
            with snapshot.open("rb") as file:
                self._tar.addfile(self._member(DATABASE, snapshot.stat().st_size), file)
        return contents

    def _contents(self) -> Contents:
        def count(table: str) -> int:
            return int(self._copy.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0])  # noqa: S608

        return Contents(
            created_at=time.time(),
            schema=HEAD,
            versions=count("versions"),
            files=count("files") - self._elsewhere,
            files_elsewhere=self._elsewhere,
            bytes=self._done,
        )

    def _count(self) -> int:
        size: int = self._copy.execute("SELECT COALESCE(SUM(size), 0) FROM files").fetchone()[0]
        folders = [folder for row in self._versions() for folder in self._folders(row)]
        return size + sum(path.stat().st_size for folder in set(folders) for path in _below(folder))

    def _versions(self) -> list[sqlite3.Row]:
        return self._copy.execute("SELECT prefab_id, version, digest, environment FROM versions").fetchall()

    def _folders(self, row: sqlite3.Row) -> list[Path]:
        code = self._data / "prefabs" / row["prefab_id"] / f"{row['version']}-{row['digest'][:16]}"
        return [code, *([self._data / "environments" / row["environment"]] if row["environment"] else [])]

    def _add_packages(self) -> None:
        added: set[Path] = set()
        for row in self._versions():
            folders = self._folders(row)
            if not all(folder.is_dir() for folder in folders):  # removed since the copy
                self._strike(row)
                continue
            for folder in folders:
                if folder not in added:
                    added.add(folder)
                    self._add_folder(folder)

    def _strike_removed(self) -> None:
        """Strikes versions that went while they were read: their records go before their folders do."""
        with self._looking() as live:
            there = set(live.execute("SELECT prefab_id, version, digest FROM versions"))
        for row in self._versions():
            if (row["prefab_id"], row["version"], row["digest"]) not in there:
                self._strike(row)

    def _strike(self, row: sqlite3.Row) -> None:
        place = (row["prefab_id"], row["version"])
        self._copy.execute("DELETE FROM versions WHERE prefab_id = ? AND version = ?", place)

    def _looking(self) -> contextlib.closing[sqlite3.Connection]:
        """At the database as it is by now."""
        return contextlib.closing(sqlite3.connect(f"file:{self._live}?mode=ro", uri=True, timeout=30))

    def _add_folder(self, folder: Path) -> None:
        for path in _below(folder):
            with contextlib.suppress(FileNotFoundError):
                self._tar.add(path, path.relative_to(self._data).as_posix(), recursive=False)
                self._advance(path.lstat().st_size)

    def _add_objects(self) -> None:
        kept = self._data / OBJECTS_FOLDER
        missing, changed = [], []
        for row in self._copy.execute("SELECT key, size, sha256 FROM files"):
            path = object_path(kept, row["key"])
            try:
                file = path.open("rb")
            except (FileNotFoundError, NotADirectoryError):
                missing.append((row["key"],))
                continue
            with file:
                size = os.fstat(file.fileno()).st_size
                reading = _Digesting(file, self._advance)
                self._tar.addfile(self._member(path.relative_to(self._data).as_posix(), size), reading)
            digest = reading.digest.hexdigest()
            if (size, digest) != (row["size"], row["sha256"] or digest):  # put anew under its key since the copy
                changed.append((size, digest, row["key"]))
        self._copy.executemany("UPDATE files SET size = ?, sha256 = ? WHERE key = ?", changed)
        self._copy.executemany("DELETE FROM files WHERE key = ?", self._deleted(missing))

    def _deleted(self, missing: list[tuple[str]]) -> Iterator[tuple[str]]:
        """Those of the missing files that were deleted since the copy; the others never lay in this folder."""
        with self._looking() as live:
            for (key,) in missing:
                found = live.execute("SELECT expires_at FROM files WHERE key = ?", (key,)).fetchone()
                if found is None or (found[0] is not None and found[0] <= time.time()):
                    yield (key,)
                else:
                    self._elsewhere += 1

    def _add_text(self, name: str, text: str) -> None:
        self._add_bytes(name, text.encode())

    def _add_bytes(self, name: str, content: bytes) -> None:
        self._tar.addfile(self._member(name, len(content)), io.BytesIO(content))

    def _member(self, name: str, size: int) -> tarfile.TarInfo:
        member = tarfile.TarInfo(name)
        member.size, member.mode, member.mtime = size, 0o600, int(time.time())
        return member

    def _advance(self, count: int) -> None:
        self._done += count
        self._progress(self._done, max(self._all, self._done))


def _open(raw: BinaryIO, packed: bool) -> tarfile.TarFile:
    """For writing; closed by whoever uses it."""
    if packed:
        return tarfile.open(fileobj=raw, mode="w:gz", compresslevel=_QUICK)
    return tarfile.open(fileobj=raw, mode="w")


class _Digesting(io.BufferedIOBase):
    """A file that is read once, for the archive and for its digest."""

    def __init__(self, file: BinaryIO, advance: Callable[[int], None]) -> None:
        super().__init__()
        self._file, self._advance = file, advance
        self.digest = hashlib.sha256()

    def read(self, size: int | None = None, /) -> bytes:
        data = self._file.read(-1 if size is None else size)
        self.digest.update(data)
        self._advance(len(data))
        return data


def _copy_database(source: Path, target: Path) -> None:
    """All pages in one transaction: writers go on meanwhile, and the copy is of one moment."""
    target.touch(mode=0o600)
    with (
        contextlib.closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True, timeout=30)) as reading,
        contextlib.closing(sqlite3.connect(target)) as writing,
    ):
        reading.backup(writing)
        writing.execute("PRAGMA journal_mode=DELETE")  # one file, without a log beside it
        found = writing.execute("SELECT version_num FROM alembic_version").fetchone()
    if found is None or found[0] != HEAD:
        raise Invalid("The data folder is of another release. Start and stop the gateway on it once, then back it up.")


def _read_journal(data: Path) -> bytes:
    """What stands in the journal; a record that is just being written is told by its checksum."""
    with contextlib.suppress(FileNotFoundError):
        return (data / _JOURNAL).read_bytes().rstrip(b"\0")
    return b""


@contextlib.contextmanager
def _private(path: Path) -> Iterator[BinaryIO]:
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _extract(source: Path, target: Path, progress: Progress | None) -> Contents:
    whole = source.stat().st_size
    contents: Contents | None = None
    modes: list[tuple[Path, int]] = []
    try:
        with source.open("rb") as raw, _unpacked(raw) as plain, tarfile.open(fileobj=plain, mode="r:") as archive:
            for number, member in enumerate(archive):
                if number == 0:
                    _check_header(source, archive, member)
                    continue
                if member.name == "contents.json":
                    contents = Contents(**_document(archive, member))
                    continue
                path = _place(member.name, target)
                if member.isdir():  # closed to writing only when what belongs into it is there
                    modes.append((path, member.mode & 0o755))
                _put(archive, member, path, target)
                if progress:
                    progress(raw.tell(), whole)
            while plain.read(_BLOCK):  # to the checksum at its end
                pass
    except (tarfile.TarError, zlib.error, EOFError, OSError, ValueError, TypeError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the disk, not of the archive
            raise
        raise Invalid(f"{source} is no whole backup of a gateway: {error}") from error
    if contents is None or not (target / DATABASE).is_file():
        raise Invalid(f"{source} is no whole backup of a gateway: its end is missing.")
    _check_database(source, target / DATABASE)
    for path, mode in reversed(modes):
        os.chmod(path, mode)
    _make_private(target)
    return contents


def _place(name: str, target: Path) -> Path:
    """Where a member goes, which is never outside of the folder, through links that lie in it neither."""
    parts = PurePosixPath(name).parts
    if not parts or parts[0] not in _TOP or ".." in parts:
        raise ValueError(f"{name!r} does not belong into one.")
    path = target.joinpath(*parts)
    _require_inside(path.parent, name, target)
    return path


def _require_inside(path: Path, name: str, target: Path) -> None:
    if not path.resolve().is_relative_to(target.resolve()):
        raise ValueError(f"{name!r} leads out of it.")


def _put(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path, target: Path) -> None:
    """One member on the disk. By hand: not every Python that we run on can extract with a filter."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if member.isdir():
        path.mkdir(mode=0o700, exist_ok=True)
    elif member.issym():
        _require_inside(path.parent / member.linkname, member.name, target)
        path.symlink_to(member.linkname)
    elif member.islnk():
        os.link(_place(member.linkname, target), path, follow_symlinks=False)
    elif member.isfile() and (content := archive.extractfile(member)) is not None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with content, os.fdopen(descriptor, "wb") as file:
            shutil.copyfileobj(content, file, _BLOCK)
            os.fchmod(descriptor, member.mode & 0o755)
    else:
        raise ValueError(f"{member.name!r} is neither file nor folder.")


@contextlib.contextmanager
def _unpacked(raw: BinaryIO) -> Iterator[BinaryIO]:
    is_packed = raw.read(2) == b"\x1f\x8b"
    raw.seek(0)
    with gzip.GzipFile(fileobj=raw) if is_packed else contextlib.nullcontext(raw) as plain:
        yield cast(BinaryIO, plain)


def _check_header(source: Path, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    header = _document(archive, member) if member.name == _HEADER else {}
    if header.get("format") != FORMAT:
        raise Invalid(f"{source} is no backup that this gateway can read.")
    if str(header.get("schema")) > HEAD:
        raise Invalid(f"{source} was made by a newer gateway. Restore it with that release or a later one.")


def _document(archive: tarfile.TarFile, member: tarfile.TarInfo) -> dict[str, Any]:
    file = archive.extractfile(member)
    found = json.loads(file.read(_BLOCK)) if file else None
    return found if isinstance(found, dict) else {}


def _check_database(source: Path, database: Path) -> None:
    try:
        with contextlib.closing(sqlite3.connect(database)) as connection:
            told = connection.execute("PRAGMA quick_check").fetchone()[0]
    except sqlite3.DatabaseError as error:
        told = str(error)
    if told != "ok":
        raise Invalid(f"The database in {source} is damaged: {told}")


def _make_private(folder: Path) -> None:
    for name in (*_KEYS, DATABASE, _JOURNAL):
        with contextlib.suppress(FileNotFoundError):
            os.chmod(folder / name, 0o600)


def _below(folder: Path) -> Iterable[Path]:
    """Everything in a folder, the folder itself first."""
    if folder.is_dir():
        yield folder
    for parent, folders, files in os.walk(folder):
        yield from (Path(parent, name) for name in sorted((*folders, *files)))
