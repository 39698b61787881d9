"""What stands beside the manifest: dependencies and names in pyproject.toml, or in the METADATA of a wheel."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from packaging.metadata import parse_email
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from gateway_server.prefabs.folders import PYPROJECT
from gateway_server.prefabs.manifest import Manifest
from gateway_server.prefabs.problems import PackageError, Problem, Report, show
from gateway_server.prefabs.requirements import OWN, RequirementRefused, name_of, needs_extra, normalise

MAX_BYTES = 4 * 1024**2
MAX_TOML = 512 * 1024
#: What follows the first part of a key that has too many: the parser takes their square in time and memory, which is
#: gigabytes for a few ten thousand, or for a few hundred where many lines have as many.
LONG_KEY = re.compile(rb"(?:\.[ \t]*+[A-Za-z0-9_-]*+[ \t]*+){16}")
#: Comments and texts, in which dots are no part of a key.
QUOTED = re.compile(
    rb"""#[^\n]*+|\"{3}(?:[^"\\]++|\\.|"{1,2}(?!"))*+(?:"{3,5})?|'{3}(?:[^']++|'{1,2}(?!'))*+(?:'{3,5})?"""
    rb"""|"(?:[^"\\\n]++|\\.)*+"?|'[^'\n]*+'?""",
    re.DOTALL,
)
#: Lines before the description of a wheel; the parser compares each with each.
MAX_HEADERS = 5000


@dataclass(frozen=True, kw_only=True)
class Dependencies:
    """What the package needs beside its own code."""

    requirements: tuple[str, ...] = ()
    requires_python: str | None = None
    warnings: tuple[Problem, ...] = ()


def read_pyproject(root: Path, manifest: Manifest) -> Dependencies:
    """What `pyproject.toml` of a folder says; PackageError if it cannot be understood."""
    report = Report()
    file = root / PYPROJECT
    if not file.is_file():
        _refuse_other_file(root, manifest)
        report.warn("/dependencies_file", f"there is no {PYPROJECT}, so the package has no dependencies")
        return Dependencies(warnings=tuple(report.warnings))
    document = _read_toml(file)
    project = document.get("project", {})
    if not isinstance(project, dict):
        raise PackageError.of(f"{PYPROJECT}: [project] must be a table")
    if not project:
        report.warn("/dependencies_file", f"{PYPROJECT} has no [project] table, so the package has no dependencies")
    dynamic = project.get("dynamic")
    if isinstance(dynamic, list) and "dependencies" in dynamic:
        raise PackageError.of(f"{PYPROJECT}: the dependencies are dynamic; list them under [project].dependencies")
    _compare(project, manifest, report)
    texts = project.get("dependencies", [])
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise PackageError.of(f"{PYPROJECT}: [project].dependencies must be an array of texts")
    requirements = _requirements(texts, f"{PYPROJECT}: ")
    _warn_of_sources(document, requirements, report)
    requires_python = _requires_python(project.get("requires-python"), f"{PYPROJECT}: requires-python")
    return Dependencies(requirements=requirements, requires_python=requires_python, warnings=tuple(report.warnings))


def read_wheel_metadata(root: Path, filename: str, manifest: Manifest) -> Dependencies:
    """METADATA of an unpacked wheel, whose version and name must be those of the manifest."""
    found = [path for path in sorted(root.glob("*.dist-info/METADATA")) if path.is_file()]
    if len(found) != 1:
        raise PackageError.of("the wheel must hold exactly one .dist-info/METADATA")
    data = _read_bytes(found[0])
    if sum(1 for _ in takewhile(bool, data.splitlines())) > MAX_HEADERS:
        raise PackageError.of(f"the wheel's METADATA has more than {MAX_HEADERS} lines of headers")
    raw, _ = parse_email(data)
    _check_wheel_version(raw.get("version"), manifest)
    _check_filename(filename, manifest)
    report = Report()
    name = raw.get("name")
    if name is None or canonicalize_name(name) != manifest.id:
        report.warn("/id", f"the wheel's metadata call the package {show(name)}")
    texts = [text for text in raw.get("requires_dist", []) if not needs_extra(text)]
    return Dependencies(
        requirements=_requirements(texts, "the wheel's Requires-Dist: "),
        requires_python=_requires_python(raw.get("requires_python"), "the wheel's Requires-Python"),
        warnings=tuple(report.warnings),
    )


