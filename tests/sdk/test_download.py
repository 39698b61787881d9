"""Bytes on their way into a file: whatever form the answer has, and however it is cut."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading

import httpx
import pytest

from gateway_sdk import _digest
from gateway_sdk._digest import BLOCK_BYTES
from gateway_sdk._http1 import Response
from gateway_sdk._httpx import HttpxReply
from gateway_sdk._partial_file import PartialFile
from gateway_sdk._request import Patience, Request
from gateway_sdk.exceptions import TransferError

from .stub_gateway import Step

SIZES = [0, 1, 65_536, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 6 * BLOCK_BYTES + 7]


def head(*lines: str) -> bytes:
    return "\r\n".join(("HTTP/1.1 200 OK", *lines, "", "")).encode()


def framed(data: bytes, form: str) -> Step:
    """An answer with `data` as its body."""
    if form == "chunked":
        pieces = [data[at : at + 300_000] for at in range(0, len(data), 300_000)]
        frames = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        return Step(raw=head("Transfer-Encoding: chunked") + frames + b"0\r\n\r\n")
    if form == "until its end":
        return Step(raw=head("Connection: close") + data, then_close=True)
    return Step(raw=head(f"Content-Length: {len(data)}") + data)


def digest_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "digest" in thread.name]


@pytest.mark.parametrize("size", SIZES)
def test_a_file_of_any_size_is_what_was_stored(client, async_client, stub, tmp_path, size):
    data = os.urandom(size)
    file = stub.fake.put("file", data)
    client.save_file(file, tmp_path / "sync")
    asyncio.run(async_client.save_file(file, tmp_path / "async"))
    assert (tmp_path / "sync").read_bytes() == (tmp_path / "async").read_bytes() == data
    assert not digest_threads()


@pytest.mark.parametrize("form", ["length", "chunked", "until its end"])
def test_every_form_of_an_answer_gives_the_same_file(client, async_client, stub, tmp_path, form):
    data = os.urandom(3 * BLOCK_BYTES + 5)
    file = stub.fake.put("file", data)
    stub.script.extend([Step(), framed(data, form)])
    client.save_file(file, tmp_path / "sync")
    stub.script.extend([Step(), framed(data, form)])
    asyncio.run(async_client.save_file(file, tmp_path / "async"))
    assert (tmp_path / "sync").read_bytes() == (tmp_path / "async").read_bytes() == data


def test_an_answer_that_is_longer_than_the_file_is_refused(client, stub, tmp_path):
    data = os.urandom(2 * BLOCK_BYTES)
    file = stub.fake.put("file", data[:1000])
    stub.script.extend([Step(), framed(data, "length")])
    with pytest.raises(TransferError, match=f"{len(data)} bytes arrived"):
        client.save_file(file, tmp_path / "file")
    assert os.listdir(tmp_path) == []
    assert not digest_threads()


def test_a_connection_that_gave_a_file_gives_the_next(client, stub, tmp_path):
    file = stub.fake.put("file", os.urandom(BLOCK_BYTES + 1))
    for _ in range(2):
        client.save_file(file, tmp_path / "file")
    assert stub.connections == 1


def test_a_short_file_needs_no_thread_and_little_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(_digest.Digest, "_start", None)
    with PartialFile(str(tmp_path / "file"), "file", 3, hashlib.sha256(b"abc").hexdigest()) as partial:
        assert len(partial.room()) == 4
        partial.room()[:3] = b"abc"
        partial.arrived(3)
        partial.room()
        partial.complete()
    assert (tmp_path / "file").read_bytes() == b"abc"


def test_what_is_written_anew_from_the_beginning_is_right(tmp_path):
    old, new = os.urandom(2 * BLOCK_BYTES + 9), os.urandom(BLOCK_BYTES + 9)
    with PartialFile(str(tmp_path / "file"), "file", None, hashlib.sha256(new).hexdigest()) as partial:
        for data in (old, new):
            partial.restart()
            while data:
                room = partial.room()
                count = min(len(room), len(data))
                room[:count] = data[:count]
                partial.arrived(count)
                data = data[count:]
        partial.complete()
    assert (tmp_path / "file").read_bytes() == new


def test_a_file_is_not_truncated_before_anything_was_written(tmp_path, monkeypatch):
    """On ext4 closing it would wait for the disk then."""
    with PartialFile(str(tmp_path / "file"), "file", 0, None) as partial:
        with monkeypatch.context() as patched:
            patched.setattr(partial, "_file", None)
            partial.restart()


def test_a_body_that_httpx_gives_at_once_goes_through_little_room():
    body = os.urandom(1000)
    reply = HttpxReply(
        httpx.Response(200, content=body, request=httpx.Request("GET", "http://h/")),
        Request("GET", "http://h/", {}),
        Patience(1.0),
    )
    room, got = memoryview(bytearray(300)), b""
    while count := reply.into(room):
        got += room[:count]
    assert got == body


def test_bytes_that_pass_by_are_those_of_the_body():
    response = Response("GET")
    assert response.plain == 0
    assert response.feed(head("Content-Length: 10") + b"abc") == b"abc"
    assert (response.plain, response.done) == (7, False)
    response.passed(7)
    assert (response.plain, response.done, response.reusable) == (0, True, True)
