# Generated from _async_session.py by scripts/unasync.py: edit that one.
"""What every operation has in common: identity, one address, tries and tries again."""

from __future__ import annotations

import os
import time

from . import _wire
from ._blocking import leave_in_background, sleep, warn_about_running_loop
from ._failures import error_from_reply, retry_delay
from ._httpx import HttpxSender
from ._local_file import new_sha256
from ._log import listener
from ._request import Body, Patience, Request
from ._transport import ReplyLike, Transport, shared_transport
from ._typing import TYPE_CHECKING, Any, Self
from .exceptions import AuthenticationError, GatewayError

if TYPE_CHECKING:
    import httpx

# Seconds that a run waits beyond its deadline, so that the gateway's own DEADLINE_EXCEEDED, with the job, comes first.
GRACE = 2.0
# Seconds for telling the gateway that a stream is no longer wanted.
FAREWELL = 2.0
# A token that does not say when it ends is asked for again after this many seconds; one that does, this long before.
TOKEN_LIFE = 600.0
TOKEN_MARGIN = 300.0
MOST_TOKENS = 10_000
_ERROR_BYTES = 1024 * 1024

_tokens: dict[tuple[str, str], tuple[str, float]] = {}


class Session:
    """Identity and address of a caller. It owns no connection, so it costs nothing to make one per request."""

    def __init__(
        self,
        internal_token: str | None = None,
        base_url: str | None = None,
        timeout: float = 60,
        *,
        max_retries: int = 2,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._token = internal_token or os.environ.get("X_INTERNAL_TOKEN") or None
        self.base_url = (base_url or _wire.default_base_url()).rstrip("/")
        self.timeout = timeout
        self.max_retries = max_retries
        self._sender = None if transport is None else HttpxSender(transport)
        self._api_key: str | None = None

    @classmethod
    def from_api_key(cls, api_key: str, base_url: str | None = None, timeout: float = 60) -> Self:
        """A client for a program outside an agent, identified by an API key.

        The token that the gateway gives for the key is remembered by this process until shortly before it ends, so
        this may be called for every request. Such a client has no agent: file operations that need one are refused.

        Args:
            api_key: "sk-...".
            base_url: as in the constructor.
            timeout: seconds, as in the constructor.

        Raises:
            AuthenticationError: the key is not accepted.
            ServiceUnavailableError: the gateway cannot be reached.

        Example:
            client = GatewayClient.from_api_key("sk-...", base_url="http://localhost:8000")
        """
        client = cls("unused", base_url, timeout)
        client._api_key = api_key
        client._token = client._convert_key(api_key)
        return client

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the injected transport, if there is one. The connections that all clients share stay open."""
        if self._sender is not None:
            self._sender.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_url={self.base_url!r}, timeout={self.timeout!r})"

    def _transport(self) -> Transport:
        return shared_transport() if self._sender is None else self._sender

    def _convert_key(self, api_key: str, fresh: bool = False) -> str:
        if not isinstance(api_key, str) or not api_key:  # as from an environment that does not have it
            given = "an empty text" if api_key == "" else f"a value of the type {type(api_key).__name__}"
            raise AuthenticationError(f"from_api_key takes the text of an API key, and was given {given}")
        known_as = (self.base_url, new_sha256(api_key.encode()).hexdigest())
        token, until = _tokens.get(known_as, ("", 0.0))
        if not fresh and time.time() < until:
            return token
        headers = {**_wire.headers_for(None), "Authorization": f"Bearer {api_key}"}
        request = Request("POST", self.base_url + _wire.CONVERT_KEY, headers, b"")
        _, body = self._attempts(request)
        token = _wire.text_field(_wire.parse_object(body, request), "internal_token", request)
        expiry = _wire.token_expiry(token)
        if len(_tokens) >= MOST_TOKENS:
            _tokens.clear()
        _tokens[known_as] = (token, time.time() + TOKEN_LIFE if expiry is None else expiry - TOKEN_MARGIN)
        return token

    def _headers(self, key: str | None = None) -> dict[str, str]:
        return _wire.headers_for(self._token, key)

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes | Body | None = None,
        *,
        content_type: str | None = "application/json",
        deadline: float | None = None,
        key: str | None = None,
        cancel_after: float | None = None,
        silence: float | None = None,
    ) -> dict[str, Any]:
        """One operation that answers with a JSON object. `deadline` (seconds) bounds it and is told the gateway;
        `cancel_after` is told and bounds nothing here. `silence` (seconds) is waited for an answer, not longer."""
        headers = self._headers(key or (_wire.new_key() if method == "POST" else None))
        if cancel_after is not None:
            headers["Cancel-After"] = _wire.duration(_wire.check_timeout(cancel_after))
        if body is not None and content_type:
            headers["Content-Type"] = content_type
        request = Request(method, self.base_url + path, headers, body)
        request.silence = silence
        _, answer = self._as_caller(request, deadline)
        return _wire.parse_object(answer, request)

    def _as_caller(
        self, request: Request, deadline: float | None = None, stream: bool = False
    ) -> tuple[ReplyLike, bytes]:
        """`_attempts` with a token that is good: that of a long-lived client has ended, but its key gives another."""
        try:
            return self._attempts(request, deadline, stream)
        except AuthenticationError as error:
            if self._api_key is None or error.status_code != 401:
                raise
            self._token = self._convert_key(self._api_key, fresh=True)
            request.headers["X-Internal-Token"] = self._token
            return self._attempts(request, deadline, stream)

    def _attempts(
        self, request: Request, deadline: float | None = None, stream: bool = False
    ) -> tuple[ReplyLike, bytes]:
        """Send until there is a success or a final failure.

        Returns:
            The answer and its body: whatever breaks while reading is retried like the rest. Of a stream nothing is
            read, so the body is empty.
        """
        warn_about_running_loop()
        start = time.monotonic()
        attempt = 0
        while True:
            patience = self._patience(request, deadline, start)
            try:
                return self._attempt(request, patience, stream)
            except GatewayError as error:
                delay = retry_delay(error, attempt) if attempt < self.max_retries else None
                left = None if deadline is None else deadline - (time.monotonic() - start)
                if delay is None or (left is not None and delay >= left):
                    raise
                if log := listener():
                    log.debug("%r: %s; again in %.2f s", request, error.error_code, delay)
            attempt += 1
            sleep(delay)

    def _patience(self, request: Request, deadline: float | None, start: float) -> Patience:
        if deadline is None:
            return Patience(request.silence or _wire.check_timeout(self.timeout))
        left = _wire.check_timeout(deadline) - (time.monotonic() - start)
        request.headers["Cancel-After"] = _wire.duration(left)
        return Patience(None, left + GRACE, "the call took longer than its timeout of {:g} s", deadline)

    def _attempt(self, request: Request, patience: Patience, stream: bool) -> tuple[ReplyLike, bytes]:
        started = time.monotonic()
        reply = self._transport().send(request, patience)
        if log := listener():
            log.debug("%r: HTTP %d after %.0f ms", request, reply.status, (time.monotonic() - started) * 1000)
        if 200 <= reply.status < 300:
            return reply, b"" if stream else reply.read()
        body = read_at_most(reply, _ERROR_BYTES)
        raise error_from_reply(reply.status, reply.headers, body, repr(request))

    def _farewell(self, job_id: str) -> None:
        """Tell the gateway that a run is no longer wanted. Best effort: it ends by itself, only later."""
        headers = self._headers()
        request = Request("POST", f"{self.base_url}/v1/jobs/{_wire.segment(job_id)}/cancel", headers, b"")
        try:
            reply = self._transport().send(request, Patience(FAREWELL, FAREWELL))
            reply.read()
        except GatewayError as error:
            if log := listener():
                log.debug("%r: %s", request, error)

    def _leave_soon(self, reply: ReplyLike | None, job_id: str | None) -> None:
        """Close an answer and say so, from a place that cannot wait, such as garbage collection.

        A run whose job is not known yet goes by its Idempotency-Key.
        """
        leave_in_background(self, reply, job_id)


def read_at_most(reply: ReplyLike, limit: int) -> bytes:
    """The beginning of a body, b"" if it breaks. The rest is not waited for."""
    chunks, size = [], 0
    try:
        while size <= limit and (chunk := reply.chunk()):
            chunks.append(chunk)
            size += len(chunk)
    except GatewayError:
        pass
    if size > limit:
        reply.close()
    return b"".join(chunks)
