"""Runs uv in a process of its own and says in one sentence why it failed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path

from uv import find_uv_bin

MAX_LOG = 64 * 1024

_UNREACHABLE = re.compile(
    r"Failed to fetch|error sending request|dns error|Could not connect|timed out|connectivity", re.I
)
_MISSING = re.compile(
    r"Because (?:there are no versions of )?(\S+?) was not found in the (?:package registry|provided)"
)
_NO_WHEEL = re.compile(
    r"(?:Because|that) (?:all versions of )?(\S+) ha(?:s|ve) no (?:usable wheels|wheels with a matching)"
)
_REFUSED = re.compile(r"HTTP status \w+ error \(([^)]*)\)")
#: What uv puts before each link in a chain of reasons; older releases draw an arrow or write "Caused by".
_CAUSE = re.compile(r"\s*(?:\b(?:error|hint|[Cc]aused? ?(?:by)?):\s+|(?=Because ))")
_ADDRESS_USER = re.compile(r"(?<=://)[^/@\s]+@")


class EnvironmentBuildError(Exception):
    """The dependencies of a package cannot be had; the message says why, the log what uv said."""

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.log = log


def uv_command(*arguments: str) -> list[str]:
    """The command line that runs our own uv."""
    return [find_uv_bin(), *arguments]


async def run_tool(
    command: Sequence[str],
    *,
    cwd: Path,
    limit: float,
    lock: int,
    progress: Callable[[str], None] | None = None,
) -> str:
    """What the tool printed. After `limit` seconds, or when cancelled, it ends with everything that it started.

    The tool inherits the descriptor `lock`: should the gateway be killed, its folder stays locked while the tool lives.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env=_environment(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        pass_fds=(lock,),
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with asyncio.timeout(limit):
            output, log, code = await asyncio.gather(
                process.stdout.read(), _follow(process.stderr, progress), process.wait()
            )
    except TimeoutError as error:
        raise EnvironmentBuildError(f"preparing the dependencies took longer than {limit:g} seconds") from error
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await asyncio.shield(process.wait())
    if code != 0:
        raise EnvironmentBuildError(explain(log), log)
    return output.decode()


async def _follow(stream: asyncio.StreamReader, progress: Callable[[str], None] | None) -> str:
    """Everything that is said on a stream (its end, if it is much), line by line to `progress` as well."""
    log = rest = ""
    while data := await stream.read(8192):
        *lines, rest = (rest + data.decode(errors="replace")).split("\n")
        for line in lines:
            clean = _ADDRESS_USER.sub("***@", line)
            log = f"{log}{clean}\n"[-MAX_LOG:]
            if progress is not None and clean.strip():
                progress(clean.strip())
    return log + _ADDRESS_USER.sub("***@", rest)


def explain(log: str) -> str:
    """The reason of a failure, for the author of a package."""
    text = " ".join(re.sub(r"[×╰─▶│├]", " ", log).split())
    if missing := _MISSING.search(text):
        return f"the package index has no package called {missing[1]}"
    if no_wheel := _NO_WHEEL.search(text):
        machine = f"Python {sys.version_info.major}.{sys.version_info.minor} on {sysconfig.get_platform()}"
        allowed = "unless the gateway is started with --allow-source-builds"
        return f"there is no wheel of {no_wheel[1]} for {machine}, and it is not built from source {allowed}"
    if refused := _REFUSED.search(text):
        return f"the package index answered with an error: {refused[1]}"
    if _UNREACHABLE.search(text):
        return "the package index could not be reached"
    causes = [cause for cause in _CAUSE.split(text)[1:] if cause]
    conclusion = next((cause for cause in causes if cause.startswith("Because")), None)
    if conclusion is not None:
        return f"the dependencies cannot be resolved: {_shorten(conclusion)}"
    return f"the dependencies cannot be installed: {_shorten(': '.join(causes) or text or 'uv gave no reason')}"


def _shorten(text: str, limit: int = 600) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _environment() -> dict[str, str]:
    """The operator's environment with their index settings, without the gateway's own settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY_", "X_INTERNAL_"))}
    return kept | {"UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1", "NO_COLOR": "1"}
