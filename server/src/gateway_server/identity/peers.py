"""Which process of this machine is at the other end of a loopback connection."""

import os
import socket
import struct
import sys
import time
from ipaddress import ip_address
from pathlib import Path

AVAILABLE = sys.platform == "linux"
LOOKS, PAUSE = 5, 0.005
"""The kernel's tables change while they are read, and may leave out a line: so look again, after as many seconds."""


def process_of(host: str, port: int) -> int | None:
    """The process that holds the client's end of a connection from (host, port); None if it cannot be seen.

    A process of another user cannot be seen unless we are root; one in a sandbox never.
    """
    for attempt in range(LOOKS):
        if attempt:
            time.sleep(PAUSE)
        inode = _inode(host, port)
        pid = None if inode is None else _holder(f"socket:[{inode}]")
        if pid is not None:
            return pid
    return None


def _holder(wanted: str) -> int | None:
    for name in os.listdir("/proc"):
        if name.isdigit() and _holds(name, wanted):
            return int(name)
    return None


def _inode(host: str, port: int) -> str | None:
    """Number of the client's socket, from the kernel's table of connections."""
    family = socket.AF_INET6 if ip_address(host).version == 6 else socket.AF_INET
    table = Path("/proc/net/tcp6" if family == socket.AF_INET6 else "/proc/net/tcp")
    packed = socket.inet_pton(family, host)
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    local = "".join(f"{word:08X}" for word in words) + f":{port:04X}"
    try:
        lines = table.read_text().splitlines()[1:]
    except OSError:
        return None
    return next((fields[9] for fields in map(str.split, lines) if fields[1] == local), None)


def _holds(pid: str, wanted: str) -> bool:
    try:
        with os.scandir(f"/proc/{pid}/fd") as entries:
            return any(_target(entry.path) == wanted for entry in entries)
    except OSError:
        return False


def _target(link: str) -> str | None:
    try:
        return os.readlink(link)
    except OSError:
        return None
