"""What gets past the gateway's own judgement: tokens that travel with a request, URLs that carry their own proof."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import pytest
from gateways import Gateway, running_gateway, until
from raw_http import exchange
from web_agent import WebAgent

from gateway_server.store.signatures import Signer

WORDS = b"words of ann"
_http = httpx.Client(trust_env=False)  # making one costs more than most requests


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running_gateway(tmp_path_factory.mktemp("smuggling") / "data") as started:
        yield started


@pytest.fixture(scope="module")
def agent(gateway: Gateway) -> Iterator[WebAgent]:
    with WebAgent() as web_agent:
        wanted = {"id": "told", "url": web_agent.url, "check": False}
        assert gateway.request("POST", "/v1/agents", json=wanted).is_success
        yield web_agent


def test_an_agent_sees_the_gateways_token_and_no_other_proof(gateway: Gateway, agent: WebAgent) -> None:
    key, smuggled = gateway.key("ann"), gateway.token("bob", "told")
    names = (
        *("x-internal-token", "X_Internal_Token", "X-INTERNAL_TOKEN", "x_internal-token"),
        *("Cookie", "X-Api-Key", "X_API_KEY", "Forwarded", "X-Forwarded-User", "X-Forwarded-For", "X-Real-IP"),
        *("Proxy-Authorization", "Connection", "Keep-Alive"),
    )
    for name in names:
        value = "x-internal-token" if name == "Connection" else smuggled
        lines = [f"{name}: {value}"] * (1 if name.lower() in ("x-internal-token", "x-api-key") else 2)
        told = exchange(gateway.url, "GET", "/v1/agents/told/any", [f"Authorization: Bearer {key}", *lines])
        if name == "x-internal-token":  # it counts before the key: then bob calls, who is let in as himself
            assert told.status == 200
            assert claims(token_of(told.body))["sub"] == "bob"
            assert smuggled not in told.body
            continue
        assert told.status == 200, told.body
        assert claims(token_of(told.body)) | {"sub": "ann", "agent": "told"} == claims(token_of(told.body)), name
        assert smuggled not in told.body
        assert key not in told.body


@pytest.mark.parametrize("query", ["internal_token={}", "X-Internal-Token={}", "token={}", "api_key={}"])
def test_a_token_in_the_query_is_nobodys(gateway: Gateway, agent: WebAgent, query: str) -> None:
    query = query.format(gateway.token("bob", "told"))
    assert _http.get(f"{gateway.url}/v1/agents/told/any?{query}").status_code == 401
    told = gateway.request("GET", f"/v1/agents/told/any?{query}", key=gateway.key("ann")).text
    assert claims(token_of(told))["sub"] == "ann"


def test_two_proofs_that_differ_are_refused(gateway: Gateway, agent: WebAgent) -> None:
    for name in ("X-Internal-Token", "Authorization", "X-API-Key"):
        lines = [f"{name}: one", f"{name}: two"]
        assert exchange(gateway.url, "GET", "/v1/agents/told/any", lines).status in (400, 422)


def test_an_agents_token_does_not_lead_back_in_as_somebody_else(gateway: Gateway, agent: WebAgent) -> None:
    """An agent that hands its token on gives away nothing but what it was given: its user, and its own area."""
    told = gateway.request("GET", "/v1/agents/told/any", key=gateway.key("ann")).text
    headers = {"X-Internal-Token": token_of(told)}
    for path in ("/v1/keys", "/v1/users", "/v1/audit"):
        assert _http.get(gateway.url + path, headers=headers).status_code == 403
    assert _http.post(gateway.url + "/v1/tokens", headers=headers, json={}).status_code == 401


# URLs that are signed


@pytest.fixture(scope="module")
def urls(gateway: Gateway) -> dict[str, str]:
    """Signed URLs of a file of ann's, and of one of bob's."""
    found = {}
    for user in ("ann", "bob"):
        headers = {"X-Internal-Token": gateway.token(user, "told")}
        form = {"file": ("a.txt", WORDS)}
        s3_url = _http.post(f"{gateway.url}/internal/files/upload", headers=headers, files=form).json()["s3_url"]
        download = f"{gateway.url}/internal/files/download"
        answer = _http.get(download, headers=headers, params={"s3_url": s3_url, "expires_in": 3600})
        found[user] = answer.json()["presigned_url"]
        wanted = {"filename": "b.txt"}
        begun = _http.post(f"{gateway.url}/internal/files/generate_upload_url", headers=headers, json=wanted)
        found[f"{user} put"] = begun.json()["upload_url"]
    assert _http.get(found["ann"]).content == WORDS
    return found


def changed(url: str, **fields: str | None) -> str:
    parts = urlsplit(url)
    query = {**dict(parse_qsl(parts.query)), **fields}
    return parts._replace(query=urlencode({n: v for n, v in query.items() if v is not None})).geturl()


def test_a_signed_url_is_for_one_object(gateway: Gateway, urls: dict[str, str]) -> None:
    ann, bob = urlsplit(urls["ann"]), urlsplit(urls["bob"])
    assert _http.get(bob._replace(query=ann.query).geturl()).status_code == 403
    assert _http.put(urls["ann"], content=b"x").status_code == 403
    assert _http.delete(urls["ann"]).status_code == 403
    assert _http.get(urls["ann put"]).status_code == 403
    put = urlsplit(urls["ann put"])
    assert _http.put(put._replace(path=ann.path).geturl(), content=b"x").status_code == 403
    assert _http.get(urls["ann"]).content == WORDS


def test_a_signed_url_cannot_be_changed(urls: dict[str, str]) -> None:
    fields = dict(parse_qsl(urlsplit(urls["ann"]).query))
    signature, expires = fields["signature"], int(fields["expires"])
    assert len(signature) == 64
    tries: list[dict[str, str | None]] = [
        {"expires": str(expires + 1)},
        {"expires": str(expires + 10**9)},
        {"expires": f"{expires}.0"},
        {"expires": f"+{expires}"},
        {"expires": None},
        {"signature": None},
        {"signature": ""},
        {"signature": signature[:-1]},
        {"signature": signature[:32]},
        {"signature": signature.upper()},
        {"signature": signature[:-1] + ("0" if signature[-1] != "0" else "1")},
        {"signature": "é" * 64},
        {"type": "text/html"},
        {"upload": "x"},
        *({name: None} for name in fields),
    ]
    for change in tries:
        assert _http.get(changed(urls["ann"], **change)).status_code == 403, change
    assert _http.get(f"{urls['ann']}&expires={expires + 10**9}").status_code == 403
    assert _http.get(f"{urls['ann']}&signature={signature}").status_code == 403


@pytest.mark.parametrize("trick", ["//{}", "/./{}", "/x/../{}", "/x/%2e%2e/{}", "/{}/", "/{}%00", "/{}%2f", "/{}%20"])
def test_a_signed_url_has_one_spelling(gateway: Gateway, urls: dict[str, str], trick: str) -> None:
    parts = urlsplit(urls["ann"])
    key = parts.path.removeprefix("/objects/")
    target = f"/objects{trick.format(key)}?{parts.query}"
    answer = exchange(gateway.url, "GET", target, [])
    assert answer.status in (400, 401, 403, 404, 422)
    assert WORDS.decode() not in answer.body


@pytest.mark.parametrize(
    "path", ["../admin.key", "..%2fadmin.key", "%2e%2e/admin.key", "/etc/passwd", "..%5cadmin.key"]
)
def test_no_path_leads_out_of_the_store(gateway: Gateway, urls: dict[str, str], path: str) -> None:
    answer = exchange(gateway.url, "GET", f"/objects/{path}?{urlsplit(urls['ann']).query}", [])
    assert answer.status in (400, 401, 403, 404, 422)
    assert "sk-" not in answer.body
    assert "root:" not in answer.body


def test_a_url_of_another_gateway_is_nothing_here(gateway: Gateway, urls: dict[str, str], tmp_path: Path) -> None:
    parts = urlsplit(urls["ann"])
    key = parts.path.removeprefix("/objects/")
    of_type = dict(parse_qsl(parts.query)).keys() - {"expires", "signature"}
    constraints = {name: value for name, value in parse_qsl(parts.query) if name in of_type}
    for signer, status in ((Signer.from_folder(gateway.data), 200), (Signer.from_folder(tmp_path), 403)):
        url = parts._replace(query=signer.sign("GET", key, 60, **constraints)).geturl()
        assert _http.get(url).status_code == status


def test_a_signed_url_ends(gateway: Gateway) -> None:
    headers = {"X-Internal-Token": gateway.token("ann", "told")}
    form = {"file": ("a.txt", WORDS)}
    s3_url = _http.post(f"{gateway.url}/internal/files/upload", headers=headers, files=form).json()["s3_url"]
    download = f"{gateway.url}/internal/files/download"
    url = _http.get(download, headers=headers, params={"s3_url": s3_url, "expires_in": 1}).json()["presigned_url"]
    until(lambda: _http.get(url).status_code == 403, 5, "the end of the URL")
    too_long = _http.get(download, headers=headers, params={"s3_url": s3_url, "expires_in": 8 * 86400})
    assert too_long.status_code == 422


def token_of(told: str) -> str:
    """The one token that an agent was sent, in any spelling of the header."""
    headers: list[list[str]] = json.loads(told)["headers"]
    (token,) = (value for name, value in headers if name.replace("_", "-") == "x-internal-token")
    assert not [name for name, _ in headers if name in ("authorization", "cookie", "x-api-key", "x-forwarded-user")]
    return token


def claims(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
