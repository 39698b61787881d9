"""Functions that reach for addresses, and say what came of it."""

import errno
import os
import socket
import urllib.request

from gateway_sdk import GatewayClient

SECONDS = 1.0


def connects(host: str, port: int, kind: str):
    """One connection or datagram: "reached", or the name of the error."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    is_datagram = kind != "tcp"
    try:
        with socket.socket(family, socket.SOCK_DGRAM if is_datagram else socket.SOCK_STREAM) as talk:
            talk.settimeout(SECONDS)
            if kind == "udp send":
                talk.sendto(b"hello", (host, port))
            else:
                talk.connect((host, port))
                talk.send(b"hello")
    except TimeoutError:
        return "TIMEOUT"
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
    return "reached"


def makes_socket(family: int, kind: int, protocol: int):
    try:
        socket.socket(family, kind, protocol).close()
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
    return "made"


def listens(host: str, port: int):
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
    return "listens"


def speaks_to_itself():
    """A server and its client, both in this function."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        try:
            with socket.create_connection(server.getsockname(), SECONDS) as client:
                taken, _ = server.accept()
                with taken:
                    taken.sendall(b"hello")
                    return client.recv(5).decode()
        except OSError as error:
            return errno.errorcode.get(error.errno, str(error))


def interfaces():
    return sorted(name for _, name in socket.if_nameindex())


def asks(path: str, method: str):
    """A request to the gateway that shows no token: its status."""
    request = urllib.request.Request(os.environ["GATEWAY_BASE_URL"] + path, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def calls_another():
    with GatewayClient() as client:
        return client.run("behaves", "1.0.0", "echo", {"text": "inside"}).get_function_result()


def keeps_and_gets_back(size: int):
    """A file to the gateway and back again."""
    with open("sent.bin", "wb") as file:
        file.write(os.urandom(1000) * (size // 1000))
    with GatewayClient() as client:
        url = client.upload_temp_file("sent.bin")
        client.save_file(url, "got.bin")
    with open("sent.bin", "rb") as sent, open("got.bin", "rb") as got:
        return sent.read() == got.read()


def host_uid():
    """The uid under which this function runs outside of its user namespace."""
    with open("/proc/self/uid_map") as file:
        first, outside, _ = map(int, file.readline().split())
    return outside + os.getuid() - first
