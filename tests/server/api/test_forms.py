"""Forms, however the network cuts them."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway_server.api.forms import FileForm
from gateway_server.errors import PayloadTooLarge

KIND = "multipart/form-data; boundary=x"


def form(value: bytes) -> bytes:
    return (
        b'--x\r\nContent-Disposition: form-data; name="session_id"\r\n\r\n' + value + b"\r\n"
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="\xe6\x8a\xa5.txt"\r\n\r\nabc\r\n--x--\r\n'
    )


def read(*chunks: bytes) -> tuple[FileForm, bytes]:
    async def body() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    async def main() -> tuple[FileForm, bytes]:
        form = FileForm(KIND, body())
        return form, b"".join([piece async for piece in form.file()])

    return asyncio.run(main())


def test_a_form_may_be_cut_at_every_byte():
    whole = form("会话—🦊é".encode())
    for place in range(len(whole) + 1):
        found, data = read(whole[:place], whole[place:])
        assert (found.fields, found.filename, data) == ({"session_id": "会话—🦊é"}, "报.txt", b"abc"), place


def test_a_form_in_single_bytes():
    found, data = read(*(bytes([byte]) for byte in form("会话".encode())))
    assert (found.fields, found.filename, data) == ({"session_id": "会话"}, "报.txt", b"abc")


def test_an_empty_field_is_a_field():
    assert read(form(b""))[0].fields == {"session_id": ""}


def test_the_length_of_a_field_is_counted_in_characters():
    longest = "字" * (64 << 10)
    assert read(form(longest.encode()))[0].fields == {"session_id": longest}
    with pytest.raises(PayloadTooLarge, match="session_id has more than 65536 characters"):
        read(form((longest + "字").encode()))


def test_a_field_that_does_not_end_is_not_collected():
    head = form(b"").partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    with pytest.raises(PayloadTooLarge):
        read(head, *[b"x" * 65536] * 5)
