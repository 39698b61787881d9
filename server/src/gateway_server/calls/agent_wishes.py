"""What people may say of an agent when they register it."""

import math
from contextlib import suppress
from typing import TypedDict
from urllib.parse import urlsplit

from gateway_server.engine.local.firewall import is_metadata
from gateway_server.errors import Invalid, Problem

LONGEST_TEXT = 2000


class Wish(TypedDict, total=False):
    """What somebody who registers an agent says of it. What is left out stays as it was."""

    url: str
    timeout: float | None
    health_path: str | None


def checked_url(url: str) -> str:
    """The address of an agent, if it can be one.

    Raises:
        Invalid: it cannot.
    """
    try:
        parts = urlsplit(url)
        is_right = bool(parts.scheme in ("http", "https") and parts.hostname and parts.port != 0)
    except ValueError:
        is_right = False
    if not is_right or not _is_plain(url):
        raise refusal("url", "The address of an agent", "must be an address such as http://127.0.0.1:8080")
    if parts.username is not None or parts.password is not None:
        raise refusal("url", "The address of an agent", "must not hold a name or password")
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise refusal("url", "The address of an agent", "must not hold a query or a fragment")
    with suppress(ValueError):  # a name; where that leads is seen when it is called
        if is_metadata(parts.hostname or ""):
            raise refusal("url", "The address of an agent", "must not be a link-local or metadata address")
    return url.rstrip("/")


def checked(wish: Wish) -> Wish:
    """The same, as it will be kept.

    Raises:
        Invalid: something in it cannot be.
    """
    found = wish.copy()
    if "url" in wish:
        found["url"] = checked_url(wish["url"])
    timeout, path = wish.get("timeout"), wish.get("health_path")
    if timeout is not None and not (timeout > 0 and math.isfinite(timeout)):
        raise refusal("timeout", "The timeout of an agent", "must be a number of seconds above 0, or null for none")
    if path is not None and not (path.startswith("/") and _is_plain(path) and "#" not in path):
        raise refusal("health_path", "The health path of an agent", "must be a path such as /health, or null for none")
    return found


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text and len(text) <= LONGEST_TEXT


def refusal(member: str, what: str, message: str) -> Invalid:
    """What is wrong with a member of a wish."""
    return Invalid(f"{what} {message}.", [Problem(f"/{member}", message)])
