"""One worker: serves calls of one user, one at a time, until its socket closes.

It runs in a process of its own, forked from the zygote and locked down before this module takes over.
"""

import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType

from gateway_runtime import functions, workspace
from gateway_runtime.protocol import EVENT_LIMIT, FRAME_LIMIT, PROTOCOL, RESULT_LIMIT, FrameBuffer, Kind, frame

MOST_LEFT_OPEN = 1000
"""Files that calls may leave open, as connections that are kept for the next; the limit is four times that."""


def serve(connection: socket.socket, load: Callable[[], ModuleType]) -> None:
    """Says hello, then runs what it is asked to until the engine hangs up."""
    connection.sendall(frame(Kind.HELLO, 0, json.dumps({"protocol": PROTOCOL, "pid": os.getpid()}).encode()))
    buffer = FrameBuffer(limit=RESULT_LIMIT)
    while data := connection.recv(1 << 16):
        for kind, number, payload in buffer.feed(data):
            if kind is Kind.CALL:
                _Call(connection, number, json.loads(payload)).run(load)


class _Call:
    """One call: its environment, its events, its end."""

    def __init__(self, connection: socket.socket, number: int, order: dict[str, object]) -> None:
        self._connection = connection
        self._number = number
        self._order = order
        self._home = os.getcwd()
        self._pid = os.getpid()
        self._state = _State()

    def run(self, load: Callable[[], ModuleType]) -> None:
        environment: dict[str, str] = self._order["environment"]  # type: ignore[assignment]
        before, mask = os.environ.copy(), os.umask(0o077)
        os.umask(mask)
        os.environ.update(environment)
        try:
            finish = self._outcome(load)
            self._leave_if_copy()
            finish()
        finally:
            self._leave_if_copy()
            _restore(before)
            os.umask(mask)
            _flush()
            os.chdir(self._home)
            self._send(Kind.IDLE, json.dumps({"leftovers": self._state.has_changed() or _has_descendants()}).encode())

    def _outcome(self, load: Callable[[], ModuleType]) -> Callable[[], None]:
        """Runs the function; how to tell what became of it."""
        try:
            kind, result = self._call(load)
            self._leave_if_copy()
            return self._result(kind, result)
        except functions.EventError as error:
            told = {"error_code": error.code, "type": "EventError", "message": str(error), "traceback": ""}
        except BaseException as error:  # SystemExit and KeyboardInterrupt of the function end its call alone
            told = {"error_code": "PREFAB_ERROR", **functions.describe(error)}
            self._leave_if_copy()
            _say(told["traceback"])
        return lambda: self._fail(told)

    def _leave_if_copy(self) -> None:
        """A function that forked may return in both processes; only one of them speaks for the call."""
        if os.getpid() != self._pid:
            os._exit(0)

    def _call(self, load: Callable[[], ModuleType]) -> tuple[Kind, bytes]:
        function = functions.find(load(), str(self._order["function"]))
        self._state = _State()  # once more: where the package is imported only now, what that started may stay
        parameters: dict[str, object] = self._order["parameters"]  # type: ignore[assignment]
        stream, fold = bool(self._order["stream"]), bool(self._order.get("fold"))
        streamed, result = functions.call(function, parameters, stream=stream, emit=self._emit, fold=fold)
        return Kind.DONE if streamed else Kind.RESULT, result

    def _emit(self, kind: str, event: bytes) -> None:
        if len(event) > EVENT_LIMIT:
            raise ValueError(f"an event of {len(event)} bytes is longer than the limit of {EVENT_LIMIT}")
        self._send(Kind.START if kind == "start" else Kind.EVENT, event)

    def _result(self, kind: Kind, result: bytes) -> Callable[[], None]:
        _flush()
        if len(result) > RESULT_LIMIT:
            raise ValueError(f"the result of {len(result)} bytes is longer than the limit of {RESULT_LIMIT}")
        if len(result) > FRAME_LIMIT:
            with open(os.path.join(self._home, workspace.RESULT), "wb") as file:
                file.write(result)
            kind, result = Kind.SPILLED, bytes([kind])
        return lambda: self._send(kind, result)

    def _fail(self, error: dict[str, str]) -> None:
        _flush()
        told = {key: value[: FRAME_LIMIT // 16] for key, value in error.items()}
        self._send(Kind.FAILURE, json.dumps(told).encode())

    def _send(self, kind: Kind, payload: bytes) -> None:
        self._connection.sendall(frame(kind, self._number, payload))


def _restore(before: dict[str, str]) -> None:
    """The environment as it was: the secrets of this call are gone before the next begins."""
    for name in set(os.environ) - set(before):
        del os.environ[name]
    os.environ.update(before)


class _State:
    """What a call must leave as it was for the worker to serve another."""

    def __init__(self) -> None:
        self._streams = (sys.stdout, sys.stderr)
        self._descriptors = _identities()
        self._threads = threading.active_count()

    def has_changed(self) -> bool:
        """Whether the function replaced or closed its output, or left threads or an alarm behind."""
        alarm = signal.alarm(0)
        if _count_open() > MOST_LEFT_OPEN:
            return True
        same = (sys.stdout, sys.stderr) == self._streams and not any(stream.closed for stream in self._streams)
        return not same or bool(alarm) or threading.active_count() > self._threads or _identities() != self._descriptors


def _count_open() -> int:
    """How many files this process has open, at least: a new one gets the lowest number that is free."""
    try:
        lowest = os.dup(0)
    except OSError:
        return MOST_LEFT_OPEN + 1
    os.close(lowest)
    return lowest


def _identities() -> list[tuple[int, int] | None]:
    """Which files descriptors 0 to 2 are."""
    found: list[tuple[int, int] | None] = []
    for descriptor in range(3):
        try:
            told = os.fstat(descriptor)
            found.append((told.st_dev, told.st_ino))
        except OSError:
            found.append(None)
    return found


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # noqa: S112  the function may have put anything in its place
            continue


def _say(text: str) -> None:
    try:
        sys.stderr.write(text)
    except Exception:  # the function may have put anything in its place
        with suppress(OSError):
            os.write(2, text.encode("utf-8", "replace"))


def _has_descendants() -> bool:
    """Whether processes that the function started are still alive; orphans come back to a subreaper, which we are."""
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                return True
        except ChildProcessError:
            return False
