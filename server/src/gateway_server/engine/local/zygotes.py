"""The gateway's side of each zygote: orders out, news in."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from gateway_runtime import workspace
from gateway_runtime.protocol import PROTOCOL
from gateway_server.engine.local import placement, removal
from gateway_server.engine.local.bounds import memory_exceeded
from gateway_server.engine.local.cgroups import Cgroups, Group
from gateway_server.engine.local.ears import Ears
from gateway_server.engine.local.isolation import Isolation, Layout
from gateway_server.engine.local.launches import Launcher
from gateway_server.engine.local.pace import Pace
from gateway_server.engine.local.packets import Packets, answered
from gateway_server.engine.local.watchdog import Family
from gateway_server.engine.local.worker import Worker
from gateway_server.errors import ServiceUnavailable
from gateway_server.models import Deployment

LAST_NUMBER = 899
FIRST_ROOM = 32
HELD_BY_EACH = 8 << 20
"""Bytes of the zygote's memory that a worker may keep alive; 2 to 3 MB were seen."""
PATIENCE = 5.0
"""Seconds in which a zygote ends a worker when it is told to, or obeys an order from before. A package that has taken
its place at import does not."""
OpenDoor = Callable[[socket.socket], Awaitable[Callable[[], None]]]
"""Answers, as the gateway does, who connects to a socket that listens; gives what ends that."""
_UNDECLARED = "If it is a library, name it in dependencies in pyproject.toml and publish again."


class ImportFailed(Exception):
    """The package could not be imported; a failure of user code, told as data."""

    def __init__(self, told: dict[str, str]) -> None:
        if told.get("type") == "ModuleNotFoundError":
            told = {**told, "message": f"{told['message']}. {_UNDECLARED}"}
        super().__init__(told["message"])
        self.told = told


