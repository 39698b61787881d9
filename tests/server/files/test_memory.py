"""Large files pass through a real server in little memory."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

SIZE = 300 << 20
BOUND = 150 << 20
BLOCK = bytes(range(256)) * 4096


@pytest.fixture
def server(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(Path(__file__).with_name("serving.py")), str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def peak(process: subprocess.Popen[str]) -> int:
    """The most memory that the process ever had, in bytes."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def blocks(size: int = SIZE) -> Iterator[bytes]:
    for _ in range(size // len(BLOCK)):
        yield BLOCK


def form() -> Iterator[bytes]:
    yield b'--B\r\nContent-Disposition: form-data; name="file"; filename="big.bin"\r\n\r\n'
    yield from blocks()
    yield b"\r\n--B--\r\n"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_large_files_need_little_memory(server: subprocess.Popen[str]) -> None:
    assert server.stdout is not None
    digest = hashlib.sha256()
    for block in blocks():
        digest.update(block)
    with httpx.Client(base_url=server.stdout.readline().strip(), timeout=60) as client:
        headers = {"content-type": "multipart/form-data; boundary=B"}
        stored = client.post("/internal/files/upload", content=form(), headers=headers).json()
        assert (stored["size"], stored["sha256"]) == (SIZE, digest.hexdigest())
        target = client.post("/internal/files/generate_upload_url", json={"filename": "big.bin"}).json()
        assert client.put(target["upload_url"], content=blocks()).status_code == 200
        for url in (stored["s3_url"], target["s3_url"]):
            told = client.get("/internal/files/download", params={"s3_url": url}).json()
            assert told["sha256"] == digest.hexdigest()
        arrived = 0
        with client.stream("GET", told["presigned_url"]) as answer:
            for block in answer.iter_bytes():
                arrived += len(block)
        assert arrived == SIZE
        begun = client.post("/v1/files/uploads", json={"filename": "big.bin", "size": SIZE}).json()
        size = begun["part_size"]
        for number, url in enumerate(begun["part_urls"]):
            assert client.put(url, content=blocks(min(size, SIZE - number * size))).status_code == 200
        done = client.post(f"/v1/files/uploads/{begun['upload_id']}/complete", json={"sha256": digest.hexdigest()})
        assert done.json()["size"] == SIZE
    assert peak(server) < BOUND
