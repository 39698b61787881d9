"""The process of an agent that `gateway dev` runs."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from importlib.resources import files

from gateway_server.cli import terminal
from gateway_server.cli.agent_folder import AgentFolder

HOST = "127.0.0.1"
STOP = 3.0
"""Seconds that it gets to end."""
LAST_WORDS = 1.0
"""Seconds in which what it wrote before its end must have come."""
PAUSE = 0.05
LONGEST_LINE = 1 << 16


class AgentProcess:
    """An agent that was started, in a session of its own. What it writes is shown as it comes."""

    def __init__(self, name: str, port: int, process: asyncio.subprocess.Process) -> None:
        self.url = f"http://{HOST}:{port}"
        self._port = port
        self._process = process
        assert process.stdout is not None
        self._output = asyncio.create_task(_show(name, process.stdout))

    @classmethod
    async def start(cls, agent: AgentFolder, base_url: str) -> "AgentProcess":
        """Starts it on a free port, with the address of the gateway in its environment."""
        port = _free_port()
        uvicorn = (agent.app, "--host", HOST, "--port", str(port), "--log-level", "warning")
        process = await asyncio.create_subprocess_exec(
            *(_python(agent), "-c", (files("gateway_server.cli") / "agent_child.py").read_text("utf-8")),
            *(*uvicorn, "--timeout-graceful-shutdown", "1"),
            cwd=agent.folder,
            env={**os.environ, "GATEWAY_BASE_URL": base_url, "PYTHONUNBUFFERED": "1"},
            stdin=asyncio.subprocess.PIPE,  # its end tells the child that we are gone
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for us; we end it with all that it has started
        )
        return cls(agent.id, port, process)

    async def listens(self) -> bool:
        """Waits until it takes connections; False if it ended before."""
        while self._process.returncode is None:
            try:
                _, writer = await asyncio.open_connection(HOST, self._port)
            except OSError:
                await asyncio.sleep(PAUSE)
            else:
                writer.close()
                return True
        return False

    async def ended(self) -> int:
        """Waits for its end, and until what it wrote is shown. Gives its exit code."""
        code = await self._process.wait()
        await asyncio.wait([self._output], timeout=LAST_WORDS)
        return code

    async def stop(self) -> None:
        """Ends it and all that it has started."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), STOP)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        self._output.cancel()


def _python(agent: AgentFolder) -> str:
    """The agent's own interpreter if it has one, else ours."""
    own = agent.folder.absolute() / ".venv" / "bin" / "python"
    return str(own) if own.exists() else sys.executable


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


async def _show(name: str, stream: asyncio.StreamReader) -> None:
    rest = b""
    while chunk := await stream.read(LONGEST_LINE):
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > LONGEST_LINE:
            lines, rest = [*lines, rest], b""
        for line in lines:
            _show_line(name, line)
    if rest:
        _show_line(name, rest)


def _show_line(name: str, line: bytes) -> None:
    terminal.say(f"{name} | {line.decode('utf-8', 'replace').rstrip()}")
