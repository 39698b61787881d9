"""Objects as files: reading what lies in memory and what does not, and removing everything below a prefix."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from gateway_server.errors import ServiceUnavailable

from .conftest import House

pytestmark = pytest.mark.anyio

SIZE = 3_000_000


def out_of_memory(*_: Any) -> int:
    raise BlockingIOError


def half_in_memory(descriptor: int, buffers: list[bytearray], at: int, flags: int) -> int:
    assert flags == os.RWF_NOWAIT  # or it might wait for the disk, and everybody with it
    return os.preadv(descriptor, [memoryview(buffers[0])[: max(1, len(buffers[0]) // 2)]], at)


@pytest.mark.parametrize("preadv", [os.preadv, out_of_memory, half_in_memory])
async def test_an_object_is_read_whole_wherever_it_lies(
    house: House, monkeypatch: pytest.MonkeyPatch, preadv: Callable[..., int]
) -> None:
    house.library._limit = SIZE
    data = os.urandom(SIZE)
    file = await house.put(data)
    with monkeypatch.context() as patched:
        patched.setattr("gateway_server.store.local_objects.os", _Os(preadv))
        assert b"".join([block async for block in house.objects.read(file.key)]) == data
        assert (
            b"".join([block async for block in house.objects.read(file.key, 1_000_000, 1_000_001)]) == data[10**6 :][:1]
        )


class _Os:
    """`os` with another `preadv`."""

    def __init__(self, preadv: Callable[..., int]) -> None:
        self.preadv = preadv

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


async def test_what_cannot_be_removed_is_told(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the records of it would go, and nothing would find it again."""
    file = await house.put(b"stays")
    prefix = file.key.rpartition("/")[0] + "/"
    with monkeypatch.context() as broken:

        def refuse(*_: Any, **__: Any) -> None:
            raise PermissionError(1, "Operation not permitted")

        broken.setattr(os, "unlink", refuse)
        with pytest.raises(ServiceUnavailable, match="not permitted"):
            await house.objects.delete_below(prefix)
    assert await house.objects.size(file.key) == 5
    for _ in range(2):  # the second finds nothing, which is no failure
        await house.objects.delete_below(prefix)
    assert await house.objects.size(file.key) is None


async def test_what_somebody_else_removes_meanwhile_is_passed_over(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = await house.put(b"goes")
    unlink = os.unlink

    def twice(path: Any, *, dir_fd: int | None = None) -> None:
        unlink(path, dir_fd=dir_fd)
        unlink(path, dir_fd=dir_fd)

    with monkeypatch.context() as raced:
        raced.setattr(os, "unlink", twice)
        await house.objects.delete_below(file.key.rpartition("/")[0] + "/")
    assert await house.objects.size(file.key) is None
