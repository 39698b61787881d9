"""A gateway in this process: for `serve`, for `dev`, and for trying out a package."""

import asyncio
import errno
import fcntl
import gc
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvicorn

from gateway_server.api.connection import Connection
from gateway_server.api.doors import Doors
from gateway_server.app import Gateway, check_settings, create_app
from gateway_server.cli import terminal
from gateway_server.cli.failures import Failure
from gateway_server.engine.local.zygotes import OpenDoor
from gateway_server.settings import Settings

GRACE = 30
"""Seconds that calls get to end when the gateway is told to."""
LEEWAY = 5
"""Seconds after that for telling their callers, before connections are cut."""
USUAL_URL = "http://127.0.0.1:8000"
"""Where commands look for a gateway if nothing else is said."""
KEEP_ALIVE = 75
SWITCH = 0.0005
"""Seconds for which calls wait for a thread that works for the database."""
GARBAGE = 20_000, 10, 10
"""New objects, and rounds, after which those are looked for that only hold each other. A record lives until it has been
taken over, and was looked at before, again and again, which cost every call a few percent."""
BACKLOG = 2048
UNSENT = 128 << 10
"""Bytes for one connection that the system may hold beyond those that are under way."""
_STEPS = {
    errno.EADDRINUSE: "Choose another port with --port; --port 0 takes a free one.",
    errno.EACCES: "Choose a port from 1024 on with --port.",
}


def run(work: Coroutine[Any, Any, None]) -> None:
    """Runs `work` on the event loop of the server, in a process of which no image is written to the disk."""
    resource.setrlimit(resource.RLIMIT_CORE, (1, 1))  # 0 would still go to a program that collects them: core(5)
    sys.setswitchinterval(SWITCH)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    logging.getLogger("uvicorn.error").addFilter(_is_worth_telling)
    with asyncio.Runner(loop_factory=uvicorn.Config(_nothing, log_config=None).get_loop_factory()) as runner:
        runner.run(work)


@asynccontextmanager
async def running(settings: Settings, *, grace: int = GRACE) -> AsyncIterator[Gateway]:
    """A gateway that listens. When the block ends, calls get `grace` seconds to end, too.

    Raises:
        Failure: the address or the data folder is taken.
        Invalid: a setting asks for what is not there.
    """
    check_settings(settings)  # before anything is written
    with _locked(settings.data), _listening(settings.host, settings.port) as listener:
        gateway = create_app(replace(settings, port=listener.getsockname()[1]))
        server = _Server(_configured(gateway, grace))
        gateway.engine.open_door = server.opener(_configured(Doors(gateway), grace))
        try:
            await gateway.start()
            async with _answering(gateway, server, listener, grace):
                gc.collect()
                gc.set_threshold(*GARBAGE)
                gc.freeze()  # what is there now stays: to look through it again and again would hold calls up
                yield gateway
        finally:
            await gateway.stop()


@asynccontextmanager
async def _answering(gateway: Gateway, server: "_Server", listener: socket.socket, grace: int) -> AsyncIterator[None]:
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await server.ready.wait()
        yield
    finally:
        server.should_exit = True
        gateway.drain(grace)
        # Callers get an answer from us: what the server itself cuts off ends in an error that nobody can read.
        telling = asyncio.get_running_loop().call_later(grace, gateway.exchanges.cancel_all)
        await task
        telling.cancel()


def _configured(application: Gateway | Doors, grace: int) -> uvicorn.Config:
    return uvicorn.Config(
        application,
        http=Connection,
        lifespan="off",  # begun and ended here, so that its errors are ours to tell
        log_config=None,
        access_log=False,
        proxy_headers=False,  # who calls is decided by the real address
        server_header=False,
        ws="none",
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=grace + LEEWAY,
        backlog=BACKLOG,
    )


class _Server(uvicorn.Server):
    """Tells when it listens, answers at more sockets while it runs, and leaves signals alone."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    def opener(self, config: uvicorn.Config) -> OpenDoor:
        """Answers at further sockets with another application; its requests are let end as all others are."""
        config.load()

        def talk() -> asyncio.Protocol:
            made = config.http_protocol_class
            return made(config=config, server_state=self.server_state, app_state={})  # type: ignore[call-arg]

        async def open_door(listener: socket.socket) -> Callable[[], None]:
            listener.setblocking(False)
            return (await asyncio.get_running_loop().create_server(talk, sock=listener)).close

        return open_door

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def until_told() -> None:
    """Waits for SIGTERM or Ctrl-C. A second one ends the process at once."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()

    def tell() -> None:
        if told.is_set():
            os._exit(1)
        told.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, tell)
    await told.wait()


def say_what_ends(gateway: Gateway, grace: int) -> None:
    """Tells what a gateway that was told to end still waits for, for so many seconds at most."""
    if count := len(gateway.running):
        running = "1 call is running; it has" if count == 1 else f"{count} calls are running; they have"
        terminal.say(f"gateway: {running} {grace} s to end. Ctrl-C again ends everything at once.")


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        number = getattr(error, "errno", None) or 0
        reason = os.strerror(number) if number > 0 else error  # its own text names the address once more
        step = _STEPS.get(number, "Choose another with --host.")
        raise Failure(f"Cannot listen on {host}:{port}: {reason}. {step}") from error
    with listener:
        _bound_unsent(listener)
        listener.setblocking(False)
        yield listener


def _bound_unsent(listener: socket.socket) -> None:
    """Lets the system keep little for clients that do not read, where it would take megabytes for each of them."""
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if option is not None:
        with suppress(OSError):  # where it is refused, it costs memory, and nothing else
            listener.setsockopt(socket.IPPROTO_TCP, option, UNSENT)  # sockets of connections inherit it


@contextmanager
def _locked(data: Path) -> Iterator[None]:
    """Two gateways in one folder would remove each other's work."""
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (data / "gateway.lock").open("a")
    except OSError as error:
        raise Failure(
            f"The data folder {data} cannot be used: {error.strerror}. Choose another with --data."
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            message = f"Another gateway runs on the data folder {data}. Stop it, or choose another with --data."
            raise Failure(message) from error
        yield


def _is_worth_telling(record: logging.LogRecord) -> bool:
    """A request that was cut off when its time to end was over is no error."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


async def _nothing(*_: object) -> None: ...
