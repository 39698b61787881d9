"""Writes that share a commit: what is acknowledged is kept, whatever becomes of the others."""

import asyncio
import threading
from collections.abc import Callable

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from gateway_server.store.database import Database

BREAKS = """
CREATE TRIGGER breaks BEFORE INSERT ON users WHEN new.id = 'broken'
BEGIN SELECT RAISE(ROLLBACK, 'database or disk is full'); END
"""
"""As SQLite does where it cannot take back a single statement: https://sqlite.org/lang_transaction.html"""


def put(user: str) -> Callable[[Connection], str]:
    def work(connection: Connection) -> str:
        connection.execute(text("INSERT INTO users (id, created_at) VALUES (:id, 0)"), {"id": user})
        if user == "refused":
            raise ValueError(user)
        return user

    return work


async def together(database: Database, names: list[str], *, durable: bool = True) -> list[str | BaseException]:
    """What becomes of writes that arrive while another one is under way."""
    under_way, may_end = threading.Event(), threading.Event()

    def hold(_: Connection) -> None:
        under_way.set()
        may_end.wait(10)

    held = database.hand_over(hold)
    await asyncio.to_thread(under_way.wait, 10)
    writes = [database.hand_over(put(name), durable=durable) for name in names]
    may_end.set()
    await held
    return await asyncio.gather(*writes, return_exceptions=True)


def users(connection: Connection) -> set[str]:
    return set(connection.execute(text("SELECT id FROM users")).scalars())


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.anyio
async def test_nothing_is_acknowledged_that_was_rolled_back(database: Database, durable: bool) -> None:
    await database.write(lambda connection: connection.execute(text(BREAKS)))
    names = ["first", "refused", "broken", "later", "broken", "last"]
    outcomes = await together(database, names, durable=durable)
    told = {outcome for outcome in outcomes if isinstance(outcome, str)}
    assert await database.read(users) == told == {"last"}
    kinds = [DBAPIError, ValueError, DBAPIError, DBAPIError, DBAPIError, str]
    assert [isinstance(*pair) for pair in zip(outcomes, kinds, strict=True)] == [True] * 6
    assert await database.write(put("next")) == "next"
    assert await database.read(users) == {"last", "next"}


@pytest.mark.anyio
async def test_a_write_that_fails_takes_no_other_with_it(database: Database) -> None:
    first, refused, last = await together(database, ["first", "refused", "last"])
    assert (first, type(refused), last) == ("first", ValueError, "last")
    assert await database.read(users) == {"first", "last"}
