"""What functions without a network may ask."""

import asyncio

import pytest

from gateway_server.api.doors import Doors, is_inside


def ask(path: str):
    passed, sent = [], []

    async def gateway(scope, _receive, _send):
        passed.append((scope, is_inside.get()))

    async def send(message):
        sent.append(message)

    async def main():
        await Doors(gateway)({"type": "http", "path": path, "client": ("127.0.0.1", 5)}, None, send)

    asyncio.run(main())
    return passed, sent


@pytest.mark.parametrize(
    "path", ["/v1/internal/run", "/v1/run", "/internal/files/list", "/v1/jobs", "/v1/jobs/x/cancel", "/objects/a"]
)
def test_calls_and_files_pass_and_come_from_no_address(path):
    [(scope, inside)], sent = ask(path)
    assert (scope["client"], inside, sent) == (None, True, [])


@pytest.mark.parametrize(
    "path", ["/", "/v1/keys", "/v1/agents/helper/x", "/v1/files", "/metrics", "/v1/runs", "v1/run"]
)
def test_nothing_else_passes(path):
    passed, sent = ask(path)
    assert passed == []
    assert sent[0]["status"] == 403
