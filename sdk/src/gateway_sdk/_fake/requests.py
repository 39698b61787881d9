"""What a request to the gateway in memory wishes, checked as the gateway checks it."""

from __future__ import annotations

import re
from typing import Any

from ..exceptions import GatewayError, ValidationError
from ..models import PrefabCall
from .jobs import LONGEST_DELAY, Retry
from .wire import Asked, refusal, refusals

MOST_CALLS = 1000
MOST_ATTEMPTS = 10
MOST_PRIORITY = 10
LONGEST_KEY = 255
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(ms|s)?\Z")


class Wish:
    """A run or a submission: its calls, or why they cannot be read, and how they are to be run."""

    def __init__(self, asked: Asked) -> None:
        document = asked.json()
        self.key = _key(asked)
        self.seconds = _seconds(asked)
        """Until its deadline; None without one."""
        self.retry = _retry(document)
        calls = document.get("calls", [document] if "prefab_id" in document else None)
        if not isinstance(calls, list) or not calls:
            raise refusal("/calls", "must be a list of at least one call")
        if len(calls) > MOST_CALLS:
            message = f"A batch holds at most {MOST_CALLS} calls; this one has {len(calls)}."
            raise ValidationError(message, error_code="PAYLOAD_TOO_LARGE")
        self.is_stream = document.get("stream") is True
        if self.is_stream and len(calls) > 1:
            raise refusal("/stream", "a stream has exactly one call")
        self.calls = [_read_call(call, f"/calls/{at}") for at, call in enumerate(calls)]


def _key(asked: Asked) -> str:
    key = asked.headers.get("idempotency-key")
    if key is not None and not 0 < len(key) <= LONGEST_KEY:
        raise _header("Idempotency-Key", f"must have 1 to {LONGEST_KEY} characters")
    return key or ""


def _seconds(asked: Asked) -> float | None:
    text = asked.headers.get("cancel-after")
    if text is None:
        return None
    match = _DURATION.match(text.strip())
    if match is None:
        raise _header("Cancel-After", "must be a duration such as 90s or 1500ms")
    return float(match[1]) / (1000 if match[2] == "ms" else 1)


def _header(name: str, message: str) -> ValidationError:
    return refusal(f"/headers/{name}", message, f"The header {name} {message}.")


def _retry(document: dict[str, Any]) -> Retry:
    problems = []
    if not _is_number(document.get("priority", 0), -MOST_PRIORITY, MOST_PRIORITY, int):
        problems.append(("/priority", f"must be a number from -{MOST_PRIORITY} to {MOST_PRIORITY}"))
    retry = document.get("retry") or {}
    if not isinstance(retry, dict):
        raise refusal("/retry", 'must be an object such as {"attempts": 3, "delay": 2}')
    attempts, delay = retry.get("attempts", 1), retry.get("delay", 1.0)
    if not _is_number(attempts, 1, MOST_ATTEMPTS, int):
        problems.append(("/retry/attempts", f"must be a number from 1 to {MOST_ATTEMPTS}"))
    if not _is_number(delay, 0, LONGEST_DELAY, int | float):
        problems.append(("/retry/delay", f"must be seconds, from 0 to {LONGEST_DELAY:g}"))
    if problems:
        raise refusals(problems)
    return Retry(attempts, delay)


def _is_number(value: object, least: float, most: float, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool) and least <= value <= most


def _read_call(raw: object, pointer: str) -> PrefabCall | GatewayError:
    if not isinstance(raw, dict):
        return refusal(pointer, "must be an object")
    names = ("prefab_id", "version", "function_name")
    problems = [
        (f"{pointer}/{name}", "is missing" if name not in raw else "must be a string")
        for name in names
        if not isinstance(raw.get(name), str)
    ]
    inputs = raw.get("inputs", {})
    if not isinstance(inputs, dict):
        problems.append((f"{pointer}/inputs", "must be an object"))
    elif not isinstance(inputs.get("parameters") or {}, dict):
        problems.append((f"{pointer}/inputs/parameters", "must be an object"))
    if problems:
        return refusals(problems)
    parameters, files = inputs.get("parameters") or {}, inputs.get("files")
    return PrefabCall(raw["prefab_id"], raw["version"], raw["function_name"], parameters, files)
