"""A disk that is full, or read-only: which errors say so, and a short profile of `python -m chaos disk`."""

from __future__ import annotations

import errno
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from chaos.full import SITES, fill_up
from sqlalchemy import Column, MetaData, String, Table, bindparam, create_engine, select
from sqlalchemy.exc import DatabaseError, OperationalError

from mutoscope.database import Database, LookUp
from mutoscope.disk import Trouble, trouble


def test_errors_that_are_the_disk_s_are_told_from_others(tmp_path: Path) -> None:
    assert trouble(OSError(errno.ENOSPC, "No space left on device")) is Trouble.FULL
    assert trouble(OSError(errno.EROFS, "Read-only file system")) is Trouble.AWAY
    assert trouble(FileNotFoundError(errno.ENOENT, "No such file")) is None
    assert trouble(ValueError("no errno at all")) is None


def test_sqlite_s_own_words_are_understood(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "db", isolation_level=None)) as database:
        database.execute("CREATE TABLE t (x)")
        database.execute("PRAGMA max_page_count = 3")
        with pytest.raises(sqlite3.OperationalError, match="full") as full:
            database.execute("INSERT INTO t VALUES (zeroblob(100000))")
        database.execute("PRAGMA query_only = ON")
        with pytest.raises(sqlite3.OperationalError, match="readonly") as read_only:
            database.execute("DELETE FROM t")
        with pytest.raises(sqlite3.OperationalError) as other:
            database.execute("SELECT nonsense")
    found = [trouble(OperationalError("…", None, each.value)) for each in (full, read_only, other)]
    assert found == [Trouble.FULL, Trouble.AWAY, None]


def test_a_damaged_file_is_told_as_any_error_of_a_database(tmp_path: Path) -> None:
    things = Table("things", MetaData(), Column("name", String, primary_key=True))
    path = tmp_path / "db"
    with Database(create_engine(f"sqlite:///{path}")) as database:
        things.create(database.engine)
        with database.engine.begin() as connection:
            connection.execute(things.insert(), [{"name": f"{number:0200}"} for number in range(200)])
    path.write_bytes(path.read_bytes()[:4096] + b"\xff" * 40_000)  # SQLite's first page alone is left
    find = LookUp(select(things.c.name).where(things.c.name == bindparam("name")))
    with Database(create_engine(f"sqlite:///{path}")) as database, pytest.raises(DatabaseError, match="malformed"):
        database.look_up(find, {"name": "1"})


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_it_is_told_costs_nothing_and_mends() -> None:
    found = fill_up([site for site in SITES if site.name in ("write-ahead log", "scratch folder")])
    assert found.broken == []
    assert len(found.figures) == 7  # two places and the first start, each in both ways, and a count
