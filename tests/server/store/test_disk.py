"""Pieces are written whole and in their order, however many and long they are; and nobody leaves a thread at work."""

import asyncio
import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_server.store import disk


def in_pieces(data, length):
    return [data[at : at + length] for at in range(0, len(data), length)]


@pytest.fixture
def target(tmp_path):
    descriptor = os.open(tmp_path / "target", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize("offset", [None, 0, 7])
@pytest.mark.parametrize(("size", "length"), [(0, 1), (5000, 1), (9 << 20, 4096), (1 << 20, 1 << 18), (10_000, 10_000)])
def test_all_of_them(target, size, length, offset):
    data = os.urandom(size)
    disk.write_pieces(target, in_pieces(data, length), offset)
    assert os.pread(target, size + 1, offset or 0) == data


@given(st.lists(st.binary(max_size=20), max_size=60), st.integers(1, 30), st.integers(1, 40))
def test_though_the_system_takes_a_part_of_them(tmp_path_factory, pieces, taken, at_once):
    target = os.open(tmp_path_factory.mktemp("pieces") / "target", os.O_RDWR | os.O_CREAT)
    with pytest.MonkeyPatch.context() as patch:
        pwrite, writev, pwritev = os.pwrite, os.writev, os.pwritev
        patch.setattr(disk, "_SHORT", 0)
        patch.setattr(disk, "_AT_ONCE", at_once)
        patch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, bytes(data)[:taken], at))
        patch.setattr(os, "writev", lambda fd, some: writev(fd, [b"".join(some)[:taken]]))
        patch.setattr(os, "pwritev", lambda fd, some, at: pwritev(fd, [b"".join(some)[:taken]], at))
        disk.write_pieces(target, pieces)
        disk.write_pieces(target, pieces, 10_000)
    whole = b"".join(pieces)
    assert os.pread(target, 10_000, 0)[: len(whole)] == whole
    assert os.pread(target, 10_000, 10_000) == whole
    os.close(target)


async def rounds():
    """Lets everything go on that can."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.anyio
async def test_who_is_canceled_again_and_again_still_waits_for_the_thread():
    threads, begun, may_end = disk.Disk(), threading.Event(), threading.Event()

    def work():
        begun.set()
        may_end.wait(10)

    task = asyncio.create_task(threads.run(work))
    await asyncio.to_thread(begun.wait, 10)
    for _ in range(3):
        task.cancel()
        await rounds()
        assert not task.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    threads.close()


@pytest.mark.anyio
async def test_a_file_that_nobody_wants_any_more_is_not_left_open(tmp_path):
    threads, begun, may_end, opened = disk.Disk(), threading.Event(), threading.Event(), []

    def opener():
        begun.set()
        may_end.wait(10)
        opened.append(os.open(tmp_path, os.O_RDONLY))
        return opened[0]

    task = asyncio.create_task(threads.open(opener))
    await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(opened[0])
    threads.close()
