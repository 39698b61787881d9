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
_MACHINE = "PATH HOME USER LOGNAME SHELL TMPDIR TEMP TMP LANG LANGUAGE TZ LD_LIBRARY_PATH"
_INDEX = "SSL_CERT_FILE SSL_CERT_DIR SSL_CLIENT_CERT NETRC DBUS_SESSION_BUS_ADDRESS"
"""Whom to trust, and who we are; the keyring of a desktop is asked over its bus."""
_COMPILERS = (
    "CC CXX CPP AR AS LD NM RANLIB STRIP FC CFLAGS CXXFLAGS CPPFLAGS FFLAGS LDFLAGS ARCHFLAGS MAKEFLAGS CPATH "
    "C_INCLUDE_PATH CPLUS_INCLUDE_PATH LIBRARY_PATH PKG_CONFIG PKG_CONFIG_PATH CMAKE_PREFIX_PATH CARGO_HOME "
    "RUSTUP_HOME RUSTFLAGS JAVA_HOME MACOSX_DEPLOYMENT_TARGET SDKROOT SOURCE_DATE_EPOCH"
)
_NEEDED = frozenset(" ".join((_MACHINE, _INDEX, _COMPILERS)).split())
"""What is handed on of our environment; whatever is not named here stays with the gateway."""
_NEEDED_BEGINNINGS = ("UV_", "XDG_", "LC_")
_PROXIES = frozenset(("http_proxy", "https_proxy", "all_proxy", "no_proxy"))
"""In small letters or capitals."""


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
    """What uv and builds need of the operator's environment, and nothing else: it may hold any service's keys."""
    kept = {name: value for name, value in os.environ.items() if _is_needed(name)}
    return kept | {"UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1", "NO_COLOR": "1"}


def _is_needed(name: str) -> bool:
    return name in _NEEDED or name.startswith(_NEEDED_BEGINNINGS) or name.lower() in _PROXIES
