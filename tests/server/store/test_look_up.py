"""What a look-up remembers: nothing that somebody has been told is otherwise."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from gateway_server.store import database as module
from gateway_server.store.database import Database

WHEN = "SELECT created_at FROM users WHERE id = ?"


def put(user: str, moment: float) -> Callable[[Connection], None]:
    """Writes when a user was made."""

    def work(connection: Connection) -> None:
        connection.execute(text("DELETE FROM users WHERE id = :id"), {"id": user})
        connection.execute(text("INSERT INTO users (id, created_at) VALUES (:id, :at)"), {"id": user, "at": moment})

    return work


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.booleans(), st.sampled_from("abc")), min_size=1, max_size=20))
def test_a_look_up_finds_what_was_written_last(database: Database, steps: list[tuple[bool, str]]) -> None:
    async def main() -> None:
        known: dict[str, float] = {}
        for number, (writes, user) in enumerate(steps):
            if writes:
                await database.write(put(user, float(number)), durable=False)
                known[user] = float(number)
            elif user in known:
                assert database.look_up(WHEN, user) == (known[user],)
        for user, moment in known.items():
            assert database.look_up(WHEN, user) == (moment,)
            assert database.look_up(WHEN, user) == (moment,)

    asyncio.run(main())


def test_what_is_not_there_is_found_once_it_is(database: Database) -> None:
    async def main() -> None:
        assert database.look_up(WHEN, "ann") is None
        assert database.look_up(WHEN, "ann") is None
        await database.write(put("ann", 1.0))
        assert database.look_up(WHEN, "ann") == (1.0,)

    asyncio.run(main())


def test_the_database_is_asked_once_between_two_commits(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        await database.write(put("ann", 1.0))
        asked = []
        database.look_up(WHEN, "ann")
        connect = database._looking_connection
        monkeypatch.setattr(database, "_looking_connection", lambda: asked.append(1) or connect())
        for _ in range(3):
            assert database.look_up(WHEN, "ann") == (1.0,)
        assert not asked
        await database.write(put("bob", 2.0))
        for _ in range(3):
            assert database.look_up(WHEN, "ann") == (1.0,)
        assert len(asked) == 1

    asyncio.run(main())


def test_no_more_is_remembered_than_so_much(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FOUND", 8)

    async def main() -> None:
        for number in range(100):
            assert database.look_up(WHEN, f"user-{number}") is None
            assert len(database._found) <= 8

    asyncio.run(main())
