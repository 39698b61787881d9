"""The functions of a manifest: what they are called with, what they need, what they write."""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway_server.prefabs.parameters import OLDER_TYPES, Parameter, Unreadable, read_flag, read_parameters, read_text
from gateway_server.prefabs.problems import Report, is_plain, show, step
from gateway_server.prefabs.retries import ONCE, Retry, read_retry

#: Set by the gateway, or able to change which program runs: never the name of a secret.
RESERVED_NAMES = frozenset(
    {
        "X_INTERNAL_TOKEN",
        "GATEWAY_BASE_URL",
        "GATEWAY_JOB_ID",
        "GATEWAY_ATTEMPT",
        "HOME",
        "TMPDIR",
        "PATH",
        "PYTHONPATH",
        "PYTHONHOME",
        "PYTHONSTARTUP",
    }
    | {"LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT"}
)
MAX_TIMEOUT = 24 * 3600.0
_MEMBERS = ("name", "description", "parameters", "returns", "files", "secrets", "streaming", "timeout", "retry")
_SECRET_MEMBERS = ("name", "description", "instructions", "required")


@dataclass(frozen=True, kw_only=True)
class FileGroup:
    """Files that go in or come out under one key."""

    key: str
    required: bool
    min_items: int = 0
    max_items: int | None = None
    description: str = ""


@dataclass(frozen=True, kw_only=True)
class Secret:
    """What a function needs to know and nobody may see."""

    name: str
    description: str = ""
    instructions: str | None = None
    required: bool = True


@dataclass(frozen=True, kw_only=True)
class Function:
    """One callable function, as far as the manifest could be understood."""

    name: str
    #: Where it stands in the manifest, such as `/functions/0`.
    pointer: str
    description: str = ""
    parameters: tuple[Parameter, ...] = ()
    inputs: Mapping[str, FileGroup] = field(default_factory=dict)
    outputs: Mapping[str, FileGroup] = field(default_factory=dict)
    secrets: tuple[Secret, ...] = ()
    streaming: bool = False
    #: Seconds that a call may take, if the package says so.
    timeout: float | None = None
    #: How often a submitted call is tried, unless the call says so itself.
    retry: Retry = ONCE
    #: The function as the manifest has it.
    raw: Mapping[str, Any]
    #: Why the function cannot be called; None if it can.
    disabled: str | None = None


def read_function(raw: object, pointer: str, report: Report) -> Function | None:
    """One function; disabled if a part of it cannot be understood, None if it cannot even be named."""
    if not isinstance(raw, dict):
        report.warn(pointer, f"a function must be an object, not {show(raw)}; it is left out")
        return None
    name = raw.get("name")
    if not isinstance(name, str) or not is_python_name(name):
        report.warn(step(pointer, "name"), f"{show(name)} is not the name of a Python function; it is left out")
        return None
    report.check_keys(raw, _MEMBERS, pointer)
    description = read_text(raw, "description", pointer, report)
    try:
        return _read_parts(name, description, raw, pointer, report)
    except Unreadable as error:
        report.warn(error.pointer, f"{error.reason}; the function {name!r} is disabled")
        return Function(name=name, description=description, raw=raw, pointer=pointer, disabled=error.reason)


def _read_parts(name: str, description: str, raw: dict[str, Any], pointer: str, report: Report) -> Function:
    groups = _read_groups(raw.get("files"), step(pointer, "files"), report)
    return Function(
        name=name,
        pointer=pointer,
        description=description,
        parameters=read_parameters(raw.get("parameters"), step(pointer, "parameters"), report),
        inputs={group.key: group for kind, group in groups if kind == "InputFile"},
        outputs={group.key: group for kind, group in groups if kind == "OutputFile"},
        secrets=_read_secrets(raw.get("secrets"), step(pointer, "secrets"), report),
        streaming=read_flag(raw, "streaming", False, pointer, report),
        timeout=_read_timeout(raw.get("timeout"), step(pointer, "timeout"), report),
        retry=_read_retry(raw.get("retry"), step(pointer, "retry"), report),
        raw=raw,
    )


def _read_retry(raw: object, pointer: str, report: Report) -> Retry:
    policy = ONCE if raw is None else read_retry(raw, pointer)
    if isinstance(policy, Retry):
        return policy
    for problem in policy:
        report.warn(problem.pointer, f"{problem.message}; the function is tried once")
    return ONCE


def is_python_name(name: str) -> bool:
    """Whether a `def` could have this name."""
    normal = unicodedata.normalize("NFKC", name) == name
    return normal and name.isidentifier() and not keyword.iskeyword(name) and len(name) <= 100


