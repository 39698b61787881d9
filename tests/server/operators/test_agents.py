"""Requests pass through to agents, and identity does not."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import jwt
import pytest
from gateways import Gateway
from proxies import CuttingProxy
from web_agent import WAIT, WebAgent

REFUSED_URLS = [
    "ftp://host",
    "host:8080",
    "http://",
    "http://user:pass@host",
    "http://host?x=1",
    "http://host#x",
    "http://ho st",
    "http://host:99999",
    "//host",
    "",
]


@pytest.fixture
def agent_id(gateway: Gateway, agent: WebAgent) -> str:
    return add(gateway, agent.url)


def add(gateway: Gateway, url: str, **options: Any) -> str:
    name = f"agent-{uuid4().hex[:8]}"
    answer = gateway.request("POST", "/v1/agents", json={"id": name, "url": url, "check": False}, **options)
    assert answer.status_code == 201, answer.text
    return name


def claims(told: dict[str, Any]) -> dict[str, Any]:
    (token,) = [value for name, value in told["headers"] if name == "x-internal-token"]
    return jwt.decode(token, options={"verify_signature": False})


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_method_path_query_and_body_arrive_as_they_were(gateway: Gateway, agent_id: str, method: str):
    place = "a%2Fb/%0A/%E4%BD%A0//c?q=%zz&q=1+2"
    told = gateway.request(method, f"/v1/agents/{agent_id}/{place}", content=b"\xff\x00body").json()
    assert told["method"] == method
    assert told["path"] == "/a%2Fb/%0A/%E4%BD%A0//c"
    assert told["query"] == "q=%zz&q=1+2"
    assert told["body"] == "\xff\x00body"


def test_status_and_headers_come_back_as_they_were(gateway: Gateway, agent_id: str):
    answer = gateway.request("GET", f"/v1/agents/{agent_id}/teapot")
    assert answer.status_code == 418
    assert answer.headers.get_list("x-agent") == ["one", "two"]
    assert len(answer.headers.get_list("date")) == 1
    assert "x-private" not in answer.headers
    assert "keep-alive" not in answer.headers


def test_head_has_no_body(gateway: Gateway, agent_id: str):
    answer = gateway.request("HEAD", f"/v1/agents/{agent_id}/x")
    assert (answer.status_code, answer.content) == (200, b"")


def test_an_empty_path_is_the_agents_root(gateway: Gateway, agent: WebAgent):
    below = add(gateway, f"{agent.url}/mounted/")
    assert gateway.request("GET", f"/v1/agents/{below}/").json()["path"] == "/mounted/"
    assert gateway.request("GET", f"/v1/agents/{below}/x").json()["path"] == "/mounted/x"


@pytest.mark.parametrize("path", ["../x", "a/%2e%2E/x", "a/..%2fx", "..%5Cx", "./x"])
def test_no_path_leads_out_of_the_agents_address(gateway: Gateway, agent: WebAgent, path: str):
    below = add(gateway, f"{agent.url}/mounted")
    raw = httpx.Request("GET", gateway.url, extensions={"target": f"/v1/agents/{below}/{path}".encode()})
    raw.headers["authorization"] = f"Bearer {gateway.admin_key}"
    with httpx.HTTPTransport() as transport:
        answer = transport.handle_request(raw)
        answer.read()
    assert answer.status_code == 422


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_an_encoded_slash_ends_no_agents_id(gateway: Gateway, agent_id: str, method: str):
    """It is part of the id, of which there is none: the agent before it is not asked for anything."""
    answer = gateway.request(method, f"/v1/agents/{agent_id}%2Fx")
    assert (answer.status_code, answer.json()["detail"]["error_code"]) == (404, "AGENT_NOT_FOUND")
    assert gateway.request(method, f"/v1/agents/%61{agent_id[1:]}/x").json()["path"] == "/x"


def test_identity_is_replaced(gateway: Gateway, agent_id: str):
    smuggled = gateway.token("mallory", "other")
    headers = {
        "X-Internal-Token": smuggled,
        "X_Internal_Token": smuggled,
        "X-API-Key": gateway.admin_key,
        "Cookie": "session=1",
        "Forwarded": "for=10.0.0.1",
        "X-Forwarded-For": "10.0.0.1",
        "X-Real-IP": "10.0.0.1",
        "X-Custom": "kept",
        "Connection": "x-internal-token, x-hop",
        "X-Hop": "1",
    }
    told = gateway.request("GET", f"/v1/agents/{agent_id}/x", headers=headers).json()
    found = claims(told)
    assert (found["sub"], found["agent"]) == ("mallory", agent_id)  # the caller is whom its own token names
    names = [name for name, _ in told["headers"]]
    assert names.count("x-internal-token") == 1
    assert not {"authorization", "x-api-key", "cookie", "forwarded", "x-forwarded-for", "x-real-ip"} & set(names)
    assert not {"x_internal_token", "x-hop"} & set(names)
    assert ["x-custom", "kept"] in told["headers"]
    assert smuggled not in json.dumps(told)
    assert gateway.admin_key not in json.dumps(told)


def test_the_token_works_for_user_and_agent(gateway: Gateway, agent_id: str):
    key = gateway.key("ann")
    told = gateway.request("GET", f"/v1/agents/{agent_id}/x", key=key).json()
    (token,) = [value for name, value in told["headers"] if name == "x-internal-token"]
    own = {"X-Internal-Token": token}
    assert httpx.get(f"{gateway.url}/v1/secrets", headers=own).status_code == 200
    assert httpx.get(f"{gateway.url}/v1/keys", headers=own).status_code == 403
    assert httpx.get(f"{gateway.url}/internal/files/list", headers=own).status_code == 200


def test_the_token_ends_with_the_call_and_with_the_key(gateway: Gateway, agent_id: str):
    key = gateway.key("ann")
    place = f"/v1/agents/{agent_id}/x"
    told = gateway.request("GET", place, key=key, headers={"Cancel-After": "90s"}).json()
    found = claims(told)
    assert found["exp"] - found["deadline"] == pytest.approx(60, abs=2)
    (token,) = [value for name, value in told["headers"] if name == "x-internal-token"]
    (known,) = gateway.request("GET", "/v1/keys", key=key).json()["keys"][:1]
    gateway.request("DELETE", f"/v1/keys/{known['id']}", key=key).raise_for_status()
    assert httpx.get(f"{gateway.url}/v1/secrets", headers={"X-Internal-Token": token}).status_code == 401


def test_answers_stream(gateway: Gateway, agent: WebAgent, agent_id: str):
    headers = {"Authorization": f"Bearer {gateway.admin_key}"}
    with httpx.stream("GET", f"{gateway.url}/v1/agents/{agent_id}/stream", headers=headers, timeout=WAIT) as answer:
        pieces = answer.iter_raw()
        assert next(pieces) == b"data: 1\n\n"
        agent.go_on.set()
        assert b"".join(pieces) == b"data: 2\n\n"


def test_bodies_stream(gateway: Gateway, agent: WebAgent, agent_id: str):
    def body() -> Iterator[bytes]:
        yield b"x" * 1000
        assert agent.saw.wait(WAIT), "the agent did not get the first piece before the last was sent"
        yield b"y" * 1000

    answer = gateway.request("POST", f"/v1/agents/{agent_id}/upload", content=body())
    assert (answer.status_code, answer.text) == (201, "2000")


def test_a_caller_who_hangs_up_ends_the_request(gateway: Gateway, agent: WebAgent, agent_id: str):
    headers = {"Authorization": f"Bearer {gateway.admin_key}"}
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(f"{gateway.url}/v1/agents/{agent_id}/silent", headers=headers, timeout=httpx.Timeout(5, read=0.3))
    assert agent.saw.wait(WAIT)


def test_a_deadline_ends_the_request(gateway: Gateway, agent: WebAgent, agent_id: str):
    answer = gateway.request("GET", f"/v1/agents/{agent_id}/silent", headers={"Cancel-After": "200ms"})
    assert answer.status_code == 504
    assert answer.json()["detail"]["error_code"] == "DEADLINE_EXCEEDED"
    assert agent.saw.wait(WAIT)


def test_an_answer_that_breaks_off_does_not_look_whole(gateway: Gateway, agent_id: str):
    with pytest.raises(httpx.RemoteProtocolError):
        gateway.request("GET", f"/v1/agents/{agent_id}/breaks")


def test_an_agent_that_is_not_there(gateway: Gateway):
    gone = WebAgent()
    gone.listener.close()
    name = add(gateway, gone.url)
    answer = gateway.request("GET", f"/v1/agents/{name}/x")
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.json()["detail"]["error_code"] == "SERVICE_UNAVAILABLE"
    assert name in answer.json()["detail"]["message"]
    unknown = gateway.request("POST", "/v1/agents/nobody/x")
    assert (unknown.status_code, unknown.json()["detail"]["error_code"]) == (404, "AGENT_NOT_FOUND")


def test_agents_that_call_one_another_in_a_circle_end(gateway: Gateway):
    with CuttingProxy(gateway.url) as detour:  # a way back to the gateway that nobody can tell from an agent
        name = f"agent-{uuid4().hex[:8]}"
        wish = {"id": name, "url": f"{detour.url}/v1/agents/{name}"}
        gateway.request("POST", "/v1/agents", json=wish).raise_for_status()
        answer = gateway.request("GET", f"/v1/agents/{name}/x")
    assert answer.status_code == 429
    assert answer.json()["detail"]["quota_type"] == "call_depth"


@pytest.mark.parametrize("url", REFUSED_URLS)
def test_addresses_that_are_none(gateway: Gateway, url: str):
    answer = gateway.request("POST", "/v1/agents", json={"id": "one", "url": url})
    assert answer.status_code == 422
    assert answer.json()["detail"]["errors"][0]["pointer"] == "/url"


def test_who_may_register(gateway: Gateway):
    caller, publisher, other = gateway.key("ann"), gateway.key("pat", "publish"), gateway.key("sam", "publish")
    refused = gateway.request("POST", "/v1/agents", json={"id": "x", "url": "http://h"}, key=caller)
    assert refused.status_code == 403
    name = add(gateway, "http://one", key=publisher)
    assert (
        gateway.request(
            "POST", "/v1/agents", json={"id": name, "url": "http://two", "check": False}, key=other
        ).status_code
        == 403
    )
    assert gateway.request("DELETE", f"/v1/agents/{name}", key=other).status_code == 403
    changed = gateway.request(
        "POST", "/v1/agents", json={"id": name, "url": "http://two/", "check": False}, key=publisher
    ).json()
    assert (changed["url"], changed["owner"]) == ("http://two", "pat")
    seen = {agent["id"]: agent for agent in gateway.request("GET", "/v1/agents", key=caller).json()["agents"]}
    assert seen[name]["url"] is None  # addresses are for those who may change them
    assert gateway.request("DELETE", f"/v1/agents/{name}", key=publisher).status_code == 204
    assert gateway.request("DELETE", f"/v1/agents/{name}", key=publisher).status_code == 404


def test_without_identity_nothing_is_forwarded(gateway: Gateway, agent_id: str):
    assert httpx.get(f"{gateway.url}/v1/agents/{agent_id}/x").status_code == 401
