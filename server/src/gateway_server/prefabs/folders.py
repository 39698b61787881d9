"""Finds the files of a package in a folder, and packs such a folder for upload."""

from __future__ import annotations

import gzip
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from gateway_server.prefabs.paths import MAX_UNPACKED, Names, checked_path, is_junk_file, is_junk_folder
from gateway_server.prefabs.problems import PackageError, show

MANIFEST = "prefab-manifest.json"
PYPROJECT = "pyproject.toml"
CODE = "src"
_PACKED = frozenset((MANIFEST, PYPROJECT, CODE))
_EXPECTED = frozenset(("tests", "dist", "build", "Makefile", "uv.lock", "prefab-manifest.schema.json"))
_FOR_PEOPLE = ("README", "LICENSE", "CHANGELOG", "CONTRIBUTING")


def package_files(root: Path) -> dict[str, Path]:
    """What a package consists of: its manifest and everything below `src/`, sorted by path."""
    if not (root / MANIFEST).exists():
        raise PackageError.of(f"there is no {MANIFEST} at the root of the package")
    if (root / "vendor").is_dir():
        raise PackageError.of(
            "this package is written for an older format, with its dependencies in vendor/; list them under "
            f"[project].dependencies in {PYPROJECT} and remove the folder"
        )
    files = {MANIFEST: root / MANIFEST}
    files.update(_walk(root / CODE, CODE))
    names = Names()
    size = 0
    for path, source in files.items():
        names.add(path)
        size += _checked_size(source, path, root)
        if size > MAX_UNPACKED:
            raise PackageError.of(f"the package is larger than {MAX_UNPACKED // 1024**2} MiB")
    return dict(sorted(files.items()))


def left_out(path: Path) -> list[str]:
    """What lies in a folder and does not go into its package, as far as that may surprise: not what tools and tests
    leave there, nor what is for those who work on it."""
    entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    return [
        entry.name + "/" * entry.is_dir()
        for entry in entries
        if not (entry.name in _PACKED or entry.name in _EXPECTED or entry.name.upper().startswith(_FOR_PEOPLE))
        and not (is_junk_folder(entry.name) if entry.is_dir() else is_junk_file(entry.name))
    ]


def pack_folder(path: Path, out: BinaryIO) -> None:
    """A .tar.gz of what publishing needs; the same folder gives the same bytes, whenever and wherever it is packed."""
    files = package_files(path)
    for extra in sorted(path.iterdir()):
        if extra.name == PYPROJECT or (extra.name.upper().startswith("README") and extra.is_file()):
            _checked_size(extra, extra.name, path)
            files[extra.name] = extra
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=out, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, source in sorted(files.items()):
            with source.open("rb") as content:
                member = tarfile.TarInfo(name)
                member.size = os.fstat(content.fileno()).st_size
                archive.addfile(member, content)


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, Path]]:
    if not folder.is_dir():
        return
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path = checked_path(f"{prefix}/{entry.name}")
        if entry.is_dir():
            if is_junk_folder(entry.name):
                continue
            if entry.is_symlink():
                raise PackageError.of(f"{show(path)} is a link to a folder")
            yield from _walk(Path(entry.path), path)
        elif not is_junk_file(entry.name):
            yield path, Path(entry.path)


def _checked_size(source: Path, path: str, root: Path) -> int:
    """The size of a regular file, or of one inside the package that a link names."""
    try:
        status = source.stat()
    except (OSError, RuntimeError) as error:
        raise PackageError.of(f"{show(path)} cannot be read: {error}") from error
    if not stat.S_ISREG(status.st_mode):
        raise PackageError.of(f"{show(path)} is not a file")
    if source.is_symlink() and not source.resolve().is_relative_to(root.resolve()):
        raise PackageError.of(f"{show(path)} is a link to a file outside the package")
    return status.st_size
