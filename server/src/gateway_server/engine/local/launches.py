"""The gateway's side of the launcher: zygotes to start go out, their ends come in."""

import asyncio
import os
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from gateway_server.engine.local.packets import Packets, answered
from gateway_server.errors import ServiceUnavailable

LAUNCH = 10.0
"""Seconds in which the launcher starts a process, or another one that it was told to start before."""
PATIENCE = 5.0
"""Seconds in which the launcher ends once it is hung up on."""


class Launcher:
    """Starts zygotes through the privileged launcher process."""

    def __init__(self, support: Path) -> None:
        self.groups: list[str] = []
        """Folders of control groups that the launcher removes when it ends."""
        self._support = support
        self._packets: Packets | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._waiting: dict[int, asyncio.Future[int]] = {}
        self._ended: dict[int, Callable[[], None]] = {}
        self._next = 0
        self._starting = asyncio.Lock()
        self._is_closed = False

    async def start(self) -> None:
        """Starts the launcher process, unless there is one: others may have asked for it meanwhile.

        Raises:
            ServiceUnavailable: the machine cannot, or everything is being ended.
        """
        async with self._starting:
            if self._is_closed:
                raise ServiceUnavailable("The gateway is shutting down.", retry_after=2)
            if not self.is_alive:
                try:
                    await self._start()
                except OSError as error:
                    message = f"The launcher of prefab processes could not be started: {error}"
                    raise ServiceUnavailable(message, retry_after=1) from error

    async def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        program = os.path.join(os.path.dirname(__file__), "launcher.py")
        # The descriptor must be number 3 there, and only a shell-free exec with pass_fds keeps it open; the tiny
        # -c program moves it.
        code = "import os,sys; os.dup2(int(sys.argv[1]),3); os.execv(sys.executable,[sys.executable,*sys.argv[2:]])"
        with ExitStack() as untaken, theirs:
            untaken.enter_context(ours)
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", "-c", code, str(theirs.fileno()), "-I", "-S", program, str(self._support),
                *self.groups,
                pass_fds=[theirs.fileno()], stdin=asyncio.subprocess.DEVNULL, env={"PATH": os.environ.get("PATH", "")},
            )  # fmt: skip
            untaken.pop_all()
        self._packets = Packets(ours, self._heard)

    @property
    def is_alive(self) -> bool:
        """Whether zygotes can be started."""
        return self._packets is not None

    @property
    def pid(self) -> int:
        """Of the launcher process."""
        assert self._process
        return self._process.pid

    async def launch(self, order: dict[str, Any], descriptors: list[int], ended: Callable[[], None]) -> tuple[int, int]:
        """Starts a zygote; returns its id and its pid. `ended` is called once nothing of it is there: it is dead, or
        could not be started.

        Raises:
            ServiceUnavailable: the machine refused one of the steps, or the launcher does not answer.
        """
        if self._packets is None:
            ended()
            raise ServiceUnavailable("The launcher of prefab processes is not running.", retry_after=1)
        self._next += 1
        number = self._next
        started = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._ended[number] = ended
        try:
            self._packets.send({**order, "start": number}, descriptors)
            await answered(started, list(self._waiting.values()), LAUNCH)
            return number, started.result()
        except TimeoutError:
            self.end()
            message = "The launcher of prefab processes does not answer."
            raise ServiceUnavailable(message, retry_after=1) from None
        except ServiceUnavailable:
            self._has_ended(number)
            raise
        except asyncio.CancelledError:
            self.kill(number)  # the launcher reads this after it has started it
            raise
        finally:
            self._waiting.pop(number, None)

    def kill(self, number: int) -> None:
        """Kills a zygote and everything below it."""
        if self._packets is not None:
            with suppress(ServiceUnavailable):  # a launcher that is gone has taken its zygotes along
                self._packets.send({"kill": number})

    def end(self) -> None:
        """Ends one that does not answer: without a sandbox, a function can stop it. The next start makes another."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def close(self) -> None:
        """Ends the launcher and with it every zygote, for good."""
        self._is_closed = True
        async with self._starting:
            if self._packets is not None:
                self._packets.close()
                self._packets = None
            if self._process is not None:
                try:
                    async with asyncio.timeout(PATIENCE):
                        await self._process.wait()
                except TimeoutError:
                    self.end()
                    await self._process.wait()

    def _heard(self, message: dict[str, Any] | None) -> None:
        if message is None:
            self._packets = None
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(ServiceUnavailable("The launcher of prefab processes died.", retry_after=1))
            for ended in list(self._ended.values()):
                ended()
            self._ended.clear()
            return
        number = next(iter(message.values()))
        if "started" not in message:
            self._has_ended(number)
        started = self._waiting.get(number)
        if started is None or started.done():
            return
        if "started" in message:
            started.set_result(message["pid"])
        elif "failed" in message:
            text = f"A process for prefabs could not be started: {message['message']}"
            started.set_exception(ServiceUnavailable(text))

    def _has_ended(self, number: int) -> None:
        if callback := self._ended.pop(number, None):
            callback()
