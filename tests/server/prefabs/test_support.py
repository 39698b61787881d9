from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

from uv import find_uv_bin

from gateway_server.prefabs.support import lay_out_support, sdk_wheel


def test_the_sdk_wheel_can_be_installed(tmp_path: Path) -> None:
    wheel = sdk_wheel(tmp_path)
    command = [find_uv_bin(), "pip", "install", "-q", "--offline", "--no-deps", "--target", str(tmp_path / "into")]
    subprocess.run([*command, "--python", sys.executable, str(wheel)], check=True, capture_output=True)
    assert (tmp_path / "into" / "gateway_sdk" / "py.typed").is_file()
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = [archive.read(name).decode() for name in archive.namelist() if name.endswith("METADATA")]
        assert not [name for name in archive.namelist() if "__pycache__" in name]
    assert "Requires-Dist: httpx" in metadata


def test_the_sdk_wheel_is_deterministic(tmp_path: Path) -> None:
    first = sdk_wheel(tmp_path / "a")
    second = sdk_wheel(tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()
    before = first.stat().st_mtime_ns
    assert sdk_wheel(tmp_path / "a") == first
    assert first.stat().st_mtime_ns == before


def test_support_can_be_imported_and_is_read_only(tmp_path: Path) -> None:
    support = lay_out_support(tmp_path)
    program = (
        f"import sys; sys.path.insert(0, {str(support)!r}); import gateway_runtime, importlib.metadata as m; "
        "print(gateway_runtime.__file__, m.version('agent-builder-gateway-sdk'), "
        "m.version('agent-builder-gateway-runtime'))"
    )
    shown = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], check=True, capture_output=True, text=True
    ).stdout.split()
    assert Path(shown[0]).is_relative_to(support)
    assert shown[1:] == [version("agent-builder-gateway-sdk"), version("agent-builder-gateway-runtime")]
    assert (support / "gateway_sdk" / "__init__.py").is_file()
    assert {path.stat().st_mode & 0o777 for path in support.rglob("*") if path.is_file()} == {0o444}
    assert {path.stat().st_mode & 0o777 for path in (support, *support.rglob("*")) if path.is_dir()} == {0o755}
    assert lay_out_support(tmp_path) == support
    assert list(tmp_path.iterdir()) == [support]
