"""A library on a real database and a real disk, with a clock that the test moves."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import StaticPool, create_engine
from starlette.requests import Request

from gateway_server.api import faults
from gateway_server.api.files import routes
from gateway_server.api.objects import SignedObjects
from gateway_server.files.keys import Area
from gateway_server.files.library import Library
from gateway_server.files.records import StoredFile
from gateway_server.files.uploads import Uploads
from gateway_server.files.wishes import wish
from gateway_server.models import Principal
from gateway_server.settings import Settings
from gateway_server.store import migrations
from gateway_server.store.database import Database
from gateway_server.store.local_objects import LocalObjects
from gateway_server.store.signatures import Signer

PRINCIPALS = {
    "agent": Principal(user="alice", agent="writer"),
    "person": Principal(user="alice"),
    "other-agent": Principal(user="alice", agent="reader"),
    "stranger": Principal(user="mallory", agent="writer"),
    "call": Principal(user="alice", job_id="job-2", root_job_id="job-1", depth=1),
    "agent-call": Principal(user="alice", agent="writer", job_id="job-2", root_job_id="job-1", depth=1),
}


class Clock:
    """A time that passes only when it is told to."""

    def __init__(self) -> None:
        self.moment = datetime(2025, 11, 7, 10, 20, 30, 400, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.moment

    def timestamp(self) -> float:
        return self.moment.timestamp()

    def forward(self, **much: float) -> None:
        self.moment += timedelta(**much)


class House:
    """Everything about files in one folder, with its HTTP routes."""

    def __init__(self, folder: Path, **settings: int) -> None:
        self.folder = folder
        self.clock = Clock()
        self.settings = Settings(data=folder, **settings)  # type: ignore[arg-type]
        self.address = "http://gateway"
        self.database = _database(folder)
        self.objects = LocalObjects(
            folder / "objects",
            bucket="agent-builder",
            signer=Signer(b"0" * 32, self.clock.timestamp),
            base_url=lambda: self.address,
        )
        granted = ["s3://agent-builder/shared/"]
        self.library = Library(self.database, self.objects, self.settings, granted=granted, clock=self.clock)
        self.uploads = Uploads(self.library, self.database, self.objects, self.settings)
        self.signed_objects = SignedObjects(self.library, self.objects, self.settings)
        self.web = FastAPI()
        faults.install(self.web, _identify)
        self.web.include_router(
            routes(library=self.library, uploads=self.uploads, identify=_identify, settings=self.settings)
        )

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """ASGI, as the gateway dispatches."""
        if scope["type"] == "http" and scope["path"].startswith("/objects/"):
            await self.signed_objects(scope, receive, send)
        else:
            await self.web(scope, receive, send)

    def on_disk(self) -> list[str]:
        """The files of the store, whole or on their way."""
        top = self.folder / "objects"
        return sorted(str(path.relative_to(top)) for path in top.rglob("*") if not path.is_dir())

    async def put(
        self,
        data: bytes = b"data",
        name: str = "a.txt",
        *,
        who: str = "agent",
        area: Area = Area.OUTPUTS,
        ttl: float | None = None,
        session: str | None = None,
    ) -> StoredFile:
        wanted = wish(area, name, ttl=ttl, session=session)
        return await self.library.put(PRINCIPALS[who], stream(data), lambda: wanted)

    async def close(self) -> None:
        await self.database.close()
        await self.objects.close()


def _database(folder: Path) -> Database:
    """A new database; the schema is made once a process and copied from then on."""
    (folder / "gateway.db").write_bytes(_empty_database())
    database = Database.in_folder(folder)
    database.open()
    return database


@cache
def _empty_database() -> bytes:
    raw = sqlite3.connect(":memory:")
    engine = create_engine("sqlite://", creator=lambda: raw, poolclass=StaticPool)
    with engine.begin() as connection:
        migrations.upgrade(connection)
    data = raw.serialize()
    raw.close()
    return data


async def _identify(request: Request) -> Principal:
    return PRINCIPALS[request.headers.get("x-test", "agent")]


async def stream(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path, part_size=1000, file_limit=1 << 20)
    yield house
    await house.close()


@pytest.fixture
async def client(house: House) -> AsyncIterator[httpx.AsyncClient]:
    """Speaks HTTP with the house; the header `X-Test` says as whom."""
    transport = httpx.ASGITransport(app=house)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client
