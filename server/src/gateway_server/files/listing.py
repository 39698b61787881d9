"""Listings: which part of somebody's files is asked for. Pure."""

import base64
from dataclasses import dataclass

from gateway_server.errors import Invalid, Problem
from gateway_server.files.keys import Area, area_prefix
from gateway_server.files.records import StoredFile
from gateway_server.identity import access
from gateway_server.models import Principal

MOST = 1000
"""Files in one part."""


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a listing, and the token that the next part is asked for with."""

    files: list[StoredFile]
    next_token: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """A part of a listing: keys that begin with `prefix`, after the one in `token`, at most `limit`."""

    prefix: str
    limit: int
    token: str | None
    names: tuple[str, str] = ("/limit", "/continuation_token")
    """Pointers to what the caller calls limit and token."""

    def last(self) -> str | None:
        """The last key of the part before.

        Raises:
            Invalid: the limit or the token is none that fits.
        """
        if not 1 <= self.limit <= MOST:
            message = f"The limit must be between 1 and {MOST}."
            raise Invalid(message, [Problem(self.names[0], message)])
        if self.token is None:
            return None
        key = _key(self.token)
        if key is None or not key.startswith(self.prefix):
            message = "The token does not belong to this listing; begin again without one."
            raise Invalid(message, [Problem(self.names[1], message)])
        return key


def token(key: str) -> str:
    """The token of the part after this key."""
    return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


def _key(text: str) -> str | None:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except ValueError:
        return None


def of_agent(principal: Principal, area: Area, prefix: str, session: str | None = None) -> str:
    """The beginning of the keys in the caller's own area of an agent.

    Raises:
        MissingAgentContext: the caller is no agent.
        Invalid: the session has a form that none has.
    """
    access.require_person(principal)
    agent = access.require_agent(principal)
    if session is not None:
        access.check_name(session, "Session", "/session_id")
    return area_prefix(area, principal.user, agent, session) + prefix


def of_user(principal: Principal, area: Area | None, prefix: str) -> str:
    """The beginning of the keys of a user: relative to the area if there is one, else to the whole store."""
    return area_prefix(area, principal.user) + prefix if area is not None else prefix
