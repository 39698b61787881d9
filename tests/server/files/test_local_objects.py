"""Removing everything below a prefix from the disk."""

from __future__ import annotations

import os
from typing import Any

import pytest

from gateway_server.errors import ServiceUnavailable

from .conftest import House

pytestmark = pytest.mark.anyio


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
