"""Reads the text of a manifest into plain JSON values, within limits and without surprises later on."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from gateway_server.prefabs.problems import PackageError, Report, show, step

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 64
MAX_NODES = 500_000


def read_document(raw: bytes | str | Mapping[str, Any], report: Report) -> dict[str, Any]:
    """The manifest as a fresh dictionary of plain JSON values."""
    value = _from_text(raw, report) if isinstance(raw, bytes | str) else raw
    if not isinstance(value, Mapping):
        raise PackageError.of("the manifest must be a JSON object")
    copy = _Copier(report).copy(value, "", 0)
    report.raise_errors()
    assert isinstance(copy, dict)
    return copy


def _from_text(raw: bytes | str, report: Report) -> Any:
    size = len(raw) if isinstance(raw, bytes) else len(raw.encode("utf-8", "surrogatepass"))
    if size > MAX_BYTES:
        raise PackageError.of(f"the manifest is larger than {MAX_BYTES // 1024} KiB")
    try:
        text = raw.decode("utf-8-sig") if isinstance(raw, bytes) else raw
    except UnicodeDecodeError as error:
        raise PackageError.of(f"the manifest is not UTF-8 text (byte {error.start})") from error

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        collected = dict(pairs)
        if len(collected) < len(pairs):
            names = [name for name, _ in pairs]
            twice = sorted({name for name in names if names.count(name) > 1}) if len(names) < 1000 else ["…"]
            report.warn("", f"a JSON object names {show(', '.join(twice))} more than once; the last one counts")
        return collected

    def refuse_constant(name: str) -> Any:
        raise PackageError.of(f"the manifest is not JSON: {name} is not a JSON value")

    try:
        return json.loads(text, object_pairs_hook=collect, parse_constant=refuse_constant)
    except json.JSONDecodeError as error:
        message = f"the manifest is not JSON: {error.msg} (line {error.lineno}, column {error.colno})"
        raise PackageError.of(message) from error
    except RecursionError as error:
        raise PackageError.of(f"the manifest is nested more than {MAX_DEPTH} levels deep") from error
    except ValueError as error:  # a number of thousands of digits
        raise PackageError.of(f"the manifest is not JSON that can be read: {error}") from error


class _Copier:
    """Copies values and refuses those that JSON, a database or another reader would not take."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._nodes = 0

    def copy(self, value: object, pointer: str, depth: int) -> Any:
        self._nodes += 1
        if depth > MAX_DEPTH:
            raise PackageError.of(f"the manifest is nested more than {MAX_DEPTH} levels deep")
        if self._nodes > MAX_NODES:
            raise PackageError.of(f"the manifest holds more than {MAX_NODES} values")
        if isinstance(value, Mapping):
            return {self._key(k, pointer): self.copy(v, step(pointer, k), depth + 1) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [self.copy(item, step(pointer, index), depth + 1) for index, item in enumerate(value)]
        return self._scalar(value, pointer)

    def _key(self, key: object, pointer: str) -> str:
        if isinstance(key, str) and _is_clean(key):
            return str(key)
        self._report.error(pointer, f"{show(key)} cannot be the name of a member")
        return ""

    def _scalar(self, value: object, pointer: str) -> object:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            if not _is_clean(value):
                self._report.error(pointer, "the text holds a NUL or half of a surrogate pair")
            return str(value)
        if isinstance(value, int) and -(2**63) <= value < 2**64:
            return int(value)
        if isinstance(value, float) and math.isfinite(value):
            return float(value)
        self._report.error(pointer, f"{show(value)} is not a value that JSON can hold")
        return None


def _is_clean(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)
