"""The machine that was measured on: what it is, and how much else it had to do meanwhile."""

import contextlib
import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import load, processes
from bench.environments import version
from bench.spread import Spread

QUIET, NOISY = 0.15, 0.4
"""How far the pairs of the baseline against itself may lie apart, as a share, before the machine is called unsettled,
and noisy."""
TAKEN = 0.05, 0.2
"""The same of the share of the processors that others took."""


@dataclass(frozen=True)
class Machine:
    """What it is."""

    processor: str
    cores: int
    memory_gb: float
    kernel: str
    python: str
    gateway: str
    baseline: str
    load: str
    user: str

    def facts(self) -> dict[str, str | int | float]:
        """All of it by name."""
        return asdict(self)


def examine() -> Machine:
    """This machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return Machine(
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)),
        memory_gb=round(memory, 1),
        kernel=platform.release().partition("-")[0],
        python=".".join(map(str, sys.version_info[:3])),
        gateway=f"{importlib.metadata.version('agent-builder-gateway')}{_commit()}",
        baseline=", ".join(
            f"{name} {version('bare', name)}" for name in ("starlette", "uvicorn", "uvloop", "httptools")
        ),
        load=load.tool(),
        user="root, every worker a user of its own" if os.geteuid() == 0 else "an ordinary user",
    )


@dataclass(frozen=True)
class Noise:
    """What else went on, as shares of all processors."""

    steal: float
    """Taken by other machines of the same host."""
    others: float
    """Taken by other processes of this machine."""
    load_before: float
    load_after: float
    seconds: float

    def verdict(self, baseline: Spread | None) -> str:
        """In one word, with what the baseline against itself says, if that was measured."""
        apart = baseline.high - baseline.low if baseline else 0.0
        taken = self.steal + self.others
        if apart > NOISY or taken > TAKEN[1]:
            return "noisy"
        return "unsettled" if apart > QUIET or taken > TAKEN[0] else "quiet"


class Watch:
    """Looks at the machine from its making on."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._load = os.getloadavg()[0]
        self._times = _times()
        self._own = _own()

    def noise(self) -> Noise:
        """What has gone on so far."""
        spent = [after - before for before, after in zip(self._times, _times(), strict=True)]
        whole = sum(spent) or 1.0
        idle, steal = spent[3] + spent[4], spent[7]
        others = whole - idle - steal - (_own() - self._own)
        return Noise(
            steal=steal / whole,
            others=max(0.0, others / whole),
            load_before=self._load,
            load_after=os.getloadavg()[0],
            seconds=time.monotonic() - self._began,
        )


def _times() -> list[float]:
    """Seconds since the boot: user, nice, system, idle, waiting for disks, interrupts, soft interrupts, steal."""
    line = Path("/proc/stat").read_text().splitlines()[0]
    return [int(field) / processes.TICKS for field in line.split()[1:9]]


def _own() -> float:
    """Seconds that this process, and all that it started, have used."""
    return processes.cpu_seconds(processes.family({os.getpid()}))


def _commit() -> str:
    """The commit that is measured, where this is a clone."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        return f" ({subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()})"
    return ""


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
