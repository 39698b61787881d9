"""What a request for a run says besides its body: how long it may take, and whether its caller waits for it."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway_server.errors import Invalid, Problem

LONGEST_WAIT = 600.0
"""Seconds that a caller may ask to be kept waiting for a job."""
Deadline = float | Invalid | None
"""On the clock of the event loop; None where the caller said nothing."""
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(ms|s)?\Z")
_SECONDS = re.compile(r"\d{1,9}\Z")


@dataclass(frozen=True, kw_only=True)
class Preference:
    """What the header `Prefer` (RFC 7240) asks for."""

    asynchronous: bool = False
    """Whether a job will do for an answer."""
    wait: float = 0.0
    """Seconds to wait for the answer itself before."""


def read_preference(text: str | None) -> Preference:
    """`respond-async` and `wait=SECONDS`, of which either makes the call a job; what nobody knows is passed over."""
    asynchronous, wait = False, 0.0
    for part in (text or "").lower().split(","):
        name, _, value = part.partition("=")
        value = value.strip().strip('"')
        if name.strip() == "respond-async" and not value:
            asynchronous = True
        elif name.strip() == "wait" and _SECONDS.match(value):
            asynchronous, wait = True, min(float(value), LONGEST_WAIT)
    return Preference(asynchronous=asynchronous, wait=wait)


def read_deadline(text: str | None) -> Deadline:
    """When a request ends that says how long it may take: for a batch, one moment for all of its calls."""
    try:
        seconds = parse_duration(text)
    except Invalid as invalid:  # told when everything else is in order
        return invalid
    return None if seconds is None else asyncio.get_running_loop().time() + seconds


def parse_duration(text: str | None) -> float | None:
    """Seconds of a `Cancel-After` header such as ``90s`` or ``1500ms``.

    Raises:
        Invalid: it has another form.
    """
    if text is None:
        return None
    match = _DURATION.match(text.strip())
    if match is None:
        problem = Problem("/headers/Cancel-After", "must be a duration such as 90s or 1500ms")
        raise Invalid(f"The header Cancel-After {problem.message}.", [problem])
    return float(match[1]) / (1000 if match[2] == "ms" else 1)


def read_headers(scope: Mapping[str, Any]) -> dict[str, str]:
    """The headers of a request by their lower-case names."""
    found = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    if "prefer" in found:  # may come in several pieces
        found["prefer"] = ", ".join(value.decode("latin-1") for name, value in scope["headers"] if name == b"prefer")
    return found
