"""One worker: serves calls of one user, one at a time, until its socket closes.

It runs in a process of its own, forked from the zygote and locked down before this module takes over.
"""

import json
import os
import socket
import sys
from collections.abc import Callable
from types import ModuleType

from gateway_runtime import functions, workspace
from gateway_runtime.protocol import EVENT_LIMIT, FRAME_LIMIT, PROTOCOL, RESULT_LIMIT, FrameBuffer, Kind, frame


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

    def run(self, load: Callable[[], ModuleType]) -> None:
        environment: dict[str, str] = self._order["environment"]  # type: ignore[assignment]
        before = os.environ.copy()
        os.environ.update(environment)
        try:
            self._finish(*self._call(load))
        except functions.EventError as error:
            self._fail({"error_code": error.code, "type": "EventError", "message": str(error), "traceback": ""})
        except BaseException as error:  # SystemExit and KeyboardInterrupt of the function end its call alone
            told = functions.describe(error)
            _say(told["traceback"])
            self._fail({"error_code": "PREFAB_ERROR", **told})
        finally:
            _restore(before)
            _flush()
            os.chdir(self._home)
            self._send(Kind.IDLE, json.dumps({"leftovers": _has_descendants()}).encode())

    def _call(self, load: Callable[[], ModuleType]) -> tuple[Kind, bytes]:
        function = functions.find(load(), str(self._order["function"]))
        parameters: dict[str, object] = self._order["parameters"]  # type: ignore[assignment]
        streamed, result = functions.call(function, parameters, stream=bool(self._order["stream"]), emit=self._emit)
        return Kind.DONE if streamed else Kind.RESULT, result

    def _emit(self, kind: str, event: bytes) -> None:
        if len(event) > EVENT_LIMIT:
            raise ValueError(f"an event of {len(event)} bytes is longer than the limit of {EVENT_LIMIT}")
        self._send(Kind.START if kind == "start" else Kind.EVENT, event)

    def _finish(self, kind: Kind, result: bytes) -> None:
        _flush()
        if len(result) > RESULT_LIMIT:
            raise ValueError(f"the result of {len(result)} bytes is longer than the limit of {RESULT_LIMIT}")
        if len(result) > FRAME_LIMIT:
            with open(os.path.join(self._home, workspace.RESULT), "wb") as file:
                file.write(result)
            kind, result = Kind.SPILLED, bytes([kind])
        self._send(kind, result)

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


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):  # the function closed or replaced it
            continue


def _say(text: str) -> None:
    try:
        sys.stderr.write(text)
    except (AttributeError, OSError, ValueError):  # the function closed or replaced it
        os.write(2, text.encode("utf-8", "replace"))


def _has_descendants() -> bool:
    """Whether processes that the function started are still alive; orphans come back to a subreaper, which we are."""
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                return True
        except ChildProcessError:
            return False