class Zygote:
    """One zygote: forks workers of one prefab version."""

    def __init__(
        self,
        *,
        launcher: Launcher,
        layout: Layout,
        cgroups: Cgroups | None,
        deployment: Deployment,
        slot: int,
        work: Path,
        buried: Callable[[], None],
        pace: Pace,
        ears: Ears,
        in_background: Callable[[Coroutine[Any, Any, None]], None],
        open_door: OpenDoor | None = None,
    ) -> None:
        self.deployment = deployment
        self.group: Group | None = None
        """The control group of the zygote itself, where there are any."""
        self.slot = slot
        self.alive = True
        self.threads = False
        """Whether the import left threads running, so that forks of it are not safe."""
        self.pid = 0
        self.output = bytearray()
        """What the package printed at import."""
        self._launcher = launcher
        self._layout = layout
        self._cgroups = cgroups
        self._work = work
        self._pace = pace
        self._ears = ears
        self._in_background = in_background
        self._buried: Callable[[], None] | None = buried
        self._open_door = open_door
        self._close_door: Callable[[], None] = lambda: None
        self._id = 0
        self._packets: Packets | None = None
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._forks: dict[int, asyncio.Future[None]] = {}
        self._kills: dict[int, asyncio.Future[None]] = {}
        self._workers: dict[int, Worker] = {}
        self._numbers: set[int] = set()
        """Of the workers that have not been disposed of."""
        self._next = 0
        self._room = 0
        self._orders = 0
        self._reason = ""

    async def start(self, *, base_url: str, preload: bool, timeout: float) -> None:
        """Starts the process and waits until the package is imported; `timeout` in seconds.

        Raises:
            ImportFailed: the package raised, hung or died at import.
            ServiceUnavailable: the machine could not start the process.
        """
        try:
            await self._launch(base_url)
        except OSError as error:  # the disk is full, or there are no descriptors left
            raise ServiceUnavailable(f"A process for prefabs could not be started: {error}", retry_after=1) from error
        assert self._packets is not None
        try:
            self._packets.send({"plan": self._layout.plan(self.deployment, self._work, preload=preload)})
            async with asyncio.timeout(timeout):
                await asyncio.shield(self._ready)
        except TimeoutError:
            self.close()
            message = f"the package was still importing after {timeout:g} s"
            raise ImportFailed({"type": "TimeoutError", "message": message, "traceback": ""}) from None

    async def _launch(self, base_url: str) -> None:
        with ExitStack() as given:
            try:
                self._lay_out()
                self.group = await asyncio.to_thread(self._new_group, 0)
                order = self._layout.order(self.deployment, self._work, self.slot, base_url)
                order["groups"] = self.group.entries if self.group is not None else []
                descriptors = self._connect(given)
                door = self._make_way_out(given, descriptors) if self._has_door() else None
            except BaseException:
                self._bury()  # the launcher, which does it otherwise, has not heard of it
                raise
            self._id, self.pid = await self._launcher.launch(order, descriptors, self._bury)
            if door is not None:
                await self._answer_at(door)

    def _connect(self, given: ExitStack) -> list[int]:
        """Makes what the process is to talk over; gives its ends, which are closed with `given`."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        given.enter_context(theirs)
        self._packets = Packets(ours, self._heard)
        reading, writing = os.pipe()
        given.callback(os.close, writing)
        os.set_blocking(reading, False)
        asyncio.get_running_loop().add_reader(reading, self._read_output, reading)
        return [theirs.fileno(), writing]

    def _make_way_out(self, given: ExitStack, descriptors: list[int]) -> socket.socket:
        """Where the socket of the door will come out; the other end joins the `descriptors` of the process."""
        inside, outside = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        given.enter_context(inside)
        given.enter_context(outside)
        descriptors.append(outside.fileno())
        return inside

    def _has_door(self) -> bool:
        is_apart = not self.deployment.network and self._layout.isolation is not Isolation.NONE
        return is_apart and self._open_door is not None and self._layout.door is not None

    async def _answer_at(self, inside: socket.socket) -> None:
        """Takes the socket that the launcher has made in the zygote's network: it has sent it before it was done."""
        assert self._open_door is not None
        _, received, _, _ = socket.recv_fds(inside, 16, 1, socket.MSG_DONTWAIT)
        close = await self._open_door(socket.socket(fileno=received[0]))
        if self.alive:
            self._close_door = close
        else:
            close()

    def _lay_out(self) -> None:
        removal.remove(self._work)
        (self._work / "import").mkdir(parents=True)
        os.chmod(self._work, 0o711)  # noqa: S103  workers reach their own folder by name, and list nothing
        placement.spread(self._work)
        owner = self._layout.zygote_owner(self.slot)
        if owner is not None:
            os.chown(self._work / "import", owner, owner)

    def abandon_workers(self) -> None:
        """Closes the gateway's ends of everything that its workers have: nobody waits for their last words."""
        for worker in self._workers.values():
            worker.abandon()

    async def fork(self, user: str) -> Worker:
        """A new worker for `user`, in a folder of its own.

        Raises:
            ServiceUnavailable: the zygote is gone or could not fork.
        """
        making = asyncio.ensure_future(self._make_worker(user))
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            self._in_background(_dispose_of(making))  # it is on its way all the same
            raise
        except OSError as error:  # the disk is full, or there are no descriptors left
            raise ServiceUnavailable(f"No worker could be started: {error}", retry_after=1) from error

    async def _make_worker(self, user: str) -> Worker:
        await self._make_room()
        number = self._free_number()
        folder = self._work / str(number)
        owner = self._layout.owner(self.slot, number)
        memory, pace = self.deployment.memory, self._pace
        worker = Worker(zygote=self, number=number, user=user, folder=folder, owner=owner, memory=memory, pace=pace)
        self._numbers.add(number)
        try:
            worker.group = await asyncio.to_thread(self._furnish, number, folder, owner)
            self._workers[number] = worker
            await self._bring_up(worker)
        except BaseException:
            self._workers.pop(number, None)
            worker.abandon()
            worker.exited(0, 9)  # it has no process that could be killed
            self._in_background(worker.dispose())
            raise
        finally:
            self._forks.pop(number, None)
        return worker

    async def _bring_up(self, worker: Worker) -> None:
        """Has the process of a worker made, and connects the two."""
        with ExitStack() as given, ExitStack() as kept:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            given.enter_context(theirs)
            kept.enter_context(ours)
            reading, writing = os.pipe()
            given.callback(os.close, writing)
            kept.pop_all()  # from here on the worker closes them
            await worker.connect(ours, reading)
            if not self.alive or self._packets is None:
                raise _gone()
            entries = _opened(worker.group)
            for descriptor in entries:
                given.callback(os.close, descriptor)
            self._orders += 1
            order = {"fork": worker.number, "listens": self._ears.grant(worker)}
            made = self._forks[worker.number] = asyncio.get_running_loop().create_future()
            self._packets.send(order, [theirs.fileno(), worker.orders, writing, *entries])
        await made

    async def _make_room(self) -> None:
        """Lets the zygote's group hold what its workers keep from being freed: a page that the zygote changes stays,
        as it was, with every worker that was forked before, and stays charged to the zygote."""
        if self.group is None or len(self._workers) < self._room:
            return
        self._room = max(FIRST_ROOM, 2 * len(self._workers))
        with suppress(OSError):  # the group has gone: so has the zygote, and that is told elsewhere
            await asyncio.to_thread(self.group.allow, self.deployment.memory + self._room * HELD_BY_EACH)

    def _furnish(self, number: int, folder: Path, owner: int | None) -> Group | None:
        """Makes the folder and the control group of a worker, in one go: to change threads takes as long as either."""
        _make_folder(folder, owner)
        return self._new_group(number)

    def _new_group(self, number: int) -> Group | None:
        """The control group of worker `number`, or of the zygote as number 0. Blocking, as all of the machine waits for
        the same lock."""
        if self._cgroups is None:
            return None
        name, deployment = f"{self._work.name}-{number}", self.deployment
        try:
            return self._cgroups.add(name, memory=deployment.memory, cpu=deployment.cpu)
        except OSError as error:
            raise ServiceUnavailable(f"No control group could be made: {error}", retry_after=1) from error

    async def kill(self, worker: Worker) -> None:
        """Kills a worker with its whole family; returns when the signal has reached all of it.

        A zygote that does not obey is ended itself, and everything below it with it.
        """
        if not self.alive or self._packets is None:
            return
        number = worker.number
        killed = self._kills.setdefault(number, asyncio.get_running_loop().create_future())
        try:
            self._orders += 1
            self._packets.send({"kill": number})
            await answered(killed, [*self._forks.values(), *self._kills.values()], PATIENCE)
        except (TimeoutError, ServiceUnavailable):
            await self.end("it did not end a worker when it was told to")

    def release(self, number: int) -> None:
        """Nothing is left of a worker: another may have its number."""
        self._numbers.discard(number)

    def families(self, room: int) -> list[Family]:
        """Its own family of processes and those of its workers; `room` in bytes is what each may have on the disk."""
        memory = self.deployment.memory
        own = Family(
            folder=self._work / "import",
            memory=memory,
            disk=room,
            is_busy=not self._ready.done(),
            calls=self._orders,
            group=self.group,
            zygote=self.pid,
            pid=None,
            end=self.end,
        )
        return [own, *(worker.family(memory, room, self.pid) for worker in self._workers.values())]

    async def end(self, reason: str) -> None:
        """Ends the zygote and all its workers, for a reason that follows a colon."""
        self._reason = reason
        for worker in self._workers.values():
            worker.doom(reason)
        self.close()

    def close(self) -> None:
        """Ends the zygote and all its workers."""
        if self.alive and self._id:
            self._launcher.kill(self._id)
        if self._packets is not None:
            self._packets.close()
        self._died()

    def _free_number(self) -> int:
        """The number that has been out of use for longest: a uid is not given away while its last family may linger,
        nor a folder that is still to be removed."""
        for _ in range(LAST_NUMBER):
            self._next = self._next % LAST_NUMBER + 1
            if self._next not in self._numbers:
                return self._next
        raise ServiceUnavailable("All uids of this prefab's workers are in use.", retry_after=1)

    def _heard(self, message: dict[str, Any] | None) -> None:
        try:
            self._understand(message)
        except (ArithmeticError, LookupError, TypeError, ValueError):  # the package speaks, and not the zygote
            self.close()

    def _understand(self, message: dict[str, Any] | None) -> None:
        if message is None:
            self._died()
        elif "ready" in message:
            self.threads = bool(message["threads"])
            if message["ready"] != PROTOCOL:
                self._fail(ServiceUnavailable("The runtime beside this prefab speaks another protocol."))
            elif not self._ready.done():
                self._ready.set_result(None)
        elif "failed" in message:
            self._fail(ImportFailed({key: str(message["failed"][key]) for key in ("type", "message", "traceback")}))
        else:
            self._heard_of_worker(message)

    def _heard_of_worker(self, message: dict[str, Any]) -> None:
        if "forked" in message:
            number, pid = _number(message, "forked"), _number(message, "pid")
            if worker := self._workers.get(number):
                worker.pid = pid
            _settle(self._forks.get(number), None)
        elif "refused" in message:
            error = ServiceUnavailable(f"No worker could be started: {message['message']}", retry_after=1)
            _settle(self._forks.get(_number(message, "refused")), error)
        elif "killed" in message:
            _settle(self._kills.pop(_number(message, "killed"), None), None)
        else:
            number, code, signal = (_number(message, name) for name in ("exited", "code", "signal"))
            if worker := self._workers.pop(number, None):
                worker.exited(code, signal)

    def _fail(self, error: Exception) -> None:
        if not self._ready.done():
            self._ready.set_exception(error)
            self._ready.exception()  # the starter may have given up waiting

    def _bury(self) -> None:
        """Every process is gone: what was the zygote's can be given to another, once."""
        self._died()
        if self._buried is not None:
            self._buried()
            self._buried = None

    def _died(self) -> None:
        if not self.alive:
            return
        self.alive = False
        self._close_door()
        text = bytes(self.output[-2000:]).decode("utf-8", "replace").strip()
        message = f"the process died while importing the package. {text}".strip()
        if self.group is not None and self.group.ran_out_of_memory():
            self._reason = memory_exceeded(self.deployment.memory)
        if self._reason:
            message = f"the process was ended while importing the package: {self._reason}."
        self._fail(ImportFailed({"type": "ImportError", "message": message, "traceback": text}))
        for future in self._forks.values():
            _settle(future, _gone())
        for future in self._kills.values():
            _settle(future, None)
        for worker in list(self._workers.values()):
            worker.exited(0, 9)
        self._workers.clear()
        if self._packets is not None:
            self._packets.close()

    def _read_output(self, descriptor: int) -> None:
        try:
            data = os.read(descriptor, 1 << 16)
        except BlockingIOError:
            return
        if data:
            self.output += data
            del self.output[: -(1 << 16)]
        else:
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)


def _number(message: dict[str, Any], name: str) -> int:
    """A number that a zygote tells. A package can speak in its name, and others reckon with what is said here."""
    value = message[name]
    if type(value) is not int:
        raise TypeError(f"{name} is no number")
    return value


def _settle(future: asyncio.Future[None] | None, error: Exception | None) -> None:
    if future is None or future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)


async def _dispose_of(making: asyncio.Future[Worker]) -> None:
    with suppress(ServiceUnavailable, OSError):  # it has seen to that itself
        await (await making).dispose()


def _gone() -> ServiceUnavailable:
    return ServiceUnavailable("The process of this prefab ended; call again.", retry_after=1)


def _opened(group: Group | None) -> list[int]:
    """Descriptors of the entries of a control group, to be closed by the caller."""
    try:
        return group.open() if group is not None else []
    except OSError as error:
        raise ServiceUnavailable(f"The control group of a worker is gone: {error}", retry_after=1) from error


def _make_folder(folder: Path, owner: int | None) -> None:
    try:
        workspace.make(folder, owner)
    except FileExistsError:  # of a worker that had the number before
        removal.remove(folder)
        workspace.make(folder, owner)
