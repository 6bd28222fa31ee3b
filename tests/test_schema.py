"""The migrations end where the tables begin, and lose nothing on the way."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import MetaData, insert, select

from mutoscope import schema
from mutoscope.database import Database
from mutoscope.schema import (
    accounts,
    keys,
    make_engine,
    metadata,
    migrate,
    newest_revision,
    open_database,
    revision_of,
    tasks,
)
from tests.rows import value_of

REVISIONS = sorted(path.stem[:4] for path in Path(schema.__file__).with_name("migrations").glob("versions/0*.py"))


def test_migrations_make_the_tables_that_the_code_names(empty: str) -> None:
    with open_database(empty) as database, database.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


@pytest.mark.parametrize("revision", REVISIONS[:-1])
def test_every_row_of_an_older_database_is_kept(empty: str, revision: str) -> None:
    before: dict[str, list[dict[str, Any]]] = {}
    with Database(make_engine(empty)) as old:
        migrate(old, revision)
        found = MetaData()
        found.reflect(old.engine)
        found.remove(found.tables["alembic_version"])
        with old.write() as connection:
            for table in found.sorted_tables:
                if table.name != "installation":  # which has one row, and no more
                    rows = [{column.name: value_of(column, n) for column in table.columns} for n in range(1, 5)]
                    connection.execute(insert(table), rows)
                before[table.name] = [dict(row) for row in connection.execute(select(table)).mappings()]
    with open_database(empty) as new, new.connect() as connection:
        assert revision_of(connection) == newest_revision() == REVISIONS[-1] != revision
        for name, rows in before.items():
            kept = [column for column in metadata.tables[name].columns if column.name in rows[0]]
            after = [dict(row) for row in connection.execute(select(*kept)).mappings()]
            names = [column.name for column in kept]
            assert len(names) == len(rows[0]), f"{name} lost a column"
            expected = [{column: row[column] for column in names} for row in rows]
            for row in after:
                if row in expected:
                    expected.remove(row)
            assert expected == [], name
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        if new.is_local:
            assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []


def test_an_older_database_keeps_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    with closing(sqlite3.connect(path)) as before:
        before.executescript(BEFORE_ACCOUNTS)
    database = open_database(f"sqlite:///{path}")
    with database.connect() as connection:
        task = connection.execute(select(tasks)).mappings().one()
        assert (task["seq"], task["status"], task["request"]) == (7, "succeeded", {"prompt": "a cat"})
        assert (task["account_id"], task["price_micros"], task["is_favourite"]) == ("default", 0, False)
        key = connection.execute(select(keys)).mappings().one()
        assert (key["name"], key["account_id"], key["scopes"]) == ("me", "default", ["generate", "read"])
        account = connection.execute(select(accounts)).mappings().one()
        assert (account["id"], account["is_unlimited"], account["created_at"]) == ("default", True, 1000.0)
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
        assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
    database.close()


BEFORE_ACCOUNTS = """
CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY);
INSERT INTO alembic_version VALUES ('0002');
CREATE TABLE keys (
    id VARCHAR(16) NOT NULL PRIMARY KEY, name TEXT NOT NULL, digest VARCHAR(64) NOT NULL UNIQUE,
    hint VARCHAR(16) NOT NULL, created_at FLOAT NOT NULL, revoked_at FLOAT
);
INSERT INTO keys VALUES ('0a1b', 'me', 'digest', 'wsk_abcd', 1000.0, NULL);
CREATE TABLE tasks (
    seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, id VARCHAR(32) NOT NULL UNIQUE,
    key_id VARCHAR(16) NOT NULL REFERENCES keys (id), model TEXT NOT NULL, engine VARCHAR(32) NOT NULL,
    request JSON NOT NULL, base64_output BOOLEAN NOT NULL, status VARCHAR(10) NOT NULL, created_at FLOAT NOT NULL,
    attempt INTEGER NOT NULL, failures INTEGER NOT NULL, losses INTEGER NOT NULL, worker VARCHAR(64),
    lease_until FLOAT, stage VARCHAR(64) NOT NULL, progress FLOAT NOT NULL, cancel_requested BOOLEAN NOT NULL,
    started_at FLOAT, finished_at FLOAT, error TEXT NOT NULL, error_code INTEGER NOT NULL, output TEXT, poster TEXT,
    timings JSON NOT NULL, receipt JSON
);
CREATE INDEX tasks_by_status ON tasks (status, engine, seq);
CREATE INDEX tasks_by_key ON tasks (key_id, seq);
CREATE INDEX tasks_by_age ON tasks (created_at);
INSERT INTO tasks VALUES (
    7, 'ab', '0a1b', 'a/model', 'animatic', '{"prompt": "a cat"}', 0, 'succeeded', 1001.0, 1, 0, 0, NULL, NULL, '',
    1.0, 0, 1001.0, 1002.0, '', 0, 'outputs/ab-1.mp4', 'outputs/ab-1.jpg', '{}', NULL
);
CREATE TABLE uploads (
    id VARCHAR(32) NOT NULL PRIMARY KEY, key_id VARCHAR(16) NOT NULL REFERENCES keys (id), filename TEXT NOT NULL,
    content_type TEXT NOT NULL, size INTEGER NOT NULL, file TEXT NOT NULL, created_at FLOAT NOT NULL
);
CREATE INDEX uploads_by_age ON uploads (created_at);
INSERT INTO uploads VALUES ('cd', '0a1b', 'a.png', 'image/png', 1, 'uploads/cd/a.png', 1000.0);
"""
