from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import stat
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uv import find_uv_bin

from gateway_server.prefabs import archives, paths
from gateway_server.prefabs.archives import CHUNK
from gateway_server.prefabs.package import Package, PackageError, open_package, pack_folder

from .conftest import PYPROJECT, WriteFiles, manifest

MANIFEST = json.dumps(manifest()).encode()
MAIN = b"def greet(name): ...\n"


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[Path], Package]:
    """Opens a package and unpacks archives where the test can look."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return lambda path: open_package(path, scratch=scratch)


def refusal(path: Path, scratch: Path) -> str:
    """Why a package is refused; nothing may stay behind."""
    scratch.mkdir(exist_ok=True)
    before = sorted(scratch.parent.rglob("*"))
    with pytest.raises(PackageError) as caught:
        open_package(path, scratch=scratch)
    assert sorted(scratch.parent.rglob("*")) == before
    return str(caught.value)


def packed(folder: Path) -> Path:
    archive = folder.parent / "packed.tar.gz"
    with archive.open("wb") as out:
        pack_folder(folder, out)
    return archive


def zipped(folder: Path, inside: str = "") -> Path:
    archive = folder.parent / "packed.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, inside + path.relative_to(folder).as_posix())
    return archive


def wheel_of(folder: Path) -> Path:
    out = folder.parent / "dist"
    command = [find_uv_bin(), "build", "--wheel", "--no-build-isolation", "--offline", "-q", "-o", str(out)]
    subprocess.run([*command, "--python", sys.executable, str(folder)], check=True, capture_output=True)
    (wheel,) = out.glob("*.whl")
    return wheel


def test_a_folder(package_folder: Path) -> None:
    package = open_package(package_folder)
    assert package.manifest.id == "hello-world"
    assert list(package.files) == ["prefab-manifest.json", "src/__init__.py", "src/data/词典.txt", "src/main.py"]
    assert package.requirements == ('humanize<5,>=4; python_version > "3.0"', "six>=1.10")
    assert package.requires_python == ">=3.11"
    assert package.warnings == ()
    assert package.size == sum(path.stat().st_size for path in package.files.values())


def test_folder_wheel_and_archives_are_one_package(package_folder: Path, opened: Callable[[Path], Package]) -> None:
    folder = open_package(package_folder)
    for archive in (
        wheel_of(package_folder),
        packed(package_folder),
        zipped(package_folder),
        zipped(package_folder, "hello-world-main/"),
    ):
        with opened(archive) as package:
            assert package.digest == folder.digest
            assert package.requirements == folder.requirements
            assert package.requires_python == folder.requires_python
            assert list(package.files) == list(folder.files)
            assert package.warnings == ()


def test_the_digest_follows_contents_paths_and_requirements(package_folder: Path) -> None:
    digests = {open_package(package_folder).digest}
    (package_folder / "README.md").write_text("other")
    (package_folder / "src" / ".DS_Store").write_text("junk")
    assert {open_package(package_folder).digest} == digests
    (package_folder / "src" / "__init__.py").write_text("x = 1\n")
    digests.add(open_package(package_folder).digest)
    (package_folder / "src" / "main.py").rename(package_folder / "src" / "other.py")
    digests.add(open_package(package_folder).digest)
    (package_folder / "pyproject.toml").write_text(PYPROJECT.replace("1.10", "1.11"))
    digests.add(open_package(package_folder).digest)
    assert len(digests) == 4


def test_write_to_lays_the_package_out(package_folder: Path, tmp_path: Path) -> None:
    (package_folder / "src" / "main.py").chmod(0o600)
    target = tmp_path / "versions" / "1.0.0"
    open_package(package_folder).write_to(target)
    written = {p.relative_to(target).as_posix(): stat.S_IMODE(p.stat().st_mode) for p in target.rglob("*")}
    assert written == {
        "prefab-manifest.json": 0o644,
        "src": 0o755,
        "src/__init__.py": 0o644,
        "src/main.py": 0o644,
        "src/data": 0o755,
        "src/data/词典.txt": 0o644,
    }
    assert stat.S_IMODE(target.stat().st_mode) == 0o755
    assert os.listdir(target.parent) == ["1.0.0"]
    with pytest.raises(OSError, match="not empty"):
        open_package(package_folder).write_to(target)
    assert os.listdir(target.parent) == ["1.0.0"]


def test_an_opened_archive_leaves_nothing_behind(package_folder: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    archive = packed(package_folder)
    with open_package(archive, scratch=scratch):
        assert os.listdir(scratch)
    assert os.listdir(scratch) == []
    package = open_package(archive, scratch=scratch)
    del package
    assert os.listdir(scratch) == []


def test_packing_is_deterministic_and_takes_only_what_publishing_needs(package_folder: Path) -> None:
    first = packed(package_folder).read_bytes()
    for path in package_folder.rglob("*"):
        os.utime(path, (1, 1))
    assert packed(package_folder).read_bytes() == first
    with tarfile.open(fileobj=io.BytesIO(first)) as archive:
        names = archive.getnames()
    assert names == sorted(
        ["README.md", "prefab-manifest.json", "pyproject.toml", "src/__init__.py", "src/data/词典.txt", "src/main.py"]
    )


def test_a_folder_without_pyproject_has_no_dependencies(write_files: WriteFiles) -> None:
    package = open_package(write_files({"prefab-manifest.json": MANIFEST, "src/main.py": MAIN}))
    assert package.requirements == ()
    assert [problem.pointer for problem in package.warnings] == ["/dependencies_file"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("Six >= 1.10", "six @ https://example.org/six.whl"), "names an address"),
        (("Six >= 1.10", "-r other.txt"), "cannot be read"),
        (("Six >= 1.10", "./local"), "cannot be read"),
        (("Six >= 1.10", "six==${HOME}"), "characters"),
        (("dependencies = [", 'dynamic = ["dependencies"]\nold = ['), "dynamic"),
        (("[project]", "[project"), "cannot be read"),
        (('requires-python = ">=3.11"', 'requires-python = "new"'), "requires-python"),
    ],
)
def test_dependencies_that_are_refused(package_folder: Path, change: tuple[str, str], expected: str) -> None:
    (package_folder / "pyproject.toml").write_text(PYPROJECT.replace(*change))
    with pytest.raises(PackageError, match=expected):
        open_package(package_folder)


def test_the_manifest_counts_where_pyproject_differs(package_folder: Path) -> None:
    changed = PYPROJECT.replace('"hello-world"', '"other"', 1).replace('"1.0.0"', '"2.0.0"')
    (package_folder / "pyproject.toml").write_text(changed + '\n[tool.uv.sources]\nsix = { path = "../six" }\n')
    package = open_package(package_folder)
    assert [problem.pointer for problem in package.warnings] == ["/id", "/version", "/dependencies_file"]


def test_a_wheel_must_be_of_the_version_that_its_manifest_says(package_folder: Path, tmp_path: Path) -> None:
    (package_folder / "pyproject.toml").write_text(PYPROJECT.replace('version = "1.0.0"', 'version = "1.0.1"'))
    assert "version 1.0.0" in refusal(wheel_of(package_folder), tmp_path / "scratch")


def test_a_wheel_must_be_named_after_its_manifest(package_folder: Path, tmp_path: Path) -> None:
    wheel = wheel_of(package_folder)
    other = wheel.rename(wheel.with_name("other-1.0.0-py3-none-any.whl"))
    assert "is called" in refusal(other, tmp_path / "scratch")
    upload = other.rename(other.with_name("upload.tmp"))
    with open_package(upload) as package:
        assert package.manifest.id == "hello-world"


@pytest.mark.parametrize("missing", ["prefab-manifest.json", "src"])
def test_vendored_and_incomplete_packages(package_folder: Path, tmp_path: Path, missing: str) -> None:
    (package_folder / "vendor").mkdir()
    (package_folder / "vendor" / "six.py").write_text("")
    assert "older format" in refusal(zipped(package_folder), tmp_path / "scratch")
    (package_folder / "prefab-manifest.json").unlink()
    assert "no prefab-manifest.json" in refusal(zipped(package_folder), tmp_path / "scratch")


def test_links_in_folders(package_folder: Path, tmp_path: Path) -> None:
    (package_folder / "src" / "alias.py").symlink_to("main.py")
    assert "src/alias.py" in open_package(package_folder).files
    (package_folder / "src" / "passwd").symlink_to("/etc/passwd")
    assert "outside the package" in refusal(package_folder, tmp_path / "scratch")
    (package_folder / "src" / "passwd").unlink()
    (package_folder / "src" / "loop").symlink_to("..")
    assert "link to a folder" in refusal(package_folder, tmp_path / "scratch")
    (package_folder / "src" / "loop").unlink()
    (package_folder / "src" / "nothing").symlink_to("nowhere")
    assert "cannot be read" in refusal(package_folder, tmp_path / "scratch")


def test_a_pipe_in_a_folder_is_refused_without_reading_it(package_folder: Path, tmp_path: Path) -> None:
    os.mkfifo(package_folder / "src" / "pipe")
    assert "not a file" in refusal(package_folder, tmp_path / "scratch")


def tar_of(members: list[tuple[tarfile.TarInfo, bytes]], path: Path) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in (("prefab-manifest.json", MANIFEST), ("src/main.py", MAIN)):
            members = [(member(name, size=len(data)), data), *members]
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return path


def zip_of(members: list[tuple[zipfile.ZipInfo | str, bytes]], path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in (("prefab-manifest.json", MANIFEST), ("src/main.py", MAIN), *members):
            archive.writestr(name, data)
    return path


def member(name: str, **changes: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for key, value in changes.items():
        setattr(info, key, value)
    return info


HOSTILE_NAMES = [
    ".",
    "../evil",
    "src/../../evil",
    "/tmp/evil",
    "src//evil",
    "src/./evil",
    "C:/evil",
    "src\\..\\evil",
    "src/a\nb",
    "src/" + "x" * 256,
    "src/" + "/".join(["y" * 100] * 11),
    "src/MAIN.py",
    "src/main.py/evil",
    "Src/x.py",
    "src/main.py",
]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_hostile_names_in_a_tar(name: str, tmp_path: Path) -> None:
    archive = tar_of([(member(name, size=1), b"x")], tmp_path / "x.tar.gz")
    assert refusal(archive, tmp_path / "scratch")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", [*HOSTILE_NAMES, "src/a\0.py"])
def test_hostile_names_in_a_zip(name: str, tmp_path: Path) -> None:
    info = zipfile.ZipInfo("placeholder")
    info.filename = name
    assert refusal(zip_of([(info, b"x")], tmp_path / "x.zip"), tmp_path / "scratch")


@pytest.mark.parametrize(
    "special",
    [
        {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
        {"type": tarfile.SYMTYPE, "linkname": "main.py"},
        {"type": tarfile.LNKTYPE, "linkname": "src/main.py"},
        {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3},
        {"type": tarfile.BLKTYPE},
        {"type": tarfile.FIFOTYPE},
    ],
)
def test_links_and_devices_in_a_tar(special: dict[str, object], tmp_path: Path) -> None:
    archive = tar_of([(member("src/x", **special), b"")], tmp_path / "x.tar.gz")
    assert "special file" in refusal(archive, tmp_path / "scratch")


def test_links_in_a_zip(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("src/x")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    assert "special file" in refusal(zip_of([(info, b"/etc/passwd")], tmp_path / "x.zip"), tmp_path / "scratch")


def test_writing_through_a_link_is_impossible(tmp_path: Path) -> None:
    link = member("src/out", type=tarfile.SYMTYPE, linkname=str(tmp_path))
    archive = tar_of([(link, b""), (member("src/out/evil", size=1), b"x")], tmp_path / "x.tar.gz")
    refusal(archive, tmp_path / "scratch")
    assert not (tmp_path / "evil").exists()


def test_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "RATIO_FLOOR", 1024**2)
    zeros = bytes(4 * 1024**2)
    for archive in (
        zip_of([("src/zeros", zeros)], tmp_path / "x.zip"),
        tar_of([(member("src/zeros", size=len(zeros)), zeros)], tmp_path / "x.tar.gz"),
    ):
        assert "times its size" in refusal(archive, tmp_path / "scratch")
    monkeypatch.setattr(archives, "MAX_UNPACKED", 1024**2)
    for name in ("x.zip", "x.tar.gz"):
        assert "larger than" in refusal(tmp_path / name, tmp_path / "scratch")


def test_a_zip_that_lies_about_its_sizes(tmp_path: Path) -> None:
    archive = zip_of([("src/data", b"x" * 1000)], tmp_path / "x.zip")
    raw = bytearray(archive.read_bytes())
    at = raw.rindex(b"src/data") - 46
    raw[at + 24 : at + 28] = (10).to_bytes(4, "little")
    archive.write_bytes(raw)
    assert refusal(archive, tmp_path / "scratch")


def test_a_zip_whose_members_lie_before_its_beginning(tmp_path: Path) -> None:
    archive = zip_of([], tmp_path / "x.zip")
    raw = bytearray(archive.read_bytes())
    raw[-6:-2] = (int.from_bytes(raw[-6:-2], "little") + 1000).to_bytes(4, "little")
    archive.write_bytes(raw)
    assert refusal(archive, tmp_path / "scratch")


def test_too_many_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_ENTRIES", 5)
    many = zip_of([(f"src/{n}", b"") for n in range(9)], tmp_path / "x.zip")
    assert "entries" in refusal(many, tmp_path / "scratch")
    many = tar_of([(member(f"src/{n}"), b"") for n in range(9)], tmp_path / "x.tar.gz")
    assert "entries" in refusal(many, tmp_path / "scratch")
    monkeypatch.setattr(archives, "MAX_ENTRIES", 50)
    monkeypatch.setattr(paths, "MAX_FILES", 5)
    assert "5 files" in refusal(many, tmp_path / "scratch")


def test_a_tar_header_that_does_not_fit_in_memory(tmp_path: Path) -> None:
    huge = member("pax", type=tarfile.XHDTYPE, size=64 * 1024**2)
    archive = tmp_path / "x.tar.gz"
    with gzip.open(archive, "wb") as file:
        file.write(huge.tobuf(tarfile.USTAR_FORMAT))
        for _ in range(64):
            file.write(bytes(1024**2))
    assert "header" in refusal(archive, tmp_path / "scratch")


@pytest.mark.parametrize(
    "content", [b"", b"PK", b"PK\x03\x04", b"\x1f\x8b", b"\x1f\x8b\x08\x00", b"hello", b"PK\x05\x06"]
)
def test_files_that_are_no_archives(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(content)
    assert refusal(tmp_path / "x.zip", tmp_path / "scratch")
    with pytest.raises(PackageError):
        open_package(tmp_path / "nothing")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(data=st.data(), kind=st.sampled_from(["x.zip", "x.tar.gz"]))
def test_damaged_archives_are_read_or_refused(data: st.DataObject, kind: str, tmp_path: Path) -> None:
    source = tmp_path / f"good-{kind}"
    if not source.exists():
        zip_of([], source) if kind == "x.zip" else tar_of([], source)
        (tmp_path / "scratch").mkdir(exist_ok=True)
    raw = bytearray(source.read_bytes())
    packed_tar = kind == "x.tar.gz" and data.draw(st.booleans())
    if packed_tar:  # damage below the compression
        raw = bytearray(gzip.decompress(raw))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.integers(1, len(raw)))] if data.draw(st.booleans()) else raw
    (tmp_path / kind).write_bytes(gzip.compress(raw) if packed_tar else raw)
    with contextlib.suppress(PackageError):
        open_package(tmp_path / kind, scratch=tmp_path / "scratch").close()
    assert os.listdir(tmp_path / "scratch") == []


def test_what_tools_left_behind_may_hold_links(package_folder: Path, tmp_path: Path) -> None:
    (package_folder / ".venv" / "bin").mkdir(parents=True)
    (package_folder / ".venv" / "bin" / "python").symlink_to("/usr/bin/python3")
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as file:
        file.add(package_folder, "hello")
    with open_package(tmp_path / "x.tar.gz") as package:
        assert package.digest == open_package(package_folder).digest
    info = zipfile.ZipInfo("node_modules/.bin/tool")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with open_package(zip_of([(info, b"../tool.js")], tmp_path / "x.zip")) as package:
        assert set(package.files) == {"prefab-manifest.json", "src/main.py"}


def test_metadata_of_another_kind(package_folder: Path, tmp_path: Path) -> None:
    for value in ("5", "true", "'x'"):
        text = PYPROJECT.replace("dependencies = [", f"dynamic = {value}\ndependencies = [", 1)
        (package_folder / "pyproject.toml").write_text(text)
        assert open_package(package_folder).requirements
    members: list[tuple[zipfile.ZipInfo | str, bytes]] = [("x.dist-info/METADATA/x", b""), ("x.dist-info/WHEEL", b"")]
    assert "exactly one" in refusal(zip_of(members, tmp_path / "x.whl"), tmp_path / "scratch")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (".".join("a" * 20_000) + " = 1", "more than 16 parts"),
        (f"[{'.'.join('a' * 999)}]\n" + "".join(f"b{n}.{'.'.join('a' * 998)} = 1\n" for n in range(9)), "16 parts"),
        ('x = {k = """\n \' """, ' + ' . "b" . b . "\\""' * 9 + " = 1}", "more than 16 parts"),
        ("#" * 600_000, "larger than 512 KiB"),
    ],
)
def test_a_pyproject_that_would_take_gigabytes_to_read(package_folder: Path, text: str, expected: str) -> None:
    (package_folder / "pyproject.toml").write_text(f"{PYPROJECT}\n{text}\n")
    with pytest.raises(PackageError, match=expected):
        open_package(package_folder)


