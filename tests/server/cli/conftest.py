from collections.abc import Iterator
from pathlib import Path

import pytest
from command import Command
from gateways import Gateway, running_gateway
from speaker import write_speaker


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("cli")
    with running_gateway(folder / "data") as started:
        started.publish(write_speaker(folder / "speaker"))
        yield started


@pytest.fixture
def command(gateway: Gateway, tmp_path: Path) -> Command:
    """The command line as the admin of the gateway, in an empty folder."""
    return Command(tmp_path, GATEWAY_BASE_URL=gateway.url, GATEWAY_API_KEY=gateway.admin_key)


@pytest.fixture
def ann(gateway: Gateway, tmp_path: Path) -> Command:
    """The same as an ordinary user."""
    return Command(tmp_path, GATEWAY_BASE_URL=gateway.url, GATEWAY_API_KEY=gateway.key("ann"))


@pytest.fixture
def alone(tmp_path: Path) -> Command:
    """The command line where no gateway is."""
    return Command(tmp_path, GATEWAY_BASE_URL="http://127.0.0.1:9")
