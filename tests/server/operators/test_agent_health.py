"""Agents are looked at when they are registered and when somebody asks, and nobody waits for those that are slow."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest
from gateways import Gateway, running_gateway
from raw_agent import RawAgent
from web_agent import WebAgent

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
ILL = b"HTTP/1.1 500 Ill\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


def free_url() -> str:
    gone = WebAgent()
    gone.listener.close()
    return gone.url


def register(gateway: Gateway, url: str | None = None, *, key: str | None = None, **more: Any) -> httpx.Response:
    wish = {"id": f"agent-{uuid4().hex[:8]}", **({"url": url} if url is not None else {}), **more}
    return gateway.request("POST", "/v1/agents", json=wish, key=key)


def refused(answer: httpx.Response, pointer: str) -> str:
    assert answer.status_code == 422, answer.text
    detail = answer.json()["detail"]
    assert (detail["error_code"], detail["errors"][0]["pointer"]) == ("VALIDATION_ERROR", pointer)
    return detail["message"]


def show(gateway: Gateway, name: str, key: str | None = None) -> dict[str, Any]:
    answer = gateway.request("GET", f"/v1/agents/{name}", key=key)
    assert answer.status_code == 200, answer.text
    return answer.json()


def forget(gateway: Gateway, *names: str) -> None:
    for name in names:
        gateway.request("DELETE", f"/v1/agents/{name}").raise_for_status()


def test_what_is_not_there_is_refused_with_the_reason_and_the_next_step(gateway: Gateway):
    url = free_url()
    message = refused(register(gateway, url), "/url")
    assert url in message
    assert "connection refused" in message
    assert "--no-check" in message
    assert "name cannot be found" in refused(register(gateway, "http://nobody.invalid"), "/url")
    assert register(gateway, url, check=False).status_code == 201


def test_what_does_not_speak_the_protocol_is_refused(gateway: Gateway, agent: WebAgent):
    with RawAgent(b"220 mail.example ready\r\n\r\n") as mail:
        assert "not HTTP" in refused(register(gateway, mail.url), "/url")
    assert "TLS" in refused(register(gateway, agent.url.replace("http:", "https:")), "/url")


def test_what_never_answers_is_refused_in_time(gateway: Gateway):
    with RawAgent(b"", then_waits=True) as silent:
        began = time.monotonic()
        assert "no answer within 5 s" in refused(register(gateway, silent.url), "/url")
        assert time.monotonic() - began < 8
        assert silent.hung_up.wait(10)


def test_any_answer_will_do_unless_there_is_a_health_path(gateway: Gateway):
    with RawAgent(ILL) as ill:
        assert register(gateway, ill.url).status_code == 201
        message = refused(register(gateway, f"{ill.url}/base/", health_path="/health?deep=1"), "/health_path")
        assert f"{ill.url}/base/health?deep=1" in message
        assert "500" in message
        assert b"GET /base/health?deep=1 HTTP/1.1" in ill.received


def test_the_gateway_itself_is_no_agent(gateway: Gateway):
    port = urlsplit(gateway.url).port
    for url in (gateway.url, f"{gateway.url}/v1/agents/x", f"http://localhost:{port}"):
        assert "leads back to this gateway" in refused(register(gateway, url), "/url")
        assert "leads back to this gateway" in refused(register(gateway, url, check=False), "/url")


def test_a_gateway_that_listens_everywhere_knows_itself_by_every_name(tmp_path):
    with running_gateway(tmp_path / "data", "--host", "0.0.0.0", "--public-url", "https://example.com/gateway") as wide:
        port = urlsplit(wide.url).port
        for url in (f"http://127.0.0.2:{port}", f"http://0.0.0.0:{port}", "https://example.com/gateway/x"):
            assert "leads back to this gateway" in refused(register(wide, url), "/url")
        assert register(wide, "https://example.com/agents/x", check=False).status_code == 201


def test_what_is_not_named_stays(gateway: Gateway, agent: WebAgent):
    first = register(gateway, agent.url, timeout=30, health_path="/health").json()
    assert (first["timeout"], first["health_path"]) == (30, "/health")
    name = first["id"]
    changed = register(gateway, id=name, timeout=60).json()
    assert (changed["url"], changed["timeout"], changed["health_path"]) == (agent.url, 60, "/health")
    cleared = register(gateway, id=name, timeout=None, health_path=None).json()
    assert (cleared["url"], cleared["timeout"], cleared["health_path"]) == (agent.url, None, None)
    assert cleared["created_at"] == first["created_at"]
    assert "needed" in refused(register(gateway, timeout=60), "/url")


@pytest.mark.parametrize("wrong", ['"timeout": 0', '"timeout": -1', '"timeout": 1e400'])
def test_timeouts_that_cannot_be(gateway: Gateway, wrong: str):
    content = f'{{"id": "x", "url": "http://h", {wrong}}}'
    answer = gateway.request("POST", "/v1/agents", content=content, headers={"content-type": "application/json"})
    refused(answer, "/timeout")


@pytest.mark.parametrize("wrong", ["health", "", "/a b", "/x#y"])
def test_health_paths_that_cannot_be(gateway: Gateway, wrong: str):
    refused(register(gateway, "http://h", health_path=wrong), "/health_path")


def test_health(gateway: Gateway, agent: WebAgent):
    name = register(gateway, agent.url).json()["id"]
    health = show(gateway, name)["health"]
    assert health["status"] == "healthy"
    assert 0 < health["latency_ms"] < 5000
    assert health["checked_at"].endswith("Z")
    with RawAgent(ILL) as ill:
        register(gateway, ill.url, id=name, health_path="/well", check=False).raise_for_status()
        health = show(gateway, name)["health"]
        assert (health["status"], health["message"]) == ("unhealthy", "GET /well answered 500")
    register(gateway, free_url(), id=name, check=False).raise_for_status()
    health = show(gateway, name)["health"]
    assert (health["status"], health["latency_ms"]) == ("unreachable", None)
    assert "connection refused" in health["message"]
    assert gateway.request("GET", "/v1/agents/nobody").json()["detail"]["error_code"] == "AGENT_NOT_FOUND"


def test_others_do_not_see_where_it_is(gateway: Gateway):
    url = free_url()
    name = register(gateway, url, check=False, health_path="/secret-place").json()["id"]
    ann = gateway.key("ann")
    told = show(gateway, name, ann)
    assert (told["url"], told["health_path"], told["health"]["status"]) == (None, None, "unreachable")
    answer = gateway.request("GET", f"/v1/agents/{name}/x", key=ann)
    listed = gateway.request("GET", "/v1/agents", key=ann)
    for text in (str(told), answer.text, listed.text):
        assert url not in text
        assert str(urlsplit(url).port) not in text
    assert "Tell its owner, admin" in answer.json()["detail"]["message"]
    own = gateway.request("GET", f"/v1/agents/{name}/x").json()["detail"]["message"]
    assert url in own
    assert f"gateway agent add {name} URL" in own


def test_a_list_waits_for_nobody(gateway: Gateway, agent: WebAgent):
    with ExitStack() as stack:
        silent = [stack.enter_context(RawAgent(b"", then_waits=True)) for _ in range(20)]
        slow = [register(gateway, one.url, check=False).json()["id"] for one in silent]
        quick = register(gateway, agent.url, check=False).json()["id"]
        began = time.monotonic()
        answer = gateway.request("GET", "/v1/agents")
        assert time.monotonic() - began < 4
        seen = {one["id"]: one["health"]["status"] for one in answer.json()["agents"]}
        assert seen[quick] == "healthy"
        assert {seen[name] for name in slow} == {"unreachable"}
        began = time.monotonic()
        gateway.request("GET", "/v1/agents").raise_for_status()
        assert time.monotonic() - began < 0.9  # it remembers for a moment
        forget(gateway, quick, *slow)


def test_lists_at_the_same_time_ask_once(gateway: Gateway):
    with RawAgent(b"", then_waits=True) as silent:
        name = register(gateway, silent.url, check=False).json()["id"]
        with ThreadPoolExecutor(10) as threads:
            for answer in threads.map(lambda _: gateway.request("GET", "/v1/agents"), range(10)):
                seen = {one["id"]: one["health"]["status"] for one in answer.json()["agents"]}
                assert seen[name] == "unreachable"
        assert silent.received.count(b"GET ") == 1
        forget(gateway, name)


def test_what_a_call_has_found_is_known(gateway: Gateway, agent: WebAgent):
    with RawAgent(OK) as short:
        name = register(gateway, short.url).json()["id"]
    began = time.monotonic()
    assert gateway.request("GET", f"/v1/agents/{name}/x").status_code == 503
    assert time.monotonic() - began < 1
    seen = {one["id"]: one["health"] for one in gateway.request("GET", "/v1/agents").json()["agents"]}
    assert seen[name]["status"] == "unreachable"


@contextmanager
def with_timeout(gateway: Gateway, url: str, seconds: float | None) -> Iterator[str]:
    name = register(gateway, url, timeout=seconds, check=False).json()["id"]
    yield f"/v1/agents/{name}"
    forget(gateway, name)


def test_the_earliest_limit_wins(gateway: Gateway, agent: WebAgent):
    for own, asked, words in ((0.2, None, "0.2 s, the timeout of this agent"), (30, "200ms", "as its caller asked")):
        with with_timeout(gateway, agent.url, own) as place:
            headers = {"cancel-after": asked} if asked else {}
            answer = gateway.request("GET", f"{place}/silent", headers=headers)
            assert answer.status_code == 504
            assert answer.json()["detail"]["error_code"] == "DEADLINE_EXCEEDED"
            assert words in answer.json()["detail"]["message"]
            assert agent.saw.wait(10), "the agent was not let go of"
            agent.saw.clear()


def test_a_stream_is_cut_when_its_time_is_over(gateway: Gateway):
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    with RawAgent(head + b"9\r\ndata: 1\n\n\r\n", then_waits=True) as endless:
        with with_timeout(gateway, endless.url, 0.5) as place:
            began = time.monotonic()
            headers = {"authorization": f"Bearer {gateway.admin_key}"}
            with httpx.stream("GET", f"{gateway.url}{place}/x", headers=headers, timeout=20) as answer:
                pieces = answer.iter_raw()
                assert next(pieces) == b"data: 1\n\n"
                with pytest.raises(httpx.RemoteProtocolError):
                    next(pieces)
            assert time.monotonic() - began < 10
            assert endless.hung_up.wait(10)
    assert "Traceback" not in gateway.log()
