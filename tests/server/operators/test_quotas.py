"""Limits are set by admins and seen by those they concern."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from gateways import Gateway
from packages import write_package

from gateway_sdk import QuotaExceededError


def test_set_and_show(gateway: Gateway, user: str):
    key = gateway.key(user)
    shown = gateway.request("GET", "/v1/quotas", key=key).json()
    assert (shown["user"], shown["limit"], shown["used"], shown["period"]) == (user, None, 0, "day")
    assert datetime.fromisoformat(shown["reset_at"]) > datetime.now(UTC)
    answer = gateway.request("PUT", f"/v1/quotas/{user}", json={"limit": 5, "period": "day"})
    assert (answer.status_code, answer.json()["limit"]) == (200, 5)
    assert gateway.request("GET", "/v1/quotas", key=key).json()["limit"] == 5
    assert gateway.request("GET", "/v1/quotas", params={"user": user}).json()["limit"] == 5
    gateway.request("PUT", f"/v1/quotas/{user}", json={"limit": None})
    assert gateway.request("GET", "/v1/quotas", key=key).json()["limit"] is None


def test_who_may(gateway: Gateway, user: str):
    key = gateway.key(user, "call", "publish")
    assert gateway.request("PUT", f"/v1/quotas/{user}", json={"limit": 1000}, key=key).status_code == 403
    assert gateway.request("GET", "/v1/quotas", params={"user": "admin"}, key=key).status_code == 403
    assert gateway.request("GET", "/v1/usage", params={"user": "admin"}, key=key).status_code == 403


@pytest.mark.parametrize(
    "body",
    [{"limit": wrong} for wrong in (-1, "x", 1.5, True, "3")] + [{}, {"limit": 1, "period": "week"}],
)
def test_what_is_no_limit(gateway: Gateway, body: dict[str, object]):
    assert gateway.request("PUT", "/v1/quotas/ann", json=body).status_code == 422
    assert gateway.request("PUT", "/v1/quotas/a b", json={"limit": 1}).status_code == 422


def test_a_whole_number_may_be_written_with_a_fraction_of_zero(gateway: Gateway, user: str):
    assert gateway.request("PUT", f"/v1/quotas/{user}", json={"limit": 60.0}).status_code == 200
    assert gateway.request("GET", "/v1/quotas", params={"user": user}).json()["limit"] == 60


def test_use_is_counted_up_to_the_limit(gateway: Gateway, user: str, tmp_path: Path):
    gateway.publish(write_package(tmp_path / "p", "def ping():\n    return 1\n", prefab_id="quota-ping"))
    gateway.request("PUT", f"/v1/quotas/{user}", json={"limit": 2})
    client = gateway.client(user, max_retries=0)
    assert [client.run("quota-ping", "1.0.0", "ping", {}).is_success() for _ in range(2)] == [True, True]
    with pytest.raises(QuotaExceededError):
        client.run("quota-ping", "1.0.0", "ping", {})
    assert gateway.request("GET", "/v1/usage", params={"user": user}).json()["calls"] == 2
    shown = gateway.request("GET", "/v1/quotas", params={"user": user}).json()
    assert (shown["used"], shown["limit"]) == (2, 2)
