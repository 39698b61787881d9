"""A real HTTP server on loopback in front of `FakeGateway`, which can also misbehave on request.

It counts connections, records requests, and takes its next answers from `script`: each step is for one request.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from gateway_sdk._fake.wire import Answer, Asked
from gateway_sdk.testing import FakeGateway


@dataclass
class Step:
    """What happens to one request instead of a plain answer.

    cut: close the connection "unread" (after the request's head), "before" the answer, in its "head" or in its "body".
    raw: send exactly these bytes, with the cut "unread" before the body has come.
    then_close: answer, then close the connection without having said so.
    hold: wait for this event first. only: the path that the step is for; other requests pass it by.
    """

    cut: str = ""
    raw: bytes = b""
    then_close: bool = False
    hold: threading.Event | None = None
    only: str = ""


@dataclass
class StubGateway:
    """See the module."""

    fake: FakeGateway = field(default_factory=FakeGateway)
    script: deque[Step] = field(default_factory=deque)
    requests: list[Asked] = field(default_factory=list)
    connections: int = 0
    open_now: int = 0
    peak: int = 0
    stream_ended: threading.Event = field(default_factory=threading.Event)
    url: str = ""
    tls: ssl.SSLContext | None = None

    def paths(self) -> list[str]:
        return [f"{asked.method} {asked.path}" for asked in self.requests]

    def wait_for(self, path: str) -> Asked:
        """The first request to a path, waited for."""
        for _ in range(500):
            for asked in list(self.requests):
                if asked.path.startswith(path):
                    return asked
            threading.Event().wait(0.01)
        raise AssertionError(f"no request to {path}, only {self.paths()}")

    def settles(self, connections: int) -> bool:
        """Whether no more than so many connections stay open."""
        return any(self.open_now <= connections or threading.Event().wait(0.01) for _ in range(300))

    @contextlib.contextmanager
    def running(self) -> Iterator[StubGateway]:
        ready = threading.Event()
        self._stop = asyncio.Event()

        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            server = await asyncio.start_server(self._connection, "127.0.0.1", 0, limit=1 << 20, ssl=self.tls)
            self.url = f"http{'s' if self.tls else ''}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            ready.set()
            await self._stop.wait()
            for listening in server.sockets:
                self._loop.remove_reader(listening.fileno())
            for _ in range(5):
                await asyncio.sleep(0)  # connections just accepted get their tasks; a closed server gives none
            server.close()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(0)  # and their transports close

        thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
        thread.start()
        ready.wait(5)
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._stop.set)
            thread.join(5)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open_now += 1
        self.peak = max(self.peak, self.open_now)
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.open_now -= 1
            writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip("\r\n").split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if "://" in target:  # as a proxy is asked, which we play, too
            target = "/" + target.split("/", 3)[3]
        path = target.partition("?")[0]
        step = Step()
        if self.script and self.script[0].only in ("", path):
            step = self.script.popleft()
        if step.cut == "unread":
            self.requests.append(Asked(method, self.url + target, headers, b""))
            if step.raw:
                writer.write(step.raw)
                writer.write_eof()
                while await reader.read(1 << 16):
                    pass
            return self._drop(writer)
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        asked = Asked(method, self.url + target, headers, body)
        self.requests.append(asked)
        if step.hold is not None:
            await asyncio.to_thread(step.hold.wait, 10)
        if step.cut == "before":
            return self._drop(writer)
        if step.raw:
            writer.write(step.raw)
            await writer.drain()
            return not step.then_close
        answer = await asyncio.to_thread(self.fake.answer, asked)
        await self._send(writer, answer, step.cut)
        return not step.then_close and not step.cut

    def _drop(self, writer: asyncio.StreamWriter) -> bool:
        writer.transport.abort()
        return False

    async def _send(self, writer: asyncio.StreamWriter, answer: Answer, cut: str) -> None:
        lines = [f"HTTP/1.1 {answer.status} Whatever"] + [f"{name}: {value}" for name, value in answer.headers.items()]
        if isinstance(answer.body, bytes):
            head = "\r\n".join([*lines, f"content-length: {len(answer.body)}"]).encode() + b"\r\n\r\n"
            whole = head + answer.body
            end = {"head": len(head) // 2, "body": len(head) + len(answer.body) // 2}.get(cut, len(whole))
            writer.write(whole[:end])
            await writer.drain()
            return
        writer.write("\r\n".join([*lines, "transfer-encoding: chunked"]).encode() + b"\r\n\r\n")
        await writer.drain()
        try:
            while (frame := await asyncio.to_thread(next, answer.body, None)) is not None:
                writer.write(b"%x\r\n%b\r\n" % (len(frame), frame))
                await writer.drain()
                if cut == "body":
                    return
                if writer.is_closing():
                    raise ConnectionResetError
        finally:
            self.stream_ended.set()
        writer.write(b"0\r\n\r\n")
        await writer.drain()
