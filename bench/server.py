"""A server in processes of its own, started for a measurement and gone after it."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from bench import processes
from bench.endpoint import HOST, Endpoint

MARK = "BENCH_SERVER"
"""In the environment of every server, so that its processes are found also where they have left its tree."""


class Failed(Exception):
    """A server did not start."""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind((HOST, 0))
        return int(one.getsockname()[1])


class Server:
    """A context manager: inside it the server runs, and answers."""

    def __init__(
        self, name: str, command: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None, cwd: Path
    ) -> None:
        self.name = name
        self.command = list(command)
        self.log = log
        self._env = env or {}
        self._cwd = cwd
        self._mark = uuid.uuid4().hex
        self._process: subprocess.Popen[bytes] | None = None
        self._begun = 0.0

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Starts the processes; they need not answer yet."""
        environment = {**os.environ, **self._env, MARK: self._mark}
        self._begun = time.perf_counter()
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                self.command, cwd=self._cwd, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def wait(self, look: Callable[[], Any], seconds: float = 90.0) -> float:
        """Waits until a look at it gives something that is true; seconds since the start.

        Raises:
            Failed: it ended, or the time is over.
        """
        assert self._process is not None
        until = time.monotonic() + seconds
        while True:
            with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
                if look():
                    return time.perf_counter() - self._begun
            if self._process.poll() is not None:
                raise Failed(f"{self.name} ended with {self._process.returncode}: {self.said()}")
            if time.monotonic() > until:
                raise Failed(f"{self.name} did not answer within {seconds:g} s: {self.said()}")
            time.sleep(0.005)  # between two looks

    def answers(self, endpoint: Endpoint, seconds: float = 90.0) -> float:
        """Waits for the first success of an endpoint; seconds since the start."""

        def look() -> bool:
            with contextlib.suppress(RuntimeError):
                endpoint.check()
                return True
            return False

        return self.wait(look, seconds)

    def said(self) -> str:
        """The end of what it wrote, on one line."""
        return " ".join(self.log.read_text(errors="replace").split())[-300:]

    def pids(self) -> set[int]:
        """All its processes."""
        assert self._process is not None
        return processes.family({self._process.pid, *processes.marked(MARK, self._mark)})

    def cpu_seconds(self) -> float:
        """What all its processes have used so far."""
        return processes.cpu_seconds(self.pids())

    def pss_mb(self) -> float:
        """What memory all its processes hold."""
        return processes.pss_mb(self.pids())

    def stop(self, *, kill: bool = False) -> None:
        """Asks it to end, and ends what is left of it; with `kill` it is not asked, as by `kill -9`."""
        if self._process is None:
            return
        pids = self.pids()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(15)
        processes.end((pids | self.pids()) - {self._process.pid})
        self._process.kill()
        self._process.wait()
        self._process = None
