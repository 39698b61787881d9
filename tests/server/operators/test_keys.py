"""Keys, the tokens made from them, and what ends both."""

import time
from datetime import datetime
from pathlib import Path

import httpx
import jwt
import pytest
from gateways import Gateway, running_gateway
from packages import write_package

from gateway_sdk import AuthenticationError, GatewayClient, PrefabCall


def create(gateway: Gateway, user: str, *scopes: str) -> dict[str, str]:
    answer = gateway.request("POST", "/v1/keys", json={"user": user, "scopes": scopes or ["call"], "name": "mine"})
    assert answer.status_code == 201
    return dict(answer.json())


def with_token(gateway: Gateway, token: str, path: str = "/v1/secrets") -> int:
    return httpx.get(gateway.url + path, headers={"X-Internal-Token": token}).status_code


def test_a_key_is_told_once(gateway: Gateway, user: str):
    made = create(gateway, user, "call", "publish")
    assert made["key"].startswith("sk-")
    assert (made["user"], made["name"], made["scopes"]) == (user, "mine", ["call", "publish"])
    listed = gateway.request("GET", "/v1/keys", params={"user": user})
    assert [key["id"] for key in listed.json()["keys"]] == [made["id"]]
    assert made["key"] not in listed.text
    assert "key" not in listed.json()["keys"][0]


def test_keys_are_made_by_admins(gateway: Gateway, user: str):
    key = create(gateway, user, "call", "publish")["key"]
    answer = gateway.request("POST", "/v1/keys", json={"user": user, "scopes": ["call"]}, key=key)
    assert answer.status_code == 403
    assert httpx.post(f"{gateway.url}/v1/keys", json={"user": user}).status_code == 401


@pytest.mark.parametrize("changes", [{"scopes": []}, {"scopes": ["root"]}, {"user": "../x"}, {"name": "x" * 300}])
def test_what_is_no_key(gateway: Gateway, changes: dict[str, object]):
    answer = gateway.request("POST", "/v1/keys", json={"user": "u", "scopes": ["call"], "name": ""} | changes)
    assert (answer.status_code, answer.json()["detail"]["error_code"]) == (422, "VALIDATION_ERROR")


CALLS = """
import os
from gateway_sdk import GatewayClient

def outer(other: str):
    client = GatewayClient(internal_token=os.environ["X_INTERNAL_TOKEN"])
    return client.run(other, "1.0.0", "inner", {}).get_result()

def inner():
    return "reached"
"""


