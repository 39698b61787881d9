"""Signed URLs: the bytes of objects on the local disk, for whoever has the URL. A bare ASGI application.

There is no token and no redirect here; the signature is the whole permission. What is sent is always an attachment that
no browser runs, since it has the gateway's own address.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote, unquote

from gateway_server.api import faults, ranges
from gateway_server.api.asgi import Receive, Send
from gateway_server.errors import FileNotFound, GatewayFault, Invalid, PayloadTooLarge, PermissionDenied
from gateway_server.files.library import UNKNOWN_TYPE, Library
from gateway_server.settings import Settings
from gateway_server.store.local_objects import LocalObjects, OpenObject
from gateway_server.store.objects import BLOCK, Objects
from gateway_server.threads import until_done

PREFIX = b"/objects/"
Scope = dict[str, Any]
Headers = list[tuple[bytes, bytes]]


class ClientLeft(Exception):
    """The connection ended before the body did."""


class SignedObjects:
    """Everything below `/objects/`."""

    def __init__(self, library: Library, objects: Objects, settings: Settings) -> None:
        self._library = library
        self._objects = objects
        self._limit = settings.file_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        try:
            if not isinstance(self._objects, LocalObjects):
                raise FileNotFound("The objects of this gateway lie in a store of their own.")
            await self._answer(self._objects, scope, receive, send)
        except GatewayFault as fault:
            await _send_whole(send, *faults.answer(fault))
        except ClientLeft:
            pass

    async def _answer(self, objects: LocalObjects, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        signed_method = "GET" if method == "HEAD" else method
        key = _key(scope)
        signed = objects.signer.check(signed_method, key, scope["query_string"].decode("latin-1"))
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if signed_method == "GET":
            opened = await objects.open(key)
            try:
                await _send_object(opened, method, headers, signed, receive, send)
            finally:
                await opened.close()
        elif "upload" in signed:
            await self._put_part(objects, signed, headers, receive)
            await _send_whole(send, 200, [], b"")
        else:
            await self._put(key, signed, headers, receive)
            await _send_whole(send, 200, [], b"")

    async def _put(self, key: str, signed: dict[str, str], headers: dict[str, str], receive: Receive) -> None:
        expected = signed.get("type")
        if expected is not None and headers.get("content-type", "").strip().lower() != expected.lower():
            raise PermissionDenied(f"The URL was made for the Content-Type {expected}; send exactly this one.")
        if _length(headers) > self._limit:
            raise PayloadTooLarge(f"A file has at most {self._limit} bytes.")
        await self._library.put_input(key, _body(receive), expected, _length(headers))

    async def _put_part(
        self, objects: LocalObjects, signed: dict[str, str], headers: dict[str, str], receive: Receive
    ) -> None:
        number, offset, size = (int(signed[name]) for name in ("part", "offset", "size"))
        if _length(headers) > size:
            raise Invalid(f"Part {number} has more than the {size} bytes that it must have.")
        part = await objects.parts.receive(signed["upload"], number, offset, size)
        try:
            async for data in _body(receive):
                await part.write(data)
            await part.commit()
        finally:
            await part.discard()


async def _send_object(
    opened: OpenObject, method: str, headers: dict[str, str], signed: dict[str, str], receive: Receive, send: Send
) -> None:
    described = _described(opened, signed)
    if ranges.is_known(headers.get("if-none-match"), opened.etag):
        await _send_whole(send, 304, described, b"")
        return
    try:
        same = ranges.still_the_same(headers.get("if-range"), opened.etag, opened.modified)
        part = ranges.wanted(headers.get("range"), opened.size) if same else None
    except ranges.Unsatisfiable:
        _, error, body = faults.answer(Invalid(f"The file has {opened.size} bytes; there are none in this range."))
        await _send_whole(send, 416, [*error, (b"content-range", f"bytes */{opened.size}".encode())], body)
        return
    start, end = part or (0, opened.size)
    described.append((b"content-length", str(end - start).encode()))
    if part is not None:
        described.append((b"content-range", f"bytes {start}-{end - 1}/{opened.size}".encode()))
    await send({"type": "http.response.start", "status": 200 if part is None else 206, "headers": described})
    if method != "HEAD":
        await _send_bytes(opened, start, end, receive, send)
    await send({"type": "http.response.body", "body": b""})


async def _send_bytes(opened: OpenObject, start: int, end: int, receive: Receive, send: Send) -> None:
    """Sends while the next block is read, and stops when nobody listens any more."""
    leaving = asyncio.ensure_future(_leaves(receive))
    reading: asyncio.Future[bytes | bytearray] | None = None
    try:
        at = start
        while at < end and not leaving.done():
            data = await (reading or opened.read(at, min(BLOCK, end - at)))
            if not data:
                raise ConnectionAbortedError("an object ended before its end")
            at += len(data)
            reading = asyncio.ensure_future(opened.read(at, min(BLOCK, end - at))) if at < end else None
            await send({"type": "http.response.body", "body": data, "more_body": True})
    except GatewayFault as fault:  # the answer has begun; all that can still be told is that it is not whole
        raise ConnectionAbortedError(fault.message) from fault
    finally:
        leaving.cancel()
        if reading is not None:
            await until_done(reading)


async def _leaves(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _body(receive: Receive) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        if data := message.get("body", b""):
            yield data
        if not message.get("more_body", False):
            return


async def _send_whole(send: Send, status: int, headers: Headers, body: bytes) -> None:
    length = [] if status == 304 else [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *length]})
    await send({"type": "http.response.body", "body": body})


def _key(scope: Scope) -> str:
    """The key exactly as it was signed, whatever the server made of the path."""
    raw: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    try:
        return unquote(raw.partition(PREFIX)[2].decode("ascii"), errors="strict")
    except UnicodeDecodeError:
        raise PermissionDenied("The URL is not signed for this. Use it exactly as the gateway gave it.") from None


def _length(headers: dict[str, str]) -> int:
    length = headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdigit() else 0


def _described(opened: OpenObject, signed: dict[str, str]) -> Headers:
    name = signed.get("filename", "file")
    plain = "".join(c if " " <= c <= "~" and c not in '"\\%' else "_" for c in name)
    disposition = f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
    return [
        (b"content-type", signed.get("type", UNKNOWN_TYPE).encode("latin-1", "replace")),
        (b"content-disposition", disposition.encode()),
        (b"accept-ranges", b"bytes"),
        (b"etag", opened.etag.encode()),
        (b"last-modified", ranges.http_date(opened.modified).encode()),
        (b"cache-control", b"private"),
        (b"x-content-type-options", b"nosniff"),
        (b"content-security-policy", b"sandbox; default-src 'none'"),
    ]
