"""What stands on the command line, taken apart. Pure."""

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from gateway_server.cli import completing

_PARAMETER = re.compile(r"([^:=]+)(:?=)(.*)\Z", re.DOTALL)
_PYTHONIC = {"True": "true", "False": "false", "None": "null"}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d+)?)(ms|s|m|h|d)?\Z")
MOST_DEPTH = 900
"""Levels of JSON; the gateway takes fewer."""
SHOWN = 80
"""Characters of what was given that are told."""
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, None: 1}


class VersionType(click.ParamType[tuple[str, str]]):
    """`ID@VERSION`, as a pair."""

    name = "id@version"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Both parts."""
        if isinstance(value, tuple):
            return value
        prefab_id, at, version = value.partition("@")
        if not (prefab_id and at and version) or "/" in value:
            such = f"{value}@latest" if value and not at and "/" not in value else "echo@1.0.0"
            self.fail(f"{value!r} must name a prefab and its version, such as {such}", param, ctx)
        return prefab_id, version

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """What is published."""
        return completing.prefabs(incomplete)


class DurationType(click.ParamType[float]):
    """Seconds, or a number with ms, s, m, h or d."""

    name = "duration"

    def __init__(self, most_days: int = 366) -> None:
        self._most_days = most_days

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        if isinstance(value, int | float):
            return float(value)
        match = _DURATION.match(value.strip())
        if match is None or float(match[1]) <= 0:
            self.fail(f"{value!r} is no duration; write 90, 90s, 15m or 1h", param, ctx)
        seconds = float(match[1]) * _SECONDS[match[2]]
        if seconds > self._most_days * _SECONDS["d"]:
            self.fail(f"{value!r} is longer than {self._most_days} days", param, ctx)
        return seconds


LONGEST = 1200.0
"""Seconds that a call may take if nothing else is said."""
VERSION, DURATION = VersionType(), DurationType()
TIMEOUT = DurationType(most_days=11)
"""Of a call: the header that tells it to a gateway has room for nine digits of milliseconds."""
as_json = click.option("--json", "is_json", is_flag=True, help="Print JSON.")
from_cursor = click.option("--cursor", help="Go on where a list was cut, which has told this.")


def parameters(given: Iterable[str]) -> dict[str, Any]:
    """`k=v` is a text, `k:=json` any value."""
    found: dict[str, Any] = {}
    for text in given:
        match = _PARAMETER.match(text)
        if match is None:
            raise click.BadParameter(f"{text!r} must be k=v (a text) or k:=json (any value)", param_hint="-p")
        name, operator, value = match.groups()
        refuse_twice(name, found, "-p")
        try:
            found[name] = from_json(value) if operator == ":=" else value
        except ValueError as error:
            right = _PYTHONIC.get(value)
            reason = f"did you mean {right}?" if right else str(error)
            shown = value if len(value) <= SHOWN else f"{value[:SHOWN]}…"
            raise click.BadParameter(f"{name}: {shown!r} is no JSON ({reason})", param_hint="-p") from error
    return found


def from_json(text: str | bytes) -> Any:
    """What JSON says.

    Raises:
        ValueError: it is none, says what JSON cannot say, or is nested deeper than anybody takes it.
    """
    try:
        value = json.loads(text, parse_constant=_refuse_number, parse_float=_finite)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    layer = [value]
    for _ in range(MOST_DEPTH):  # some versions of Python read more than others
        layer = [inner for outer in layer if isinstance(outer, dict | list) for inner in _inner(outer)]
        if not layer:
            return value
    raise ValueError("it is nested too deep")


def _inner(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def _finite(text: str) -> float:
    return number if math.isfinite(number := float(text)) else _refuse_number(text)


def _refuse_number(text: str) -> float:
    raise ValueError(f"{text} is no number that JSON has")


def refuse_twice(name: str, found: Mapping[str, Any], hint: str) -> None:
    """Where a name can have one value only, the first one would be passed over in silence.

    Raises:
        click.BadParameter: it has been found already.
    """
    if name in found:
        raise click.BadParameter(f"{name} is given twice", param_hint=hint)


def files(given: Iterable[str]) -> list[tuple[str, str | Path]]:
    """`key=PATH` or `key=s3://…`, in their order."""
    found: list[tuple[str, str | Path]] = []
    for text in given:
        key, equals, place = text.partition("=")
        if not (key and equals and place):
            raise click.BadParameter(f"{text!r} must be key=PATH or key=s3://…", param_hint="-f")
        if Path(place).is_dir():
            message = f"{place} is a folder: name a file, or pack it into one, such as a zip archive"
            raise click.BadParameter(message, param_hint="-f")
        if not place.startswith("s3://") and not Path(place).exists():
            raise click.BadParameter(f"there is no file {place}", param_hint="-f")
        found.append((key, place if place.startswith("s3://") else Path(place)))
    return found


def assignments(given: Iterable[str], hint: str) -> dict[str, str]:
    """`NAME=VALUE`."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise click.BadParameter(f"{text!r} must be NAME=VALUE", param_hint=hint)
        refuse_twice(name, found, hint)
        found[name] = value
    return found
