"""The gateway's side of one worker: calls go in, their events come out."""

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol, cast

import orjson

from gateway_runtime import workspace
from gateway_runtime.protocol import IDLE, ORDER_LIMIT, FrameBuffer, Idle, Kind, frame
from gateway_server.engine.local import measuring, removal
from gateway_server.engine.local.bounds import memory_exceeded
from gateway_server.engine.local.cgroups import Group
from gateway_server.engine.local.orders import Log, Orders, Sent
from gateway_server.engine.local.pace import Pace
from gateway_server.engine.local.results import read_failure, read_spilled
from gateway_server.engine.local.watchdog import Family
from gateway_server.errors import RuntimeCrashed
from gateway_server.models import Failure, Progress, Result

HIGH_WATER, LOW_WATER = 1 << 18, 1 << 16
"""Bytes that may wait before the worker is made to wait, and how few must be left before it goes on."""
RESULT_COST = 4
"""How often each byte of a large result is looked at or copied."""
EVENT_COST = 128
"""Bytes that an event takes besides its own."""
READS_AT_ONCE = 16
"""Reads of 64 KiB after which others on the event loop get their turn."""
PATIENCE, PAUSE = 5.0, 0.02
"""Seconds in which killed processes are gone, the slowest writing to a busy disk; and between two looks."""
PARTING = 1.0
"""Seconds between the two signs of a worker's end, its exit and the end of its socket, after which one is enough."""
_ENDS = frozenset((Kind.RESULT, Kind.DONE, Kind.SPILLED, Kind.FAILURE))
_LEFTOVERS, _FILES, _OUTPUT = (flag.value for flag in (Idle.LEFTOVERS, Idle.FILES, Idle.OUTPUT))
Emit = Callable[[list[Progress]], Awaitable[None]]
"""Takes events in their order; the function may have to wait until it has."""


class Parent(Protocol):
    """What a worker needs of its zygote."""

    @property
    def alive(self) -> bool:
        """Whether it is there. Its end is that of all its workers."""

    async def kill(self, worker: "Worker") -> None:
        """Ends the worker's family."""

    async def end(self, reason: str) -> None:
        """Ends the zygote and all its workers, for a reason that follows a colon."""

    def release(self, number: int) -> None:
        """Nothing is left of a worker: another may have its number."""


class NotBegun(Exception):
    """The call was taken back before its worker had taken it up: another one can have it."""


