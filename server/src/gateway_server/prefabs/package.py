"""One version of a prefab as it was handed in: a folder, a wheel, or an archive of a folder, all read alike."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from gateway_server.prefabs.archives import unpack
from gateway_server.prefabs.document import MAX_BYTES
from gateway_server.prefabs.folders import MANIFEST, pack_folder, package_files
from gateway_server.prefabs.manifest import Manifest, parse_manifest
from gateway_server.prefabs.metadata import Dependencies, read_pyproject, read_wheel_metadata
from gateway_server.prefabs.problems import PackageError, Problem

__all__ = ["Package", "PackageError", "open_package", "pack_folder"]

_CHUNK = 1024 * 1024


class _Temporary:
    """A folder that vanishes when it is removed or forgotten."""

    def __init__(self, parent: Path | None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="prefab-", dir=parent))
        self.remove = weakref.finalize(self, shutil.rmtree, self.folder, True)


@dataclass(frozen=True, kw_only=True)
class Package:
    """Usable until closed: an archive is unpacked into a temporary folder that goes with it."""

    manifest: Manifest
    #: Relative POSIX path -> where its content lies. The manifest and everything below `src/`.
    files: Mapping[str, Path]
    requirements: tuple[str, ...]
    requires_python: str | None
    #: The same for a folder and for the wheel made of it.
    digest: str
    #: Bytes of all files.
    size: int
    #: Those of the manifest included.
    warnings: tuple[Problem, ...]
    #: The folder that an archive was unpacked into; removed with the package if it is not closed before.
    temporary: _Temporary | None = field(default=None, repr=False, compare=False)

    def write_to(self, folder: Path) -> None:
        """Lays the files out in an empty (or missing) folder, all at once and safely on the disk."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=folder.parent))
        try:
            for path, source in self.files.items():
                _copy(source, staging / path)
            for directory in [staging, *(item for item in staging.rglob("*") if item.is_dir())]:
                directory.chmod(0o755)
                _sync_folder(directory)
            os.rename(staging, folder)
            _sync_folder(folder.parent)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise

    def close(self) -> None:
        """Removes what was unpacked."""
        if self.temporary is not None:
            self.temporary.remove()

    def __enter__(self) -> Package:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def open_package(path: Path, *, scratch: Path | None = None) -> Package:
    """Reads a package; archives are unpacked below `scratch` (else the system's temporary folder)."""
    if path.is_dir():
        return _read(path, None, None)
    if not path.is_file():
        raise PackageError.of(f"there is no package at {path}")
    unpacked = _Temporary(scratch)
    try:
        unpack(path, unpacked.folder)
        return _read(_root_of(unpacked.folder), path.name, unpacked)
    except BaseException:
        unpacked.remove()
        raise


def _root_of(folder: Path) -> Path:
    """The archive's root, or the one folder that everything lies in."""
    if (folder / MANIFEST).exists():
        return folder
    entries = list(folder.iterdir())
    return entries[0] if len(entries) == 1 and (entries[0] / MANIFEST).exists() else folder


def _read(root: Path, archive_name: str | None, temporary: _Temporary | None) -> Package:
    files = package_files(root)
    manifest = parse_manifest(_manifest_bytes(files[MANIFEST]))
    dependencies = _dependencies(root, archive_name, manifest)
    return Package(
        manifest=manifest,
        files=files,
        requirements=dependencies.requirements,
        requires_python=dependencies.requires_python,
        digest=_digest(files, dependencies.requirements),
        size=sum(source.stat().st_size for source in files.values()),
        warnings=(*manifest.warnings, *dependencies.warnings),
        temporary=temporary,
    )


def _dependencies(root: Path, archive_name: str | None, manifest: Manifest) -> Dependencies:
    if archive_name is not None and (archive_name.endswith(".whl") or any(root.glob("*.dist-info/WHEEL"))):
        return read_wheel_metadata(root, archive_name, manifest)
    return read_pyproject(root, manifest)


def _manifest_bytes(file: Path) -> bytes:
    with file.open("rb") as content:
        return content.read(MAX_BYTES + 1)


def _digest(files: Mapping[str, Path], requirements: Iterable[str]) -> str:
    total = hashlib.sha256()
    for path, source in sorted(files.items()):
        with source.open("rb") as content:
            total.update(f"{path}\0{hashlib.file_digest(content, 'sha256').hexdigest()}\n".encode())
    for requirement in sorted(requirements):
        total.update(f"{requirement}\n".encode())
    return total.hexdigest()


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as content, target.open("xb") as file:
        shutil.copyfileobj(content, file, _CHUNK)
        os.fchmod(file.fileno(), 0o644)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
