"""Who is at the other end of a loopback connection is seen, whatever lingers from others before."""

import os
import socket
import subprocess
import sys

import pytest

from gateway_server.identity import peers


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_process_that_connected_is_found(host: str):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as server:
        code = "import socket,sys; s=socket.create_connection((sys.argv[1],int(sys.argv[2]))); input()"
        command = [sys.executable, "-c", code, host, str(server.getsockname()[1])]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as client:
            connection, address = server.accept()
            with connection:
                found = peers.processes_of(address[0], address[1])
                assert client.pid in found  # others may have the same port, towards other places
                assert os.getppid() not in found
            client.communicate(b"\n")


def test_a_connection_that_lingers_on_the_same_port_does_not_hide_it():
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(("127.0.0.1", 0))
        one.connect(first.getsockname())
        port = one.getsockname()[1]
        accepted, _ = first.accept()
        one.close()  # the side that closes first lingers in the kernel's table
        accepted.close()
        with socket.socket() as two:
            two.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            two.bind(("127.0.0.1", port))
            two.connect(second.getsockname())
            assert os.getpid() in peers.processes_of("127.0.0.1", port)


def test_nobody_is_nobody():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    assert peers.processes_of("127.0.0.1", port) == set()
