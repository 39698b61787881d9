"""What is written of plain calls: that they began, and how they ended; many of them in one transaction.

The statements hold many rows each, so that the database works through them without the interpreter; they are put
together here, as to have it done by the library takes as long as to run them.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

from sqlalchemy import Connection, select
from sqlalchemy.exc import IntegrityError

from gateway_server.calls.events import store
from gateway_server.calls.quotas import Quotas
from gateway_server.store import schema
from gateway_server.store.database import inserting
from gateway_server.store.journal import Position

ROWS, MANY = 512, 16
"""Rows that one statement inserts at most, and of which it is worth to look for what they have in common."""
_jobs, _users, _position = schema.jobs, schema.users, schema.journal


class Opening(NamedTuple):
    """A call has begun, or a batch, which is no call of any function and is charged to nobody."""

    id: str
    parent_id: str | None
    position: int | None
    root_id: str
    depth: int
    user: str
    agent: str | None
    key_id: str | None
    prefab_id: str | None
    version: str | None
    function_name: str | None
    request_key: bytes | None
    request_digest: bytes | None
    created_at: float


class Closing(NamedTuple):
    """A call has ended."""

    id: str
    status: str
    ended_at: float
    error: str | None
    is_fault: bool
    charged: bool
    """False where the charge is taken back."""
    forget_key: bool
    result: bytes | None
    log: bytes
    events: bytes


_COLUMNS = (
    *Opening._fields,
    *("status", "attempt", "interruptions", "started_at", "ended_at", "error", "is_fault", "charged"),
)
_USER, _KEY_ID, _CREATED_AT, _CHARGED = map(_COLUMNS.index, ("user", "key_id", "created_at", "charged"))


def write(connection: Connection, quotas: Quotas, opened: Mapping[str, Opening], closed: Mapping[str, Closing]) -> None:
    """Writes records, within a transaction; none of them must be there."""
    gone = {  # first, as they may give back keys
        job_id for job_id, closing in closed.items() if job_id not in opened and not _end(connection, quotas, closing)
    }
    rows = [_row(opening, closed.get(job_id)) for job_id, opening in opened.items()]
    _insert_jobs(connection, rows)
    charged = (row for row in rows if row[_CHARGED])
    quotas.count(connection, Counter((row[_USER], row[_KEY_ID], row[_CREATED_AT] // 60 * 60) for row in charged))
    kept = [closing for job_id, closing in closed.items() if job_id not in gone] if gone else closed.values()
    results = [(one.id, one.result, one.ended_at) for one in kept if one.result is not None]
    logs = [(one.id, one.log, one.ended_at) for one in kept if one.log]
    _insert(connection, "job_results", ("job_id", "body", "ended_at"), results)
    _insert(connection, "job_logs", ("job_id", "body", "ended_at"), logs)
    for one in kept:
        if one.events:
            store(connection, one.id, one.events, ends=True)


def _row(opening: Opening, closing: Closing | None) -> tuple[Any, ...]:
    created_at, is_call = opening.created_at, opening.prefab_id is not None
    if closing is None:
        return opening + ("running", 1, 0, created_at, None, None, None, is_call)  # noqa: RUF005  # the faster way
    _, status, ended_at, error, is_fault, charged, forget_key, *_ = closing
    if forget_key:
        opening = opening._replace(request_key=None)
    return opening + (status, 1, 0, created_at, ended_at, error, is_fault, charged and is_call)  # noqa: RUF005


def _insert_jobs(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    try:
        with connection.begin_nested():
            _insert(connection, "jobs", _COLUMNS, rows)
    except IntegrityError:  # a key was taken by a job that was submitted at the same moment: the record counts more
        key = _COLUMNS.index("request_key")
        taken = select(_jobs.c.request_key).where(_jobs.c.request_key.in_([row[key] for row in rows if row[key]]))
        known = set(connection.execute(taken).scalars())
        mended = []
        for row in rows:
            mended.append((*row[:key], None, *row[key + 1 :]) if row[key] in known else row)
            known.add(row[key])
        _insert(connection, "jobs", _COLUMNS, mended)


def _insert(connection: Connection, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """Inserts rows, many with one statement; those that are there already stay as they are."""
    at = 0
    while at < len(rows):
        count = min(ROWS, 1 << (len(rows) - at).bit_length() - 1)  # few different statements, to be prepared once
        _insert_together(connection, table, columns, rows[at : at + count])
        at += count


def _insert_together(
    connection: Connection, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]
) -> None:
    """Inserts rows with one statement. What all of them have in common is handed over once, where that can be said:
    while a value is handed over, no other thread runs, and a few hundred rows of many columns hold up every call."""
    mark = _mark(connection)
    values = list(zip(*rows, strict=True))
    shared = [at for at in range(len(columns)) if _is_one(values[at])] if mark == "?" and len(rows) >= MANY else []
    own = [at for at in range(len(columns)) if at not in shared]
    names = ", ".join(f'"{columns[at]}"' for at in (*shared, *own))
    row = ", ".join([*(f"?{number}" for number in range(1, len(shared) + 1)), *[mark] * len(own)])
    text = f'INSERT INTO "{table}" ({names}) VALUES {", ".join([f"({row})"] * len(rows))} ON CONFLICT DO NOTHING'  # noqa: S608
    if table == "jobs":
        text = text.replace("ON CONFLICT DO", "ON CONFLICT (id) DO")
    each = chain.from_iterable(zip(*(values[at] for at in own), strict=True))
    connection.exec_driver_sql(text, (*(values[at][0] for at in shared), *each))


def _is_one(column: tuple[Any, ...]) -> bool:
    """Whether a column has the same value in every row."""
    return column[0] == column[-1] and column.count(column[0]) == len(column)


def _end(connection: Connection, quotas: Quotas, closing: Closing) -> bool:
    """Closes the record of a call that began before; False if it is gone, or has been closed."""
    mark = _mark(connection)
    text = (
        f"UPDATE jobs SET status = {mark}, ended_at = {mark}, error = {mark}, is_fault = {mark}"  # noqa: S608
        f"{', request_key = NULL' if closing.forget_key else ''} WHERE id = {mark} AND ended_at IS NULL"
    )
    values = (closing.status, closing.ended_at, closing.error, closing.is_fault, closing.id)
    if not connection.exec_driver_sql(text, values).rowcount:
        return False
    if not closing.charged:
        quotas.settle(connection, closing.id, refund=True)
    return True


def find(connection: Connection, opened: Mapping[str, Opening]) -> set[str]:
    """Calls that get no record any more: they have one already, or their users were deleted."""
    ids, found = list(opened), set[str]()
    for at in range(0, len(ids), ROWS):
        found.update(connection.execute(select(_jobs.c.id).where(_jobs.c.id.in_(ids[at : at + ROWS]))).scalars())
    gone = set(connection.execute(select(_users.c.id).where(_users.c.deleted_at >= _users.c.created_at)).scalars())
    return found | {job_id for job_id, opening in opened.items() if opening.user in gone}


def _mark(connection: Connection) -> str:
    """Stands for a value in the text of a statement."""
    return "?" if connection.dialect.paramstyle == "qmark" else "%s"


def position_of(connection: Connection, journal_id: int) -> Position | None:
    """How far a journal has been taken over."""
    row = connection.execute(select(_position.c.epoch, _position.c.offset).where(_position.c.id == journal_id)).first()
    return None if row is None else Position(*row)


def note(connection: Connection, journal_id: int, position: Position) -> None:
    """Notes, within a transaction, how far a journal has been taken over."""
    insert = inserting(connection)(_position).values(id=journal_id, epoch=position.epoch, offset=position.offset)
    change = {"epoch": insert.excluded.epoch, "offset": insert.excluded.offset}
    connection.execute(insert.on_conflict_do_update(index_elements=["id"], set_=change))
