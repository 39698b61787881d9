"""One worker: serves calls of one user, one at a time, until its socket closes.

It runs in a process of its own, forked from the zygote and locked down before this module takes over.
"""

import fcntl
import json
import os
import signal
import socket
import sys
import termios
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType
from typing import Any

from gateway_runtime import functions, workspace
from gateway_runtime.protocol import (
    EVENT_LIMIT,
    FRAME_LIMIT,
    HEADER,
    IDLE,
    ORDER_LIMIT,
    PROTOCOL,
    RESULT_LIMIT,
    Idle,
    Kind,
    frame,
)
from gateway_runtime.watch import Watch

_LONGEST = 0xFFFFFFFF
_decode = json.JSONDecoder().raw_decode
"""What the engine writes has nothing around it; to look for that takes longer than to read a small order."""
PAUSE = 0.0002
"""Seconds after the first event of a call. A function that computes on at once would keep the processor, for 3 ms as a
rule, that whoever waits for this event needs to get it."""
MOST_LEFT_OPEN = 1000
"""Files that calls may leave open, as connections that are kept for the next; the limit is four times that."""


def serve(
    connection: socket.socket, orders: socket.socket, load: Callable[[], ModuleType], *, listens: bool = False
) -> None:
    """Says hello, then runs what it is asked to until the engine hangs up. `listens` lets it have the kernel tell of
    changes in its folder, as long as it lives."""
    connection.sendall(frame(Kind.HELLO, 0, json.dumps({"protocol": PROTOCOL, "pid": os.getpid()}).encode()))
    worker = _Worker(connection, load, listens=listens)
    while packet := orders.recv(HEADER.size + ORDER_LIMIT):
        _, _, number = HEADER.unpack_from(packet)
        text = packet[HEADER.size :] or _receive(connection, Kind.CALL)
        order, _ = _decode(text.decode())
        if worker.run(number, order):
            _receive(connection, Kind.GO)


def _receive(connection: socket.socket, expected: Kind) -> bytes:
    """The payload of the next frame, and nothing of what follows it.

    Raises:
        ConnectionError: the engine has hung up, or says something else.
    """
    length, kind, _ = HEADER.unpack(_exactly(connection, HEADER.size))
    if kind != expected or length > RESULT_LIMIT:
        raise ConnectionAbortedError("the engine said something unexpected")
    return _exactly(connection, length)


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = connection.recv(min(size - len(data), 1 << 20))
        if not piece:
            raise ConnectionResetError("the engine has hung up")
        data += piece
    return bytes(data)


class _Worker:
    """What stays from call to call, and what every call has to leave as it found it."""

    def __init__(self, connection: socket.socket, load: Callable[[], ModuleType], *, listens: bool = False) -> None:
        self._connection = connection
        self._load = load
        self._module: ModuleType | None = None
        self._state = _State()
        self._folders = Watch(listens=listens)
        self._pid = os.getpid()

    def run(self, number: int, order: dict[str, Any]) -> int:
        """Runs one call to its end, whatever that is; gives the flags that it told the engine."""
        call = _Call(self._connection, number, order, self._state.home, self._pid)
        environment = _Environment(order["environment"])
        began = time.perf_counter()
        try:
            last = call.outcome(self._find)
        finally:
            call.leave_if_copy()
            took = max(time.perf_counter() - began, 0.0)
            environment.restore()
            _flush()
            is_home = self._state.go_home()
        flags = 0
        if self._state.has_changed() or _has_descendants() or not is_home:
            flags |= Idle.LEFTOVERS.value
        if self._folders.has_changed():
            flags |= Idle.FILES.value
        if _is_unread():
            flags |= Idle.OUTPUT.value
        self._connection.sendall(last + frame(Kind.IDLE, number, IDLE.pack(flags, min(int(took * 1e6), _LONGEST))))
        return flags

    def _find(self, name: str) -> Callable[..., object]:
        if self._module is None:
            self._module = self._load()
            self._state = _State()  # once more: where the package is imported only now, what that started may stay
        return functions.find(self._module, name)


