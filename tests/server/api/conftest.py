"""A gateway that waits for nothing for long, for whoever does not start one of their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from gateways import Gateway, running_gateway
from packages import write_package
from wire import FUNCTIONS, PATIENT, SOURCE, Caller


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package") / "direct"
    return write_package(folder, SOURCE, prefab_id="direct", functions=FUNCTIONS)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, package: Path) -> Iterator[Gateway]:
    """One that waits for nothing for long."""
    folder = tmp_path_factory.mktemp("direct")
    (folder / "sitecustomize.py").write_text(PATIENT)
    with running_gateway(folder / "data", "--sandbox", "off", env={"PYTHONPATH": str(folder)}) as started:
        started.publish(package)
        yield started


@pytest.fixture(scope="module")
def ann(gateway: Gateway) -> Caller:
    return Caller(gateway)
