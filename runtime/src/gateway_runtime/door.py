"""A network namespace without a network, and the one door that leads out of it: to the gateway.

The door is a socket that listens inside, at the very address that the gateway has outside. It is handed to the gateway,
which answers there as it does elsewhere.
"""

import fcntl
import ipaddress
import os
import socket
import struct

_SIOCSIFFLAGS, _SIOCSIFADDR, _UP = 0x8914, 0x8916, 1
_LOOPBACK, _ALIAS, _LOOPBACK_INDEX = b"lo", b"lo:1", 1
BACKLOG = 128


def bring_loopback_up() -> None:
    """Lets processes of this network namespace speak to each other."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", _LOOPBACK, _UP))


def hand_out(host: str, port: int, outside: int) -> None:
    """Listens at an address of the gateway's and sends the socket to the other end of the socket `outside`."""
    address = ipaddress.ip_address(host)
    if not address.is_loopback:
        _give_to_loopback(address)
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    with listener, socket.socket(fileno=os.dup(outside)) as way_out:
        socket.send_fds(way_out, [b"door"], [listener.fileno()])


def _give_to_loopback(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    """Makes an address lead to the loopback interface."""
    if address.version == 4:
        family, order = socket.AF_INET, struct.pack("=16sH2x4s8x", _ALIAS, socket.AF_INET, address.packed)
    else:
        family, order = socket.AF_INET6, struct.pack("=16sIi", address.packed, 128, _LOOPBACK_INDEX)
    with socket.socket(family, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFADDR, order)
