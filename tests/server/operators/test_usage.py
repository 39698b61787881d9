"""Usage: what was called, told apart as asked; old records leave their sums behind."""

import asyncio
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from gateways import Gateway
from packages import write_package

from gateway_sdk import PrefabCall
from gateway_server.calls import usage
from gateway_server.calls.jobs import Ending, Jobs, new_id
from gateway_server.calls.usage import Dimension
from gateway_server.models import Call, JobStatus, Principal
from gateway_server.store import schema
from gateway_server.store.database import Database

SOURCE = """
def fine():
    return 1

def fails():
    raise ValueError("no")
"""


def test_calls_are_counted_as_they_were_made(gateway: Gateway, tmp_path: Path):
    user = f"user-{uuid4().hex[:8]}"
    gateway.publish(write_package(tmp_path / "p", SOURCE, prefab_id="usage-sample"))
    client = gateway.client(user, "first")
    client.run("usage-sample", "1.0.0", "fine", {})
    client.run("usage-sample", "1.0.0", "fails", {})
    call = PrefabCall("usage-sample", "1.0.0", "fine", {})
    refused = PrefabCall("usage-sample", "1.0.0", "fine", {"unknown": 1})
    gateway.client(user, "second").run_batch([call, call, refused])
    told = gateway.request("GET", "/v1/usage", params={"user": user, "by": "agent,prefab"}).json()
    assert (told["calls"], told["failed"], told["user"]) == (4, 1, user)
    assert [(row["agent"], row["prefab"], row["calls"], row["failed"]) for row in told["rows"]] == [
        ("first", "usage-sample", 2, 1),
        ("second", "usage-sample", 2, 0),
    ]
    assert told["seconds"] > 0
    by_day = gateway.request("GET", "/v1/usage", params={"user": user, "by": "day"}).json()
    assert [row["day"] for row in by_day["rows"]] == [datetime.now(UTC).date().isoformat()]
    everybody = gateway.request("GET", "/v1/usage", params={"by": "user"}).json()
    assert next(row["calls"] for row in everybody["rows"] if row["user"] == user) == 4


def test_one_sees_ones_own(gateway: Gateway):
    user = f"user-{uuid4().hex[:8]}"
    key = gateway.key(user)
    assert gateway.request("GET", "/v1/usage", key=key).json()["user"] == user
    assert gateway.request("GET", "/v1/usage", key=key, params={"user": "admin"}).status_code == 403


@pytest.mark.parametrize(
    "query", [{"by": "colour"}, {"since": "2026-01-02", "until": "2026-01-01"}, {"since": "yesterday"}]
)
def test_what_cannot_be_asked(gateway: Gateway, query: dict[str, str]):
    answer = gateway.request("GET", "/v1/usage", params=query)
    assert answer.status_code == 422
    assert answer.json()["detail"]["errors"]


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ({"since": "9999-12-01", "until": "9999-12-31"}, "/since"),
        ({"until": "9999-12-31"}, "/until"),
        ({"until": "0001-01-01"}, "/until"),
        ({"since": "1999-12-31"}, "/since"),
    ],
)
def test_days_that_no_gateway_has_seen(gateway: Gateway, query: dict[str, str], pointer: str):
    answer = gateway.request("GET", "/v1/usage", params=query)
    assert answer.status_code == 422
    assert [problem["pointer"] for problem in answer.json()["detail"]["errors"]] == [pointer]


def test_days_at_the_ends(gateway: Gateway):
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).date().isoformat()
    assert gateway.request("GET", "/v1/usage", params={"until": tomorrow}).status_code == 200
    assert gateway.request("GET", "/v1/usage", params={"until": "2000-01-01"}).json()["since"] == "2000-01-01"


def test_old_records_leave_their_sums(tmp_path: Path):
    now = time.time()
    today = datetime.fromtimestamp(now, UTC).date()
    ages = (0, 0, 1, 40, 40, 41)

    async def main() -> None:
        database = Database.in_folder(tmp_path)
        database.open()
        jobs = Jobs(database)
        for number, days in enumerate(ages):
            await database.write(lambda c, n=number, d=days: add(c, jobs, n, now - d * 86400))
        before = await report(database, today, [Dimension.DAY, Dimension.PREFAB])
        for _ in range(2):  # the second time there is nothing to do
            moment = now - 30 * 86400
            await jobs.sweep(records_before=moment, results_before=moment, logs_before=moment)
        left = await database.read(lambda c: c.execute(schema.jobs.select()).all())
        assert len(left) == 3
        assert await report(database, today, [Dimension.DAY, Dimension.PREFAB]) == before
        await database.write(lambda c: add(c, jobs, 9, now - 41 * 86400))  # one that ended late
        await jobs.sweep(records_before=now - 30 * 86400, results_before=0, logs_before=0)
        (whole,) = await report(database, today, [])
        assert (whole.calls, whole.failed, whole.seconds) == (7, 4, 14.0)
        await database.close()

    asyncio.run(main())


async def report(database: Database, today: date, by: list[Dimension]) -> list[usage.Usage]:
    return await usage.report(database, since=today - timedelta(days=60), until=today, user="ann", by=by)


def add(connection, jobs: Jobs, number: int, moment: float) -> None:
    call = Call(prefab_id="one" if number % 2 else "two", version="1.0.0", function_name="f", parameters={})
    job_id = new_id()
    jobs.open(connection, job_id=job_id, principal=Principal(user="ann", agent="a"), call=call, parent_id=None)
    jobs.close(connection, job_id, Ending(status=JobStatus.FAILED if number % 2 else JobStatus.SUCCEEDED))
    change = schema.jobs.update().where(schema.jobs.c.id == job_id)
    connection.execute(change.values(created_at=moment, started_at=moment, ended_at=moment + 2))
