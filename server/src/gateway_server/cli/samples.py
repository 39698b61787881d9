"""Commands with values for what a function needs, ready for a shell."""

import json
import shlex
from typing import Any

from gateway_server.prefabs.functions import Function

_SAMPLES: dict[str, Any] = {"number": 1.5, "integer": 1, "boolean": True, "object": {}, "array": []}


def command(prefab_id: str, version: str, function: Function) -> str:
    """What runs a function of a version."""
    words = ["gateway", "run", f"{prefab_id}@{version}", function.name]
    for parameter in function.parameters:
        if parameter.required:
            words += ["-p", _value(parameter.name, parameter.type, parameter.enum)]
    for key, group in function.inputs.items():
        if group.min_items:
            words += ["-f", f"{key}=PATH"]
    if function.streaming:
        words.append("--stream")
    return shlex.join(words)


def _value(name: str, kind: str, choices: Any) -> str:
    value = choices[0] if choices else _SAMPLES.get(kind, "text")
    return f"{name}={value}" if isinstance(value, str) else f"{name}:={json.dumps(value)}"