class Worker(asyncio.Protocol):
    """One process that serves one user, one call at a time."""

    def __init__(
        self,
        *,
        zygote: Parent,
        number: int,
        user: str,
        folder: Path,
        owner: int | None,
        memory: int,
        pace: Pace,
    ) -> None:
        self._pace = pace
        self.zygote = zygote
        self.number = number
        self.user = user
        self.workspace = folder
        self.owner = owner
        """The uid that the workspace belongs to; None where all share the gateway's."""
        self.alive = True
        self.fit = True
        """Whether the worker may serve another call."""
        self.idle_since = 0.0
        self.memory = memory
        """Bytes that its family may use."""
        self.pid: int | None = None
        """Of its first process, as the zygote sees it."""
        self.has_files = False
        """Whether the workspace may be other than fresh. After a call the worker says it: what a package hides there,
        it could as well keep in memory for the next call of the same user."""
        self.took: float | None = None
        """Seconds that the function ran of the call that was heard last, as the worker says."""
        self.has_talked = False
        """Whether a function has printed anything. Output belongs to whichever call runs when it is read: where there
        is some, no other call may begin without the gateway."""
        self.given = 0
        """Bytes of input files that were in the workspace when the call began."""
        self.group: Group | None = None
        """Its control group, where there are any."""
        self._transport: asyncio.Transport | None = None
        self._buffer = FrameBuffer()
        self._orders = Orders()
        self._waits = False
        """Whether the worker does not take up the next call before it is told to."""
        self._crash: str | None = None
        self._exit = "hung up"
        self._gone = False
        self._output: int | None = None
        self._has_greeted = False
        self._paused = False

    async def connect(self, connection: socket.socket, output: int) -> None:
        """Takes over the gateway's ends of the worker's socket and of its output pipe, whatever comes of it: from here
        on nobody else closes them."""
        loop = asyncio.get_running_loop()
        connection.setblocking(False)
        os.set_blocking(output, False)
        self._output = output
        loop.add_reader(output, self._output_is_there)
        try:
            await loop.create_unix_connection(lambda: self, sock=connection)
        except BaseException:
            connection.close()
            raise

    @property
    def orders(self) -> int:
        """The descriptor of the queue that the process gets."""
        return self._orders.fileno()

    @property
    def takes_more(self) -> bool:
        """Whether a call may be sent while another runs, and has room."""
        return self._may_have_more and self._orders.has_room

    @property
    def _may_have_more(self) -> bool:
        return self.fit and self.alive and not (self.has_files or self.has_talked)

    def has_run_since(self, moment: float) -> bool:
        """Whether the call that runs, or else whatever is done for one that does not, began before a moment of the
        monotonic clock."""
        return self._orders.since < moment

    async def run(
        self, order: dict[str, Any], log: Log, emit: Emit | None = None, *, alone: bool = True
    ) -> Result | Failure:
        """Runs one call to its end. What the function prints goes to `log`, the events of its stream to `emit`, as
        many at a time as have arrived meanwhile. Unless it has the worker `alone`, it may lie behind another call.

        Leaving early leaves the worker unfit, if the call has begun.

        Raises:
            NotBegun: the worker has not taken it up, and does not any more; never where it is alone.
            RuntimeCrashed: the process died before the function had ended.
        """
        call = self._send(orjson.dumps(order), log, alone=alone)
        try:
            while call.flags is None or call.events:
                if call.events:
                    events, call.events = call.events, []
                    if emit is not None:
                        await emit(events)
                    await self.keep_pace(len(events), self._has_taken(call, events))
                elif call.is_taken_back:
                    raise NotBegun
                elif self._crash is not None:
                    raise RuntimeCrashed(self._crash)
                else:
                    call.news = asyncio.get_running_loop().create_future()
                    await call.news
        finally:
            self.took = call.took
            if call.flags is None and not call.is_taken_back:
                self._leave(call)
        if call.last is None:
            raise RuntimeCrashed("The worker ended the call without a result.")
        kind, payload = call.last
        has_files = bool(call.flags & _FILES)
        if kind is Kind.FAILURE:
            return Failure(read_failure(payload), has_files)
        if kind is Kind.SPILLED:
            return await self._unspilled(payload, has_files)
        return Result(payload, kind is Kind.DONE, has_files)

    def _send(self, order: bytes, log: Log, *, alone: bool) -> Sent:
        is_long = len(order) > ORDER_LIMIT
        if self._waits or (self._orders.sent and (is_long or not self._may_have_more)):
            raise NotBegun  # the call has had its turn at this worker since before that became so
        try:
            call = self._orders.send(order, log, has_all=alone)
        except OSError:
            if self._orders.sent:
                raise NotBegun from None
            self.doom("it took no orders any more")
            raise RuntimeCrashed(self._crash or "") from None
        if is_long and self._transport is not None:
            self._transport.write(frame(Kind.CALL, call.number, order))
        return call

    def take_back(self) -> None:
        """Takes back the calls that have not begun."""
        self._orders.take_back()

    def _leave(self, call: Sent) -> None:
        """Nobody waits for a call any more."""
        call.is_left = True
        self.take_back()
        sent = self._orders.sent
        if sent and sent[-1] is call:  # it runs; where one behind it has begun, it has ended
            self.fit = False

    async def _unspilled(self, kind: bytes, has_files: bool) -> Result:
        """A result that was too long for a frame."""
        json_text = await asyncio.to_thread(read_spilled, self.workspace)
        await self.keep_pace(1, RESULT_COST * len(json_text))
        return Result(json_text, kind == bytes([Kind.DONE]), has_files)

    async def keep_pace(self, pieces: int, size: int) -> None:
        """Waits where its user has had more than a share of the gateway's time, after so many pieces and bytes more."""
        if (wait := self._pace.wait(self.user, pieces, size)) > 0:
            await asyncio.sleep(wait)

    def _has_taken(self, call: Sent, events: list[Progress]) -> int:
        size = sum(len(event.json) for event in events)
        call.size -= size + EVENT_COST * len(events)
        if self._paused and call.size <= LOW_WATER and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return size

    async def measure_inputs(self) -> None:
        """Notes how much the caller has put into the workspace, which is not the function's doing."""
        self.given = await self._measured_inputs()

    async def _measured_inputs(self) -> int:
        try:
            with workspace.opened(self.workspace, workspace.INPUTS) as inputs:
                if not os.listdir(inputs):
                    return 0
            folder = f"{self.workspace.name}/{workspace.INPUTS}"
            return (await asyncio.to_thread(measuring.disk, self.workspace.parent, folder)).size
        except (OSError, measuring.TooDeep):
            return 0

    async def kill(self) -> None:
        """Ends the process with everything that it started."""
        self.fit = False
        self.take_back()
        if not self._gone:
            await self.zygote.kill(self)

    async def dispose(self) -> None:
        """Ends the process with everything that it started, and removes what they leave behind."""
        await self.kill()
        # A zygote that has ended took everything along, and another may have its uids by now.
        if self.zygote.alive and not await self.is_gone():
            await self.zygote.end("it did not end a worker when it was told to")
        try:
            await asyncio.to_thread(self.remove)
        finally:
            self.zygote.release(self.number)

    async def is_gone(self) -> bool:
        """Whether nothing is left of its processes; waits for them to leave."""
        end = asyncio.get_running_loop().time() + PATIENCE
        while self._has_processes():
            if asyncio.get_running_loop().time() >= end:
                return False
            await asyncio.sleep(PAUSE)
        return True

    def _has_processes(self) -> bool:
        if self.group is not None:
            return bool(self.group.processes())
        return self.owner is not None and measuring.is_any_of(self.owner)

    def family(self, memory: int, room: int, zygote: int) -> Family:
        """What the watchdog is to look at: memory and room on the disk in bytes, the zygote by its pid."""
        return Family(
            folder=self.workspace,
            memory=memory,
            disk=room + self.given,
            is_busy=bool(self._orders.sent),
            calls=self._orders.count,
            group=self.group,
            zygote=zygote,
            pid=self.pid or 0,
            end=self.end,
            user=self.user,
        )

    def doom(self, reason: str) -> None:
        """Says why the worker is about to be killed, to the call that it serves; `reason` follows a colon."""
        self.fit = False
        if self._crash is None:
            self._crash = f"The process that ran the function was ended: {reason}."

    async def end(self, reason: str) -> None:
        """Ends the process with everything that it started, for a reason that follows a colon."""
        self.doom(reason)
        await self.kill()

    def clean(self) -> bool:
        """Makes the workspace fresh for the next call; False if that could not be done, or another is had sooner."""
        if removal.is_large(self.workspace):
            self.fit = False
            return False
        try:
            self.given = 0
            _remove_contents(self.workspace)
            workspace.lay_out(self.workspace, self.owner)
            self.has_files = False
        except OSError:
            self.fit = False
        return self.fit

    def go_on(self) -> None:
        """What a call has left has been seen to: the worker may take up the next one, if it waits for that."""
        if self._waits and self._transport is not None:
            self._waits = False
            self._transport.write(frame(Kind.GO, self._orders.count, b""))

    def remove(self) -> None:
        """Removes what a dead worker leaves behind. Blocking, for a second at most while its processes die."""
        if self.group is not None:
            self.group.remove()
        removal.remove(self.workspace)

    def exited(self, code: int, number: int) -> None:
        """The zygote says that the process is gone. What it sent before is still on its way to us."""
        self._gone = True
        self.alive = self.fit = False
        self._exit = _reason(code, number)
        if self._transport is None or self._transport.is_closing():
            self._part()
        else:
            asyncio.get_running_loop().call_later(PARTING, self._part)

    def _part(self) -> None:
        """Nothing more will come."""
        if self._crash is None and self.group is not None and self.group.ran_out_of_memory():
            self.doom(memory_exceeded(self.memory))
        if self._crash is None:
            self._crash = f"The process that ran the function {self._exit} before the function had ended."
        self._read_output()
        self.abandon()
        for call in self._orders.sent:
            call.wake()

    def abandon(self) -> None:
        """Closes the gateway's ends of everything."""
        self.alive = self.fit = False
        self.take_back()
        self._orders.close()
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
        """Frames of the call that runs. Anything else means that the worker is not to be trusted further."""
        sent = self._orders.sent
        try:
            for kind, number, payload in self._buffer.feed(data):
                if kind is Kind.HELLO and not self._has_greeted:
                    self._has_greeted = True
                elif not sent or number != sent[0].number or self._waits:
                    raise ValueError("a frame outside of a call")
                elif kind is Kind.IDLE:
                    self._end(payload)
                else:
                    self._take(sent[0], kind, payload)
        except ValueError:
            self._crash = "The process that ran the function sent what nobody understands."
            self.fit = False
            self.take_back()
            if self._transport is not None:
                self._transport.abort()
        if sent and (sent[0].events or self._crash is not None):
            sent[0].wake()

    def _take(self, call: Sent, kind: Kind, payload: bytes) -> None:
        if kind is Kind.EVENT or kind is Kind.START:
            if call.is_left:
                return
            call.events.append(Progress(payload, kind is Kind.START))
            call.size += len(payload) + EVENT_COST
            if call.size > HIGH_WATER and not self._paused and self._transport is not None:
                self._paused = True
                self._transport.pause_reading()
        elif kind not in _ENDS:
            raise ValueError("no frame of a worker")
        elif call.last is None:
            call.last = kind, payload

    def _end(self, payload: bytes) -> None:
        """The call that runs is over."""
        if len(payload) != IDLE.size:
            raise ValueError("no end of a call")
        flags, took = IDLE.unpack(payload)
        if flags:
            self._see_to(flags)
        self._orders.end_first(flags, took / 1e6)

    def _see_to(self, flags: int) -> None:
        """What a call has left is seen to before the next one may begin."""
        self._waits = True
        if flags & (_LEFTOVERS | _OUTPUT):
            self._read_output()
        if flags & (_LEFTOVERS | _FILES):
            self.fit = self.fit and not flags & _LEFTOVERS
            self.has_files = True
            self.take_back()
        else:
            self.go_on()

    def connection_lost(self, _error: Exception | None) -> None:
        """The socket has ended; the zygote's word on the exit, which has the reason, may still be on its way."""
        self.fit = False
        if self.alive:
            asyncio.get_running_loop().call_later(PARTING, self._part)
        else:
            self._part()

    def _output_is_there(self) -> None:
        """Reads what was printed, and goes on with it a little later where it is much."""
        if len(self._orders.sent) > 1:
            self.take_back()
        wait = PAUSE  # the next call has begun, or was stolen: only the end of the one before tells whose that is
        if len(self._orders.sent) <= 1:
            wait = self._pace.wait(self.user, 0, self._read_output())
        if self._output is not None and wait > 0:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._output)
            loop.call_later(wait, self._watch_output)

    def _watch_output(self) -> None:
        if self._output is not None:
            asyncio.get_running_loop().add_reader(self._output, self._output_is_there)

    def _read_output(self) -> int:
        """Gives how many bytes there were."""
        size = 0
        for _ in range(READS_AT_ONCE):
            if self._output is None:
                break
            try:
                data = os.read(self._output, 1 << 16)
            except BlockingIOError:
                break
            size += len(data)
            if not data:
                asyncio.get_running_loop().remove_reader(self._output)
                os.close(self._output)
                self._output = None
            else:
                self.has_talked = True
                if self._orders.sent and not self._orders.sent[0].is_left:
                    self._orders.sent[0].log(data)
        return size


def _reason(code: int, number: int) -> str:
    if not number:
        return f"exited with code {code}"
    try:
        return f"was killed by signal {signal.Signals(number).name}"
    except ValueError:  # those of real time have only numbers
        return f"was killed by signal {number}"


def _remove_contents(folder: Path) -> None:
    """Removes everything in the workspace, but for the temporary folder itself, which is mounted.

    The package may still have threads in there while this process may do anything: every step is taken by descriptor,
    and no link is followed.
    """
    with workspace.opened(folder) as root:
        removal.empty(root, spare=workspace.TEMPORARY)
    with workspace.opened(folder, workspace.TEMPORARY) as temporary:
        removal.empty(temporary)
