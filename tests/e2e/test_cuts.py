"""Connections break at the worst moment: a retried call runs once, and a transfer goes on where it was."""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from gateways import Gateway, memory_mb, running_gateway
from packages import write_package
from proxies import CuttingProxy, free_port

from gateway_sdk import GatewayClient, PrefabCall

MEGABYTES = int(os.environ.get("GATEWAY_TEST_MEGABYTES", "192"))
"""Size of the file that is carried around; any size must do with the same memory."""
MOST_MB = 150

COUNTS = """
import os

def count(path: str, pause: float = 0.0):
    import time
    time.sleep(pause)
    with open(path, "a") as file:
        file.write("x")
    return os.path.getsize(path)

def talk(path: str):
    with open(path, "a") as file:
        file.write("x")
    for n in range(50):
        yield {"type": "content", "data": f"{n} " + "·" * 100}
"""


@pytest.fixture(scope="module")
def open_gateway(tmp_path_factory: pytest.TempPathFactory):
    """Without a sandbox, so that a function can leave a mark that the test sees."""
    folder = tmp_path_factory.mktemp("cuts")
    with running_gateway(folder / "data", "--sandbox", "off") as gateway:
        gateway.publish(write_package(folder / "counts", COUNTS, prefab_id="counts"))
        yield gateway


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_call_that_was_cut_runs_once_and_is_answered(open_gateway: Gateway, folder: Path, direction: str):
    with CuttingProxy(open_gateway.url, **{direction: 1}) as proxy:
        client = GatewayClient(internal_token=open_gateway.token("ann"), base_url=proxy.url)
        result = client.run("counts", "1.0.0", "count", {"path": str(folder / "mark"), "pause": 0.1})
        assert (proxy.cuts, result.get_function_result()) == ([direction], 1)
    assert (folder / "mark").read_text() == "x"


def test_a_batch_that_was_cut_runs_once(open_gateway: Gateway, folder: Path):
    with CuttingProxy(open_gateway.url, down=1) as proxy:
        client = GatewayClient(internal_token=open_gateway.token("ann"), base_url=proxy.url)
        calls = [PrefabCall("counts", "1.0.0", "count", {"path": str(folder / f"m{n}")}) for n in range(3)]
        assert client.run_batch(calls).all_success()
        assert proxy.cuts == ["down"]
    assert [(folder / f"m{n}").read_text() for n in range(3)] == ["x"] * 3


def test_a_stream_that_was_cut_before_it_began_runs_once(open_gateway: Gateway, folder: Path):
    with CuttingProxy(open_gateway.url, down=1) as proxy:
        client = GatewayClient(internal_token=open_gateway.token("ann"), base_url=proxy.url)
        events = list(client.run("counts", "1.0.0", "talk", {"path": str(folder / "mark")}, stream=True))
        assert proxy.cuts == ["down"]
    assert [event.data.split()[0] for event in events if event.type == "content"] == [str(n) for n in range(50)]
    assert (folder / "mark").read_text() == "x"


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    path, digest = tmp_path_factory.mktemp("big") / "big.bin", hashlib.sha256()
    with open(path, "wb") as file:
        for _ in range(MEGABYTES):
            block = os.urandom(1 << 20)
            digest.update(block)
            file.write(block)
    return path, digest.hexdigest()


CLIENT = """
import sys
from gateway_sdk import GatewayClient
base_url, token, source, target, digest = sys.argv[1:]
client = GatewayClient(internal_token=token, base_url=base_url)
url = client.upload_file(source)
assert url.sha256 == digest, "the upload has another checksum"
client.save_file(url, target)
status = open("/proc/self/status").read()  # not getrusage, which counts what this process was forked from
print(int(status.partition("VmHWM:")[2].split()[0]) / 1024)
"""


def test_a_large_file_goes_up_and_down_though_it_is_cut(folder: Path, big: tuple[Path, str]):
    path, digest = big
    half, port = MEGABYTES * (1 << 20) // 2, free_port()
    with CuttingProxy(f"http://127.0.0.1:{port}", up=half, down=half) as proxy:
        with running_gateway(folder / "data", "--port", str(port), "--public-url", proxy.url) as gateway:
            arguments = [proxy.url, gateway.token("ann", "mover"), str(path), str(folder / "back.bin"), digest]
            done = subprocess.run([sys.executable, "-c", CLIENT, *arguments], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            assert proxy.cuts == ["up", "down"]
            assert float(done.stdout) < MOST_MB
            assert memory_mb(gateway.pid, "VmHWM") < MOST_MB
    with open(folder / "back.bin", "rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == digest


@pytest.mark.parametrize("direction", ["up", "down"])
def test_an_upload_that_was_cut_stores_one_file(open_gateway: Gateway, folder: Path, direction: str):
    source = folder / "report.txt"
    source.write_bytes(os.urandom(200_000))
    token = open_gateway.token("uploads", f"agent-{direction}")
    with CuttingProxy(open_gateway.url, **{direction: 1}) as proxy:
        client = GatewayClient(internal_token=token, base_url=proxy.url)
        s3_url = client.upload_file(str(source))
        assert proxy.cuts == [direction]
        assert client.list_files() == [s3_url]


def test_an_upload_is_known_after_a_kill(folder: Path):
    with running_gateway(folder / "data") as gateway:
        headers = {"X-Internal-Token": gateway.token("ann", "helper"), "Idempotency-Key": "one"}

        def upload(content: bytes) -> httpx.Response:
            form = {"file": ("a.txt", content)}
            return httpx.post(gateway.url + "/internal/files/upload", files=form, headers=headers, trust_env=False)

        def begin() -> httpx.Response:
            wish = {"filename": "b.bin", "size": 10}
            return httpx.post(gateway.url + "/v1/files/uploads", json=wish, headers=headers, trust_env=False)

        first, begun = upload(b"content"), begin()
        gateway.stop(signal.SIGKILL)
        gateway.start()
        assert (first.status_code, begun.status_code) == (200, 201)
        assert upload(b"content").json() == first.json()
        assert upload(b"another").json()["detail"]["error_code"] == "IDEMPOTENCY_CONFLICT"
        assert begin().json()["upload_id"] == begun.json()["upload_id"]
        assert len(gateway.client().list_files()) == 1
