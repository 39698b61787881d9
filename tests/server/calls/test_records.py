"""Records go into their tables as they are, however many have however much in common."""

import sqlite3
from contextlib import closing
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import NullPool, create_engine

from gateway_server.calls import records

COLUMNS = ("id", "user", "key", "at")
values = st.one_of(
    st.none(), st.sampled_from(["ann", "ben"]), st.binary(max_size=2), st.integers(0, 1), st.floats(0, 1)
)


class Told(NamedTuple):
    """One statement."""

    text: str
    parameters: tuple[Any, ...]


class FakeConnection:
    """Keeps what it is told."""

    def __init__(self, style: str) -> None:
        self.dialect = SimpleNamespace(paramstyle=style)
        self.told: list[Told] = []

    def exec_driver_sql(self, text: str, parameters: tuple[Any, ...]) -> None:
        self.told.append(Told(text, parameters))


def insert(connection: Any, rows: list[tuple[Any, ...]]) -> None:
    records._insert(connection, "kept", COLUMNS, rows)


@pytest.mark.parametrize("rows", [32, 5])
@given(others=st.lists(st.tuples(values, values, values), max_size=70), same=st.tuples(values, values, values))
def test_each_row_is_there_as_it_was(rows: int, others: list[tuple[Any, ...]], same: tuple[Any, ...]) -> None:
    wanted = [(number, *row) for number, row in enumerate([*others, *[same] * 20, *others])]
    with pytest.MonkeyPatch.context() as patch, create_engine("sqlite://", poolclass=NullPool).connect() as connection:
        patch.setattr(records, "ROWS", rows)
        patch.setattr(records, "MANY", 4)
        connection.exec_driver_sql('CREATE TABLE kept (id PRIMARY KEY, "user", "key", at)')
        insert(connection, wanted)
        insert(connection, wanted)  # what is there stays
        found = connection.exec_driver_sql('SELECT id, "user", "key", at FROM kept ORDER BY id').all()
    assert [tuple(row) for row in found] == wanted


def test_what_rows_have_in_common_is_handed_over_once() -> None:
    connection = FakeConnection("qmark")
    insert(connection, [(number, "ann", None, number / 2) for number in range(16)])
    (told,) = connection.told
    assert told.parameters[:2] == ("ann", None)
    assert len(told.parameters) == 2 + 2 * 16
    assert told.text.startswith('INSERT INTO "kept" ("user", "key", "id", "at") VALUES (?1, ?2, ?, ?), (?1, ?2, ?, ?)')


@pytest.mark.parametrize("style", ["format", "pyformat"])
def test_where_that_cannot_be_said_every_value_is(style: str) -> None:
    connection = FakeConnection(style)
    insert(connection, [(number, "ann", None, 0.5) for number in range(16)])
    assert len(connection.told[0].parameters) == 4 * 16
    assert "?" not in connection.told[0].text


def test_a_statement_has_no_more_values_than_the_database_takes() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        limit = connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
    assert records.ROWS * len(records._COLUMNS) <= min(limit, 32_766)
