"""What functions reach: sockets of real workers, against servers of the test and addresses that nobody may have."""

import contextlib
import functools
import os
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from ipaddress import IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from engine import conftest
from engine.conftest import Engine, running_engine
from hypothesis import example, given
from hypothesis import strategies as st

from gateway_server.engine.local import firewall
from gateway_server.engine.local.firewall import Firewall, Rules, Subjects
from gateway_server.engine.local.isolation import Isolation
from gateway_server.engine.local.uids import Uids

CLOSED, KINDS = "EPERM", ("tcp", "udp send", "udp connect")
ELSEWHERE = "198.51.100.7"
"""Nobody's address, kept for examples."""
METADATA = ("169.254.169.254", "::ffff:169.254.169.254", "fe80::a9fe:a9fe", "fd00:ec2::254", "100.100.100.200")
MPTCP, UDP_LITE, VSOCK = 262, 136, 40
SPARE = (1 << 20) - 7
"""A uid that no gateway gives to functions."""


run = functools.partial(conftest.run, seconds=120)


async def said(engine: Engine, package: str, function: str, **parameters: Any) -> str:
    answer = await engine.call(package, function, **parameters)
    return answer.last.json.decode().strip('"')


async def reached(engine: Engine, hosts: list[str], port: int, package: str = "reaches_out") -> dict[str, str]:
    """What came of each address and each kind of connection."""
    return {
        f"{host} {kind}": await said(engine, package, "connects", host=host, port=port, kind=kind)
        for host in hosts
        for kind in KINDS
    }


@contextlib.asynccontextmanager
async def firewalled(folder: Path, **options: Any) -> AsyncIterator[Engine]:
    async with running_engine(folder, **options) as engine:
        if engine.local.network.no_firewall is not None:
            pytest.skip(f"no firewall on this machine: {engine.local.network.no_firewall}")
        yield engine


def here() -> list[str]:
    """Names of this machine, each of which leads to servers at all of its addresses."""
    own = []
    for family, elsewhere in ((socket.AF_INET, ELSEWHERE), (socket.AF_INET6, "2001:db8::7")):
        with socket.socket(family, socket.SOCK_DGRAM) as any_socket, contextlib.suppress(OSError):
            any_socket.connect((elsewhere, 9))
            own.append(any_socket.getsockname()[0])
    six = ["::1", "::"] if Path("/proc/net/if_inet6").exists() else []
    return ["127.0.0.1", "127.8.9.10", "0.0.0.0", "::ffff:127.0.0.1", *six, *own]


@pytest.fixture
def port() -> Iterator[int]:
    """Where servers listen, at all addresses of this machine."""
    with contextlib.ExitStack() as stack:
        chosen = 0
        for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                server = stack.enter_context(socket.socket(family, kind))
                if family == socket.AF_INET6:
                    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                server.bind((address, chosen))
                chosen = server.getsockname()[1]
                if kind == socket.SOCK_STREAM:
                    server.listen()
        yield chosen


def test_this_machine_and_metadata_are_closed_at_once_and_the_rest_is_not(folder, port):
    async def main():
        async with firewalled(folder) as engine:
            found = await reached(engine, [*here(), "224.0.0.251", *METADATA], port)
            assert set(found.values()) == {CLOSED}, found
            elsewhere = await reached(engine, [ELSEWHERE], port)
            assert CLOSED not in elsewhere.values(), elsewhere
            assert await said(engine, "reaches_out", "speaks_to_itself") == CLOSED

    run(main())


def test_without_a_sandbox_all_of_it_is_open(folder, port):
    async def main():
        async with running_engine(folder, sandbox="off") as engine:
            found = await reached(engine, here(), port)
            assert set(found.values()) == {"reached"}, found
            metadata = await said(
                engine, "reaches_out", "connects", host="169.254.169.254", port=80, kind="udp connect"
            )
            assert metadata == "reached"
            assert engine.local.network.no_firewall
            assert engine.local.network.no_namespaces

    run(main())


def test_functions_choose_no_port_to_listen_at(folder):
    """Else one could answer at ::1 those who look for the gateway at `localhost`."""

    async def main():
        async with firewalled(folder) as engine:
            for host in ("127.0.0.1", "127.0.0.2", "0.0.0.0", "::1", "::"):
                assert await said(engine, "reaches_out", "listens", host=host, port=23717) == CLOSED, host
                assert await said(engine, "reaches_out", "listens", host=host, port=0) == "listens", host

    run(main())


def test_loopback_can_be_allowed_and_metadata_stays_closed(folder, port):
    async def main():
        async with firewalled(folder, allow_loopback=True) as engine:
            found = await reached(engine, here(), port)
            assert set(found.values()) == {"reached"}, found
            metadata = await reached(engine, list(METADATA), port)
            assert set(metadata.values()) == {CLOSED}, metadata
            assert await said(engine, "reaches_out", "speaks_to_itself") == "hello"
            assert await said(engine, "reaches_out", "listens", host="127.0.0.1", port=23718) == "listens"

    run(main())


