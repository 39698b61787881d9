"""Secrets are set, named and removed by their user, and never told."""

from uuid import uuid4

import httpx
import pytest
from gateways import Gateway


@pytest.fixture
def ann(gateway: Gateway) -> str:
    return gateway.key(f"ann-{uuid4().hex[:8]}")


def put(gateway: Gateway, key: str | None, **changes: object) -> httpx.Response:
    body = {"prefab_id": "some-prefab", "secret_name": "API_KEY", "secret_value": "s3cret-value"} | changes
    return gateway.request("POST", "/v1/secrets", json=body, key=key)


def test_set_list_and_remove(gateway: Gateway, ann: str):
    assert put(gateway, ann).status_code == 204
    assert put(gateway, ann, secret_name="OTHER").content == b""
    assert put(gateway, ann, prefab_id="third-one").status_code == 204
    listed = gateway.request("GET", "/v1/secrets", key=ann)
    assert {"prefab_id": "some-prefab", "secret_name": "API_KEY"} in listed.json()["secrets"]
    assert len(listed.json()["secrets"]) == 3
    assert "s3cret" not in listed.text
    one = gateway.request("GET", "/v1/secrets/some-prefab", key=ann).json()
    assert one == {"prefab_id": "some-prefab", "secret_names": ["API_KEY", "OTHER"]}
    assert gateway.request("DELETE", "/v1/secrets/some-prefab/OTHER", key=ann).status_code == 204
    gone = gateway.request("DELETE", "/v1/secrets/some-prefab/OTHER", key=ann)
    assert (gone.status_code, gone.json()["detail"]["error_code"]) == (404, "NOT_FOUND")


def test_secrets_are_their_users_own(gateway: Gateway, ann: str):
    put(gateway, ann)
    bob = gateway.key(f"bob-{uuid4().hex[:8]}")
    assert gateway.request("GET", "/v1/secrets", key=bob).json() == {"secrets": []}
    assert gateway.request("DELETE", "/v1/secrets/some-prefab/API_KEY", key=bob).status_code == 404
    for method, path in (("GET", "/v1/secrets"), ("GET", "/v1/secrets/x-y"), ("DELETE", "/v1/secrets/x-y/A")):
        assert gateway.request(method, path, params={"user": "ann"}, key=bob).status_code == 403
    assert put(gateway, bob, user="ann").status_code == 403


def test_an_admin_sets_them_for_others(gateway: Gateway):
    user = f"eve-{uuid4().hex[:8]}"
    key = gateway.key(user)
    assert put(gateway, None, user=user).status_code == 204
    assert gateway.request("GET", "/v1/secrets/some-prefab", key=key).json()["secret_names"] == ["API_KEY"]
    assert gateway.request("GET", "/v1/secrets", params={"user": user}).json()["secrets"]
    assert put(gateway, None, user="../x").status_code == 422


@pytest.mark.parametrize(
    ("changes", "status", "pointer"),
    [
        ({"secret_value": ""}, 422, "/secret_value"),
        ({"secret_value": "a\0b"}, 422, "/secret_value"),
        ({"secret_value": "x" * (64 * 1024 + 1)}, 413, None),
        ({"secret_value": "é" * (32 * 1024 + 1)}, 413, None),
        ({"secret_name": "lower"}, 422, "/secret_name"),
        ({"secret_name": "A-B"}, 422, "/secret_name"),
        ({"secret_name": "A\n"}, 422, "/secret_name"),
        ({"secret_name": "A" * 129}, 422, "/secret_name"),
        ({"secret_name": "PATH"}, 422, "/secret_name"),
        ({"secret_name": "X_INTERNAL_TOKEN"}, 422, "/secret_name"),
        ({"prefab_id": "Upper"}, 422, "/prefab_id"),
        ({"prefab_id": "a"}, 422, "/prefab_id"),
        ({"prefab_id": "a--b"}, 422, "/prefab_id"),
    ],
)
def test_what_is_refused(gateway: Gateway, ann: str, changes: dict[str, str], status: int, pointer: str | None):
    answer = put(gateway, ann, **changes)
    assert answer.status_code == status
    if pointer:
        assert answer.json()["detail"]["errors"][0]["pointer"] == pointer
    assert changes.get("secret_value", "no")[:100] not in answer.text or not changes.get("secret_value")


def test_a_name_may_begin_with_a_digit(gateway: Gateway, ann: str):
    assert put(gateway, ann, secret_name="2CAPTCHA_KEY").status_code == 204
    gone = gateway.request("DELETE", "/v1/secrets/some-prefab/2CAPTCHA_KEY", key=ann)
    assert gone.status_code == 204


def test_a_value_as_long_as_allowed(gateway: Gateway, ann: str):
    assert put(gateway, ann, secret_value="x" * 64 * 1024).status_code == 204


def test_without_identity(gateway: Gateway):
    assert httpx.get(f"{gateway.url}/v1/secrets").status_code == 401
