"""The digest of a file whose parts arrive past each other: right in the end, whatever came when, and had sooner."""

import hashlib
import os
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway_server.store import prefixes as module
from gateway_server.store.prefixes import Prefix

SIZE = 64


def put(file: Path, number: int, text: bytes) -> None:
    with open(file, "r+b") as out:
        os.pwrite(out.fileno(), text, (number - 1) * SIZE)


def finished(prefix: Prefix, file: Path) -> str:
    with open(file, "rb") as whole:
        return prefix.finish(whole.fileno())


def digest_of(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def arrives(prefix: Prefix, file: Path, number: int, text: bytes) -> bool:
    """Whether somebody has to go on."""
    prefix.begins(number)
    put(file, number, text)
    return prefix.arrived(number, (number - 1) * SIZE + len(text))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "file"
    made.touch()
    return made


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    count=st.integers(1, 6),
    last=st.integers(1, SIZE),
    steps=st.lists(st.tuples(st.integers(1, 6), st.binary(min_size=SIZE, max_size=SIZE), st.booleans()), max_size=25),
    beside=st.booleans(),
    block=st.sampled_from([7, SIZE, 4096]),
)
def test_the_digest_is_that_of_what_is_there_at_the_end(
    file: Path, count: int, last: int, steps: list[tuple[int, bytes, bool]], beside: bool, block: int
) -> None:
    """Parts in any order, some again with other bytes, some begun again and never whole before their repetition."""
    file.write_bytes(b"")
    prefix, threads = Prefix(file), []
    for number, text, is_cut in [*steps, *((number, bytes([number]) * SIZE, False) for number in range(1, count + 1))]:
        if number > count:
            continue
        text = text[:last] if number == count else text
        if is_cut:
            prefix.begins(number)
            put(file, number, text[: len(text) // 2])
        elif arrives(prefix, file, number, text):
            threads.append(threading.Thread(target=prefix.go_on))
            threads[-1].start()
            if not beside:
                threads[-1].join()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", block)
        assert finished(prefix, file) == digest_of(file)
        assert finished(prefix, file) == digest_of(file), "the first was refused"
    for thread in threads:
        thread.join()


def test_what_has_been_read_is_not_read_again(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[int, int | None]] = []
    update = module._update
    monkeypatch.setattr(module, "_update", lambda d, f, at, end: read.append((at, end)) or update(d, f, at, end))
    prefix = Prefix(file)
    for number in (2, 1, 4, 3):
        if arrives(prefix, file, number, bytes([number]) * SIZE):
            prefix.go_on()
    assert finished(prefix, file) == digest_of(file)
    assert read == [(0, SIZE), (SIZE, 2 * SIZE), (2 * SIZE, 3 * SIZE), (3 * SIZE, 4 * SIZE), (4 * SIZE, None)]


def test_parts_that_come_one_after_the_other_are_read_one_after_the_other(file: Path) -> None:
    prefix = Prefix(file)
    for number in range(1, 5):
        assert arrives(prefix, file, number, bytes([number]) * SIZE)
        prefix.go_on()
        assert prefix._at == number * SIZE
    assert finished(prefix, file) == digest_of(file)


def test_a_part_that_is_sent_again_does_not_have_all_read_again_each_time(file: Path) -> None:
    prefix = Prefix(file)
    for number in range(1, 5):
        if arrives(prefix, file, number, bytes([number]) * SIZE):
            prefix.go_on()
    assert not any(arrives(prefix, file, 1, b"x" * SIZE) for _ in range(100))
    assert finished(prefix, file) == digest_of(file)


def test_nobody_waits_for_who_was_asked_and_has_not_begun(file: Path) -> None:
    """All threads may be waiting for digests."""
    prefix = Prefix(file)
    assert arrives(prefix, file, 1, b"x" * SIZE)
    assert finished(prefix, file) == digest_of(file)
    prefix.go_on()
    assert finished(prefix, file) == digest_of(file)


def test_a_file_that_is_gone_ends_the_reading(file: Path) -> None:
    prefix = Prefix(file)
    assert arrives(prefix, file, 1, b"x" * SIZE)
    file.unlink()
    prefix.go_on()
    file.write_bytes(b"another")
    assert finished(prefix, file) == digest_of(file)


def test_a_reading_that_fails_in_the_end_leaves_nothing_half_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix, preadv = Prefix(file), os.preadv
    for number in (1, 2, 3):
        arrives(prefix, file, number, bytes([number]) * SIZE)
    monkeypatch.setattr(module, "BLOCK", SIZE)

    def fail(descriptor: int, buffers: list[memoryview], at: int) -> int:
        if at:
            raise OSError(5, "the disk is broken")
        return preadv(descriptor, buffers, at)

    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(OSError, match="broken"):
        finished(prefix, file)
    monkeypatch.setattr(os, "preadv", preadv)
    assert finished(prefix, file) == digest_of(file)