def test_sockets_that_nobody_looks_at_are_not_made(folder):
    async def main():
        async with firewalled(folder) as engine:
            for family, kind, protocol in (
                (socket.AF_INET, socket.SOCK_STREAM, MPTCP),
                (socket.AF_INET, socket.SOCK_DGRAM, UDP_LITE),
                (socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
                (socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_UDP),
                (socket.AF_PACKET, socket.SOCK_RAW, 0),
                (VSOCK, socket.SOCK_STREAM, 0),
            ):
                found = await said(engine, "reaches_out", "makes_socket", family=family, kind=kind, protocol=protocol)
                assert found == CLOSED, (family, kind, protocol)

    run(main())


def test_without_a_network_a_function_has_its_own_loopback_and_nothing_else(folder, port, sandbox):
    async def main():
        if sandbox == "off":
            return  # nothing is promised there
        async with running_engine(folder, sandbox=sandbox) as engine:
            if engine.local.network.no_namespaces is not None:
                pytest.skip(f"no network namespaces on this machine: {engine.local.network.no_namespaces}")
            engine.vary("reaches_out", "apart", network=False)
            found = await reached(engine, [*METADATA, ELSEWHERE], port, "apart")
            assert set(found.values()) <= {"ENETUNREACH", "EADDRNOTAVAIL", "EINVAL"}, found
            found = await reached(engine, here(), port, "apart")
            tcp = {outcome for name, outcome in found.items() if name.endswith("tcp")}
            assert tcp <= {"ECONNREFUSED", "ENETUNREACH", "EADDRNOTAVAIL"}, found
            assert await said(engine, "apart", "interfaces") == '["lo"]'
            assert await said(engine, "apart", "speaks_to_itself") == "hello"
            assert await said(engine, "apart", "makes_socket", family=VSOCK, kind=1, protocol=0) == CLOSED

    run(main())


def test_gateways_of_one_machine_do_not_touch_each_others_functions(folder, port):
    """The second one allows what the first one closes."""

    async def main():
        async with firewalled(folder / "one") as strict, firewalled(folder / "two", allow_loopback=True) as lax:
            assert await said(strict, "reaches_out", "connects", host="127.0.0.1", port=port, kind="tcp") == CLOSED
            assert await said(lax, "reaches_out", "connects", host="127.0.0.1", port=port, kind="tcp") == "reached"

    for name in ("one", "two"):
        (folder / name / "zoo").mkdir(parents=True)
    run(main())


def test_uids_are_given_once(monkeypatch, tmp_path):
    monkeypatch.setattr("gateway_server.engine.local.uids.LOCKS", tmp_path / "locks")
    one, two = Uids(), Uids()
    one.take()
    two.take()
    assert one.first != two.first
    first = one.first
    one.close()
    one.take()
    assert one.first == first
    for each in (one, two):
        each.close()


# The programs themselves, evaluated here as the kernel does.

_SUBJECTS = Subjects(first_uid=5000, count=10, network=77)


def evaluate(steps: bytes, context: bytes, *, uid: int = 5000, network: int = 77) -> bool:  # noqa: C901
    """A processor for the instructions that firewalls are made of."""
    registers, at, context_at = [0] * 11, 0, 1 << 40
    registers[1] = context_at
    for _ in range(len(steps)):
        code, pair, offset, value = struct.unpack_from("<BBhI", steps, at * 8)
        to, source, at = pair & 15, pair >> 4, at + 1
        half = registers[to] & 0xFFFFFFFF
        match code:
            case 0x61:
                assert registers[source] == context_at
                registers[to] = struct.unpack_from("<I", context, offset)[0]
            case 0xBF:
                registers[to] = registers[source]
            case 0xBC:
                registers[to] = registers[source] & 0xFFFFFFFF
            case 0xB4:
                registers[to] = value
            case 0x18:
                registers[to] = value | struct.unpack_from("<BBhI", steps, at * 8)[3] << 32
                at += 1
            case 0x14:
                registers[to] = (half - value) & 0xFFFFFFFF
            case 0x54:
                registers[to] = half & value
            case 0xDC:
                size = value // 8
                registers[to] = int.from_bytes((half & (1 << value) - 1).to_bytes(size, "little"), "big")
            case 0x85:
                registers[0] = {15: 9 << 32 | uid, 122: network}[value]
                registers[1:6] = [0xDEAD] * 5
            case 0x56:
                at += offset if half != value else 0
            case 0xA6:
                at += offset if half < value else 0
            case 0x1D:
                at += offset if registers[to] == registers[source] else 0
            case 0x95:
                return bool(registers[0])
            case _:
                raise AssertionError(f"no instruction {code:#x}")
    raise AssertionError("the program does not end")


def seen(host: str, port: int) -> bytes:
    """What a program is shown of an address."""
    packed = ip_address(host).packed
    four, six = (packed, bytes(16)) if len(packed) == 4 else (bytes(4), packed)
    return bytes(4) + four + six + struct.pack(">HH", port, 0) + bytes(40)


def passes(rules: Rules, host: str, port: int, **options: int) -> bool:
    version = ip_address(host).version
    steps = firewall.filter_addresses(rules, _SUBJECTS, version=version)
    return evaluate(steps, seen(host, port), **options)


_ADDRESSES = st.one_of(
    st.ip_addresses(),
    st.ip_addresses(v=4).map(lambda address: IPv6Address(f"::ffff:{address}")),
    st.ip_addresses(network="127.0.0.0/8"),
    st.ip_addresses(network="169.254.0.0/16"),
    st.ip_addresses(network="fe80::/10"),
    st.sampled_from([ip_address(host) for host in ("0.0.0.0", "::", "::1", "10.0.0.9", "10.0.0.7", *METADATA)]),
).map(str)
_NETWORKS = ["127.0.0.0/8", "0.0.0.0/8", "169.254.0.0/16", "fe80::/10", "::/96", "224.0.0.0/3", "ff00::/8"]


@given(host=_ADDRESSES, port=st.sampled_from([53, 80, 8000]), loopback=st.booleans())
@example(host="127.0.0.1", port=8000, loopback=False)
@example(host="10.0.0.9", port=53, loopback=False)
def test_programs_decide_as_the_networks_say(host, port, loopback):
    address = ip_address(host)
    address = getattr(address, "ipv4_mapped", None) or address
    own = [*_NETWORKS, "10.0.0.9/32", "fd00:ec2::254", "100.100.100.200"]
    closed = [network for network in own if not loopback or network not in (*_NETWORKS[:2], *_NETWORKS[4:], own[-3])]
    closed += ["fd20:ce::254", "192.0.0.192", "168.63.129.16"]
    is_closed = any(
        address in ip_network(network) for network in closed if ip_network(network).version == address.version
    )
    is_open = (str(address), port) in {("127.0.0.1", 8000), ("10.0.0.9", 53)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(firewall, "_own_addresses", lambda: iter(["10.0.0.9/32"]))
        patch.setattr(firewall, "_name_servers", lambda: iter(["10.0.0.9"]))
        rules = firewall.rules([("127.0.0.1", 8000)], allow_loopback=loopback)
    assert passes(rules, host, port) == (is_open or not is_closed)
    assert passes(rules, host, port, uid=4999)
    assert passes(rules, host, port, uid=5010)
    assert passes(rules, host, port, network=78)


def test_only_the_kernel_chooses_ports():
    closed = firewall.filter_ports(Rules(closed=(), may_listen=False), _SUBJECTS)
    passed = [port for port in range(65536) if evaluate(closed, seen("127.0.0.1", port))]
    assert passed == [0]
    assert evaluate(closed, seen("127.0.0.1", 8000), uid=4999)
    assert evaluate(closed, seen("127.0.0.1", 8000), network=78)
    assert evaluate(firewall.filter_ports(Rules(closed=()), _SUBJECTS), seen("::1", 8000))


def test_only_tcp_and_udp_pass():
    steps = firewall.filter_sockets(_SUBJECTS)
    passed = [number for number in range(300) if evaluate(steps, struct.pack("<4I", 0, 2, 1, number))]
    assert passed == [socket.IPPROTO_TCP, socket.IPPROTO_UDP]
    assert evaluate(steps, struct.pack("<4I", 0, 2, 1, MPTCP), uid=1)


def test_addresses_of_this_machine_and_its_name_servers_are_found():
    closed = firewall.rules([], allow_loopback=False).closed
    for host in here():
        address = ip_address(host)
        number = int(address) | (0xFFFF << 32 if address.version == 4 else 0)
        assert any(IPv6Address(number) in network for network in closed), host


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may load programs")
def test_rules_change_while_they_hold_and_end_with_their_holder(port):
    try:
        network = firewall.own_network()
        wall = Firewall(Subjects(first_uid=SPARE, count=1, network=network), Rules(closed=()))
    except OSError as error:
        pytest.skip(str(error))

    def connect() -> bool:
        code = f"import os, socket, encodings.idna; os.setresuid({SPARE}, {SPARE}, {SPARE}); socket.create_connection"
        command = [sys.executable, "-c", f"{code}(('127.0.0.1', {port}), 5)"]
        done = subprocess.run(command, stderr=subprocess.PIPE, timeout=20)
        assert done.returncode == 0 or b"PermissionError" in done.stderr
        return done.returncode == 0

    try:
        assert connect()
        wall.follow(firewall.rules([], allow_loopback=False))
        assert not connect()
        wall.follow(firewall.rules([("127.0.0.1", port)], allow_loopback=False))
        assert connect()
        wall.follow(firewall.rules([], allow_loopback=False))
        assert not connect()
    finally:
        wall.close()
    assert connect()


def test_levels_without_uids_say_why_there_is_no_firewall(folder, sandbox):
    async def main():
        async with running_engine(folder, sandbox=sandbox) as engine:
            if engine.local.isolation is not Isolation.UIDS:
                assert "functions cannot be told from other programs" in engine.local.network.no_firewall

    run(main())
