from collections.abc import Iterator

import pytest
from gateways import Gateway, running_gateway
from web_agent import WebAgent


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running_gateway(tmp_path_factory.mktemp("operators") / "data") as started:
        yield started


@pytest.fixture
def agent() -> Iterator[WebAgent]:
    with WebAgent() as started:
        yield started
