"""Group commit: durable when it answers, and nobody pays for another's failure."""

from __future__ import annotations

import asyncio
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select
from sqlalchemy.exc import IntegrityError, OperationalError

from mutoscope.commits import GroupCommit
from mutoscope.keys import Keys
from mutoscope.schema import open_database, tasks
from mutoscope.store import Store
from mutoscope.tasks import Caller, VideoRequest
from tests.rows import make_caller

REQUEST = VideoRequest("a cat", ("https://example.com/a.png",))


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    store = Store(open_database(database_url))
    make_caller(store.database)
    yield store
    store.database.close()


@pytest.fixture
def commits(store: Store) -> Iterator[GroupCommit]:
    commits = GroupCommit(store.database)
    yield commits
    commits.close()


def add(store: Store, task_id: str = "") -> Any:
    key = Keys(store.database, b"k" * 32).all()[0]
    caller = Caller(key.id, key.account_id, frozenset({"generate"}))
    return lambda connection: store.add(
        task_id or uuid.uuid4().hex, caller, "m", "animatic", REQUEST, connection=connection
    )


def ids_in(url: str) -> set[str]:
    """What another process would see."""
    with open_database(url) as other, other.connect() as connection:
        return set(connection.execute(select(tasks.c.id)).scalars())


def test_it_is_committed_when_it_answers(store: Store, commits: GroupCommit, database_url: str) -> None:
    async def run() -> None:
        for _ in range(5):
            task = await commits.run(add(store))
            assert task.id in ids_in(database_url)
            assert store.find(task.id) == task

    asyncio.run(run())


def test_many_at_once_each_get_their_own_answer(store: Store, commits: GroupCommit, database_url: str) -> None:
    async def run() -> list[Any]:
        return await asyncio.gather(*(commits.run(add(store, f"{number:032x}")) for number in range(1000)))

    found = asyncio.run(run())
    assert [task.id for task in found] == [f"{number:032x}" for number in range(1000)]
    assert [task.seq for task in found] == sorted({task.seq for task in found})
    assert len(ids_in(database_url)) == 1000


def test_one_that_fails_leaves_no_trace_and_harms_no_other(
    store: Store, commits: GroupCommit, database_url: str
) -> None:
    def fail(connection: Connection) -> None:
        add(store, "f" * 32)(connection)
        raise LookupError("mine")

    async def run() -> list[Any]:
        bodies = [fail if number % 7 == 3 else add(store, f"{number:032x}") for number in range(50)]
        bodies.append(add(store, "0" * 32))  # an id that is there already, or comes at the same time
        return await asyncio.gather(*map(commits.run, bodies), return_exceptions=True)

    answers = asyncio.run(run())
    for number, answer in enumerate(answers[:50]):
        if number % 7 == 3:
            assert isinstance(answer, LookupError)
            assert str(answer) == "mine"
        else:
            assert answer.id == f"{number:032x}"
    assert isinstance(answers[50], Exception)
    assert ids_in(database_url) == {f"{number:032x}" for number in range(50) if number % 7 != 3}


def test_a_caller_who_goes_away_disturbs_nobody(store: Store, commits: GroupCommit, database_url: str) -> None:
    async def run() -> None:
        gone = asyncio.create_task(commits.run(add(store, "a" * 32)))
        await asyncio.sleep(0)
        gone.cancel()
        await commits.run(add(store, "b" * 32))

    asyncio.run(run())
    assert ids_in(database_url) == {"a" * 32, "b" * 32}


def test_closing_commits_what_waits(store: Store, database_url: str) -> None:
    commits = GroupCommit(store.database)

    async def run() -> list[Any]:
        waiting = [asyncio.create_task(commits.run(add(store))) for _ in range(100)]
        await asyncio.sleep(0)
        await asyncio.to_thread(commits.close)
        return await asyncio.gather(*waiting)

    assert {task.id for task in asyncio.run(run())} == ids_in(database_url)
    assert len(ids_in(database_url)) == 100


def test_a_database_that_is_locked_for_good_is_told_to_the_caller(tmp_path: Path) -> None:
    path = tmp_path / "mutoscope.db"
    store = Store(open_database(f"sqlite:///{path}?timeout=0"))
    with store.database.connect() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout=50")
    commits = GroupCommit(store.database)

    async def run() -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(OperationalError, match="locked"):
                await commits.run(lambda connection: 1)
            other.execute("ROLLBACK")
        assert await commits.run(lambda connection: 2) == 2

    asyncio.run(run())
    commits.close()
    store.database.close()


def test_nobody_is_answered_before_the_commit(tmp_path: Path) -> None:
    with open_database(f"sqlite:///{tmp_path}/db") as database, closing(GroupCommit(database)) as commits:
        nobody = Caller("no key", "no account", frozenset())

        def add_for_nobody(connection: Connection) -> str:
            connection.exec_driver_sql("PRAGMA defer_foreign_keys=ON")  # so that it is the commit that fails
            Store(database).add(uuid.uuid4().hex, nobody, "m", "animatic", REQUEST, connection=connection)
            return "accepted"

        async def run() -> None:
            with pytest.raises(IntegrityError):
                await commits.run(add_for_nobody)

        asyncio.run(run())
