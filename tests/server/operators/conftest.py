from collections.abc import Iterator
from uuid import uuid4

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


@pytest.fixture
def user() -> str:
    """The name of nobody yet."""
    return f"user-{uuid4().hex[:8]}"
