"""One open database: transactions, quick look-ups, and an end to both. Knows no table; `schema.py` has those.

Everything that keeps rows (store, ledger, keys, uploads, deliveries) shares one of these in a process.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

from sqlalchemy import Connection, Engine, Executable, RowMapping


class Database:
    """Safe to share between threads; `close` it, or use it as a context manager.

    `is_local`: a SQLite file, whose reads take tens of microseconds and never wait for a writer.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.is_local = engine.dialect.name == "sqlite"
        self._one_writer = threading.Lock()
        self._reader: Connection | None = None
        self._one_reader = threading.Lock()

    def connect(self) -> Connection:
        """A connection of the pool, for reading."""
        return self.engine.connect()

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

    def look_up(self, statement: Executable, parameters: Mapping[str, Any]) -> RowMapping | None:
        """The first row of a statement that finds at most one, by an index."""
        if not self.is_local:
            with self.engine.connect() as connection:
                return connection.execute(statement, dict(parameters)).mappings().first()
        # Checking a connection out of the pool and back in costs as much as such a read does, so one is kept. It holds
        # no transaction open between reads: the driver is in autocommit mode.
        with self._one_reader:
            if self._reader is None:
                self._reader = self.engine.connect()
            return self._reader.execute(statement, dict(parameters)).mappings().first()

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
