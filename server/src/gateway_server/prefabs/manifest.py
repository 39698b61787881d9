"""Reads `prefab-manifest.json`: what a prefab is called, what it offers and what it needs to run.

Published manifests contain mistakes. What can be understood all the same is accepted with a warning; one function that
cannot be understood is disabled and leaves the others alone; anything else refuses the package, with every reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from gateway_server.prefabs.document import read_document
from gateway_server.prefabs.functions import FileGroup, Function, Secret, read_function
from gateway_server.prefabs.parameters import OLDER_TYPES, Parameter, read_flag, read_text
from gateway_server.prefabs.problems import PackageError, Problem, Report, show, step
from gateway_server.prefabs.quantities import DEFAULT_CPU, DEFAULT_MEMORY, read_cpu, read_memory
from gateway_server.prefabs.schemas import files_schema, parameters_schema

__all__ = [
    "FileGroup",
    "Function",
    "Manifest",
    "PackageError",
    "Parameter",
    "Problem",
    "Secret",
    "files_schema",
    "parameters_schema",
    "parse_manifest",
]

ENTRY_POINT = "src/main.py"
DEPENDENCIES_FILE = "pyproject.toml"
MAX_FUNCTIONS = 1000

_MEMBERS = (
    *("schema_version", "id", "version", "name", "description", "author", "github_url", "tags", "entry_point"),
    *("dependencies_file", "functions", "execution_environment", "network"),
)
_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_NUMBER = r"(0|[1-9][0-9]{0,8})"
_VERSION = re.compile(rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}")
_ENTRY_POINT = re.compile(r"src(/[^\W\d]\w*)+\.py")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a package says about itself."""

    id: str
    version: str
    name: str
    description: str = ""
    author: str = ""
    github_url: str = ""
    tags: tuple[str, ...] = ()
    entry_point: str = ENTRY_POINT
    dependencies_file: str = DEPENDENCIES_FILE
    functions: tuple[Function, ...]
    #: Cores.
    cpu: float = DEFAULT_CPU
    #: Bytes.
    memory: int = DEFAULT_MEMORY
    #: Whether the functions may reach the network.
    network: bool = True
    #: The manifest as it was written.
    raw: dict[str, Any]
    warnings: tuple[Problem, ...] = ()

    def function(self, name: str) -> Function | None:
        """The function of that name; None if there is none."""
        return self._by_name.get(name)

    @cached_property
    def _by_name(self) -> dict[str, Function]:
        return {function.name: function for function in reversed(self.functions)}


def parse_manifest(raw: bytes | str | Mapping[str, Any]) -> Manifest:
    """The manifest, or a PackageError with everything that is wrong with it."""
    report = Report()
    document = read_document(raw, report)
    _refuse_older_format(document)
    report.check_keys(document, _MEMBERS, "")
    prefab_id = _read_id(document.get("id"), report)
    version = _read_version(document.get("version"), report)
    functions = _read_functions(document.get("functions"), report)
    cpu, memory = _read_resources(document.get("execution_environment"), report)
    if document.get("schema_version") not in (None, "1.0"):
        report.warn("/schema_version", f"{show(document['schema_version'])} is read as '1.0'")
    manifest = Manifest(
        id=prefab_id,
        version=version,
        name=read_text(document, "name", "", report) or prefab_id,
        description=read_text(document, "description", "", report),
        author=read_text(document, "author", "", report),
        github_url=read_text(document, "github_url", "", report),
        tags=_read_tags(document.get("tags"), report),
        entry_point=_read_entry_point(document.get("entry_point"), report),
        dependencies_file=_read_dependencies_file(document, report),
        functions=functions,
        cpu=cpu,
        memory=memory,
        network=read_flag(document, "network", True, "", report),
        raw=document,
        warnings=tuple(report.warnings),
    )
    report.raise_errors()
    return manifest


def _read_id(raw: object, report: Report) -> str:
    if isinstance(raw, str) and 3 <= len(raw) <= 64 and _ID.fullmatch(raw):
        return raw
    found = "is missing" if raw is None else f"{show(raw)} is not allowed"
    report.error("/id", f"the id {found}: 3 to 64 characters, lower-case words joined by single hyphens")
    return ""


def _read_version(raw: object, report: Report) -> str:
    if isinstance(raw, str) and _VERSION.fullmatch(raw):
        return raw
    found = "is missing" if raw is None else f"{show(raw)} is not allowed"
    report.error("/version", f"the version {found}: three numbers such as 1.0.2, without a suffix")
    return ""


