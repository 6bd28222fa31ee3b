"""One open database: transactions, quick look-ups, its clock, and an end to all. Knows no table; `schema.py` has those.

Everything that keeps rows (store, ledger, keys, uploads, deliveries) shares one of these in a process.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self, TypeVar

import structlog
from sqlalchemy import Connection, Dialect, Engine, RowMapping, Select, text
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

    Of such a read, SQLAlchemy's way through its layers takes most of the time. So it is asked for the SQL and for what
    makes values of columns, once, and the driver is handed the SQL.
    """

    def __init__(self, statement: Select[Any]) -> None:
        self._statement = statement
        self._compiled: dict[str, _Compiled] = {}

    def run(self, connection: Connection, parameters: Mapping[str, Any]) -> Row | None:
        """The row, if there is one. Raises what SQLAlchemy would."""
        dialect = connection.dialect
        if (compiled := self._compiled.get(dialect.name)) is None:
            compiled = self._compiled[dialect.name] = _Compiled(self._statement, dialect)
        driver: Any = connection.connection.driver_connection
        try:
            cursor = driver.execute(compiled.sql, compiled.bind(parameters))
            values = cursor.fetchone()
        except dialect.loaded_dbapi.Error as error:
            kind = dialect.loaded_dbapi.Error
            raise DBAPIError.instance(compiled.sql, None, error, kind, hide_parameters=True) from error
        return None if values is None else compiled.row(values, cursor.description)


class _Compiled:
    """A look-up in one database's SQL."""

    def __init__(self, statement: Select[Any], dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect)
        self.sql = str(compiled)
        self._order = compiled.positiontup  # None: the driver takes them by name
        self._columns = {str(column.key): column.type.dialect_impl(dialect) for column in statement.selected_columns}
        self._makers: list[tuple[str, Callable[[Any], Any]]] | None = None
        self._dialect = dialect

    def bind(self, parameters: Mapping[str, Any]) -> Mapping[str, Any] | list[Any]:
        return parameters if self._order is None else [parameters[name] for name in self._order]

    def row(self, values: Sequence[Any], description: Sequence[Sequence[Any]]) -> Row:
        """`description` is the cursor's: what makes a value may depend on the type that the database says it has."""
        if self._makers is None:
            found = [
                (key, kind.result_processor(self._dialect, described[1]))
                for (key, kind), described in zip(self._columns.items(), description, strict=True)
            ]
            self._makers = [(key, make) for key, make in found if make is not None]
        row = dict(zip(self._columns, values, strict=True))
        for key, make in self._makers:
            row[key] = make(row[key])
        return row


class Database:
    """Safe to share between threads; `close` it, or use it as a context manager.

    `is_local`: a SQLite file, whose reads take tens of microseconds and never wait for a writer. Up to `most_kept` of
    its connections are kept for look-ups.
    """

    def __init__(self, engine: Engine, *, most_kept: int = 1) -> None:
        self.engine = engine
        self.is_local = engine.dialect.name == "sqlite"
        # A read by itself needs no BEGIN and no ROLLBACK, each of which is a way to the server and back. (SQLite's
        # driver is in this mode always.)
        self._readers = engine if self.is_local else engine.execution_options(isolation_level="AUTOCOMMIT")
        self._one_writer = threading.Lock()
        self._kept: deque[Connection] = deque()
        self._most_kept = most_kept
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
        # To check a connection out of the pool, test it and take it back costs more than such a read does, so a few are
        # kept. They hold no transaction open between reads: the driver is in autocommit mode.
        try:
            connection = self._kept.pop()
        except IndexError:
            return self._read(self._readers.connect(), asked, parameters)
        try:
            return self._read(connection, asked, parameters)
        except UNREACHABLE:  # it may have ended while it was kept; the pool's are tested
            return self._read(self._readers.connect(), asked, parameters)

    def _read(self, connection: Connection, asked: LookUp, parameters: Mapping[str, Any]) -> Row | None:
        try:
            return asked.run(connection, parameters)
        except UNREACHABLE:
            connection.invalidate()
            raise
        finally:
            if len(self._kept) < self._most_kept and not connection.invalidated:
                self._kept.append(connection)
            else:
                connection.close()

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
        while self._kept:
            self._kept.pop().close()
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
