"""Which bytes of an object a request asks for (RFC 9110, section 14). Pure."""

import re
from email.utils import formatdate, parsedate_to_datetime

_ONE = re.compile(r"bytes=[ \t]*([0-9]{0,19})-([0-9]{0,19})[ \t]*\Z")


class Unsatisfiable(Exception):
    """The object has no such bytes."""


def wanted(header: str | None, size: int) -> tuple[int, int] | None:
    """Beginning and end (exclusive) of a single range of `size` bytes; None is everything.

    What cannot be understood and lists of several ranges count as no range, as the standard allows.

    Raises:
        Unsatisfiable: the range lies behind the end.
    """
    match = _ONE.match(header or "")
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1 if last else size)
        if last and int(last) < start:
            return None
    if start >= size or start >= end:
        raise Unsatisfiable
    return start, end


def still_the_same(if_range: str | None, etag: str, modified: float) -> bool:
    """Whether a range may be answered: the object is the one that `If-Range` names, if it names one."""
    if if_range is None:
        return True
    if if_range.startswith('"') or if_range.startswith("W/"):
        return if_range == etag
    try:
        return parsedate_to_datetime(if_range).timestamp() == int(modified)
    except (ValueError, OverflowError):
        return False


def is_known(if_none_match: str | None, etag: str) -> bool:
    """Whether the client has the object already."""
    if if_none_match is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return "*" in tags or etag in tags


def http_date(moment: float) -> str:
    """A POSIX time as headers have it."""
    return formatdate(moment, usegmt=True)
