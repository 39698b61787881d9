"""Which worker serves a call: one that is idle and belongs to the same version and user, else a new one."""

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from gateway_server.engine.local import measuring, removal
from gateway_server.engine.local.cgroups import Cgroups, Unavailable
from gateway_server.engine.local.ears import Ears
from gateway_server.engine.local.host import Host
from gateway_server.engine.local.idle import IdleWorkers
from gateway_server.engine.local.isolation import Isolation, Layout, candidates
from gateway_server.engine.local.launches import Launcher
from gateway_server.engine.local.network import Network
from gateway_server.engine.local.pace import Pace
from gateway_server.engine.local.places import Places
from gateway_server.engine.local.protections import Protection, missing_core, protections
from gateway_server.engine.local.turns import NONE_LEFT, Turns
from gateway_server.engine.local.uids import Uids
from gateway_server.engine.local.watchdog import Family, Watchdog
from gateway_server.engine.local.worker import NotBegun, Worker
from gateway_server.engine.local.zygotes import ImportFailed, OpenDoor, Zygote
from gateway_server.errors import ServiceUnavailable
from gateway_server.models import Deployment, Result
from gateway_server.settings import Settings

MOST_IDLE, MOST_WARM = 8, 4
"""Workers that wait for another call, and versions that have processes, at most: for each call that may run at a time.
Those go first that were used longest ago; each takes memory, 2 to 3 MB and about 12."""
FAILED_IMPORT_REMEMBERED = 2.0
"""Seconds in which a package that failed to import is not tried again."""