class _Call:
    """One call: its events, and what became of it."""

    def __init__(self, connection: socket.socket, number: int, order: dict[str, Any], home: str, pid: int) -> None:
        self._connection = connection
        self._number = number
        self._order = order
        self._home = home
        self._pid = pid
        self._has_told = False

    def outcome(self, find: Callable[[str], Callable[..., object]]) -> bytes:
        """Runs the function; the frame that tells what became of it."""
        order = self._order
        try:
            streamed, result = functions.call(
                find(order["function"]),
                order["parameters"],
                stream=order["stream"],
                emit=self._emit,
                fold=order["fold"],
            )
            self.leave_if_copy()
            return self._result(Kind.DONE if streamed else Kind.RESULT, result)
        except functions.EventError as error:
            told = {"error_code": error.code, "type": "EventError", "message": str(error), "traceback": ""}
        except BaseException as error:  # SystemExit and KeyboardInterrupt of the function end its call alone
            told = {"error_code": "PREFAB_ERROR", **functions.describe(error)}
            self.leave_if_copy()
            _say(told["traceback"])
        told = {key: value[: FRAME_LIMIT // 16] for key, value in told.items()}
        # As escapes, a text of the same length would have three times the bytes, and might be too long for a frame.
        text = json.dumps(told, ensure_ascii=False).encode("utf-8", "replace")
        return frame(Kind.FAILURE, self._number, text)

    def leave_if_copy(self) -> None:
        """A function that forked may go on in both processes; only one of them speaks for the call."""
        if os.getpid() != self._pid:
            os._exit(0)

    def _emit(self, kind: str, event: bytes) -> None:
        self.leave_if_copy()
        if len(event) > EVENT_LIMIT:
            raise ValueError(f"an event of {len(event)} bytes is longer than the limit of {EVENT_LIMIT}")
        self._connection.sendall(frame(Kind.START if kind == "start" else Kind.EVENT, self._number, event))
        if not self._has_told:
            self._has_told = True
            time.sleep(PAUSE)

    def _result(self, kind: Kind, result: bytes) -> bytes:
        if len(result) > RESULT_LIMIT:
            raise ValueError(f"the result of {len(result)} bytes is longer than the limit of {RESULT_LIMIT}")
        if len(result) > FRAME_LIMIT:
            with open(os.path.join(self._home, workspace.RESULT), "wb") as file:
                file.write(result)
            kind, result = Kind.SPILLED, bytes([kind])
        return frame(kind, self._number, result)


class _Environment:
    """The environment of one call: its secrets are there until it is over, and gone before the next begins.

    `os.environ` holds encoded names and values in a dictionary that `os.environb` shares, and tells the C library of
    each. That is done here in one step, as to go through its methods takes longer than all the rest.
    """

    def __init__(self, added: dict[str, str]) -> None:
        self._objects = os.environ, os.environb
        self._before = _variables().copy()
        variables = _variables()
        for name, text in added.items():
            key, value = name.encode(), os.fsencode(text)
            os.putenv(key, value)
            variables[key] = value

    def restore(self) -> None:
        """As it was before, whatever the function did to it, or put in its place."""
        os.environ, os.environb = self._objects
        before, present = self._before, _variables()
        for name in present.keys() - before.keys():
            del present[name]
            os.unsetenv(name)
        if present != before:
            for name, value in before.items():
                if present.get(name) != value:
                    os.environb[name] = value


def _variables() -> dict[bytes, bytes]:
    """The environment as the interpreter holds it; a copy by `os.environ.copy()` decodes every name and value."""
    return os.environb._data  # type: ignore[attr-defined,no-any-return]


class _State:
    """What a call must leave as it was for the worker to serve another."""

    def __init__(self) -> None:
        self.home = os.getcwd()
        self._mask = os.umask(0o077)
        os.umask(self._mask)
        self._streams = (sys.stdout, sys.stderr)
        self._descriptors = _identities()
        self._threads = threading.active_count()

    def go_home(self) -> bool:
        """Whether the folder is still there; without a sandbox a function can remove it."""
        try:
            os.chdir(self.home)
        except OSError:
            return False
        return True

    def has_changed(self) -> bool:
        """Whether the function replaced or closed its output, or left threads or an alarm behind."""
        os.umask(self._mask)
        alarm = signal.alarm(0)
        if _count_open() > MOST_LEFT_OPEN:
            return True
        same = (sys.stdout, sys.stderr) == self._streams and not any(map(_is_closed, self._streams))
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


def _is_closed(stream: Any) -> bool:
    try:
        return bool(stream.closed)
    except ValueError:  # the function has taken its buffer
        return True


def _is_unread() -> bool:
    """Whether the pipe of our output holds anything, or is no pipe any more."""
    try:
        return fcntl.ioctl(1, termios.FIONREAD, b"1234") != b"\0\0\0\0"
    except OSError:
        return True


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
