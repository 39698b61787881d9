"""Closes the way from functions to this machine and to what clouds tell their machines.

Workers run under uids of their own. Programs in the kernel look at every connection and datagram of these uids before
it leaves: what goes to a closed address fails at once, as a thing that is not permitted. The programs are this
process's, and end with it.
"""

import os
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network, collapse_addresses, ip_address, ip_network
from pathlib import Path

from gateway_server.engine.local import bpf

Address = tuple[str, int]
"""An IP address and a port."""

_METADATA = (
    *("169.254.0.0/16", "fe80::/10"),  # link-local, where nearly all clouds have it
    *("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "192.0.0.192", "168.63.129.16"),
)
_LOOPBACK = ("127.0.0.0/8", "0.0.0.0/8", "::/96")  # the unspecified addresses mean loopback, too
_TO_ALL = ("224.0.0.0/3", "ff00::/8")  # multicast and broadcast come back to whoever listens here
_DNS = 53
_WORDS = 4
_HELD = IPv6Network("::ffff:0:0/96")
"""IPv4 addresses as IPv6 ones: the form in which all are compared."""

_ENDS_HERE = 1 << 31
"""Flag of IPv6 routes to this machine itself."""

_SOCK, _SOCK_ADDR = 9, 18
_CREATE, _BIND4, _BIND6, _CONNECT4, _CONNECT6, _SEND4, _SEND6 = 2, 8, 9, 10, 11, 14, 15
_GET_UID, _GET_NET = 15, 122
_SO_NETNS_COOKIE = 71
_PROTOCOL = 12
"""Offset in what a program sees of a new socket."""
_IP4, _IP6, _PORT = 4, 8, 24
"""The same of an address that is to be reached."""
_SCRATCH, _FIRST_WORD, _CONTEXT, _PORT_REGISTER = 0, 2, 6, 7


@dataclass(frozen=True, kw_only=True)
class Subjects:
    """Whose connections are looked at: a range of uids in one network namespace."""

    first_uid: int
    count: int
    network: int
    """Cookie of the namespace; functions in one of their own have their own loopback."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What is closed, and what is open all the same."""

    closed: tuple[IPv6Network, ...]
    open: tuple[Address, ...] = ()
    may_listen: bool = True
    """At a port of one's choice, rather than at one that the kernel gives."""


class Firewall:
    """The programs, as long as this object is open."""

    def __init__(self, subjects: Subjects, rules: Rules) -> None:
        """Raises OSError where the kernel does not offer it."""
        self._subjects = subjects
        self._rules = rules
        self._links: dict[int, int] = {}
        with ExitStack() as undo:
            undo.callback(self.close)
            cgroups = bpf.open_cgroups()
            undo.callback(os.close, cgroups)
            for attach_type, program in _programs(subjects, rules):
                self._links[attach_type] = bpf.attach(program, cgroups, attach_type)
                os.close(program)
            undo.pop_all()
            os.close(cgroups)

    def follow(self, rules: Rules) -> None:
        """Puts other rules in force, if they are others."""
        if rules == self._rules:
            return
        for attach_type, program in _programs(self._subjects, rules):
            bpf.exchange(self._links[attach_type], program)
            os.close(program)
        self._rules = rules

    def close(self) -> None:
        """Ends it."""
        while self._links:
            os.close(self._links.popitem()[1])


def own_network() -> int:
    """The cookie of this process's network namespace.

    Raises:
        OSError: the kernel gives none (before 5.14).
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        return int(struct.unpack("=Q", any_socket.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8))[0])


def rules(gateway: Iterable[Address], *, allow_loopback: bool) -> Rules:
    """The rules as this machine's addresses and name servers are now."""
    closed = _METADATA if allow_loopback else (*_METADATA, *_LOOPBACK, *_TO_ALL, *_own_addresses())
    servers = ((server, _DNS) for server in _name_servers())
    closed_networks = tuple(collapse_addresses(map(_network, closed)))
    return Rules(closed=closed_networks, open=(*gateway, *servers), may_listen=allow_loopback)


def is_metadata(host: str) -> bool:
    """Whether an IP address is one at which clouds tell their machines what nobody else may know."""
    first = _network(host.partition("%")[0])[0]
    return any(first in _network(network) for network in _METADATA)


def filter_addresses(rules: Rules, subjects: Subjects, *, version: int) -> bpf.Steps:
    """The program for connections and datagrams of one version of IP."""
    if version == 6:
        address = b"".join(_load_number(_FIRST_WORD + n, _IP6 + 4 * n, 32) for n in range(_WORDS))
    else:
        prefix = zip(range(_FIRST_WORD, _FIRST_WORD + _WORDS), _words(_HELD[0]), strict=True)
        address = b"".join(bpf.put(register, word) for register, word in prefix)
        address += _load_number(_FIRST_WORD + _WORDS - 1, _IP4, 32)
    steps = _only(subjects) + address + _load_number(_PORT_REGISTER, _PORT, 16)
    for host, port in rules.open:
        steps += _if_within(_network(host), bpf.if_equal(_PORT_REGISTER, port, bpf.verdict(is_allowed=True)))
    for network in rules.closed:
        steps += _if_within(network, bpf.verdict(is_allowed=False))
    return steps + bpf.verdict(is_allowed=True)


def filter_ports(rules: Rules, subjects: Subjects) -> bpf.Steps:
    """The program for addresses that sockets take as their own."""
    steps = _only(subjects) + _load_number(_PORT_REGISTER, _PORT, 16)
    steps += bpf.if_equal(_PORT_REGISTER, 0, bpf.verdict(is_allowed=True))
    return steps + bpf.verdict(is_allowed=rules.may_listen)


def filter_sockets(subjects: Subjects) -> bpf.Steps:
    """The program for new sockets: those of other protocols reach addresses by ways that nobody looks at."""
    steps = _only(subjects) + bpf.load(_SCRATCH, _CONTEXT, _PROTOCOL)
    for protocol in (socket.IPPROTO_TCP, socket.IPPROTO_UDP):
        steps += bpf.if_equal(_SCRATCH, protocol, bpf.verdict(is_allowed=True))
    return steps + bpf.verdict(is_allowed=False)


def _programs(subjects: Subjects, rules: Rules) -> Iterator[tuple[int, int]]:
    """Where each belongs, and its descriptor, which the receiver closes."""
    for version, places in ((4, (_CONNECT4, _SEND4)), (6, (_CONNECT6, _SEND6))):
        steps = filter_addresses(rules, subjects, version=version)
        for place in places:
            yield place, bpf.load_program(_SOCK_ADDR, place, steps)
    for place in (_BIND4, _BIND6):
        yield place, bpf.load_program(_SOCK_ADDR, place, filter_ports(rules, subjects))
    yield _CREATE, bpf.load_program(_SOCK, _CREATE, filter_sockets(subjects))


def _only(subjects: Subjects) -> bpf.Steps:
    """Lets everybody else pass."""
    others = bpf.verdict(is_allowed=True)
    steps = bpf.copy(_CONTEXT, 1) + bpf.call(_GET_NET) + bpf.put_whole(1, subjects.network)
    steps += bpf.if_other(_SCRATCH, 1, others)
    steps += bpf.call(_GET_UID) + bpf.subtract(_SCRATCH, subjects.first_uid)  # those below become very large
    return steps + bpf.if_at_least(_SCRATCH, subjects.count, others)


def _load_number(register: int, offset: int, size: int) -> bpf.Steps:
    return bpf.load(register, _CONTEXT, offset) + bpf.from_network(register, size)


def _if_within(network: IPv6Network, then: bpf.Steps) -> bpf.Steps:
    """Does `then` if the address lies in a network."""
    pairs = zip(_words(network.network_address), _words(network.netmask), strict=True)
    for register, (word, bits) in reversed(list(enumerate(pairs, _FIRST_WORD))):
        if bits:
            then = bpf.if_equal(_SCRATCH, word, then)
            then = bpf.copy_half(_SCRATCH, register) + bpf.mask(_SCRATCH, bits) + then
    return then


def _words(address: IPv6Address) -> tuple[int, ...]:
    return struct.unpack(">4I", address.packed)


def _network(text: str) -> IPv6Network:
    """A network or an address of either version, as one of version 6."""
    network = ip_network(text, strict=False)
    if isinstance(network, IPv6Network):
        return network
    return IPv6Network((int(_HELD[0]) | int(network[0]), _HELD.prefixlen + network.prefixlen))


def _own_addresses() -> Iterator[str]:
    """The networks of which the kernel takes every address for its own, and the broadcast ones."""
    with suppress(OSError):
        name = ""
        for line in Path("/proc/net/fib_trie").read_text().splitlines():
            words = line.split()
            if words[0] == "|--":
                name = words[1]
            elif words[-1] in ("LOCAL", "BROADCAST"):
                yield name + words[0]
    with suppress(OSError):
        for line in Path("/proc/net/ipv6_route").read_text().splitlines():
            words = line.split()
            if int(words[8], 16) & _ENDS_HERE:
                yield f"{IPv6Address(bytes.fromhex(words[0]))}/{int(words[1], 16)}"


def _name_servers() -> Iterator[str]:
    """The servers that names are looked up at."""
    with suppress(OSError):
        for line in Path("/etc/resolv.conf").read_text().splitlines():
            words = line.split()
            if len(words) > 1 and words[0] == "nameserver":
                with suppress(ValueError):
                    yield str(ip_address(words[1].partition("%")[0]))