class LocalEngine:
    """Runs functions on this machine.

    Lives on one event loop. `workspaces` is a folder of its own that may be wiped at start.
    """

    def __init__(self, settings: Settings, *, support: Path, workspaces: Path, base_url: Callable[[], str]) -> None:
        self.isolation = Isolation.NONE
        self.refused: dict[Isolation, str] = {}
        """Levels of isolation that this machine does not offer, and why."""
        self.protections: list[Protection] = []
        """What was found to hold, and not to hold, when a worker was tried out."""
        self.no_groups = ""
        """Why there are no control groups."""
        self.network = Network(settings)
        self.open_door: OpenDoor | None = None
        """How the gateway answers functions without a network, set by whoever serves it."""
        self._settings = settings
        self._support = support
        self._workspaces = workspaces
        self._base_url = base_url
        self._launcher = Launcher(support)
        self._layout = Layout(isolation=self.isolation, support=support, largest_file=settings.workspace_limit)
        self._cgroups: Cgroups | None = None
        self._hosts: dict[str, Host] = {}
        self._idle = IdleWorkers()
        self._slots: set[int] = set()
        self._uids = Uids()
        self._serial = count()
        self._places = Places(settings.workers, settings.queue)
        self._pace = Pace(self._places.has_others)
        self._ears = Ears()
        self._cleanups: set[asyncio.Task[None]] = set()
        self._zygotes: set[Zygote] = set()
        """Those that have not been buried."""
        self._watchdog = Watchdog(
            self._families,
            workspaces,
            most_files=settings.workspace_files,
            reserve=settings.disk_reserve,
            has_others=self._places.has_others,
        )
        self._watching: asyncio.Task[None] | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def is_open(self) -> bool:
        """Whether calls are taken."""
        return not self._closed and self._sweeper is not None

    def room(self) -> int:
        """Bytes that calls may still put on the disk.

        Raises:
            OSError: it cannot be told.
        """
        return self._watchdog.room()

    def count_workers(self) -> int:
        """Live worker processes, idle and busy."""
        return len(self._idle) + sum(host.busy for host in self._hosts.values())

    async def start(self) -> None:
        """Starts the launcher and finds the best isolation that really works here.

        Raises:
            ServiceUnavailable: the setting asks for more than the machine has.
        """
        removal.remove(self._workspaces)
        (self._workspaces / "root").mkdir(parents=True)  # where the launcher builds what workers see as /
        os.chmod(self._workspaces, 0o711)  # noqa: S103  workers pass through, and list nothing
        await self._make_groups()
        await self._launcher.start()
        await self.network.find_gateway(self._base_url())
        door = next(iter(self.network.addresses), None)
        for isolation in candidates(self._settings.sandbox):
            if isolation is Isolation.UIDS:
                self._uids.take()
            self._layout = replace(self._layout, isolation=isolation, first_uid=self._uids.first, door=door)
            try:
                await self._try_out_with_groups()
                self._check_required()
            except (ServiceUnavailable, ImportFailed) as error:
                self.refused[isolation] = str(error)
                continue
            self.isolation = isolation
            await self._try_out_network()
            await self.network.close_ways(isolation, self._uids.first)
            self.protections += self.network.protections()
            self._sweeper = asyncio.create_task(self._sweep())
            if self._settings.sandbox != "off" and sys.platform == "linux":
                self._watching = asyncio.create_task(self._watchdog.run())
            return
        await self._launcher.close()
        self._uids.close()
        raise ServiceUnavailable(f"No sandbox works on this machine: {'; '.join(self.refused.values())}")

    async def _make_groups(self) -> None:
        if self._settings.sandbox == "off":
            return
        try:
            self._cgroups = await asyncio.to_thread(Cgroups)
        except Unavailable as error:
            self.no_groups = str(error)
        else:
            self._launcher.groups = self._cgroups.folders

    async def _try_out_with_groups(self) -> None:
        """Kernels before 5.16 let nobody but root enter a group that root has opened: then without."""
        try:
            await self._try_out()
        except ServiceUnavailable:
            if self._cgroups is None:
                raise
            groups, self._cgroups = self._cgroups, None
            self.no_groups = "workers cannot enter them on this kernel"
            await self._try_out()
            await asyncio.to_thread(groups.close)

    def _check_required(self) -> None:
        missing = missing_core(self.protections) if self._settings.sandbox == "required" else []
        if missing:
            raise ServiceUnavailable("; ".join(f"{one.name} does not hold: {one.detail}" for one in missing))

    async def _try_out_network(self) -> None:
        """Whether a zygote can be cut off from the network."""
        zygote = self._new_zygote(self._probe(network=False))
        try:
            await zygote.start(base_url="", preload=False, timeout=20)
            self.network.no_namespaces = "switched off" if self.isolation is Isolation.NONE else None
        except (ServiceUnavailable, ImportFailed) as error:
            self.network.no_namespaces = str(error)
        finally:
            zygote.close()

    def _probe(self, *, network: bool = True) -> Deployment:
        code = self._workspaces / "probe"
        (code / "src").mkdir(parents=True, exist_ok=True)
        (code / "src" / "main.py").write_text("from gateway_runtime.probe import look\n")
        return Deployment(
            key="", prefab_id="", version="", entry_point="src/main.py", code=code, packages=code, network=network
        )

    async def _try_out(self) -> None:
        """A zygote with a package of our own forks one worker, which looks around: the whole tree, for real."""
        zygote = self._new_zygote(self._probe())
        try:
            await zygote.start(base_url="", preload=False, timeout=20)
            worker = await zygote.fork("")
            order = {"function": "look", "parameters": {}, "environment": {}, "stream": False, "fold": False}
            last = await worker.run(order, zygote.output.extend)
            if not isinstance(last, Result):
                raise ServiceUnavailable(f"a worker could not look around: {last}")
            facts = json.loads(last.json)
            is_inside = worker.group is not None and bool(worker.group.processes())
            self.protections = protections(
                facts,
                isolation=self._layout.isolation,
                settings=self._settings,
                cgroups=self._cgroups if is_inside else None,
                no_groups=self.no_groups,
            )
        except ServiceUnavailable:
            raise
        except Exception as error:
            raise ServiceUnavailable(f"{error!r} {zygote.output.decode('utf-8', 'replace')}") from error
        finally:
            zygote.close()

    async def worker(
        self, deployment: Deployment, user: str, *, depth: int = 0, alone: bool = True, again: bool = False
    ) -> "Lease":
        """A worker with a fresh workspace, for one call: `with await` gives it, and takes it back.

        With `alone` no other call is sent to the worker meanwhile. Without, the call may lie behind another, and be
        taken back from there (`NotBegun`): then it has to come `again` at once, and does not lose its place among those
        who wait.

        Raises:
            ImportFailed: the package cannot be imported.
            Overloaded: too many calls are waiting already.
            ServiceUnavailable: no process could be started.
        """
        if self._closed:
            if again:
                self._places.give_back(user)
            raise ServiceUnavailable("The gateway is shutting down.", retry_after=2)
        if not again and not self._places.take_now(user, depth):
            await self._places.take(user, depth)
        self._watchdog.wake()
        host = self._host(deployment)
        host.busy += 1
        try:
            turns = host.turns.get(user)
            if turns is None:
                turns = host.turns[user] = Turns(
                    partial(self._take_back, host), partial(host.has_idle, user), host.mean
                )
            worker = turns.take_now(alone=alone, again=again)
            if worker is NONE_LEFT:
                worker = await turns.take(alone=alone, again=again)
            return Lease(self, host, user, worker or await self._own_worker(host, user, turns, alone=alone))
        except BaseException:
            self._end_call(host, user)
            raise

    def give_back(self, host: Host, worker: Worker, user: str, *, comes_again: bool) -> None:
        """A call has no worker any more. One that comes again keeps its place."""
        turns = host.turns[user]
        turns.end(worker, worker.took)
        host.mean = turns.mean
        self._end_call(host, user, comes_again=comes_again)

    def _end_call(self, host: Host, user: str, *, comes_again: bool = False) -> None:
        host.busy -= 1
        host.used_at = time.monotonic()
        if not comes_again:
            self._places.give_back(user)
        if host.retired and not host.busy:
            self._end(host)

    async def _own_worker(self, host: Host, user: str, turns: Turns, *, alone: bool) -> Worker:
        """An idle worker, or else a new one."""
        try:
            while (worker := self._idle.take(host, user)) is not None and not (worker.alive and worker.fit):
                self._take_back(host, worker)
            worker = worker or await self._new_worker(host, user)
        except BaseException:
            turns.fail()
            raise
        turns.begin(worker, alone=alone)
        return worker

    async def _new_worker(self, host: Host, user: str) -> Worker:
        zygote = await self._zygote(host)
        try:
            return await self._forked(host, zygote, user)
        except ServiceUnavailable:
            if zygote.alive or self._closed:
                raise
        # The call has not begun: whatever it was that the zygote was ended for, another one may serve it.
        return await self._forked(host, await self._zygote(host), user)

    async def _forked(self, host: Host, zygote: Zygote, user: str) -> Worker:
        if self._cgroups is None:
            return await zygote.fork(user)
        worker = await host.spares.take(zygote)
        worker.user = user
        return worker

    def forget(self, key: str) -> None:
        """Ends the processes of a version that was removed or replaced, once the calls that it serves have ended."""
        host = self._hosts.pop(key, None)
        if host is not None:
            host.retired = True
            if not host.busy:
                self._end(host)

    def forget_user(self, user: str) -> None:
        """Ends the idle workers of a user, in whose memory something of theirs may be left."""
        for host in self._hosts.values():
            while (worker := self._idle.take(host, user)) is not None:
                worker.fit = False
                self._take_back(host, worker)

    def owns(self, pid: int) -> bool:
        """Whether a process of this machine descends from the launcher, as everything does that packages run."""
        return measuring.descends(pid, self._launcher.pid)

    async def close(self) -> None:
        """Ends every process."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._watching is not None:
            self._watching.cancel()
        for zygote in self._zygotes:
            zygote.abandon_workers()
        for host in self._hosts.values():
            self._end(host)
        self._hosts.clear()
        await self._launcher.close()
        self.network.close()
        self._uids.close()
        for task in list(self._cleanups):
            task.cancel()
        if self._cgroups is not None:
            await asyncio.to_thread(self._cgroups.close)
        removal.remove(self._workspaces)

    def _host(self, deployment: Deployment) -> Host:
        host = self._hosts.get(deployment.key)
        if host is None:
            if len(self._hosts) >= MOST_WARM * self._settings.workers:
                self._cool_one()
            host = self._hosts[deployment.key] = Host(deployment)
        return host

    def _cool_one(self) -> None:
        """Ends the processes of the version that was called longest ago, if any has nothing to do."""
        quiet = [(host.used_at, key) for key, host in self._hosts.items() if not host.busy]
        if quiet:
            self._end(self._hosts.pop(min(quiet)[1]))

    async def _zygote(self, host: Host) -> Zygote:
        if host.zygote is not None and host.zygote.alive:
            return host.zygote
        if host.failed is not None and time.monotonic() - host.failed[0] < FAILED_IMPORT_REMEMBERED:
            raise host.failed[1]
        if host.starting is None:
            host.starting = asyncio.create_task(self._start_zygote(host))
            host.starting.add_done_callback(_look_at)  # whoever waited may have left
        return await asyncio.shield(host.starting)

    async def _start_zygote(self, host: Host) -> Zygote:
        """Imports the package; if that starts threads, once more without it: then each worker imports for itself."""
        try:
            await self._launcher.start()
            while True:
                zygote = self._new_zygote(host.deployment)
                try:
                    timeout = self._settings.import_timeout
                    await zygote.start(base_url=self._base_url(), preload=host.preload, timeout=timeout)
                except BaseException as error:
                    zygote.close()
                    if isinstance(error, ImportFailed):
                        host.failed = (time.monotonic(), error)
                    raise
                if not zygote.threads:
                    host.zygote = zygote
                    return zygote
                host.preload = False
                zygote.close()
        finally:
            host.starting = None

    def _new_zygote(self, deployment: Deployment) -> Zygote:
        slot = next(number for number in range(len(self._slots) + 1) if number not in self._slots)
        self._slots.add(slot)
        work = self._workspaces / f"{slot}.{next(self._serial)}"  # never a folder that somebody may still be removing

        def remove() -> None:
            removal.remove(work)
            if self._cgroups is not None:
                self._cgroups.remove_all(f"{work.name}-")

        def buried() -> None:
            self._idle.remove_all_of(zygote)
            self._slots.discard(slot)
            self._zygotes.discard(zygote)
            self._in_background(asyncio.to_thread(remove))

        zygote = Zygote(
            launcher=self._launcher,
            layout=self._layout,
            cgroups=self._cgroups,
            deployment=deployment,
            slot=slot,
            work=work,
            buried=buried,
            pace=self._pace,
            ears=self._ears,
            in_background=self._in_background,
            open_door=self.open_door,
        )
        self._zygotes.add(zygote)
        return zygote

    def _families(self) -> list[Family]:
        """What the watchdog looks at."""
        room = self._settings.workspace_limit
        living = [zygote for zygote in self._zygotes if zygote.alive and zygote.pid]
        return [family for zygote in living for family in zygote.families(room)]

    def _take_back(self, host: Host, worker: Worker) -> None:
        if worker.fit and worker.alive and not self._closed and not worker.has_files:
            self._make_idle(host, worker)
            return
        self._in_background(self._clean_or_kill(host, worker))

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._cleanups.add(task)
        task.add_done_callback(self._cleanups.discard)

    async def _clean_or_kill(self, host: Host, worker: Worker) -> None:
        is_clean = worker.fit and worker.alive and await asyncio.to_thread(worker.clean)
        if is_clean and worker.fit and worker.alive:  # and not ended meanwhile
            self._make_idle(host, worker)
        else:
            await worker.dispose()

    def _make_idle(self, host: Host, worker: Worker) -> None:
        if self._hosts.get(host.deployment.key) is not host:
            return  # its zygote has been ended, and this worker with it
        worker.go_on()
        self._idle.add(host, worker)
        if len(self._idle) > MOST_IDLE * self._settings.workers and (oldest := self._idle.oldest):
            self._retire(oldest)

    def _retire(self, worker: Worker) -> None:
        """Ends a worker that waits for another call."""
        host = self._idle.remove(worker)
        worker.fit = False
        self._take_back(host, worker)

    async def _sweep(self) -> None:
        """Ends what has been idle for too long."""
        while True:
            await asyncio.sleep(min(5.0, self._settings.worker_idle / 2))
            self.network.follow()
            now = time.monotonic()
            while (worker := self._idle.oldest) and now - worker.idle_since > self._settings.worker_idle:
                self._retire(worker)
            for key, host in list(self._hosts.items()):
                for worker in host.spares.let_go():
                    self._in_background(worker.dispose())
                for user in [user for user, turns in host.turns.items() if turns.are_unused and user not in host.idle]:
                    del host.turns[user]
                if not host.busy and not host.idle and now - host.used_at > self._settings.zygote_idle:
                    del self._hosts[key]
                    self._end(host)

    def _end(self, host: Host) -> None:
        self._idle.remove_all(host)
        host.spares.close()
        if host.starting is not None:
            host.starting.cancel()
        if host.zygote is not None:
            host.zygote.close()
            host.zygote = None


class Lease:
    """A worker as long as a call has it."""

    __slots__ = ("_engine", "_host", "_user", "_worker")

    def __init__(self, engine: LocalEngine, host: Host, user: str, worker: Worker) -> None:
        self._engine = engine
        self._host = host
        self._user = user
        self._worker = worker

    def __enter__(self) -> Worker:
        return self._worker

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._engine.give_back(self._host, self._worker, self._user, comes_again=kind is NotBegun)


def _look_at(task: asyncio.Task[Zygote]) -> None:
    if not task.cancelled():
        task.exception()
