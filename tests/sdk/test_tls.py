"""Calls over TLS, which take the way through httpx."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from stub_gateway import StubGateway

from gateway_sdk import AsyncGatewayClient, ConnectionFailedError, GatewayClient, _transport

ECHO, COUNT = ("zoo", "1.0.0", "echo"), ("zoo", "1.0.0", "count")


def certificate(folder: Path) -> Path:
    """One for 127.0.0.1 that vouches for itself, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "stub")])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file = folder / "stub.pem"
    file.write_bytes(key.private_bytes(*form) + made.public_bytes(serialization.Encoding.PEM))
    return file


@pytest.fixture
def secure(stub: StubGateway, tmp_path: Path) -> Iterator[StubGateway]:
    """The stub behind TLS."""
    file = certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file)
    secure = StubGateway(fake=stub.fake, tls=context)
    with secure.running(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(_transport, "_shared", {})
        patch.setenv("SSL_CERT_FILE", str(file))
        yield secure
        _transport.shared_transport()._httpx.close()


def test_calls_and_streams_over_tls(secure: StubGateway):
    client = GatewayClient("t", secure.url, timeout=5)
    text = "x" * 300_000
    for _ in range(3):
        assert client.run(*ECHO, {"text": text}).get("text") == text
        assert [event.type for event in client.run(*COUNT, {"n": 1}, stream=True)] == ["start", "content", "done"]
    assert secure.connections == 1


def test_calls_and_streams_over_tls_of_an_event_loop(secure: StubGateway):
    async def main() -> None:
        client = AsyncGatewayClient("t", secure.url, timeout=5)
        results = await asyncio.gather(*[client.run(*ECHO, {"n": n}) for n in range(5)])
        assert [result.get("n") for result in results] == list(range(5))
        events = [event.type async for event in client.run(*COUNT, {"n": 1}, stream=True)]
        assert events == ["start", "content", "done"]

    asyncio.run(main())


def test_a_certificate_that_nobody_vouches_for_is_refused(secure: StubGateway, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(ConnectionFailedError, match=r"(?i)certificate"):
        GatewayClient("t", secure.url, max_retries=0).run(*ECHO, {})
    assert not secure.requests