def _read_groups(raw: object, pointer: str, report: Report) -> list[tuple[str, FileGroup]]:
    if raw is None:
        return []
    if not isinstance(raw, dict):
        raise Unreadable(pointer, "`files` must be an object of named file groups")
    return [_read_group(key, group, step(pointer, key), report) for key, group in raw.items()]


def _read_group(key: str, raw: object, pointer: str, report: Report) -> tuple[str, FileGroup]:
    if not is_folder_name(key):
        raise Unreadable(pointer, f"{show(key)} cannot name a folder, so it cannot name a file group")
    if not isinstance(raw, dict):
        raise Unreadable(pointer, f"a file group must be an object, not {show(raw)}")
    kind, single = _read_kind(raw, pointer)
    if single:
        report.warn(pointer, 'a file group is an array: {"type": "array", "items": {"type": …}}; read as one file')
    required = read_flag(raw, "required", True, pointer, report)
    least = _read_bound(raw, "minItems", pointer, report)
    most = _read_bound(raw, "maxItems", pointer, report)
    minimum = least if least is not None else int(required)
    if most is not None and most < max(minimum, 1):
        report.warn(step(pointer, "maxItems"), f"maxItems {most} contradicts at least {max(minimum, 1)}; it is ignored")
        most = None
    if single:
        most = 1 if minimum <= 1 else None
    description = read_text(raw, "description", pointer, report)
    group = FileGroup(key=key, required=required, min_items=minimum, max_items=most, description=description)
    return kind, group


def _read_kind(raw: dict[str, Any], pointer: str) -> tuple[str, bool]:
    """InputFile or OutputFile, and whether it stood there without the array around it."""
    items = raw.get("items")
    kind = items.get("type") if isinstance(items, dict) else items
    if isinstance(kind, str) and kind in OLDER_TYPES:
        return kind, False
    own = raw.get("type")
    if items is None and isinstance(own, str) and own in OLDER_TYPES:
        return own, True
    raise Unreadable(step(pointer, "items"), f"items.type must be InputFile or OutputFile, not {show(kind)}")


def _read_bound(raw: dict[str, Any], key: str, pointer: str, report: Report) -> int | None:
    value = raw.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0 or value != int(value):
        report.warn(step(pointer, key), f"{show(value)} is not a number of files; it is ignored")
        return None
    return int(value)


def is_folder_name(name: str) -> bool:
    """Whether `data/inputs/<name>/` is one folder and nothing else."""
    plain = is_plain(name) and "/" not in name and "\\" not in name
    return plain and name not in ("", ".", "..") and len(name.encode()) <= 200


def _read_secrets(raw: object, pointer: str, report: Report) -> tuple[Secret, ...]:
    if raw is None:
        return ()
    if not isinstance(raw, list):
        raise Unreadable(pointer, "`secrets` must be an array")
    secrets: dict[str, Secret] = {}
    for index, item in enumerate(raw):
        secret = _read_secret(item, step(pointer, index), report)
        if secret.name in secrets:
            report.warn(step(pointer, index), f"the secret {secret.name} stands twice; the first one counts")
        secrets.setdefault(secret.name, secret)
    return tuple(secrets.values())


def _read_secret(raw: object, pointer: str, report: Report) -> Secret:
    if not isinstance(raw, dict):
        raise Unreadable(pointer, f"a secret must be an object, not {show(raw)}")
    name = raw.get("name")
    if not isinstance(name, str) or not re.fullmatch(r"[A-Z0-9_]{1,128}", name):
        raise Unreadable(step(pointer, "name"), f"a secret is named with A-Z, 0-9 and _, not {show(name)}")
    if name in RESERVED_NAMES:
        raise Unreadable(step(pointer, "name"), f"{name} has a meaning of its own and cannot be a secret")
    report.check_keys(raw, _SECRET_MEMBERS, pointer)
    return Secret(
        name=name,
        description=read_text(raw, "description", pointer, report),
        instructions=read_text(raw, "instructions", pointer, report) or None,
        required=read_flag(raw, "required", True, pointer, report),
    )


def _read_timeout(raw: object, pointer: str, report: Report) -> float | None:
    if raw is None:
        return None
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not 0 < raw <= MAX_TIMEOUT:
        report.warn(pointer, f"{show(raw)} is not a number of seconds up to {MAX_TIMEOUT:g}; it is ignored")
        return None
    return float(raw)
