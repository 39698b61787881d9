import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway_server.store.database import Database


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database.in_folder(tmp_path)
    made.open()
    yield made
    asyncio.run(made.close())
