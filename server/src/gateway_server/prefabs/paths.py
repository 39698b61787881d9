"""Which names of files a package may hold, and which of its files do not belong to it."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from gateway_server.prefabs.problems import PackageError, is_plain, show

MAX_FILES = 20_000
MAX_UNPACKED = 512 * 1024**2
MAX_NAME = 255
MAX_PATH = 1024

_JUNK_FOLDERS = frozenset(
    {"__pycache__", ".git", ".hg", ".svn", ".venv", "venv", "node_modules", "__MACOSX", ".idea", ".vscode"}
    | {".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis", ".tox", ".nox", ".ipynb_checkpoints"}
)
_JUNK_FILES = frozenset({".DS_Store", "Thumbs.db", "desktop.ini", ".gitignore", ".gitattributes", ".gitkeep"})
_JUNK_SUFFIXES = (".pyc", ".pyo", ".swp", "~")


def is_junk(path: str) -> bool:
    """Whether a relative path is left behind by tools rather than part of the package."""
    *folders, name = path.split("/")
    return is_junk_folder(name) or is_junk_file(name) or any(is_junk_folder(folder) for folder in folders)


def is_junk_folder(name: str) -> bool:
    """Whether tools left this folder behind, so that it is no part of the package."""
    return name in _JUNK_FOLDERS


def is_junk_file(name: str) -> bool:
    """Whether tools left this file behind, so that it is no part of the package."""
    # "._name" files are what macOS leaves in archives.
    return name in _JUNK_FILES or name.endswith(_JUNK_SUFFIXES) or name.startswith("._")


def checked_path(name: str) -> str:
    """The relative path that a member of an archive may be written to; anything doubtful is refused."""
    path = name.rstrip("/") if len(name) > 1 else name
    while path.startswith("./"):
        path = path[2:]
    parts = path.split("/")
    reason = None
    if "\\" in name or not is_plain(name):
        reason = "holds a backslash or a control character"
    elif path.startswith("/") or (len(path) > 1 and path[1] == ":" and path[0].isascii() and path[0].isalpha()):
        reason = "is absolute"
    elif path != "." and any(part in ("", ".", "..") for part in parts):
        reason = "leaves its folder or holds an empty step"
    elif len(path.encode()) > MAX_PATH or any(len(part.encode()) > MAX_NAME for part in parts):
        reason = "is too long"
    if reason is not None:
        raise PackageError.of(f"the path {show(name)} {reason}")
    return path


class Names:
    """The paths of one package so far: no path twice, not even in another case, and no file that is also a folder."""

    def __init__(self) -> None:
        self._files: dict[str, str] = {}
        self._folders: dict[str, str] = {}

    def add(self, path: str) -> None:
        """Takes one path; PackageError if another one is in its way."""
        folded = _fold(path)
        if folded in self._files:
            other = self._files[folded]
            clash = "stands twice" if other == path else f"differs from {show(other)} only in case"
            raise PackageError.of(f"the path {show(path)} {clash}")
        self._files[folded] = path
        if len(self._files) > MAX_FILES:
            raise PackageError.of(f"the package holds more than {MAX_FILES} files")
        for folder in _parents(path):
            known = self._folders.setdefault(_fold(folder), folder)
            if known != folder:
                raise PackageError.of(f"the folder {show(folder)} differs from {show(known)} only in case")
            if _fold(folder) in self._files:
                raise PackageError.of(f"{show(folder)} is a file and a folder")
        if folded in self._folders:
            raise PackageError.of(f"{show(path)} is a file and a folder")


def _fold(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()


def _parents(path: str) -> Iterable[str]:
    parts = path.split("/")
    return ("/".join(parts[:count]) for count in range(1, len(parts)))
