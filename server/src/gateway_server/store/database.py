"""The database: one writer that commits in groups, a few readers, and the same code on SQLite and on Postgres.

Work is handed over as a function of a connection. Writes that arrive while another commit is under way share the next
one, so that the price of a commit is divided among them. A write is *durable* when its commit has been synced to disk
before it is acknowledged; one that is not may be lost with the power, but never with the process.
"""

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.pool import NullPool

from gateway_server.errors import Invalid
from gateway_server.store import migrations

T = TypeVar("T")
Work = Callable[[Connection], T]
GROUP = 256
"""Writes that share one commit at most."""
READERS = 2
FOUND = 4096
"""Rows that are remembered until something is written."""


class Item:
    """One write on its way through the writer thread."""

    def __init__(self, work: Work[Any], durable: bool) -> None:
        self.work = work
        self.durable = durable
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self.loop.create_future()
        self.outcome: Any = None
        self.error: BaseException | None = None

    def settle(self) -> None:
        """Tells whoever waits; runs on the event loop."""
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.outcome)


class Database:
    """Open it before use; use it from one event loop."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._is_sqlite = url.startswith("sqlite")
        self._engine = _engine(url, "BEGIN IMMEDIATE")
        self._reading = _engine(url, "BEGIN")
        self._queue: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="database-reader")
        self._local = threading.local()
        self._connections: list[Connection] = []
        self.lags: Callable[[], bool] = lambda: False
        """Whether writes that were kept back could not be made."""
        self._looking: Connection | None = None
        self._found: dict[tuple[str, tuple[Any, ...]], Any] = {}
        """What was looked up since the latest commit."""
        self._commits = self._found_after = 0
        self.ahead: Callable[[], asyncio.Future[None] | None] = lambda: None
        """Hands over writes that have to come before whatever is asked for next; the future of these, if there are any
        under way. Set by whoever keeps such writes back."""

    @classmethod
    def in_folder(cls, folder: Path) -> "Database":
        """The embedded database of a data folder."""
        return cls(f"sqlite:///{folder / 'gateway.db'}")

    def open(self) -> None:
        """Brings the schema up to date and starts the writer. Blocks; call it before the event loop matters.

        Raises:
            Invalid: the database belongs to a newer gateway.
        """
        with self._engine.connect() as connection:
            known = inspect(connection).has_table("alembic_version")
            current = connection.execute(text("SELECT version_num FROM alembic_version")).scalar() if known else None
        if current is not None and current > migrations.HEAD:
            raise Invalid(f"The database is of a newer gateway (schema {current}). Start that release, or a later one.")
        if current != migrations.HEAD:
            with self._engine.begin() as connection:
                migrations.upgrade(connection)
        self._writer = threading.Thread(target=self._write_loop, name="database-writer", daemon=True)
        self._writer.start()

    async def close(self) -> None:
        """Commits what is queued and closes every connection."""
        self._queue.put(None)
        if self._writer is not None:
            await asyncio.to_thread(self._writer.join)
        self._readers.shutdown(wait=True)
        for connection in self._connections:
            connection.close()
        if self._looking is not None:
            self._looking.close()
        self._engine.dispose()
        self._reading.dispose()

    async def write(self, work: Work[T], *, durable: bool = True) -> T:
        """Runs `work` in a transaction and returns what it returned, once that is committed.

        Whatever `work` raises is raised here, and none of its changes is kept.
        """
        return await self.hand_over(work, durable=durable)

    def hand_over(self, work: Work[T], *, durable: bool = True) -> asyncio.Future[T]:
        """The same without waiting: whatever is handed over later comes after it."""
        self.ahead()
        return self.begin(work, durable=durable).future

    def begin(self, work: Work[Any], *, durable: bool) -> "Item":
        """Hands `work` over to be run in a transaction, after what was handed over before it."""
        item = Item(work, durable)
        self._queue.put(item)
        return item

    async def read(self, work: Work[T], *, settled: bool = True) -> T:
        """Runs `work` on a connection that sees every acknowledged write; with `settled` False, not those that are
        kept back."""
        if settled and (first := self.ahead()) is not None:
            await asyncio.wait([first])
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, work)

    @property
    def looks_up(self) -> bool:
        """Whether `look_up` can be asked: in an embedded database, that takes a few microseconds."""
        return self._is_sqlite

    def look_up(self, text: str, *values: Any) -> Any:
        """The first row of a statement that needs no more than an index; at once, on this thread. Sees what has been
        committed."""
        if self._found_after != self._commits or len(self._found) >= FOUND:
            self._found_after = self._commits
            self._found.clear()
        place = text, values
        if place not in self._found:
            cursor: Any = self._looking_connection().connection.cursor()
            self._found[place] = cursor.execute(text, values).fetchone()
        return self._found[place]

    def glance(self, work: Work[T]) -> T:
        """Runs `work`, which needs no more than an index, at once and on this thread, where `looks_up` says that this
        is possible: to have a reader do it takes longer than the answer itself. Sees what has been committed."""
        connection = self._looking_connection()
        try:
            return work(connection)
        finally:
            connection.rollback()

    def _looking_connection(self) -> Connection:
        if self._looking is None:
            self._looking = self._reading.connect()
        return self._looking

    async def scrub(self) -> bool:
        """Empties the log of SQLite, where what was deleted still stands. False: a reader is in the way, try again."""
        return not self._is_sqlite or await asyncio.to_thread(self._checkpoint)

    def _checkpoint(self) -> bool:
        with self._reading.connect() as connection:
            cursor = connection.connection.cursor()
            cursor.execute("PRAGMA busy_timeout=0")  # to wait for readers would hold up every writer
            return bool(cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0)

    def _read(self, work: Work[T]) -> T:
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._reading.connect()
            self._connections.append(connection)
        try:
            return work(connection)
        finally:
            connection.rollback()

    def _write_loop(self) -> None:
        with self._engine.connect() as connection:
            synced: bool | None = None
            while (first := self._queue.get()) is not None:
                group, stop = self._gather(first)
                durable = any(item.durable for item in group)
                try:
                    if durable is not synced:
                        self._sync(connection, durable)
                        synced = durable
                    _commit_together(connection, group)
                except Exception as error:  # the commit itself failed: nothing of the group was kept
                    connection.rollback()
                    for item in group:
                        item.error = error
                self._commits += 1
                for item in group:
                    item.work = _nothing  # what it holds on to is not needed any more
                    item.loop.call_soon_threadsafe(item.settle)
                if stop:
                    return

    def _gather(self, first: Item) -> tuple[list[Item], bool]:
        group = [first]
        while len(group) < GROUP:
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                break
            if item is None:
                return group, True
            group.append(item)
        return group, False

    def _sync(self, connection: Connection, durable: bool) -> None:
        if self._is_sqlite:  # not within a transaction, which the connection itself would begin
            connection.connection.cursor().execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        else:
            connection.exec_driver_sql(f"SET synchronous_commit={'on' if durable else 'off'}")
            connection.commit()


def _engine(url: str, begin: str) -> Engine:
    engine = create_engine(url, poolclass=NullPool, hide_parameters=True)  # which would stand in logged errors
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def connect(raw: Any, _record: Any) -> None:
            raw.isolation_level = None  # transactions begin where we say, not where the driver guesses
            raw.execute("PRAGMA busy_timeout=10000")
            raw.execute("PRAGMA journal_mode=WAL")
            raw.execute("PRAGMA foreign_keys=ON")
            raw.execute("PRAGMA secure_delete=ON")  # what is deleted is overwritten, and cannot be read from the file

        @event.listens_for(engine, "begin")
        def start(connection: Connection) -> None:
            connection.exec_driver_sql(begin)

    return engine


def _nothing(_connection: Connection) -> None: ...


def _commit_together(connection: Connection, group: list[Item]) -> None:
    """Runs every write and commits them at once; one that raises takes only its own changes back."""
    for position, item in enumerate(group):
        try:
            if len(group) == 1:
                item.outcome = item.work(connection)
            else:
                with connection.begin_nested():
                    item.outcome = item.work(connection)
        except Exception as error:
            item.error = error
            if _has_lost_its_transaction(connection):
                connection.rollback()  # for the library to notice; whatever follows begins another
                for earlier in group[:position]:
                    earlier.error = earlier.error or error
    if len(group) == 1 and group[0].error is not None:
        connection.rollback()
    else:
        connection.commit()


def _has_lost_its_transaction(connection: Connection) -> bool:
    """Whether SQLite took back everything, not the failed write alone, as it may where the disk is full or broken. It
    would then say nothing against a commit."""
    raw: Any = connection.connection.driver_connection
    return connection.dialect.name == "sqlite" and not raw.in_transaction


def inserting(connection: Connection) -> Any:
    """The INSERT that knows ON CONFLICT: both databases do, the library has it in the dialects only."""
    return postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
