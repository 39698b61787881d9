"""The digest of bytes that pass is that of all of them, whoever computes it."""

import hashlib
import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_sdk import _digest
from gateway_sdk._digest import Digest


@given(st.lists(st.binary(max_size=100)))
def test_it_is_what_hashlib_gives(blocks: list[bytes]) -> None:
    digest = Digest()
    for block in blocks:
        digest.update(block)
    assert digest.hexdigest() == hashlib.sha256(b"".join(blocks)).hexdigest()


@pytest.mark.parametrize("size", [_digest._BLOCK_BYTES - 1, _digest._BLOCK_BYTES, 5 * _digest._BLOCK_BYTES + 7])
def test_many_bytes_are_hashed_by_a_thread_that_ends(size: int) -> None:
    data = os.urandom(size)
    digest = Digest()
    for at in range(0, size, 65_536):
        digest.update(data[at : at + 65_536])
    assert digest.hexdigest() == hashlib.sha256(data).hexdigest()
    digest.update(b"more")
    assert digest.hexdigest() == hashlib.sha256(data + b"more").hexdigest()
    digest.close()
    digest.close()
    assert not [thread for thread in threading.enumerate() if "digest" in thread.name]
