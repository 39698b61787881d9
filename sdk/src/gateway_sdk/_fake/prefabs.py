"""The prefabs of the gateway in memory: functions of the test, by prefab, version and name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from ..exceptions import PrefabNotFoundError
from ..models import PrefabCall
from .wire import refusals

Function = Callable[..., Any]
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Ready(NamedTuple):
    """A call that fits its function."""

    call: PrefabCall
    """With the version that runs."""
    work: Callable[[], Any]
    """Calls the function."""
    about: dict[str, str]
    """What results tell of the version."""


class FakePrefabs:
    """Every function that can be called."""

    def __init__(self) -> None:
        self._functions: dict[tuple[str, str], dict[str, Function]] = {}
        self._deprecated: dict[tuple[str, str], str] = {}

    def add(self, prefab_id: str, version: str, name: str, function: Function, deprecated: str | None) -> None:
        """One more function; `deprecated` says of its version what to use instead."""
        self._functions.setdefault((prefab_id, version), {})[name] = function
        if deprecated is not None:
            self._deprecated[prefab_id, version] = deprecated

    def ready(self, call: PrefabCall) -> Ready:
        """The call, to be run.

        Raises:
            PrefabNotFoundError: there is no such prefab, version or function.
            ValidationError: the arguments or files are not what the function takes.
        """
        versions = self._versions(call.prefab_id)
        if call.version == "latest" and versions:
            call = PrefabCall(call.prefab_id, versions[0], call.function_name, call.parameters, call.files)
        function = self._function(call)
        arguments = _arguments(function, call)
        return Ready(call, lambda: function(**arguments), self._about(call))

    def _function(self, call: PrefabCall) -> Function:
        functions = self._functions.get((call.prefab_id, call.version), {})
        if call.function_name in functions:
            return functions[call.function_name]
        name, versions = call.prefab_id, self._versions(call.prefab_id)
        message = f"There is no prefab {name}."
        if functions:
            names = ", ".join(functions)
            message = f"Prefab {name}@{call.version} has no function {call.function_name}; it has: {names}."
        elif versions:
            message = f"Prefab {name} has no version {call.version}; there are: {', '.join(versions[:5])}."
        raise PrefabNotFoundError(message, details={"prefab_id": call.prefab_id, "version": call.version})

    def _versions(self, prefab_id: str) -> list[str]:
        """The newest first."""
        versions = {version for known, version in self._functions if known == prefab_id}
        return sorted(versions, key=lambda version: [int(part) for part in re.findall(r"\d+", version)], reverse=True)

    def _about(self, call: PrefabCall) -> dict[str, str]:
        reason = self._deprecated.get((call.prefab_id, call.version))
        name = f"{call.prefab_id}@{call.version}"
        warning = {} if reason is None else {"warning": f"{name} is deprecated: {reason}"}
        return {"version": call.version, **warning}


def _arguments(function: Function, call: PrefabCall) -> dict[str, Any]:
    """What the function is called with. Its parameter `files` is given the input files, unless the call has a
    parameter of that name."""
    parameters, files = call.parameters, call.files or {}
    try:
        taken = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # those of some built-in functions are not known
        return parameters
    names = [one.name for one in taken if one.kind in _NAMED]
    takes_any = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in taken)
    given = dict(parameters)
    if "files" in names or (takes_any and files):
        given.setdefault("files", files)
    problems = [
        (f"/parameters/{_escaped(one.name)}", "is required")
        for one in taken
        if one.kind in _NAMED and one.default is inspect.Parameter.empty and one.name not in given
    ]
    if not takes_any:
        wanted = f"unknown parameter; the function takes {', '.join(names) or 'none'}"
        problems += [(f"/parameters/{_escaped(name)}", wanted) for name in parameters if name not in names]
        if "files" not in names:
            problems += [(f"/files/{_escaped(key)}", "unknown file key") for key in files]
    if problems:
        raise refusals(problems, of=call.function_name)
    return given


def _escaped(name: str) -> str:
    """A name as a step of a JSON pointer."""
    return name.replace("~", "~0").replace("/", "~1")
