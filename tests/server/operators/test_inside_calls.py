"""Code that runs inside a call has a token of that call: it may do nothing that belongs to its user."""

from pathlib import Path

import pytest
from gateways import Gateway
from packages import write_package

SOURCE = '''
    import json
    import os
    import urllib.error
    import urllib.request

    def ask(method: str, path: str) -> dict:
        """Sends a request with the token of the call."""
        address = os.environ["GATEWAY_BASE_URL"] + path
        headers = {"X-Internal-Token": os.environ["X_INTERNAL_TOKEN"], "Content-Type": "application/json"}
        values = {"prefab_id": "a-b-c", "secret_name": "A", "secret_value": "x", "limit": 1}
        body = None if method == "GET" else json.dumps(values).encode()
        request = urllib.request.Request(address, body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return {"status": answer.status}
        except urllib.error.HTTPError as error:
            return {"status": error.code}
'''


@pytest.fixture(scope="module")
def asker(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder: Path = tmp_path_factory.mktemp("asker")
    gateway.publish(write_package(folder, SOURCE, prefab_id="token-asker"))
    return "token-asker"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/secrets", 403),
        ("GET", "/v1/secrets/a-b-c", 403),
        ("POST", "/v1/secrets", 403),
        ("DELETE", "/v1/secrets/a-b-c/A", 403),
        ("GET", "/v1/keys", 403),
        ("DELETE", "/v1/keys/key_1", 403),
        ("POST", "/v1/tokens", 401),
        ("POST", "/v1/auth/convert_to_internal_token", 401),
        ("GET", "/v1/quotas", 403),
        ("PUT", "/v1/quotas/ann", 403),
        ("GET", "/v1/usage", 403),
        ("GET", "/v1/users", 403),
        ("GET", "/v1/users/ann", 403),
        ("POST", "/v1/users/ann/disable", 403),
        ("POST", "/v1/users/ann/enable", 403),
        ("DELETE", "/v1/users/ann", 403),
        ("GET", "/v1/audit", 403),
        ("GET", "/v1/prefabs", 403),
        ("POST", "/v1/prefabs", 403),
        ("DELETE", "/v1/prefabs/token-asker/1.0.0", 403),
        ("GET", "/v1/agents", 403),
        ("GET", "/v1/agents/any/x", 403),
    ],
)
def test_a_token_of_a_call(gateway: Gateway, asker: str, method: str, path: str, status: int):
    result = gateway.client().run(asker, "1.0.0", "ask", {"method": method, "path": path})
    assert result.get_function_result() == {"status": status}
