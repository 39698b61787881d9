"""The gateway's side of one worker: a call goes in, its events come out."""

import asyncio
import json
import os
import shutil
import signal
import socket
import stat
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Protocol, cast

import orjson

from gateway_runtime import workspace
from gateway_runtime.protocol import RESULT_LIMIT, FrameBuffer, Kind, frame
from gateway_server.errors import RuntimeCrashed
from gateway_server.models import Event, Failure, Progress, Result

HIGH_WATER, LOW_WATER = 256, 64
"""Frames that may wait before the worker is made to wait, and how few must be left before it goes on."""
Log = Callable[[bytes], None]


class Parent(Protocol):
    """What a worker needs of its zygote."""

    async def kill(self, worker: "Worker") -> None:
        """Ends the worker's family."""


class Worker(asyncio.Protocol):
    """One process that serves one user, one call at a time."""

    def __init__(self, *, zygote: Parent, number: int, user: str, folder: Path, owner: int | None) -> None:
        self.number = number
        self.user = user
        self.workspace = folder
        self.owner = owner
        """The uid that the workspace belongs to; None where all share the gateway's."""
        self.alive = True
        self.fit = True
        """Whether the worker may serve another call."""
        self.idle_since = 0.0
        self._zygote = zygote
        self._transport: asyncio.Transport | None = None
        self._buffer = FrameBuffer()
        self._frames: deque[tuple[Kind, bytes]] = deque()
        self._arrival: asyncio.Future[None] | None = None
        self._crash: str | None = None
        self._output: int | None = None
        self._log: Log | None = None
        self._call = 0
        self._paused = False

    async def connect(self, connection: socket.socket, output: int) -> None:
        """Takes over the gateway's ends of the worker's socket and of its output pipe."""
        loop = asyncio.get_running_loop()
        connection.setblocking(False)
        os.set_blocking(output, False)
        self._output = output
        loop.add_reader(output, self._read_output)
        await loop.create_unix_connection(lambda: self, sock=connection)

    async def run(self, order: dict[str, Any], log: Log) -> AsyncIterator[Event]:
        """Runs one call; the last event is a Result or a Failure. What the function prints goes to `log`.

        Leaving early leaves the worker unfit.

        Raises:
            RuntimeCrashed: the process died before the function had ended.
        """
        assert self._transport is not None
        self._call += 1
        self._log = log
        self.fit = False
        self._transport.write(frame(Kind.CALL, self._call, orjson.dumps(order)))
        last: Event | None = None
        while True:
            kind, payload = await self._next_frame()
            if kind is Kind.EVENT or kind is Kind.START:
                yield Progress(payload, is_start=kind is Kind.START)
            elif kind is Kind.RESULT or kind is Kind.DONE:
                last = Result(payload, streamed=kind is Kind.DONE)
            elif kind is Kind.SPILLED:
                last = Result(await asyncio.to_thread(self._read_spilled), streamed=payload == bytes([Kind.DONE]))
            elif kind is Kind.FAILURE:
                last = Failure(json.loads(payload))
            elif kind is Kind.IDLE:
                break
        self.fit = not json.loads(payload)["leftovers"]
        self._read_output()
        self._log = None
        if last is None:
            raise RuntimeCrashed("The worker ended the call without a result.")
        yield last

    async def kill(self) -> None:
        """Ends the process with everything that it started."""
        self.fit = False
        if self.alive:
            await self._zygote.kill(self)

    def is_clean(self) -> bool:
        """Whether the workspace is as fresh as when it was made."""
        try:
            return _is_fresh(self.workspace)
        except OSError:
            return False

    def clean(self) -> bool:
        """Makes the workspace fresh for the next call; False if that could not be done. May take long."""
        try:
            _remove_contents(self.workspace)
            workspace.lay_out(self.workspace, self.owner)
        except OSError:
            self.fit = False
        return self.fit

    def exited(self, code: int, number: int) -> None:
        """The zygote says that the process is gone."""
        if not self.alive:
            return
        self.alive = self.fit = False
        if number:
            name = signal.Signals(number).name if number in signal.valid_signals() else str(number)
            reason = f"was killed by signal {name}"
            if number == signal.SIGKILL:
                reason += " (perhaps it used too much memory)"
        else:
            reason = f"exited with code {code}"
        self._crash = f"The process that ran the function {reason} before the function had ended."
        if self._output is not None:
            self._read_output()
        self.abandon()
        self._wake()

    def abandon(self) -> None:
        """Closes the gateway's ends of everything."""
        self.alive = self.fit = False
        if self._transport is not None:
            self._transport.abort()
        if self._output is not None:
            asyncio.get_running_loop().remove_reader(self._output)
            os.close(self._output)
            self._output = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is ours."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one by its methods, not by its class

    def data_received(self, data: bytes) -> None:
        """Frames of the worker; whatever is not one means that the worker is not to be trusted further."""
        try:
            for kind, call, payload in self._buffer.feed(data):
                if call == self._call and kind is not Kind.HELLO:
                    self._frames.append((kind, payload))
        except ValueError:
            self._crash = "The process that ran the function sent what nobody understands."
            self.fit = False
        if len(self._frames) > HIGH_WATER and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, _error: Exception | None) -> None:
        """The zygote's word on the exit follows, with the reason; here only the fact."""
        self.fit = False

    async def _next_frame(self) -> tuple[Kind, bytes]:
        while not self._frames:
            if self._crash is not None:
                raise RuntimeCrashed(self._crash)
            self._arrival = asyncio.get_running_loop().create_future()
            await self._arrival
        if self._paused and len(self._frames) <= LOW_WATER and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return self._frames.popleft()

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    def _read_output(self) -> None:
        while self._output is not None:
            try:
                data = os.read(self._output, 1 << 16)
            except BlockingIOError:
                return
            if not data:
                asyncio.get_running_loop().remove_reader(self._output)
                os.close(self._output)
                self._output = None
            elif self._log is not None:
                self._log(data)

    def _read_spilled(self) -> bytes:
        descriptor = os.open(self.workspace / workspace.RESULT, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            told = os.fstat(file.fileno())
            if not stat.S_ISREG(told.st_mode) or told.st_size > RESULT_LIMIT:
                raise RuntimeCrashed("The result that the worker left in a file cannot be read.")
            return file.read()


def _is_fresh(folder: Path) -> bool:
    return (
        set(os.listdir(folder)) == {"data", workspace.HOME, workspace.TEMPORARY}
        and set(os.listdir(folder / "data")) == {"inputs", "outputs"}
        and not any(os.listdir(folder / name) for name in workspace.FOLDERS[1:])
    )


def _remove_contents(folder: Path) -> None:
    """Removes everything in the workspace, but for the mounted temporary folder itself."""
    temporary = folder / workspace.TEMPORARY
    for entry in (*os.scandir(folder), *(os.scandir(temporary) if temporary.is_dir() else ())):
        if entry.path == str(temporary):
            continue
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, onerror=_open_up)
        else:
            os.unlink(entry.path)


def _open_up(action: Callable[..., Any], path: str, _error: object) -> None:
    """Folders that the function closed to everybody, ourselves included, are opened before they go."""
    os.chmod(os.path.dirname(path), 0o700)
    if os.path.isdir(path) and not os.path.islink(path):
        os.chmod(path, 0o700)
        shutil.rmtree(path)
    else:
        action(path)
