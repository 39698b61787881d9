"""Prefabs with and without a network, as users of a gateway meet them."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from gateways import Gateway, running_gateway
from packages import zoo

WITH, WITHOUT = "reaches-out", "stays-in"
UNREACHABLE = "http://192.0.2.77:9"


def publish(gateway: Gateway, folder: Path) -> Gateway:
    gateway.publish(zoo(folder / "behaves", "behaves"))
    gateway.publish(zoo(folder / "out", "reaches_out"))
    gateway.publish(zoo(folder / "in", "reaches_out", prefab_id=WITHOUT, manifest={"network": False}))
    return gateway


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("network")
    with running_gateway(folder / "data") as gateway:
        yield publish(gateway, folder)


def result(gateway: Gateway, prefab: str, function: str, **parameters: object) -> object:
    with gateway.client() as client:
        return client.run(prefab, "1.0.0", function, parameters).get_function_result()


@pytest.mark.parametrize("prefab", [WITH, WITHOUT])
def test_functions_call_others_and_keep_files_with_and_without_a_network(running, prefab):
    assert result(running, prefab, "calls_another") == {"success": True, "text": "inside"}
    assert result(running, prefab, "keeps_and_gets_back", size=3_000_000) is True


@pytest.mark.parametrize("host", ["localhost", "::1", "0.0.0.0"])
def test_they_do_wherever_the_gateway_listens_and_whatever_others_call_it(tmp_path, host):
    with running_gateway(tmp_path / "data", "--host", host, "--public-url", UNREACHABLE) as gateway:
        publish(gateway, tmp_path)
        assert result(gateway, WITHOUT, "calls_another") == {"success": True, "text": "inside"}
        assert result(gateway, WITHOUT, "keeps_and_gets_back", size=3_000_000) is True
        assert result(gateway, WITH, "calls_another") == {"success": True, "text": "inside"}


def test_an_address_of_the_network_card_serves_as_well(tmp_path):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            any_socket.connect(("198.51.100.7", 9))
        except OSError:
            pytest.skip("this machine has no address but loopback")
        host = any_socket.getsockname()[0]
    with running_gateway(tmp_path / "data", "--host", host, "--trusted-network", f"{host}/32") as gateway:
        publish(gateway, tmp_path)
        for prefab in (WITH, WITHOUT):
            assert result(gateway, prefab, "calls_another") == {"success": True, "text": "inside"}
            assert result(gateway, prefab, "asks", path="/v1/run", method="POST") == 401
        assert httpx.post(f"{gateway.url}/v1/run", timeout=20).status_code != 401  # we are trusted


def test_nobody_is_trusted_who_comes_through_a_door(tmp_path):
    """On a gateway that takes this machine's own programs, and even all of loopback, without a token."""
    with running_gateway(tmp_path / "data", "--trusted-network", "127.0.0.0/8") as gateway:
        publish(gateway, tmp_path)
        for prefab in (WITH, WITHOUT):
            assert result(gateway, prefab, "asks", path="/v1/run", method="POST") == 401
            assert result(gateway, prefab, "asks", path="/v1/files/uploads", method="POST") == 401
        assert result(gateway, WITHOUT, "asks", path="/health", method="GET") == 200
        for path in ("/v1/keys", "/v1/agents/helper/x", "/metrics", "/", "/v1/run/../keys", "//v1/keys"):
            assert result(gateway, WITHOUT, "asks", path=path, method="GET") in (403, 404), path


def test_nothing_is_left_of_a_gateway_that_was_killed(running, tmp_path):
    """A process with a uid of a function meets no rule once the gateway is gone."""
    with running_gateway(tmp_path / "data") as gateway, socket.create_server(("127.0.0.1", 0)) as server:
        if gateway.request("GET", "/ready").json()["isolation"] != "uids":
            pytest.skip("functions have no uids of their own here")
        publish(gateway, tmp_path)
        host, port = server.getsockname()
        closed = result(gateway, WITH, "connects", host=host, port=port, kind="tcp")
        if closed == "reached":
            pytest.skip("no firewall on this machine")
        assert closed == "EPERM"
        uid = result(gateway, WITH, "host_uid")
        become = f"import os, socket, encodings.idna; os.setresuid({uid}, {uid}, {uid})"
        command = [sys.executable, "-c", f"{become}; socket.create_connection({(host, port)!r}, 5)"]
        assert b"PermissionError" in subprocess.run(command, stderr=subprocess.PIPE, timeout=20).stderr
        gateway.stop(signal.SIGKILL)
        assert subprocess.run(command, timeout=20).returncode == 0
