"""Who may do what at the SDK's fake, and how what it signed is read."""

import asyncio
import gc
import socket

import httpx
import pytest

import gateway_sdk
from gateway_sdk.testing import FakeGateway


def test_a_client_of_an_api_key_stands_outside_an_agent():
    fake = FakeGateway(tokens={"of-the-agent", "of-the-key"}, api_keys={"sk-1": "of-the-key"})
    fake.prefab("zoo", "1.0.0", "nothing")(lambda: None)
    client = fake.client(api_key="sk-1")
    assert client.run("zoo", "1.0.0", "nothing", {}).is_success()
    assert client.get_job(client.run("zoo", "1.0.0", "nothing", {}).job_id)["agent"] is None
    with pytest.raises(gateway_sdk.AgentContextRequiredError):
        client.list_files()
    assert fake.client("of-the-agent").list_files() == []
    with pytest.raises(gateway_sdk.AuthenticationError):
        fake.client(api_key="sk-2")
    with pytest.raises(gateway_sdk.AuthenticationError):
        fake.async_client(api_key="sk-2")


def test_the_token_of_an_api_key_is_renewed():
    fake = FakeGateway(tokens={"first"}, api_keys={"sk-1": "first"})
    fake.prefab("zoo", "1.0.0", "nothing")(lambda: None)
    client, async_client = fake.client(api_key="sk-1"), fake.async_client(api_key="sk-1")
    fake.tokens, fake.api_keys["sk-1"] = {"second"}, "second"
    assert client.run("zoo", "1.0.0", "nothing", {}).is_success()
    assert asyncio.run(async_client.run("zoo", "1.0.0", "nothing", {})).is_success()


def test_what_a_url_is_signed_for_is_read_by_any_http_client():
    fake = FakeGateway()
    client = fake.client()
    url = client.download_file(fake.put("名.txt", b"abc"))
    assert httpx.get(url, trust_env=False).content == b"abc"
    assert httpx.get(url, trust_env=False, headers={"Range": "bytes=1-"}).content == b"bc"
    assert httpx.get(url.replace("objects", "elsewhere"), trust_env=False).status_code == 404
    assert httpx.get(url.replace("agent-inputs/user", "agent-inputs/bob"), trust_env=False).status_code == 403
    assert client.download_file(fake.put("b", b"")).split("/objects/")[0] == url.split("/objects/")[0]


def test_a_url_ends(monkeypatch):
    import time

    fake = FakeGateway()
    url = fake.client().get_presigned_url(fake.put("a", b"abc"), expires_in=10)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 11)
    assert httpx.get(url, trust_env=False).status_code == 403


def test_a_fake_that_is_gone_listens_no_more():
    fake = FakeGateway()
    url = httpx.URL(fake.client().download_file(fake.put("a", b"abc")))
    del fake
    gc.collect()
    for _ in range(100):
        with socket.socket() as knocking:
            if knocking.connect_ex((url.host, url.port)) != 0:
                return
        gc.collect()
    raise AssertionError("it still listens")


def test_where_nobody_may_listen_urls_are_signed_all_the_same(monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise RuntimeError("no network in tests")

    monkeypatch.setattr("gateway_sdk._fake.server.ThreadingHTTPServer", refuse)
    fake = FakeGateway()
    file = fake.put("a", b"abc")
    assert fake.client().download_file(file).startswith("http://fake-gateway.test/objects/")
    assert (tmp_path / "a").write_bytes(b"") == 0
    fake.client().save_file(file, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"abc"


def test_a_granted_bucket_is_read():
    fake = FakeGateway()
    fake.files["s3://shared/model.bin"] = b"m"

    @fake.prefab("zoo", "1.0.0")
    def size(files):
        return len(fake.files[files["input"][0]])

    assert fake.client().run("zoo", "1.0.0", "size", {}, {"input": ["s3://shared/model.bin"]}).get_result() == 1
    with pytest.raises(gateway_sdk.PermissionDeniedError):
        fake.client().run("zoo", "1.0.0", "size", {}, {"input": ["s3://shared/other.bin"]})


def test_the_quota_tells_when_it_opens():
    fake = FakeGateway(quota=0)
    fake.prefab("zoo", "1.0.0", "nothing")(lambda: None)
    with pytest.raises(gateway_sdk.QuotaExceededError) as caught:
        fake.client().run("zoo", "1.0.0", "nothing", {})
    assert (caught.value.used, caught.value.limit) == (0, 0)
    assert caught.value.reset_at.endswith("T00:00:00Z")
    fake.quota = None
    assert fake.client().run("zoo", "1.0.0", "nothing", {}).is_success()


@pytest.mark.parametrize(
    ("span", "status", "body", "told"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=7-99", 206, b"789", "bytes 7-9/10"),
        ("bytes=8-", 206, b"89", "bytes 8-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=-99", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=10-", 416, b"", "bytes */10"),
        ("bytes=-", 200, b"0123456789", None),
        ("bytes=0-1,3-4", 200, b"0123456789", None),
    ],
)
def test_what_is_signed_is_served_in_ranges(span, status, body, told):
    fake = FakeGateway()
    url = fake.client().get_presigned_url(fake.put("a", b"0123456789"))
    answer = httpx.get(url, headers={"Range": span})
    assert (answer.status_code, answer.content, answer.headers.get("content-range")) == (status, body, told)
    head = httpx.head(url)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, "10", b"")
