"""What is asked again and again is found by an index, however many tasks there have been."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from mutoscope import history
from mutoscope.deliveries import Deliveries
from mutoscope.estimates import Estimates
from mutoscope.housekeeping import ended_before, standing
from mutoscope.schema import open_database
from mutoscope.store import Store
from mutoscope.tasks import Status, VideoRequest
from mutoscope.uploads import Uploads
from tests.rows import make_caller

EVERYTHING = history.Wanted("k", 0, 1, model="m", statuses=(Status.FAILED,), search="cat", is_favourite=True)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(open_database(f"sqlite:///{tmp_path / 'mutoscope.db'}"))
    caller = make_caller(store.database)
    with store.database.write() as connection:
        for engine in ("animatic", "skyreels-v3"):
            request = VideoRequest("a cat", ("https://example.com/a.png",))
            store.add(uuid.uuid4().hex, caller, "m", engine, request, connection=connection)
    yield store
    store.database.close()


def plan_of(store: Store, ask: Callable[[], Any]) -> list[str]:
    """How SQLite goes about every statement that `ask` makes."""
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    event.listen(store.database.engine, "before_cursor_execute", note)
    ask()
    event.remove(store.database.engine, "before_cursor_execute", note)
    plans = [(sql, values) for sql, values in asked if sql.lstrip().upper().startswith(("SELECT", "UPDATE"))]
    assert plans
    with store.database.connect() as connection:
        return [
            row[3] for sql, values in plans for row in connection.exec_driver_sql("EXPLAIN QUERY PLAN " + sql, values)
        ]


@pytest.mark.parametrize(
    "ask",
    [
        lambda store: Estimates(store).num_queued(),
        lambda store: ended_before(store.database, time.time()),
        lambda store: Uploads(store.database).before(time.time()),
        lambda store: standing(store.database, ["a", "b"]),
        lambda store: history.page_of(store.database, EVERYTHING, 2, 20),
        lambda store: store.claim("worker", ["animatic"]),
        lambda store: store.release("worker", failed=False),
        lambda store: Deliveries(store.database).claim(lambda *_: True, 30, without_receivers=["a"]),
    ],
    ids=["estimates", "retention", "uploads", "orphans", "list", "claim", "release", "webhooks"],
)
def test_no_table_is_read_from_end_to_end_and_nothing_is_sorted(store: Store, ask: Callable[[Store], Any]) -> None:
    plan = plan_of(store, lambda: ask(store))
    assert not [line for line in plan if line.startswith("SCAN tasks") or "TEMP B-TREE FOR ORDER BY" in line], plan
    assert not [line for line in plan if line.startswith(("SCAN uploads", "SCAN deliveries"))], plan