def test_a_pyproject_may_have_as_many_dots_as_it_likes(package_folder: Path) -> None:
    many = ", ".join(f'"package-{number}==1.2.3"' for number in range(600))
    notes = f'[tool.notes]\na = "{"x." * 2_000}"\nb = """\n{"y." * 2_000}"""\n# {"z." * 2_000}\n'
    text = PYPROJECT.replace("dependencies = [", f"dependencies = [{many}, ", 1) + notes
    (package_folder / "pyproject.toml").write_text(text)
    assert len(open_package(package_folder).requirements) >= 600


def test_metadata_that_would_take_hours_to_read(tmp_path: Path) -> None:
    headers = b"".join(b"k%x:\n" % number for number in range(100_000))
    members: list[tuple[zipfile.ZipInfo | str, bytes]] = [("x.dist-info/METADATA", headers), ("x.dist-info/WHEEL", b"")]
    assert "lines of headers" in refusal(zip_of(members, tmp_path / "x.whl"), tmp_path / "scratch")


@pytest.mark.parametrize("row", [b"1" * CHUNK, b"1" * 255 + b" hdrcharset="])
def test_a_tar_header_that_would_take_long_to_read(tmp_path: Path, row: bytes) -> None:
    pax = member("pax", type=tarfile.XHDTYPE, size=CHUNK)
    archive = tmp_path / "x.tar.gz"
    with gzip.open(archive, "wb") as file:
        file.write(pax.tobuf(tarfile.USTAR_FORMAT) + (row * (CHUNK // len(row) + 1))[:CHUNK] + member("src/a").tobuf())
    began = time.monotonic()
    assert "take long" in refusal(archive, tmp_path / "scratch")
    assert time.monotonic() - began < 2  # without a look it is ten seconds, in which nothing else goes on


def test_tar_headers_that_are_many_and_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_HEADERS", 9_000)
    contents = [(member("src/b", size=20_000), b"a" * 20_000)]
    with open_package(tar_of(contents, tmp_path / "few.tar.gz")) as package:
        assert "src/b" in package.files
    long = [(member(f"src/a{number}", pax_headers={"comment": "x" * 600}), b"") for number in range(9)]
    assert "take long" in refusal(tar_of(long, tmp_path / "many.tar.gz"), tmp_path / "scratch")


def test_contents_of_digits_are_no_header(tmp_path: Path) -> None:
    archive = tar_of(
        [(member(name, size=300_000), b"1" * 300_000) for name in ("src/digits", ".venv/digits")], tmp_path / "x.tar.gz"
    )
    with open_package(archive) as package:
        assert package.files["src/digits"].stat().st_size == 300_000


def test_contents_may_be_read_in_pieces_larger_than_a_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Python 3.14 does."""
    content = tarfile.ExFileObject

    def large(*arguments: object) -> io.BufferedReader:
        return io.BufferedReader(content(*arguments).detach(), 2 * CHUNK)  # type: ignore[arg-type]

    monkeypatch.setattr(tarfile.TarFile, "fileobject", staticmethod(large))
    archive = tar_of([(member("src/data", size=300_000), b"a" * 300_000)], tmp_path / "x.tar.gz")
    with open_package(archive) as package:
        assert package.files["src/data"].stat().st_size == 300_000
