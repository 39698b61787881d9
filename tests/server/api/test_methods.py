"""A method that an address does not take is answered with those that it takes."""

import asyncio
import re
from pathlib import Path

import httpx
import pytest

from gateway_server.app import Gateway, create_app
from gateway_server.settings import Settings

PROBED = ("/health", "/ready")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Gateway:
    folder: Path = tmp_path_factory.mktemp("methods")
    return create_app(Settings(data=folder))


def ask(gateway: Gateway, method: str, path: str) -> httpx.Response:
    async def asked() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(gateway), base_url="http://gateway") as client:
            return await client.request(method, path)

    return asyncio.run(asked())


def test_every_address_names_the_methods_it_takes(gateway: Gateway) -> None:
    for template, operations in gateway.web.openapi()["paths"].items():
        if template.startswith("/objects/"):
            continue  # a signature names its method: with another one it is wrong
        answer = ask(gateway, "PROPFIND", re.sub(r"\{.*?\}", "x", template))
        assert (answer.status_code, answer.json()["detail"]["error_code"]) == (405, "METHOD_NOT_ALLOWED"), template
        documented = {method.upper() for method in operations}
        others = {"DELETE"} if template.startswith("/v1/jobs/") else {"HEAD"} if template in PROBED else set()
        assert documented <= set(answer.headers["allow"].split(", ")) <= documented | others, template


@pytest.mark.parametrize("path", PROBED)
def test_a_monitor_may_ask_for_the_head_alone(gateway: Gateway, path: str) -> None:
    whole, head = ask(gateway, "GET", path), ask(gateway, "HEAD", path)
    assert head.status_code == whole.status_code
    assert head.headers["content-length"] == whole.headers["content-length"]
    assert "HEAD" in ask(gateway, "PROPFIND", path).headers["allow"].split(", ")


def test_an_address_that_does_not_exist_takes_none(gateway: Gateway) -> None:
    answer = ask(gateway, "PROPFIND", "/v1/nothing")
    assert (answer.status_code, "allow" in answer.headers) == (404, False)
