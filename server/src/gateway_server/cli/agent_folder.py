"""Agents as folders: what `[tool.gateway.agent]` of a `pyproject.toml` says."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway_server.cli.failures import Failure

PYPROJECT = "pyproject.toml"
TABLE = "tool.gateway.agent"
_MEMBERS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "id": (str, "a text"),
    "app": (str, 'a text such as "main:app"'),
    "health-path": (str, 'a text such as "/health"'),
    "timeout": ((int, float), "a number of seconds"),
}


@dataclass(frozen=True, kw_only=True)
class AgentFolder:
    """How the agent in a folder is run and registered."""

    folder: Path
    id: str
    app: str
    """Where the ASGI application is: `module:attribute`."""
    health_path: str | None = None
    timeout: float | None = None


def is_agent(folder: Path) -> bool:
    """Whether a folder says that it holds an agent; a file that cannot be read counts if it looks like it."""
    try:
        return f"[{TABLE}]" in (folder / PYPROJECT).read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return False


def read_agent(folder: Path) -> AgentFolder:
    """The agent in a folder.

    Raises:
        Failure: what the file says cannot be.
    """
    file = folder / PYPROJECT
    try:
        table = tomllib.loads(file.read_text("utf-8"))["tool"]["gateway"]["agent"]
    except KeyError:
        raise Failure(f"{file} has no table [{TABLE}].") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Failure(f"{file} cannot be read: {error}.") from error
    _check(table, file)
    return AgentFolder(
        folder=folder,
        id=table["id"],
        app=table["app"],
        health_path=table.get("health-path"),
        timeout=table.get("timeout"),
    )


def _check(table: dict[str, Any], file: Path) -> None:
    for name, value in table.items():
        if name not in _MEMBERS:
            raise Failure(f"{file}: [{TABLE}] knows no {name!r}; there are: {', '.join(_MEMBERS)}.")
        kind, words = _MEMBERS[name]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise Failure(f"{file}: {name!r} in [{TABLE}] must be {words}.")
    missing = [name for name in ("id", "app") if name not in table]
    if missing:
        raise Failure(f"{file}: [{TABLE}] needs {' and '.join(missing)}: {_MEMBERS[missing[0]][1]}.")
    module, colon, attribute = table["app"].partition(":")
    if not (module and colon and attribute):
        raise Failure(f"{file}: 'app' in [{TABLE}] must name a module and the application in it, such as \"main:app\".")