@pytest.fixture(scope="module")
def prefabs(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    ids = ("limited-one", "limited-two")
    for prefab_id in ids:
        dependencies = ("agent-builder-gateway-sdk",)
        folder = tmp_path_factory.mktemp(prefab_id)
        gateway.publish(write_package(folder, CALLS, prefab_id=prefab_id, dependencies=dependencies))
    return ids


def test_the_last_key_of_an_admin_stays(tmp_path_factory: pytest.TempPathFactory):
    with running_gateway(tmp_path_factory.mktemp("alone") / "data") as lone:
        (first,) = lone.request("GET", "/v1/keys").json()["keys"]
        refused = lone.request("DELETE", f"/v1/keys/{first['id']}")
        assert (refused.status_code, "last key" in refused.json()["detail"]["message"]) == (403, True)
        other = lone.key("boss", "admin")
        assert lone.request("DELETE", f"/v1/keys/{first['id']}", key=other).status_code == 204
        assert lone.request("GET", "/v1/users", key=other).status_code == 200


def test_another_database_has_an_admin_too(tmp_path: Path):
    with running_gateway(tmp_path / "data") as first:
        before = first.admin_key
    with running_gateway(tmp_path / "data", "--database", f"sqlite:///{tmp_path}/other.db") as second:
        assert (tmp_path / "data" / "admin.key.previous").read_text().strip() == before
        assert second.admin_key != before
        assert second.request("GET", "/v1/users").status_code == 200
    with running_gateway(tmp_path / "data", "--database", f"sqlite:///{tmp_path}/other.db") as again:
        assert again.admin_key == second.admin_key


def test_a_key_may_be_limited_to_some_prefabs(gateway: Gateway, user: str, prefabs: tuple[str, str]):
    mine, other = prefabs
    wanted = {"user": user, "scopes": ["call", "publish"], "prefabs": [mine]}
    made = gateway.request("POST", "/v1/keys", json=wanted).json()
    assert made["prefabs"] == [mine]
    converted = gateway.request("POST", "/v1/auth/convert_to_internal_token", key=made["key"]).json()["internal_token"]
    for client in (
        GatewayClient.from_api_key(made["key"], base_url=gateway.url),
        GatewayClient(internal_token=converted, base_url=gateway.url),
    ):
        assert client.run(mine, "1.0.0", "inner", {}).get_result() == "reached"
        with pytest.raises(AuthenticationError, match="limited to limited-one"):
            client.run(other, "1.0.0", "inner", {})
        batch = client.run_batch([PrefabCall(prefab_id, "1.0.0", "inner", {}) for prefab_id in prefabs])
        assert [item.is_success() for item in batch.results] == [True, False]
        # What a prefab is made of is its own affair.
        assert client.run(mine, "1.0.0", "outer", {"other": other}).get_result() == "reached"
    answer = gateway.request("PATCH", f"/v1/prefabs/{other}/1.0.0", json={"yanked": "x"}, key=made["key"])
    assert answer.status_code == 403


def test_a_key_for_publishing_alone_does_not_call(gateway: Gateway, user: str, prefabs: tuple[str, str]):
    key = gateway.key(user, "publish")
    call = {"prefab_id": prefabs[0], "version": "1.0.0", "function_name": "inner", "inputs": {"parameters": {}}}
    assert gateway.request("POST", "/v1/run", key=key, json={"calls": [call]}).status_code == 403
    with pytest.raises(AuthenticationError, match="scope 'call'"):
        GatewayClient.from_api_key(key, base_url=gateway.url).run(prefabs[0], "1.0.0", "inner", {})


def test_what_a_limit_cannot_be(gateway: Gateway, user: str):
    for wanted in ({"prefabs": []}, {"prefabs": ["No Id"]}, {"prefabs": ["a-b"], "scopes": ["admin"]}):
        answer = gateway.request("POST", "/v1/keys", json={"user": user, "scopes": ["call"], **wanted})
        assert answer.status_code == 422, wanted


def test_users_see_and_revoke_their_own(gateway: Gateway, user: str):
    mine, spare = create(gateway, user), create(gateway, user)
    other = create(gateway, "somebody")
    listed = gateway.request("GET", "/v1/keys", key=mine["key"]).json()["keys"]
    assert [key["id"] for key in listed] == [spare["id"], mine["id"]]
    assert gateway.request("GET", "/v1/keys", params={"user": "somebody"}, key=mine["key"]).status_code == 403
    assert gateway.request("DELETE", f"/v1/keys/{other['id']}", key=mine["key"]).status_code == 404
    assert gateway.request("DELETE", f"/v1/keys/{spare['id']}", key=mine["key"]).status_code == 204
    assert gateway.request("GET", "/v1/secrets", key=spare["key"]).status_code == 401
    shown = {key["id"]: key for key in gateway.request("GET", "/v1/keys", key=mine["key"]).json()["keys"]}
    assert shown[spare["id"]]["revoked_at"] is not None
    assert gateway.request("DELETE", f"/v1/keys/{other['id']}").status_code == 204
    assert gateway.request("DELETE", "/v1/keys/key_nothing").status_code == 404


def test_a_key_is_converted(gateway: Gateway, user: str):
    key = create(gateway, user, "call", "admin")["key"]
    place = f"{gateway.url}/v1/auth/convert_to_internal_token"
    answer = httpx.post(place, headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 200
    assert set(answer.json()) == {"internal_token"}
    token = answer.json()["internal_token"]
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (claims["sub"], claims.get("agent")) == (user, None)
    assert claims["exp"] - time.time() == pytest.approx(24 * 3600, abs=60)
    assert with_token(gateway, token) == 200
    assert (
        httpx.post(f"{gateway.url}/v1/keys", json={"user": "x"}, headers={"X-Internal-Token": token}).status_code == 403
    )
    for headers in ({}, {"Authorization": "Bearer sk-wrong"}, {"Authorization": f"Bearer {token}"}):
        assert httpx.post(place, headers=headers).status_code == 401
    assert httpx.post(place, headers={"X-Internal-Token": token}).status_code == 401


def test_revocation_reaches_tokens(gateway: Gateway, user: str):
    made = create(gateway, user)
    headers = {"Authorization": f"Bearer {made['key']}"}
    place = f"{gateway.url}/v1/auth/convert_to_internal_token"
    token = httpx.post(place, headers=headers).json()["internal_token"]
    assert with_token(gateway, token) == 200
    gateway.request("DELETE", f"/v1/keys/{made['id']}").raise_for_status()
    assert with_token(gateway, token) == 401
    assert httpx.post(place, headers=headers).status_code == 401


def test_tokens(gateway: Gateway, user: str):
    answer = gateway.request("POST", "/v1/tokens", json={"user": user, "agent": "helper", "ttl": 600})
    assert answer.status_code == 201
    claims = jwt.decode(answer.json()["internal_token"], options={"verify_signature": False})
    assert (claims["sub"], claims["agent"]) == (user, "helper")
    ends = datetime.fromisoformat(answer.json()["expires_at"]).timestamp()
    assert ends - time.time() == pytest.approx(600, abs=30)
    assert with_token(gateway, answer.json()["internal_token"]) == 200
    assert with_token(gateway, answer.json()["internal_token"], "/v1/keys") == 403  # agents do not see keys


def test_an_ordinary_key_makes_tokens_for_its_own_user(gateway: Gateway, user: str):
    key = create(gateway, user)["key"]
    own = gateway.request("POST", "/v1/tokens", json={"user": user, "ttl": 60}, key=key)
    assert own.status_code == 201
    assert gateway.request("POST", "/v1/tokens", json={"ttl": 60}, key=key).status_code == 201
    for refused in ({"user": "somebody"}, {"user": user, "agent": "helper"}):
        assert gateway.request("POST", "/v1/tokens", json=refused, key=key).status_code == 403
    token = own.json()["internal_token"]
    again = httpx.post(f"{gateway.url}/v1/tokens", json={"user": user}, headers={"X-Internal-Token": token})
    assert again.status_code == 401  # a token that made tokens would never end


@pytest.mark.parametrize(
    "changes", [{"ttl": wrong} for wrong in (0, 10**9, "x", True, "60")] + [{"user": "a b"}, {"agent": "/"}]
)
def test_what_is_no_token(gateway: Gateway, changes: dict[str, object]):
    assert gateway.request("POST", "/v1/tokens", json={"user": "u", "agent": None} | changes).status_code == 422
