"""An installation moves from SQLite to PostgreSQL and back, and loses nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Table, delete, func, insert, select, update

from mutoscope.copying import CopyError, copy, sum_of
from mutoscope.database import Database
from mutoscope.schema import accounts, installation, make_engine, metadata, open_database, tasks
from tests.installation import Installation
from tests.postgres import Postgres
from tests.rows import value_of

ROWS = 1200  # more than are copied at once


def fill(database: Database) -> None:
    with database.write() as connection:
        for table in reversed(metadata.sorted_tables):
            if table is not installation:
                connection.execute(delete(table))
        for table in metadata.sorted_tables:
            if table is not installation:
                count = ROWS if table is tasks else 5
                rows = [{column.name: value_of(column, n) for column in table.columns} for n in range(1, count + 1)]
                if table is tasks:
                    for row in rows:
                        row.update(key_id="1", account_id="2")
                connection.execute(insert(table), rows)


def rows_of(database: Database, table: Table) -> list[Any]:
    with database.connect() as connection:
        return sorted(map(tuple, connection.execute(select(table))), key=repr)


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Database]:
    with open_database(f"sqlite:///{tmp_path}/source.db") as database:
        fill(database)
        yield database


@pytest.fixture
def target(postgres: Postgres) -> Iterator[Database]:
    with postgres.empty() as url, Database(make_engine(url)) as database:
        yield database


def test_every_row_arrives_there_and_back(source: Database, target: Database, tmp_path: Path) -> None:
    with source.write() as connection:  # the last one is gone, and its number is not given again
        connection.execute(delete(tasks).where(tasks.c.seq == 7 * ROWS))
    with Database(make_engine(f"sqlite:///{tmp_path}/back.db")) as back:
        counts = copy(source, target)
        assert copy(target, back) == counts
        assert counts["tasks"] == ROWS - 1
        for table in metadata.sorted_tables:
            assert counts[table.name] == (1 if table is installation else ROWS - 1 if table is tasks else 5)
            before = rows_of(source, table)
            assert rows_of(target, table) == before, table.name
            assert rows_of(back, table) == before, table.name
        for database in (target, back):
            row = {column.name: value_of(column, 1) for column in tasks.columns} | {"id": "new", "account_id": "1"}
            del row["seq"]
            with database.write() as connection:
                made = connection.execute(insert(tasks).returning(tasks.c.seq), row).scalar_one()
                assert made == 7 * ROWS + 1
                absent = select(func.count()).where(tasks.c.receipt.is_(None), tasks.c.id != "new")
                assert connection.execute(absent).scalar() == (ROWS - 1) // 3  # not JSON's null


def test_a_sum_tells_any_change_and_no_order(source: Database) -> None:
    with source.write() as connection:
        before = sum_of(connection, accounts)
        connection.execute(update(accounts).where(accounts.c.id == "1").values(turn=accounts.c.turn + 1e-6))
        after = sum_of(connection, accounts)
    assert before.count == after.count == 5
    assert before.digest != after.digest


def test_a_target_that_holds_anything_is_refused(source: Database, tmp_path: Path, postgres: Postgres) -> None:
    for url in (f"sqlite:///{tmp_path}/target.db", postgres.fresh()):
        with open_database(url) as filled:
            with filled.write() as connection:
                row = {column.name: value_of(column, 1) for column in accounts.columns}
                connection.execute(insert(accounts), row)
            before = rows_of(filled, accounts)
            with pytest.raises(CopyError, match=r"not empty: its table accounts has 2 rows"):
                copy(source, filled)
            assert rows_of(filled, accounts) == before
    postgres.fresh()


def test_a_target_of_something_else_is_refused(source: Database, postgres: Postgres) -> None:
    with postgres.empty() as url, Database(make_engine(url)) as other:
        postgres.run("CREATE TABLE theirs (n integer)", url.rpartition("/")[2])
        with pytest.raises(CopyError, match="something else"):
            copy(source, other)


def test_a_source_at_work_is_refused_and_so_is_one_of_another_version(source: Database, target: Database) -> None:
    with source.write() as connection:
        connection.execute(update(tasks).where(tasks.c.id == "1").values(status="running", lease_until=4e9))
    with pytest.raises(CopyError, match="stop the servers"):
        copy(source, target)
    with source.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")
    with pytest.raises(CopyError, match="db migrate"):
        copy(source, target)


@pytest.mark.slow
def test_the_commands_check_and_copy(install: Callable[..., Installation], postgres: Postgres) -> None:
    installation = install()
    before = installation.run("db", "check")
    assert "tables of 00" in before.stdout
    assert "The books agree" in before.stderr
    with postgres.empty() as url:
        assert "1 accounts, 1 installation, 1 keys" in installation.run("db", "copy", url).stderr
        again = installation.run("db", "copy", url, check=False)
        assert (again.returncode, "not empty" in again.stderr) == (1, True)
        installation.env = installation.env | {"MUTOSCOPE_DATABASE_URL": url}
        assert "tests" in installation.run("keys", "list").stdout
        postgres.run("UPDATE accounts SET held_micros = 5", url.rpartition("/")[2])
        wrong = installation.run("db", "check", check=False)
        assert (wrong.returncode, "held is 5, its entries sum to 0" in wrong.stderr) == (1, True)
        assert "already" in installation.run("db", "migrate").stderr
    with postgres.empty() as url:
        installation.env = installation.env | {"MUTOSCOPE_DATABASE_URL": url}
        unmade = installation.run("db", "check", check=False)
        assert (unmade.returncode, "has no tables" in unmade.stderr) == (1, True)
        assert "now those of" in installation.run("db", "migrate").stderr
