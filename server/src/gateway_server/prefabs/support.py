"""The gateway's own SDK and runtime, handed to prefabs: as a wheel to resolve with, as a folder to import from."""

from __future__ import annotations

import base64
import compileall
import csv
import hashlib
import importlib.util
import io
import os
import py_compile
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from importlib.metadata import Distribution, distribution
from pathlib import Path

from gateway_server.prefabs.requirements import RUNTIME, SDK

_MODULES = {SDK: "gateway_sdk", RUNTIME: "gateway_runtime"}
#: The oldest time that a zip archive can state; the same contents always make the same wheel.
_EPOCH = (1980, 1, 1, 0, 0, 0)


def sdk_wheel(folder: Path) -> Path:
    """The installed SDK, editable or not, as a wheel in `folder`."""
    contents = _contents(SDK)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in contents.items():
            member = zipfile.ZipInfo(path, _EPOCH)
            member.external_attr = 0o100644 << 16
            archive.writestr(member, data, zipfile.ZIP_DEFLATED)
    wheel = folder / f"{SDK.replace('-', '_')}-{distribution(SDK).version}-py3-none-any.whl"
    if not wheel.is_file() or wheel.read_bytes() != packed.getvalue():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".wheel-", delete=False) as file:
            file.write(packed.getvalue())
        os.chmod(file.name, 0o644)
        os.replace(file.name, wheel)
    return wheel


def lay_out_support(folder: Path) -> Path:
    """A folder below `folder`, named by its contents, from which workers import the SDK and the runtime."""
    contents = _contents(SDK) | _contents(RUNTIME)
    target = folder / _digest(contents)
    if target.is_dir():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=folder))
    for path, data in contents.items():
        (staging / path).parent.mkdir(parents=True, exist_ok=True)
        (staging / path).write_bytes(data)
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    compileall.compile_dir(staging, quiet=2, invalidation_mode=mode)
    _make_readable(staging)
    try:
        os.rename(staging, target)
    except OSError:
        shutil.rmtree(staging, ignore_errors=True)
        if not target.is_dir():  # else another process was faster
            raise
    return target


def _contents(name: str) -> dict[str, bytes]:
    """The files of a wheel of an installed distribution, RECORD included, in order."""
    installed = distribution(name)
    info = f"{name.replace('-', '_')}-{installed.version}.dist-info"
    contents = _modules(_MODULES[name])
    contents[f"{info}/METADATA"] = _metadata(installed)
    contents[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: gateway\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    contents = dict(sorted(contents.items()))
    contents[f"{info}/RECORD"] = _record(contents, f"{info}/RECORD")
    return contents


def _modules(module: str) -> dict[str, bytes]:
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"the package {module} is not installed")
    root = Path(spec.submodule_search_locations[0])
    files = (path for path in root.rglob("*") if path.is_file() and path.suffix not in (".pyc", ".pyo"))
    return {f"{module}/{path.relative_to(root).as_posix()}": path.read_bytes() for path in files}


def _metadata(installed: Distribution) -> bytes:
    text = installed.read_text("METADATA")
    if text is None:
        raise FileNotFoundError(f"the metadata of {installed.name} are not installed")
    return text.encode()


def _record(contents: Mapping[str, bytes], own_path: str) -> bytes:
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    for path, data in contents.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        writer.writerow([path, f"sha256={digest}", len(data)])
    writer.writerow([own_path, "", ""])
    return lines.getvalue().encode()


def _digest(contents: Mapping[str, bytes]) -> str:
    total = hashlib.sha256(f"{sys.implementation.cache_tag}\n".encode())
    for path, data in contents.items():
        total.update(f"{path}\0{hashlib.sha256(data).hexdigest()}\n".encode())
    return total.hexdigest()[:40]


def _make_readable(root: Path) -> None:
    """For workers of other uids; its owner can remove it without a change of modes, as any folder."""
    for path in (*root.rglob("*"), root):
        path.chmod(0o755 if path.is_dir() else 0o444)
