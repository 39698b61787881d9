"""Requests that may come again: the same key with the same request never does its work twice.

A key lives on the record of the job that the request began, so that it is there as long as the record is, and survives
whatever happens to the gateway.
"""

import hashlib
from functools import lru_cache
from typing import NamedTuple

from gateway_server.errors import Invalid, Problem
from gateway_server.models import Principal

MINTED = "auto-"
"""What the keys begin with that the SDK makes for its own retries."""
KEPT_MINTED, KEPT_GIVEN = 600.0, 86400.0
"""Seconds that an answer can be had again, by who made the key."""
LONGEST_KEY = 255
OTHER_REQUEST = "This Idempotency-Key was used with another request. Make a new key for each."
_SIZE = 16


class RequestKey(NamedTuple):
    """An `Idempotency-Key` as it is kept: which caller's, and what was asked with it."""

    key: bytes
    digest: bytes
    kept: float
    """Seconds after the end of its job in which the key stands for that job's answer."""

    def of_item(self, position: int) -> "RequestKey":
        """The key of one call of a batch, so that a batch that comes again finds the calls that have ended."""
        return self._replace(key=_digest(self.key, b"%d" % position))


class AlreadyKnown(Exception):
    """The key stands for a job that is there."""

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id)
        self.job_id = job_id


def request_key(principal: Principal, text: str | None, what: bytes, body: bytes) -> RequestKey | None:
    """The key that a request came with, if it came with one; `what` tells kinds of requests apart.

    Callers are told apart by user, agent, API key and, inside a call, by that call: what one may not do it does not
    get from another.

    Raises:
        Invalid: it is empty or too long.
    """
    if text is None:
        return None
    if not 0 < len(text) <= LONGEST_KEY:
        problem = Problem("/headers/Idempotency-Key", f"must have 1 to {LONGEST_KEY} characters")
        raise Invalid(f"The header Idempotency-Key {problem.message}.", [problem])
    return RequestKey(
        key=place(principal, text),
        digest=_digest(what, body),
        kept=KEPT_MINTED if text.startswith(MINTED) else KEPT_GIVEN,
    )


def place(principal: Principal, text: str) -> bytes:
    """What a key is known by."""
    who = _who(principal.user, principal.agent, principal.key_id, principal.job_id)
    return _hash(who + _framed(text.encode("utf-8", "replace")))


@lru_cache(maxsize=1000)
def _who(*parts: str | None) -> bytes:
    return b"".join([_framed((part or "").encode()) for part in parts])


def _digest(what: bytes, body: bytes) -> bytes:
    return _hash(_framed(what) + _framed(body))


def _framed(part: bytes) -> bytes:
    """A part with its length, so that what stands in one can never be taken for another."""
    return len(part).to_bytes(8, "big") + part


def _hash(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=_SIZE).digest()
