import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import uvloop
from packages import zoo

from gateway_runtime import linux
from gateway_server.engine.local import pool, turns
from gateway_server.engine.local.cgroups import Cgroups, Unavailable
from gateway_server.engine.local.isolation import Isolation
from gateway_server.engine.local.pool import LocalEngine
from gateway_server.engine.local.worker import NotBegun, Worker
from gateway_server.models import Deployment, Event, Progress, Result
from gateway_server.prefabs.environments import lay_out_support
from gateway_server.settings import Settings

GATEWAY = "http://127.0.0.1:9"
"""Where functions would find one, if there were one."""


@dataclass
class Answer:
    """What one call said."""

    events: list[bytes] = field(default_factory=list)
    last: Event | None = None
    log: bytearray = field(default_factory=bytearray)
    workers: list[Worker] = field(default_factory=list)
    """Those that it was sent to."""
    lay_behind: bool = False
    """Whether it was sent to one that had another call."""


def gives_groups() -> bool:
    """Whether this machine lets this user have control groups."""
    try:
        Cgroups().close()
    except Unavailable:
        return False
    return True


def run(main: Coroutine[Any, Any, Any], seconds: float = 60) -> Any:
    """What a coroutine gives within so many seconds."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # the loop of the product
        return runner.run(asyncio.wait_for(main, seconds))


def value(answer: Answer) -> Any:
    """What the function of a call returned."""
    assert isinstance(answer.last, Result), answer.last
    return json.loads(answer.last.json)


def plain(function: str, **parameters: Any) -> dict[str, Any]:
    """The order of a call without a stream."""
    return {"function": function, "parameters": parameters, "environment": {}, "stream": False, "fold": False}


async def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        await asyncio.sleep(0.005)


class Engine:
    """A real engine with packages of the zoo."""

    def __init__(self, engine: LocalEngine, folder: Path) -> None:
        self.local = engine
        self.memory = 512 << 20
        """Bytes that packages ask for which are used from now on."""
        self._folder = folder
        self._deployments: dict[str, Deployment] = {}

    def deployment(self, name: str) -> Deployment:
        if name not in self._deployments:
            code = zoo(self._folder / name, name)
            packages = self._folder / "packages"
            packages.mkdir(exist_ok=True)
            for path in [self._folder, *code.rglob("*"), code]:
                path.chmod(0o755 if path.is_dir() else 0o644)
            self._deployments[name] = Deployment(
                key=name,
                prefab_id=name,
                version="1.0.0",
                entry_point="src/main.py",
                code=code,
                packages=packages,
                memory=self.memory,
            )
        return self._deployments[name]

    def vary(self, name: str, variant: str, **changes: Any) -> None:
        """Gives a package of the zoo another name and other properties."""
        self._deployments[variant] = replace(self.deployment(name), key=variant, **changes)

    async def call(
        self,
        package: str,
        function: str,
        *,
        user: str = "ann",
        stream: bool = False,
        environment: dict[str, str] | None = None,
        **parameters: Any,
    ) -> Answer:
        answer = Answer()
        order = {
            "function": function,
            "parameters": parameters,
            "environment": environment or {},
            "stream": stream,
            "fold": False,
        }

        async def emit(events: list[Progress]) -> None:
            answer.events += [event.json for event in events]

        with await self.local.worker(self.deployment(package), user) as worker:
            answer.last = await worker.run(order, answer.log.extend, emit)
        return answer

    async def ask(self, package: str, function: str, *, user: str = "ann", **parameters: Any) -> Answer:
        """A call that may lie behind another one, as the gateway makes it."""
        answer, again = Answer(), False
        while True:
            try:
                with await self.local.worker(self.deployment(package), user, alone=again, again=again) as worker:
                    answer.workers.append(worker)
                    answer.lay_behind |= bool(worker._orders.sent)
                    answer.last = await worker.run(plain(function, **parameters), answer.log.extend, alone=again)
                return answer
            except NotBegun:
                assert not again
                again = True

    async def learn(self, package: str, function: str, *, user: str = "ann", **parameters: Any) -> None:
        """Lets the functions of a package be known as short ones, of which as many run at a time as there may."""
        await self.ask(package, function, user=user, **parameters)
        with contextlib.ExitStack() as leases:
            for _ in range(turns.FEW):
                leases.enter_context(await self.local.worker(self.deployment(package), user))
        self.local._hosts[package].turns[user].mean = 0.00005

    def has_nothing_left(self) -> bool:
        """Whether no call has, or waits for, anything."""
        hosts = self.local._hosts.values()
        each = [one for host in hosts for one in host.turns.values()]
        places = self.local._places
        return (
            all(one.are_unused and not one._open and not one._long for one in each)
            and not any(host.busy for host in hosts)
            and not (places._total or places._waiting)
            and not any(worker._orders.sent for zygote in self.local._zygotes for worker in zygote._workers.values())
        )


@contextlib.asynccontextmanager
async def running_engine(folder: Path, **options: Any) -> AsyncIterator[Engine]:
    """An engine in `folder`; options as of Settings."""
    settings = Settings(data=folder / "data", **options)
    support = lay_out_support(folder / "support")
    engine = LocalEngine(settings, support=support, workspaces=folder / "work", base_url=lambda: GATEWAY)
    await engine.start()
    try:
        yield Engine(engine, folder / "zoo")
    finally:
        await engine.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "zoo").mkdir()
    return tmp_path


def levels() -> list[str]:
    """The levels of isolation that this machine may offer: as root all, else those that user namespaces allow."""
    if sys.platform != "linux":
        return ["off"]
    child = os.fork()
    if child == 0:
        try:
            linux.unshare(linux.CLONE_NEWUSER)
        except OSError:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return [*(["uids"] if os.geteuid() == 0 else []), *(["pids"] if status == 0 else []), "off"]


@pytest.fixture(params=levels())
def sandbox(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each level of isolation: the setting that asks for it, the stronger ones out of the way."""
    if request.param == "off":
        return "off"
    monkeypatch.setattr(pool, "candidates", lambda _setting: [Isolation(request.param)])
    return "required"
