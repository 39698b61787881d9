"""Which processes of this machine are at the other end of a loopback connection."""

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


def is_here(host: str) -> bool:
    """Whether an address is one of this machine's own."""
    family = socket.AF_INET6 if ip_address(host).version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as any_socket:
        try:
            any_socket.bind((host, 0))  # succeeds with one's own only
        except OSError:
            return ip_address(host).is_loopback
    return True


def processes_of(host: str, port: int) -> set[int]:
    """The processes that hold a connection from (host, port), which is the client's end; none that cannot be seen.

    A process of another user cannot be seen unless we are root; one in a sandbox never. There may be several: a port
    can lead to different places.
    """
    for attempt in range(LOOKS):
        if attempt:
            time.sleep(PAUSE)
        wanted = {f"socket:[{inode}]" for inode in _inodes(host, port)}
        found = (
            {int(name) for name in os.listdir("/proc") if name.isdigit() and _holds(name, wanted)} if wanted else None
        )
        if found:
            return found
    return set()


def _inodes(host: str, port: int) -> list[str]:
    """Numbers of the client's sockets, from the kernel's table of connections; those that linger have none."""
    family = socket.AF_INET6 if ip_address(host).version == 6 else socket.AF_INET
    table = Path("/proc/net/tcp6" if family == socket.AF_INET6 else "/proc/net/tcp")
    packed = socket.inet_pton(family, host)
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    local = "".join(f"{word:08X}" for word in words) + f":{port:04X}"
    try:
        lines = table.read_text().splitlines()[1:]
    except OSError:
        return []
    return [fields[9] for fields in map(str.split, lines) if fields[1] == local and fields[9] != "0"]


def _holds(pid: str, wanted: set[str]) -> bool:
    try:
        with os.scandir(f"/proc/{pid}/fd") as entries:
            return any(_target(entry.path) in wanted for entry in entries)
    except OSError:
        return False


def _target(link: str) -> str | None:
    try:
        return os.readlink(link)
    except OSError:
        return None
