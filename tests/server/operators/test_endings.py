"""What is told as it comes ends with the right to hear it."""

from collections.abc import Callable

import httpx
import pytest
from gateways import Gateway
from operators.test_users import ask
from packages import write_package
from web_agent import WebAgent

SOURCE = """
import time

def ticks(seconds: float):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield {"type": "content", "data": "tick"}
        time.sleep(0.02)
"""


@pytest.fixture(scope="module")
def prefab(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> str:
    gateway.publish(write_package(tmp_path_factory.mktemp("ticker"), SOURCE, prefab_id="ticker"))
    return "ticker"


def revoke(gateway: Gateway, user: str) -> None:
    (key,) = ask(gateway, "GET", "/v1/keys", params={"user": user})["keys"]
    ask(gateway, "DELETE", f"/v1/keys/{key['id']}", 204)


def disable(gateway: Gateway, user: str) -> None:
    ask(gateway, "POST", f"/v1/users/{user}/disable")


def end_tokens(gateway: Gateway, _user: str) -> None:
    ask(gateway, "POST", "/v1/signing-keys/rotate", json={"revoke_old": True})


ENDINGS = [revoke, disable]


@pytest.mark.parametrize(
    ("end", "by_token"), [(revoke, False), (disable, False), (revoke, True), (disable, True), (end_tokens, True)]
)
def test_the_events_of_a_job_are_not_told_on_to_whoever_may_not_read(
    gateway: Gateway, prefab: str, user: str, end: Callable[[Gateway, str], None], by_token: bool
):
    key = gateway.key(user)
    inputs = {"parameters": {"seconds": 60}}
    call = {"prefab_id": prefab, "version": "1.0.0", "function_name": "ticks", "inputs": inputs}
    job_id = ask(gateway, "POST", "/v1/jobs", 202, json={"calls": [call]}, key=key)["job_id"]
    headers = {"Authorization": f"Bearer {key}"}
    if by_token:
        made = httpx.post(f"{gateway.url}/v1/auth/convert_to_internal_token", headers=headers).json()
        headers = {"X-Internal-Token": made["internal_token"]}
    url = f"{gateway.url}/v1/jobs/{job_id}/events"
    with httpx.stream("GET", url, headers=headers, timeout=20) as response:
        lines = response.iter_lines()
        assert any("tick" in line for line in lines)
        end(gateway, user)
        assert not any('"done"' in line or '"error"' in line for line in lines)
    assert httpx.get(url, headers=headers).status_code == 401
    if end is not disable:
        assert ask(gateway, "POST", f"/v1/jobs/{job_id}/cancel")["canceled"] is True


@pytest.mark.parametrize("end", ENDINGS)
def test_an_agents_stream_ends_with_its_reader(
    gateway: Gateway, agent: WebAgent, user: str, end: Callable[[Gateway, str], None]
):
    ask(gateway, "POST", "/v1/agents", 201, json={"id": f"stream-{user}", "url": agent.url})
    headers = {"Authorization": f"Bearer {gateway.key(user)}"}
    url = f"{gateway.url}/v1/agents/stream-{user}/stream"
    with httpx.stream("GET", url, headers=headers, timeout=20) as response:
        pieces = response.iter_raw()
        assert next(pieces)
        end(gateway, user)
        agent.go_on.set()
        with pytest.raises(httpx.HTTPError):
            list(pieces)
