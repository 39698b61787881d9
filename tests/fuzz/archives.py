"""Packages as strangers send them, and what may become of them."""

import io
import json
import tarfile
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

from fuzz.inputs import broken
from hypothesis import strategies as st

from gateway_server.prefabs.package import open_package
from gateway_server.prefabs.problems import PackageError

MANIFEST: dict[str, Any] = {
    "schema_version": "1.0",
    "id": "sample",
    "version": "1.0.0",
    "name": "Sample",
    "description": "d",
    "tags": ["a"],
    "entry_point": "src/main.py",
    "functions": [
        {
            "name": "f",
            "description": "d",
            "parameters": [
                {"name": "a", "type": "string", "required": True, "enum": ["x", "y"]},
                {"name": "b", "type": "array", "items": {"type": "integer"}, "required": False, "default": None},
                {"name": "c", "type": "object", "required": False},
            ],
            "returns": {"type": "object", "properties": {}},
            "files": {"input": {"type": "array", "items": {"type": "InputFile"}, "minItems": 1, "maxItems": 2}},
            "secrets": [{"name": "KEY", "description": "d", "instructions": "i", "required": False}],
            "streaming": False,
            "retry": {"attempts": 2, "delay": 1.0},
        }
    ],
    "execution_environment": {"cpu": "500m", "memory": "256Mi"},
    "network": True,
}
PYPROJECT = b"[project]\nname='sample'\nversion='1.0.0'\ndependencies=[]\n"
PATHS = [
    "src/main.py",
    "src/a.py",
    "SRC/A.py",
    "src/A.py",
    "src/é.py",
    "src/e\u0301.py",
    "src",
    "src/",
    "../up",
    "src/../../up",
    "/abs",
    "C:\\x",
    "a\\b",
    "./src/b.py",
    "src//c.py",
    "src/" + "n" * 300,
    "a/" * 600 + "x",
    "src/con",
    "src/\0",
    "src/\u202e",
    "",
    ".",
    "..",
    ".git/config",
    "src/link/x",
    "src/link",
    "prefab-manifest.json",
    "pyproject.toml",
]
KINDS = [
    tarfile.REGTYPE,
    tarfile.REGTYPE,
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.CHRTYPE,
    tarfile.FIFOTYPE,
    tarfile.DIRTYPE,
]
member = st.tuples(
    st.sampled_from(PATHS), st.sampled_from(KINDS), st.sampled_from(["../..", "/etc/passwd", "src/main.py"])
)


def tarred(members: list[tuple[str, bytes, str]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        for name, content in GOOD.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, kind, to in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, to, 4 if kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(b"text") if kind == tarfile.REGTYPE else None)
    return out.getvalue()


def zipped(members: list[tuple[str, bytes, str]]) -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")  # the same name twice is what is wanted
        for name, content in GOOD.items():
            archive.writestr(name, content)
        for name, kind, to in members:
            info = zipfile.ZipInfo(name.replace("\0", "") or "x")
            info.external_attr = {tarfile.SYMTYPE: 0o120777, tarfile.FIFOTYPE: 0o010666}.get(kind, 0o100644) << 16
            archive.writestr(info, to)
    return out.getvalue()


GOOD = {
    "prefab-manifest.json": json.dumps(MANIFEST).encode(),
    "pyproject.toml": PYPROJECT,
    "src/main.py": b"def f(a): ...",
}
archives = broken(st.tuples(st.lists(member, max_size=3), st.sampled_from([tarred, zipped])).map(lambda m: m[1](m[0])))


def check_archive(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as whole:
        above = Path(whole)
        scratch = above / "scratch"
        scratch.mkdir()
        archive = above / "package.whl" if data[:2] == b"PK" and len(data) % 2 else above / "package"
        archive.write_bytes(data)
        try:
            with open_package(archive, scratch=scratch) as package:
                assert package.temporary is not None
                for path, place in package.files.items():
                    assert place.resolve().is_relative_to(package.temporary.folder.resolve()), path
                    assert ".." not in path.split("/")
                for place in package.temporary.folder.rglob("*"):
                    assert not place.is_symlink()
                    assert place.is_dir() or place.is_file()
        except PackageError as refusal:
            str(refusal).encode()
        assert sorted(above.iterdir()) == sorted([archive, scratch])
        assert not list(scratch.iterdir())
