from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from stub_gateway import StubGateway

from gateway_sdk import AsyncGatewayClient, GatewayClient, _transport


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    proxies = ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY")
    for name in ("GATEWAY_BASE_URL", "X_INTERNAL_TOKEN", *proxies):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def stub() -> Iterator[StubGateway]:
    """A gateway on loopback with a few functions."""
    stub = StubGateway()
    fake = stub.fake

    @fake.prefab("zoo", "1.0.0")
    def echo(**parameters):
        return parameters

    @fake.prefab("zoo", "1.0.0")
    def fail():
        raise ValueError("no luck")

    @fake.prefab("zoo", "1.0.0")
    def count(n, files=None):
        for number in range(n):
            yield {"type": "content", "data": str(number)}
        yield {"type": "done", "data": {"n": n}, "files": {"output": ["s3://b/x"]}}

    @fake.prefab("zoo", "1.0.0")
    def nothing():
        return None

    with stub.running():
        yield stub


@pytest.fixture
def by_proxy(stub: StubGateway, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A proxy in the environment moves everything to httpx; the stub plays the proxy, too."""
    monkeypatch.setenv("HTTP_PROXY", stub.url)
    monkeypatch.setattr(_transport, "_shared", {})
    yield
    _transport.shared_transport()._httpx.close()


@pytest.fixture
def client(stub: StubGateway) -> GatewayClient:
    return GatewayClient("token", stub.url, timeout=5)


@pytest.fixture
def async_client(stub: StubGateway) -> AsyncGatewayClient:
    return AsyncGatewayClient("token", stub.url, timeout=5)
