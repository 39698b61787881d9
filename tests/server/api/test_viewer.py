"""The page that shows the API, whose every part comes from the gateway."""

import asyncio
import re
from pathlib import Path

import httpx
import pytest

from gateway_server.app import Gateway, create_app
from gateway_server.settings import Settings


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Gateway:
    folder: Path = tmp_path_factory.mktemp("viewer")
    return create_app(Settings(data=folder))


def ask(gateway: Gateway, path: str) -> httpx.Response:
    async def asked() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(gateway), base_url="http://gateway") as client:
            return await client.get(path)

    return asyncio.run(asked())


def test_the_page_and_all_that_it_loads_come_from_the_gateway(gateway: Gateway):
    page = ask(gateway, "/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "//" not in page.text
    loaded = re.findall(r'(?:src|href)="(docs/[^"]+)"', page.text)
    assert {Path(name).suffix for name in loaded} == {".js", ".css", ".png"}
    for name in loaded:
        part = ask(gateway, f"/{name}")
        assert part.status_code == 200
        assert part.content
    assert '"openapi.json"' in ask(gateway, "/docs/start.js").text


@pytest.mark.parametrize("path", ["/docs", "/docs/start.js", "/docs/swagger-ui-bundle.js"])
def test_a_browser_is_told_to_load_nothing_from_elsewhere(gateway: Gateway, path: str):
    headers = ask(gateway, path).headers
    policy = {rule.split()[0]: rule.split()[1:] for rule in headers["content-security-policy"].split(";")}
    assert policy["default-src"] == ["'self'"]
    assert policy["frame-ancestors"] == ["'none'"]
    assert not any(word.startswith(("http", "'unsafe")) for words in policy.values() for word in words)
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", ["nothing.js", "..%2f__init__.py", "oauth2-redirect"])
def test_there_is_nothing_else_below_it(gateway: Gateway, name: str):
    assert ask(gateway, f"/docs/{name}").status_code == 404
