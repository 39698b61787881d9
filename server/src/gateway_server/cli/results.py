"""What a call gave, or why it gave nothing, as people see it. Pure."""

from typing import Any

_ENVELOPE = {"status", "output", "files"}


def value_of(data: Any) -> Any:
    """What the function returned; jobs and streams have it in an envelope, together with its files."""
    is_envelope = isinstance(data, dict) and data.keys() == _ENVELOPE and data["status"] == "SUCCESS"
    return data["output"] if is_envelope and isinstance(data["files"], dict) else data


def told_error(error: dict[str, Any]) -> str:
    """An error with the type of its exception, if there was one: `KeyError: 'missing'`."""
    kind, message = error.get("type"), str(error.get("message") or "")
    if not kind or not message or message == kind:
        return str(kind or message)
    return f"{kind}: {message}"
