"""A real gateway in a process of its own, started through the installed command."""

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from gateway_sdk import GatewayClient

COMMAND = str(Path(sys.executable).with_name("gateway"))
_http = httpx.Client(timeout=120, trust_env=False)  # one for all: making one costs more than most requests
READY = re.compile(r"listening on (http://\S+)")


def until(condition: Callable[[], Any], seconds: float = 10.0, what: str = "it") -> Any:
    """Waits for a condition, which may take `seconds` at most; gives what the condition gave."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"{what} did not happen within {seconds:g} s"
        time.sleep(0.01)  # between two looks; nothing depends on its length
    return found


class Gateway:
    """A gateway that runs until it is stopped or killed."""

    def __init__(self, data: Path, *arguments: str, env: dict[str, str] | None = None) -> None:
        self.data = data
        self._arguments = arguments
        self.env = env or {}
        self.command = [COMMAND]
        self.process: subprocess.Popen[bytes] | None = None
        self.url = ""
        self._log = data.with_name(f"{data.name}.log")

    def start(self) -> "Gateway":
        environment = {k: v for k, v in os.environ.items() if not k.startswith("GATEWAY_")} | self.env
        with open(self._log, "ab") as log:
            start = log.tell()
            self.process = subprocess.Popen(
                [*self.command, "serve", "--port", "0", "--data", str(self.data), *self._arguments],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

        def ready() -> re.Match[str] | None:
            assert self.process
            text = self.log()[start:]
            assert self.process.poll() is None, f"the gateway ended: {text}"
            return READY.search(text)

        self.url = until(ready, 40, "the gateway's start")[1].rstrip("/")
        return self

    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    @property
    def pid(self) -> int:
        assert self.process
        return self.process.pid

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(40)

    @property
    def admin_key(self) -> str:
        return (self.data / "admin.key").read_text().strip()

    def request(self, method: str, path: str, *, key: str | None = None, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {key or self.admin_key}", **options.pop("headers", {})}
        return _http.request(method, self.url + path, headers=headers, **options)

    def publish(self, folder: Path, **options: Any) -> dict[str, Any]:
        answer = self.request("POST", "/v1/prefabs", files={"file": ("package.tar.gz", pack(folder))}, **options)
        assert answer.status_code in (200, 201), answer.text
        return answer.json()

    def key(self, user: str, *scopes: str) -> str:
        answer = self.request("POST", "/v1/keys", json={"user": user, "scopes": scopes or ("call",), "name": "test"})
        assert answer.status_code == 201, answer.text
        return answer.json()["key"]

    def token(self, user: str, agent: str | None = None) -> str:
        answer = self.request("POST", "/v1/tokens", json={"user": user, "agent": agent, "ttl": 3600})
        assert answer.is_success, answer.text
        return answer.json()["internal_token"]

    def client(self, user: str = "ann", agent: str | None = "helper", **options: Any) -> GatewayClient:
        return GatewayClient(internal_token=self.token(user, agent), base_url=self.url, **options)

    def workers(self) -> list[int]:
        """Every process below the gateway but the launcher."""
        assert self.process
        below = descendants(self.process.pid)
        return [pid for pid in below if b"launcher.py" not in command_line(pid)]


@contextlib.contextmanager
def running_gateway(
    data: Path, *arguments: str, env: dict[str, str] | None = None, command: Sequence[str] = (COMMAND,)
) -> Iterator[Gateway]:
    gateway = Gateway(data, *arguments, env=env)
    gateway.command = [*command]
    try:
        yield gateway.start()
    finally:
        if gateway.process is not None and gateway.process.poll() is None:
            gateway.stop()


def pack(folder: Path) -> bytes:
    """A folder as the archive that publishing takes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                archive.add(path, path.relative_to(folder).as_posix())
    return out.getvalue()


def descendants(pid: int) -> list[int]:
    parents: dict[int, int] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            state, parent = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                parents[int(name)] = int(parent)
    found: set[int] = set()
    layer = {pid}
    while layer:
        layer = {child for child, parent in parents.items() if parent in layer}
        found |= layer
    return sorted(found)


def command_line(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def memory_mb(pid: int, which: str = "VmRSS") -> float:
    """Resident memory: VmRSS now, VmHWM at its highest."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(which):
            return int(line.split()[1]) / 1024
    return 0.0
