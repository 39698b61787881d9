from collections.abc import Iterator
from pathlib import Path

import pytest
from gateways import Gateway, running_gateway
from packages import zoo


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One gateway for the tests that leave it as it is, with the packages of the zoo."""
    folder = tmp_path_factory.mktemp("gateway")
    with running_gateway(folder / "data") as started:
        for name in ("behaves", "misbehaves"):
            started.publish(zoo(folder / name, name, functions=FUNCTIONS.get(name)))
        yield started


FUNCTIONS = {
    "behaves": {
        "tokens": {"streaming": False},
        "writes": {
            "parameters": [{"name": "names", "type": "array", "items": {"type": "string"}}],
            "files": {"result": {"type": "array", "items": {"type": "OutputFile"}, "required": False}},
        },
        "reads": {"files": {"input": {"type": "array", "items": {"type": "InputFile"}, "required": False}}},
        "environment": {
            "secrets": [
                {"name": "API_SECRET", "description": "A key.", "instructions": "Get one at the desk."},
                {"name": "EXTRA_SECRET", "description": "More.", "required": False},
            ]
        },
    }
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path
