"""Answers that their callers do not read, or slowly, at a gateway that does not wait long for them."""

import asyncio
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from gateways import Gateway, memory_mb, running_gateway, until
from wire import PATIENT, Caller, Wire, calls

from gateway_server.api.connection import _untaken
from gateway_server.api.direct import LONGEST

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at what Linux tells")

SIZE = 24 << 20
PADDING = " " * LONGEST  # behind the JSON text: too long for the direct way
WAYS = {"direct": b"", "common": PADDING.encode()}
ways = pytest.mark.parametrize("padding", WAYS.values(), ids=WAYS)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, package: Path) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("unread")
    (folder / "sitecustomize.py").write_text(PATIENT + "c.STALLED = 0.7\n")
    with running_gateway(folder / "data", "--sandbox", "off", env={"PYTHONPATH": str(folder)}) as started:
        started.publish(package)
        yield started


def is_let_go(wire: Wire) -> bool:
    """Whether no process holds the gateway's end of a connection any more: it has no inode in proc_net_tcp(5)."""
    here, there = wire.socket.getsockname()[1], wire.socket.getpeername()[1]
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, *_, inode = line.split()[:10]
        if (int(local.split(":")[1], 16), int(remote.split(":")[1], 16)) == (there, here):
            return inode == "0"
    return True


def has_begun(wire: Wire) -> bool:
    return wire.socket.recv(1, 0x2) == b"H"  # MSG_PEEK


@ways
@pytest.mark.parametrize("lines", [(), (b"Connection: close",)], ids=["kept", "closed"])
def test_an_answer_that_nobody_takes_is_given_up(
    gateway: Gateway, ann: Caller, padding: bytes, lines: tuple[bytes, ...]
) -> None:
    request = ann.request(calls("long", {"size": SIZE}, stream=False) + padding, *lines)
    with Wire(gateway) as wire:
        assert len(wire.say(request).hear().body) > SIZE
    before = memory_mb(gateway.pid)
    wires = [Wire(gateway, window=1 << 16).say(request) for _ in range(4)]
    assert all(map(has_begun, wires))
    until(lambda: all(map(is_let_go, wires)))
    until(lambda: memory_mb(gateway.pid) < before + (SIZE >> 20), what="to let go of what was unread")
    for wire in wires:
        wire.socket.close()


@ways
def test_a_stream_that_nobody_takes_is_given_up_and_its_function_stopped(
    gateway: Gateway, ann: Caller, padding: bytes
) -> None:
    with Wire(gateway, window=1 << 16) as wire:
        wire.say(ann.request(calls("floods", {"size": 10_000}, stream=True) + padding))
        assert has_begun(wire)
        until(lambda: is_let_go(wire))
    until(lambda: "gateway_running_calls 0.0" in gateway.request("GET", "/metrics").text)


def test_what_the_system_holds_counts_as_not_taken() -> None:
    """It takes over hundreds of kilobytes at a time, for which a slow reader may need long."""

    async def story() -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        reader = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=accepted)
        transport.write(bytes(1 << 24))
        reader.setblocking(False)
        before = _untaken(transport)
        assert before > transport.get_write_buffer_size()
        async with asyncio.timeout(20):
            while _untaken(transport) > before - (1 << 17):
                await asyncio.sleep(0.01)
                with suppress(BlockingIOError):
                    reader.recv(1 << 14)
        transport.abort()
        reader.close()
        listener.close()

    asyncio.run(story())


@ways
@pytest.mark.parametrize(
    "body",
    [calls("long", {"size": 6 << 20}, stream=False), calls("pages", {"n": 600}, stream=True)],
    ids=["whole", "stream"],
)
def test_who_takes_an_answer_slowly_gets_all_of_it(gateway: Gateway, ann: Caller, padding: bytes, body: bytes) -> None:
    with Wire(gateway, window=1 << 16) as wire:
        wire.say(ann.request(body + padding, b"Connection: close"))
        heard, began = [], time.monotonic()
        while data := wire.socket.recv(1 << 17):
            heard.append(data)
            time.sleep(0.03)  # so slow is this reader
    assert time.monotonic() - began > 1.4, "twice as long as it may stop"
    answer = b"".join(heard)
    assert answer.count(b"x") > 6_000_000
    assert answer.endswith((b"}", b"0\r\n\r\n"))
