"""What somebody wants to store: where, under which name, for how long. Pure."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway_server.errors import Invalid, Problem
from gateway_server.files.keys import Area, input_key, output_key, workspace_key
from gateway_server.files.names import safe_name
from gateway_server.identity import access
from gateway_server.models import Principal

DEFAULT_TTL = 86400
LONGEST_TTL = 30 * 86400
_CONTENT_TYPE = re.compile(r"[\x21-\x7e]+/[\x20-\x7e]*\Z")


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """A file to be stored. It is made by `wish`, which checks it."""

    area: Area
    name: str
    content_type: str | None
    ttl: float | None
    """Seconds; None is for good."""
    session: str | None

    def expires_at(self, stored_at: datetime) -> datetime | None:
        """When the file ends that is stored at a moment."""
        return None if self.ttl is None else stored_at + timedelta(seconds=self.ttl)


def wish(
    area: Area, filename: str, *, content_type: str | None = None, ttl: float | None = None, session: str | None = None
) -> Wish:
    """A file to be stored.

    Raises:
        Invalid: the content type is none, the ttl or the session does not fit the area.
    """
    if area is Area.PREFAB_OUTPUTS:
        raise _invalid("/area", "What functions write is stored by the gateway; choose outputs, workspace or inputs.")
    if area is Area.OUTPUTS and ttl is not None:
        raise _invalid(
            "/ttl", "Files among the outputs are kept for good; a ttl belongs to the workspace or to inputs."
        )
    if area is not Area.WORKSPACE and session is not None:
        raise _invalid("/session_id", "Sessions belong to files of the workspace only.")
    if ttl is None and area is Area.WORKSPACE:
        ttl = DEFAULT_TTL
    if ttl is not None and not 1 <= ttl <= LONGEST_TTL:
        raise _invalid("/ttl", f"The ttl must be between 1 and {LONGEST_TTL} seconds.")
    if session is not None:
        access.check_name(session, "Session", "/session_id")
    return Wish(
        area=area, name=safe_name(filename), content_type=checked_type(content_type), ttl=ttl, session=session or None
    )


def input_wish(key: str, content_type: str | None) -> Wish:
    """What stands behind a key that `input_key` made."""
    name = key.rpartition("/")[2].partition("-")[2]
    return Wish(area=Area.INPUTS, name=name, content_type=content_type, ttl=None, session=None)


def checked_type(content_type: str | None) -> str | None:
    """A content type that may stand in a header.

    Raises:
        Invalid: it may not.
    """
    if not content_type:
        return None
    if len(content_type) > 255 or not _CONTENT_TYPE.match(content_type):
        raise _invalid("/content_type", f"{content_type[:80]!r} is no content type, such as text/plain.")
    return content_type


def key_maker(principal: Principal, wanted: Wish, identifier: str) -> Callable[[datetime], str]:
    """From a moment to the key under which the caller's file is stored.

    Raises:
        MissingAgentContext: the area belongs to agents, and the caller is none.
    """
    user = access.check_name(principal.user, "User")
    if wanted.area is Area.INPUTS:
        return lambda moment: input_key(user, moment, identifier, wanted.name)
    agent = access.check_name(access.require_agent(principal), "Agent")
    if wanted.area is Area.OUTPUTS:
        return lambda moment: output_key(user, agent, moment, wanted.name)
    return lambda moment: workspace_key(user, agent, wanted.session, moment, wanted.name)


def _invalid(pointer: str, message: str) -> Invalid:
    return Invalid(message, [Problem(pointer, message)])
