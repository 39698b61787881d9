"""The forms of object keys, and what a key tells. Pure.

agent-outputs/{user}/{agent}/{YYYY/MM/DD/HHMMSSffffff}-{name}
agent-workspace/{user}/{agent}/{session or "default"}/{YYYYMMDDHHMMSSffffff}-{name}
agent-inputs/{user}/{YYYY/MM/DD}/{id}-{name}
prefab-outputs/{user}/{YYYY/MM/DD}/{job_id}/{name}
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from gateway_server.errors import Invalid, Problem

DEFAULT_SESSION = "default"


class Area(StrEnum):
    """Where a file lies."""

    OUTPUTS = "agent-outputs"
    WORKSPACE = "agent-workspace"
    INPUTS = "agent-inputs"
    PREFAB_OUTPUTS = "prefab-outputs"


_SHORT = {"outputs": Area.OUTPUTS, "workspace": Area.WORKSPACE, "inputs": Area.INPUTS}


@dataclass(frozen=True, slots=True)
class Place:
    """Whose a key is, as it says itself."""

    area: Area
    user: str
    agent: str | None = None
    session: str | None = None


def parse_area(text: str, pointer: str = "/area") -> Area:
    """An area by its name in keys, or by the short one.

    Raises:
        Invalid: it is neither.
    """
    if text in _SHORT:
        return _SHORT[text]
    try:
        return Area(text)
    except ValueError:
        known = ", ".join([*_SHORT, *Area])
        message = f"{text[:80]!r} is no area of files; there are {known}."
        raise Invalid(message, [Problem(pointer, message)]) from None


def place_of(key: str) -> Place | None:
    """What a key tells; None if it lies outside the areas."""
    area, _, rest = key.partition("/")
    parts = rest.split("/")
    if area == Area.OUTPUTS and len(parts) == 6:
        return Place(Area.OUTPUTS, parts[0], parts[1])
    if area == Area.WORKSPACE and len(parts) == 4:
        return Place(Area.WORKSPACE, parts[0], parts[1], parts[2])
    if area == Area.INPUTS and len(parts) == 5:
        return Place(Area.INPUTS, parts[0])
    if area == Area.PREFAB_OUTPUTS and len(parts) >= 6:
        return Place(Area.PREFAB_OUTPUTS, parts[0])
    return None


def output_key(user: str, agent: str, moment: datetime, name: str) -> str:
    """The key of a permanent file of an agent."""
    return f"{Area.OUTPUTS}/{user}/{agent}/{moment:%Y/%m/%d/%H%M%S%f}-{name}"


def workspace_key(user: str, agent: str, session: str | None, moment: datetime, name: str) -> str:
    """The key of a temporary file of an agent."""
    return f"{Area.WORKSPACE}/{user}/{agent}/{session or DEFAULT_SESSION}/{moment:%Y%m%d%H%M%S%f}-{name}"


def input_key(user: str, moment: datetime, identifier: str, name: str) -> str:
    """The key of a user's input."""
    return f"{Area.INPUTS}/{user}/{moment:%Y/%m/%d}/{identifier}-{name}"


def prefab_output_key(user: str, moment: datetime, job_id: str, relative: str) -> str:
    """The key of what a function wrote."""
    return f"{Area.PREFAB_OUTPUTS}/{user}/{moment:%Y/%m/%d}/{job_id}/{relative}"


def area_prefix(area: Area, *levels: str | None) -> str:
    """The beginning of the keys of a user, an agent or a session; levels after the first None are left out."""
    known: list[str] = []
    for level in levels:
        if level is None:
            break
        known.append(level)
    return "/".join([area, *known]) + "/"


def after(prefix: str) -> str:
    """The first text, in the order of bytes, that comes after everything that begins with `prefix`."""
    for at in range(len(prefix) - 1, -1, -1):
        following = ord(prefix[at]) + 1
        if following == 0xD800:
            following = 0xE000
        if following <= 0x10FFFF:
            return prefix[:at] + chr(following)
    return "\U0010ffff"
