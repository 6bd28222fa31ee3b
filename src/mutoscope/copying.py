"""An installation's database copied to another, SQLite to PostgreSQL or back: every row, verified before it counts.

Knows tables only as tables: what is in them is copied as it is. One transaction writes it all, or nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from sqlalchemy import JSON, Connection, MetaData, Table, func, inspect, select, text

from mutoscope.database import Database
from mutoscope.schema import accounts, installation, metadata, migrate, newest_revision, revision_of, tasks
from mutoscope.tasks import Status

_ROWS_AT_ONCE = 500


class CopyError(Exception):
    """The database can't be copied, or is not the same in its copy; says why. Nothing was written."""


@dataclass(frozen=True, slots=True)
class Sum:
    """What is in a table, whatever the order of its rows: how many, and a digest of them all."""

    count: int
    digest: int


def copy(source: Database, target: Database) -> dict[str, int]:
    """Copy every row, and where each count goes on from; returns the number of rows by table.

    Nobody may be at work on either. Raises CopyError when the target holds anything, or the copy differs.
    """
    with source.snapshot() as reading:
        if revision_of(reading) != newest_revision():
            raise CopyError("The database has the tables of another version: `mutoscope db migrate` comes first.")
        at_work = (tasks.c.status == Status.RUNNING.value, tasks.c.lease_until > source.now())
        if reading.execute(select(tasks.c.seq).where(*at_work).limit(1)).first() is not None:
            raise CopyError("Tasks are being rendered: stop the servers and workers of this database first.")
        _prepare(target)
        with target.write() as writing:
            for connection, database in ((reading, source), (writing, target)):
                if not database.is_local:
                    connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
            _refuse_filled(writing)
            for table in (accounts, installation):  # made with the tables
                writing.execute(table.delete())
            copied = {table.name: _copy(table, reading, writing) for table in metadata.sorted_tables}
            for table in metadata.sorted_tables:
                if table.autoincrement_column is not None:
                    _go_on_from(writing, table, _last_number(reading, table))
            for table in metadata.sorted_tables:
                if sum_of(writing, table) != copied[table.name]:
                    raise CopyError(f"The table {table.name} is not the same in the copy.")
    return {name: found.count for name, found in copied.items()}


def sum_of(connection: Connection, table: Table) -> Sum:
    """The sum of a table's rows."""
    total = Sum(0, 0)
    with connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(select(table)) as rows:
        for row in rows:
            total = _add(total, row)
    return total


def _add(total: Sum, row: Any) -> Sum:
    digest = sha256(json.dumps(list(row), sort_keys=True).encode()).digest()
    return Sum(total.count + 1, (total.digest + int.from_bytes(digest)) % 2**256)


def _prepare(target: Database) -> None:
    with target.connect() as connection:
        if inspect(connection).get_table_names() and revision_of(connection) != newest_revision():
            raise CopyError("The target is not empty: it holds tables of something else, or of another version.")
    migrate(target)


def _refuse_filled(connection: Connection) -> None:
    for table in metadata.sorted_tables:
        count = connection.execute(select(func.count()).select_from(table)).scalar_one()
        if count > (1 if table in (accounts, installation) else 0):
            raise CopyError(f"The target is not empty: its table {table.name} has {count:,} rows.")


def _copy(table: Table, reading: Connection, writing: Connection) -> Sum:
    twin = table.to_metadata(MetaData())
    for column in twin.columns:
        if isinstance(column.type, JSON):  # what is not there stays so, rather than become JSON's `null`
            column.type = JSON(none_as_null=True)
    total = Sum(0, 0)
    with reading.execution_options(yield_per=_ROWS_AT_ONCE).execute(select(table)) as rows:
        for batch in rows.mappings().partitions(_ROWS_AT_ONCE):
            for row in batch:
                total = _add(total, row.values())
            writing.execute(twin.insert(), [dict(row) for row in batch])
    return total


def _last_number(connection: Connection, table: Table) -> int:
    """The number that was given last in this table, whether or not its row is still there."""
    if connection.dialect.name == "sqlite":
        found = connection.execute(text("SELECT seq FROM sqlite_sequence WHERE name = :name"), {"name": table.name})
        return found.scalar() or 0
    sequence = connection.execute(text(f"SELECT pg_get_serial_sequence('{table.name}', 'seq')")).scalar_one()
    last, is_called = connection.execute(text(f"SELECT last_value, is_called FROM {sequence}")).one()  # noqa: S608
    return last if is_called else 0


def _go_on_from(connection: Connection, table: Table, number: int) -> None:
    if number == 0:
        return
    named = {"name": table.name, "number": number}
    if connection.dialect.name == "sqlite":
        connection.execute(text("DELETE FROM sqlite_sequence WHERE name = :name"), named)
        connection.execute(text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :number)"), named)
    else:
        connection.execute(text("SELECT setval(pg_get_serial_sequence(:name, 'seq'), :number)"), named)
