"""The digest of bytes that pass is that of all of them, whoever computes it."""

import hashlib
import os
import threading

from hypothesis import given
from hypothesis import strategies as st

from gateway_sdk import _digest
from gateway_sdk._digest import Digest


def has_thread() -> bool:
    return any("digest" in thread.name for thread in threading.enumerate())


@given(st.binary(max_size=1000), st.integers(1, 300))
def test_it_is_what_hashlib_gives(data: bytes, size: int) -> None:
    digest = Digest(size)
    whole = len(data) // size * size
    for at in range(0, whole, size):
        block = digest.block()
        block[:] = data[at : at + size]
        digest.update(block)
    assert has_thread() == (whole > 0)
    assert digest.end(memoryview(data)[whole:]) == hashlib.sha256(data).hexdigest()
    assert not has_thread()


def test_a_few_blocks_are_used_again_and_again() -> None:
    digest, expected = Digest(1 << 16), hashlib.sha256()
    blocks = set()
    for _ in range(10 * _digest._BLOCKS):
        block = digest.block()
        block[:] = os.urandom(len(block))
        blocks.add(id(block.obj))
        expected.update(block)
        digest.update(block)
    assert len(blocks) == _digest._BLOCKS
    assert digest.end(memoryview(b"")) == expected.hexdigest()


def test_one_that_is_given_up_leaves_no_thread() -> None:
    digest = Digest(10)
    digest.update(digest.block())
    digest.close()
    digest.close()
    assert not has_thread()
