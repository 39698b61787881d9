"""What one call costs through several clients, and what making one costs, for `parts.client`.

The order: port, rounds, calls, core. It runs on that core. In every round each client makes so many calls, one at a
time. Answers with the median seconds of each client in each round, and of making a `GatewayClient`.
"""

import json
import os
import socket
import statistics
import time
from collections.abc import Callable

import httpx

from bench import child
from gateway_sdk import GatewayClient

CALL = {"prefab_id": "bench", "version": "1.0.0", "function_name": "echo", "inputs": {"parameters": {"text": "hello"}}}
PAYLOAD = {"calls": [CALL], "stream": False}
TOKEN = "token"
Call = Callable[[], object]


def raw(port: int) -> Call:
    """The limit: a keep-alive socket, and nothing that is not needed for this very answer."""
    one = socket.create_connection(("127.0.0.1", port))
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    head = f"POST /v1/internal/run HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    head += f"X-Internal-Token: {TOKEN}\r\nContent-Length: "

    def call() -> object:
        body = json.dumps(PAYLOAD).encode()
        one.sendall(b"%b%d\r\n\r\n%b" % (head.encode(), len(body), body))
        data = b""
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += one.recv(65536)
        at = data.index(b"content-length:")
        length = int(data[at + 15 : data.index(b"\r\n", at)])
        while len(data) < end + 4 + length:
            data += one.recv(65536)
        return json.loads(data[end + 4 :])

    return call


def pooled_httpx(port: int) -> Call:
    """What a careful author would write without the SDK."""
    client = httpx.Client(timeout=60, headers={"X-Internal-Token": TOKEN})
    url = f"http://127.0.0.1:{port}/v1/internal/run"
    return lambda: client.post(url, json=PAYLOAD).json()


def sdk(port: int) -> Call:
    """One client for all calls."""
    client = GatewayClient(internal_token=TOKEN, base_url=f"http://127.0.0.1:{port}")
    return lambda: client.run("bench", "1.0.0", "echo", {"text": "hello"}).get_function_result()


def sdk_each(port: int) -> Call:
    """A client for every call, as agents make one for every request."""
    url = f"http://127.0.0.1:{port}"
    return lambda: GatewayClient(TOKEN, url).run("bench", "1.0.0", "echo", {"text": "hello"}).get_function_result()


def making(port: int) -> Call:
    """No call: a client that is made, and makes none."""
    url = f"http://127.0.0.1:{port}"
    return lambda: GatewayClient(internal_token=TOKEN, base_url=url)


CLIENTS = {
    "raw socket": raw,
    "client.run()": sdk,
    "client.run(), a client for each call": sdk_each,
    "httpx, pooled": pooled_httpx,
}


def main() -> None:
    """Does what the order says."""
    order = child.order()
    os.sched_setaffinity(0, {order["core"]})
    calls = {name: make(order["port"]) for name, make in CLIENTS.items()}
    for call in calls.values():
        for _ in range(20):
            call()
    found: dict[str, list[float]] = {name: [] for name in calls}
    made = []
    for _ in range(order["rounds"]):
        for name, call in calls.items():
            found[name].append(_usual(call, order["calls"]))
        made.append(_usual(making(order["port"]), order["calls"]))
    print(json.dumps({"calls": found, "made": made}))


def _usual(call: Call, count: int) -> float:
    times = []
    for _ in range(count):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


if __name__ == "__main__":
    main()