def _read_functions(raw: object, report: Report) -> tuple[Function, ...]:
    if not isinstance(raw, list) or not raw:
        report.error("/functions", "the manifest must list at least one function")
        return ()
    if len(raw) > MAX_FUNCTIONS:
        report.error("/functions", f"the manifest lists more than {MAX_FUNCTIONS} functions")
        return ()
    already = len(report.warnings)
    read = (read_function(item, step("/functions", index), report) for index, item in enumerate(raw))
    functions = tuple(function for function in read if function is not None)
    _refuse_duplicates(functions, report)
    if all(function.disabled for function in functions):
        report.error("/functions", "none of the functions can be used")
        report.errors += report.warnings[already:]
    return functions


def _refuse_duplicates(functions: tuple[Function, ...], report: Report) -> None:
    first: dict[str, str] = {}
    for function in functions:
        if function.name in first:
            message = f"the function {function.name!r} is already declared at {first[function.name]}"
            report.error(step(function.pointer, "name"), message)
        first.setdefault(function.name, function.pointer)


def _read_resources(raw: object, report: Report) -> tuple[float, int]:
    if raw is None:
        return DEFAULT_CPU, DEFAULT_MEMORY
    if not isinstance(raw, dict):
        report.warn("/execution_environment", f"must be an object, not {show(raw)}; it is ignored")
        return DEFAULT_CPU, DEFAULT_MEMORY
    report.check_keys(raw, ("cpu", "memory"), "/execution_environment")
    cpu = read_cpu(raw.get("cpu"), "/execution_environment/cpu", report)
    return cpu, read_memory(raw.get("memory"), "/execution_environment/memory", report)


def _read_tags(raw: object, report: Report) -> tuple[str, ...]:
    if raw is None:
        return ()
    if isinstance(raw, list):
        texts = tuple(tag for tag in raw if isinstance(tag, str))
        if len(texts) == len(raw):
            return texts
    report.warn("/tags", "must be an array of texts; anything else in it is ignored")
    return texts if isinstance(raw, list) else ()


def _read_entry_point(raw: object, report: Report) -> str:
    if raw is None:
        return ENTRY_POINT
    if isinstance(raw, str) and _ENTRY_POINT.fullmatch(raw.removeprefix("./")):
        return raw.removeprefix("./")
    report.error("/entry_point", f"must be a Python module below src/, such as {ENTRY_POINT}, not {show(raw)}")
    return ENTRY_POINT


def _read_dependencies_file(document: dict[str, Any], report: Report) -> str:
    name = read_text(document, "dependencies_file", "", report) or DEPENDENCIES_FILE
    if name != DEPENDENCIES_FILE:
        report.warn("/dependencies_file", f"dependencies are read from {DEPENDENCIES_FILE}, never from {show(name)}")
    return name


def _refuse_older_format(document: dict[str, Any]) -> None:
    """Older packages took files as parameters and returned them; reading one as a current one would only break it."""
    functions = document.get("functions")
    for index, function in enumerate(functions if isinstance(functions, list) else []):
        if not isinstance(function, dict):
            continue
        at = step("/functions", index)
        for pointer, kind in (
            *_parameter_types(function, at),
            *_return_types(function.get("returns"), f"{at}/returns"),
        ):
            raise PackageError.of(
                f"this package is written for an older format, in which {kind} is the type of a parameter or of a "
                'return value; declare the files under the function\'s "files" instead, such as "files": {"input": '
                '{"type": "array", "items": {"type": "InputFile"}}, "output": {"type": "array", "items": {"type": '
                '"OutputFile"}}}, read them from data/inputs/input/ and write them to data/outputs/',
                pointer,
            )


def _parameter_types(function: dict[str, Any], at: str) -> Iterator[tuple[str, str]]:
    parameters = function.get("parameters")
    for index, parameter in enumerate(parameters if isinstance(parameters, list) else []):
        pointer = step(f"{at}/parameters", index)
        if isinstance(parameter, dict):
            yield from _older_types(parameter.get("type"), f"{pointer}/type")
            items = parameter.get("items")
            element = items.get("type") if isinstance(items, dict) else items
            yield from _older_types(element, f"{pointer}/items")


def _return_types(returns: object, pointer: str) -> Iterator[tuple[str, str]]:
    if not isinstance(returns, dict):
        return
    yield from _older_types(returns.get("type"), f"{pointer}/type")
    if isinstance(returns.get("items"), dict):
        yield from _return_types(returns["items"], f"{pointer}/items")
    properties = returns.get("properties")
    for name, value in properties.items() if isinstance(properties, dict) else ():
        yield from _return_types(value, step(f"{pointer}/properties", name))


def _older_types(kind: object, pointer: str) -> Iterator[tuple[str, str]]:
    if isinstance(kind, str) and kind in OLDER_TYPES:
        yield pointer, kind
