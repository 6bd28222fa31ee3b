"""One open database: transactions, quick look-ups, its clock, and an end to all. Knows no table; `schema.py` has those.

Everything that keeps rows (store, ledger, keys, uploads, deliveries) shares one of these in a process.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self, TypeVar

import structlog
from sqlalchemy import Connection, Engine, RowMapping, Select, text
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, TimeoutError

log = structlog.get_logger()

Result = TypeVar("Result")

Row = RowMapping | dict[str, Any]
"""Values by the names of their columns."""

UNREACHABLE = (OperationalError, InterfaceError, TimeoutError)
"""What is raised while a database can't be reached or is too busy: the same may be well in a moment."""

_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 5.0
_CLOCK_SECONDS = 30.0  # so long the server's clock is reckoned from ours


class LookUp:
    """A statement that finds at most one row, by an index; made once, run thousands of times a second.

    Of such a read in a SQLite file, SQLAlchemy's way through its layers takes most of the time. So it is asked for the
    SQL and for what makes values of columns, once, and SQLite is handed the SQL.
    """

    def __init__(self, statement: Select[Any]) -> None:
        self.statement = statement
        dialect = sqlite.dialect(paramstyle="qmark")
        compiled = statement.compile(dialect=dialect)
        self._sql = str(compiled)
        self._parameters = [str(name) for name in compiled.positiontup or ()]
        columns = statement.selected_columns
        self._columns = [str(column.key) for column in columns]
        found = [
            (str(column.key), column.type.dialect_impl(dialect).result_processor(dialect, None)) for column in columns
        ]
        self._made = [(key, make) for key, make in found if make is not None]

    def run(self, connection: Connection, parameters: Mapping[str, Any]) -> Row | None:
        """The row, if there is one, from a connection to a SQLite file."""
        driver: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment]
        try:
            values = driver.execute(self._sql, [parameters[name] for name in self._parameters]).fetchone()
        except sqlite3.Error as error:  # a file that is locked, full or damaged: told as SQLAlchemy tells it
            raise DBAPIError.instance(self._sql, None, error, sqlite3.Error, hide_parameters=True) from error
        if values is None:
            return None
        row = dict(zip(self._columns, values, strict=True))
        for key, make in self._made:
            row[key] = make(row[key])
        return row


class Database:
    """Safe to share between threads; `close` it, or use it as a context manager.

    `is_local`: a SQLite file, whose reads take tens of microseconds and never wait for a writer.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.is_local = engine.dialect.name == "sqlite"
        # A read by itself needs no BEGIN and no ROLLBACK, each of which is a way to the server and back. (SQLite's
        # driver is in this mode always.)
        self._readers = engine if self.is_local else engine.execution_options(isolation_level="AUTOCOMMIT")
        self._one_writer = threading.Lock()
        self._reader: Connection | None = None
        self._one_reader = threading.Lock()
        self._ahead = 0.0  # the server's clock, less our monotonic one
        self._compared_at = float("-inf")

    def connect(self) -> Connection:
        """A connection of the pool, for reading; each statement sees what is committed by then."""
        return self._readers.connect()

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """A connection whose statements all see the database at one moment."""
        if self.is_local:
            with self.engine.connect() as connection:
                connection.exec_driver_sql("BEGIN")
                yield connection
                connection.rollback()
            return
        with self.engine.connect() as connection:
            yield connection.execution_options(isolation_level="REPEATABLE READ")

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is committed at the end of the block, or rolled back if it raises."""
        if not self.is_local:
            with self.engine.begin() as connection:
                yield connection
            return
        # SQLite has one writer: threads queue here, in order, rather than sleep and retry inside SQLite.
        with self._one_writer, self.engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection
            connection.commit()

    def look_up(self, asked: LookUp, parameters: Mapping[str, Any]) -> Row | None:
        """The row that is asked for, by the names of its columns; None if there is none."""
        if not self.is_local:
            with self._readers.connect() as connection:
                return connection.execute(asked.statement, dict(parameters)).mappings().first()
        # Checking a connection out of the pool and back in costs as much as such a read does, so one is kept. It holds
        # no transaction open between reads: the driver is in autocommit mode.
        with self._one_reader:
            if self._reader is None:
                self._reader = self.engine.connect()
            return asked.run(self._reader, parameters)

    def now(self) -> float:
        """Seconds since the epoch by the database's clock, the one that all machines share."""
        if self.is_local:
            return time.time()
        if time.monotonic() - self._compared_at > _CLOCK_SECONDS:
            with self._readers.connect() as connection:
                before = time.monotonic()
                theirs = float(connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())
                after = time.monotonic()
            self._ahead = theirs - (before + after) / 2
            self._compared_at = after
        return time.monotonic() + self._ahead

    def close(self) -> None:
        """End its connections. Using it again opens new ones."""
        with self._one_reader:
            if self._reader is not None:
                self._reader.close()
                self._reader = None
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def insist(
    action: Callable[[], Result],
    wait: Callable[[float], bool],
    seconds: float = float("inf"),
    what: str = "the database",
    away: tuple[type[Exception], ...] = UNREACHABLE,
) -> Result:
    """What `action` returns; tried again, ever more slowly, while the database can't be reached.

    `what` names another thing that may be `away`, by what it raises then. `wait` sleeps so many seconds, and returns
    True to have it given up; `seconds` is how long to go on. Then it raises what `action` raised.
    """
    pause, until = _FIRST_PAUSE_SECONDS, time.monotonic() + seconds
    while True:
        try:
            return action()
        except away as error:
            if time.monotonic() + pause > until:
                raise
            log.warning(f"{what} can't be used; it is tried again", error=str(error).splitlines()[0])
            if wait(pause):
                raise
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
