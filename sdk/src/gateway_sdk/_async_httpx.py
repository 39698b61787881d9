"""Requests through httpx: for https, for proxies, and for transports that users inject."""

from __future__ import annotations

from collections.abc import AsyncIterator

from ._aio import blocks_of, close_at_the_end, interrupt
from ._request import CONNECT_TIMEOUT, Patience, Request
from ._typing import TYPE_CHECKING
from .exceptions import ConnectionFailedError, GatewayError

if TYPE_CHECKING:
    from http.cookiejar import CookieJar

    import httpx


class AsyncHttpxSender:
    """An httpx client, made when it is first needed: importing it costs more than a call.

    Args:
        transport: a user's own; None for httpx's, with TLS and the proxies of the environment.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._transport = transport
        self._client: httpx.AsyncClient | None = None
        self._ending: object = None

    def client(self) -> httpx.AsyncClient:
        """The httpx client behind this sender."""
        if self._client is None:
            import httpx

            self._client = httpx.AsyncClient(
                transport=self._transport,
                trust_env=self._transport is None,
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=30),
                follow_redirects=False,
                cookies=_no_cookies(),
            )
        return self._client

    async def send(self, request: Request, patience: Patience) -> AsyncHttpxReply:
        """Send a request and wait for the head of the answer.

        Raises:
            ConnectionFailedError: no connection, or it broke.
            DeadlineExceededError: the patience is at its end.
        """
        import httpx

        try:
            client = self.client()
        except (ImportError, OSError, ValueError, httpx.InvalidURL) as error:
            raise GatewayError(
                f"{request!r}: {error} (proxies and certificates are those of the environment: HTTPS_PROXY, ALL_PROXY, "
                "NO_PROXY, SSL_CERT_FILE)"
            ) from error
        if self._ending is None and self._transport is None:
            self._ending = await close_at_the_end(self)

        wait = patience.next_wait()
        body = request.body
        headers = {"Accept-Encoding": "identity", **request.headers}
        if body is not None and not isinstance(body, bytes):
            headers["Content-Length"] = str(body.length)
        try:
            made = client.build_request(
                request.method,
                request.url,
                headers=headers,
                content=body if body is None or isinstance(body, bytes) else blocks_of(body),
                timeout=httpx.Timeout(wait, connect=min(CONNECT_TIMEOUT, wait or CONNECT_TIMEOUT), pool=None),
            )
            answer = await client.send(made, stream=True)
        except httpx.HTTPError as error:
            raise _translated(error, request, patience) from error
        except (httpx.InvalidURL, ValueError) as error:
            raise GatewayError(f"{request!r}: {error}") from error
        return AsyncHttpxReply(answer, request, patience)

    async def close(self) -> None:
        """Close the httpx client."""
        if self._client is not None:
            client, self._client, self._ending = self._client, None, None
            await client.aclose()


class AsyncHttpxReply:
    """An answer whose head has arrived."""

    def __init__(self, answer: httpx.Response, request: Request, patience: Patience) -> None:
        self.patience = patience
        self.status = answer.status_code
        self.headers: dict[str, str] = dict(answer.headers)
        self._answer = answer
        self._request = request
        self._rest = memoryview(b"")  # of a chunk that did not go into what `into` was given
        self._is_waiting = False
        self._is_left = False  # to whoever waits for bytes, to be closed
        # Injected transports often give the whole body at once; httpx has then read it already.
        self._chunks = _given(answer.content) if answer.is_stream_consumed else answer.aiter_raw()

    async def chunk(self) -> bytes:
        """The next bytes of the body, b"" at its end."""
        import httpx

        # httpx bounds only the silence, of a whole body by what stands here when it begins.
        self._answer.request.extensions.get("timeout", {})["read"] = self.patience.next_wait()
        self._is_waiting = True
        try:
            while True:
                chunk = await anext(self._chunks, None)
                if chunk is None:
                    await self._answer.aclose()
                    return b""
                if chunk:
                    return chunk
        except httpx.HTTPError as error:
            raise _translated(error, self._request, self.patience) from error
        except httpx.StreamError:
            return b""  # closed by us in the meantime
        finally:
            self._is_waiting = False
            if self._is_left:
                await self._answer.aclose()

    async def into(self, room: memoryview) -> int:
        """The next bytes of the body, put into `room`: how many, 0 at their end."""
        rest = self._rest or memoryview(await self.chunk())
        count = min(len(rest), len(room))
        room[:count] = rest[:count]
        self._rest = rest[count:]
        return count

    async def read(self) -> bytes:
        """The whole body."""
        return b"".join([chunk async for chunk in self._each()])

    async def _each(self) -> AsyncIterator[bytes]:
        while chunk := await self.chunk():
            yield chunk

    def abort(self) -> None:
        """Give no more bytes, not to whoever waits for them now either. A body that has been begun ends its connection
        when its iterator goes."""
        self._chunks = _given()
        stream = self._answer.extensions.get("network_stream")
        if stream is not None and not self._answer.is_closed:  # else others may have the connection by now
            self._is_left = interrupt(stream) and self._is_waiting

    async def close(self) -> None:
        """Close the connection unless the body has been read to its end."""
        self.abort()
        if not self._is_left:
            await self._answer.aclose()


def _no_cookies() -> CookieJar:
    """A jar that stays empty: those of one caller must not go with the requests of another, who shares the client."""
    from http.cookiejar import CookieJar, DefaultCookiePolicy  # httpx has imported it

    return CookieJar(DefaultCookiePolicy(allowed_domains=[]))


async def _given(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def _translated(error: httpx.HTTPError, request: Request, patience: Patience) -> GatewayError:
    import httpx

    if isinstance(error, httpx.ConnectTimeout):
        patience.next_wait()
        return ConnectionFailedError(f"{request!r}: no connection in time")
    if isinstance(error, httpx.TimeoutException):
        return patience.over()
    return ConnectionFailedError(f"{request!r}: {str(error) or type(error).__name__}")
