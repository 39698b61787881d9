"""A command that goes on until it is told to end."""

import subprocess
import threading

from gateways import until


class Running:
    """A command that goes on, and what it has written so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.written = ""
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._read, args=(s,)) for s in (process.stdout, process.stderr)]
        for thread in self._threads:
            thread.start()

    def _read(self, stream) -> None:
        for line in stream:
            with self._lock:  # two streams, two threads
                self.written += line

    def wait_for(self, text: str, seconds: float = 30) -> None:
        until(lambda: text in self.written or self.process.poll() is not None, seconds, f"{text!r} in {self.written!r}")
        assert text in self.written

    @property
    def url(self) -> str:
        return self.written.split("listening on ")[1].split()[0]

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(20)
        for thread in self._threads:
            thread.join(20)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream
            stream.close()