def _check_wheel_version(version: str | None, manifest: Manifest) -> None:
    if not _same_version(version, manifest.version):
        message = f"the manifest says version {manifest.version}, the wheel's metadata say {show(version)}"
        raise PackageError.of(message, "/version")


def _check_filename(filename: str, manifest: Manifest) -> None:
    """A wheel kept under a name of its own (a temporary file) is known by its metadata alone."""
    try:
        name, version, _, _ = parse_wheel_filename(filename)
    except (InvalidWheelFilename, InvalidVersion):
        return
    if name != manifest.id:
        raise PackageError.of(f"the manifest's id is {manifest.id}, the wheel is called {show(filename)}", "/id")
    if version != Version(manifest.version):
        message = f"the manifest says version {manifest.version}, the wheel is called {show(filename)}"
        raise PackageError.of(message, "/version")


def _compare(project: dict[str, Any], manifest: Manifest, report: Report) -> None:
    name = project.get("name")
    if name is not None and (not isinstance(name, str) or canonicalize_name(name) != manifest.id):
        report.warn("/id", f"{PYPROJECT} calls the package {show(name)}")
    version = project.get("version")
    if version is not None and not _same_version(version, manifest.version):
        report.warn("/version", f"{PYPROJECT} says version {show(version)}; the manifest's {manifest.version} counts")


def _warn_of_sources(document: dict[str, Any], requirements: Iterable[str], report: Report) -> None:
    sources = document.get("tool")
    for key in ("uv", "sources"):
        sources = sources.get(key) if isinstance(sources, dict) else None
    redirected = {canonicalize_name(name) for name in sources} if isinstance(sources, dict) else set()
    for name in sorted(redirected.intersection(name_of(requirement) for requirement in requirements) - OWN):
        message = f"{PYPROJECT}: [tool.uv.sources] for {name} is ignored; it comes from the package index"
        report.warn("/dependencies_file", message)


def _refuse_other_file(root: Path, manifest: Manifest) -> None:
    other = manifest.dependencies_file
    if other != PYPROJECT and (root / Path(other).name).is_file():
        message = f"dependencies in {show(other)} are not read; list them under [project].dependencies in {PYPROJECT}"
        raise PackageError.of(message, "/dependencies_file")


def _requirements(texts: Iterable[str], where: str) -> tuple[str, ...]:
    try:
        return normalise(texts)
    except RequirementRefused as error:
        raise PackageError.of(f"{where}{error}") from error


def _requires_python(raw: object, where: str) -> str | None:
    if raw is None or raw == "":
        return None
    try:
        return str(SpecifierSet(raw if isinstance(raw, str) else "?"))
    except InvalidSpecifier as error:
        raise PackageError.of(f"{where} cannot be read: {show(raw)}") from error


def _same_version(found: object, version: str) -> bool:
    try:
        return isinstance(found, str) and Version(found) == Version(version)
    except InvalidVersion:
        return False


def _read_toml(file: Path) -> dict[str, Any]:
    data = _read_bytes(file, MAX_TOML)
    if LONG_KEY.search(QUOTED.sub(b"", data)):
        raise PackageError.of(f"{PYPROJECT} has a key of more than 16 parts")
    try:
        return tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise PackageError.of(f"{PYPROJECT} cannot be read: {error}") from error


def _read_bytes(file: Path, most: int = MAX_BYTES) -> bytes:
    with file.open("rb") as content:
        data = content.read(most + 1)
    if len(data) > most:
        raise PackageError.of(f"{file.name} is larger than {most // 1024} KiB")
    return data
