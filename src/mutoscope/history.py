"""The tasks of a key, looked back on: listed by what they are, marked as favourites. Knows no HTTP and no dialect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, func, select, true, update

from mutoscope.database import Database
from mutoscope.schema import tasks
from mutoscope.store import task_from_row
from mutoscope.tasks import Status, Task


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which tasks of a key: made in [after, before) (seconds since the epoch), and all that is given besides.

    `statuses` None is any, and an empty one is none. `search` is looked for in the prompt, whatever its case (of the
    letters A to Z).
    """

    key_id: str
    after: float
    before: float | None = None
    model: str = ""
    statuses: tuple[Status, ...] | None = None
    search: str = ""
    is_favourite: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the tasks wanted, the newest first; `total` counts them all."""

    tasks: list[Task]
    total: int
    has_more: bool


def page_of(database: Database, wanted: Wanted, page: int, page_size: int) -> Page:
    """The `page`-th (from 1) `page_size` tasks that are wanted."""
    condition = _condition(wanted)
    first = (page - 1) * page_size
    newest_first = (tasks.c.created_at.desc(), tasks.c.seq.desc())
    query = select(tasks).where(condition).order_by(*newest_first).limit(page_size + 1).offset(first)
    with database.connect() as connection:
        found = [task_from_row(row) for row in connection.execute(query).mappings()]
        # Counting reads an index entry for each task of the window, or its row where there are filters: what can be
        # told from the page itself is not counted.
        if len(found) <= page_size and (found or page == 1):
            total = first + len(found)
        else:
            total = connection.execute(select(func.count()).select_from(tasks).where(condition)).scalar_one()
    return Page(found[:page_size], total, has_more=len(found) > page_size)


def following(database: Database, key_id: str, after_id: str, limit: int, *, is_ascending: bool) -> list[Task] | None:
    """A key's tasks in the order of acceptance, or against it, from the one after `after_id` (empty: from the first).

    None when `after_id` is none of theirs.
    """
    query = select(tasks).where(tasks.c.key_id == key_id).limit(limit)
    query = query.order_by(tasks.c.seq if is_ascending else tasks.c.seq.desc())
    with database.connect() as connection:
        if after_id:
            mine = select(tasks.c.seq).where(tasks.c.id == after_id, tasks.c.key_id == key_id)
            if (seq := connection.execute(mine).scalar()) is None:
                return None
            query = query.where(tasks.c.seq > seq if is_ascending else tasks.c.seq < seq)
        return [task_from_row(row) for row in connection.execute(query).mappings()]


def owned(database: Database, key_id: str, task_ids: list[str]) -> list[Task]:
    """Those of these tasks that exist and are this key's."""
    query = select(tasks).where(tasks.c.id.in_(task_ids), tasks.c.key_id == key_id)
    with database.connect() as connection:
        return [task_from_row(row) for row in connection.execute(query).mappings()]


def mark(database: Database, key_id: str, task_id: str, is_favourite: bool) -> Task | None:
    """Make a key's task a favourite, or none; returns it, or None when there is no such task."""
    mine = and_(tasks.c.id == task_id, tasks.c.key_id == key_id)
    with database.write() as connection:
        connection.execute(update(tasks).where(mine).values(is_favourite=is_favourite))
        row = connection.execute(select(tasks).where(mine)).mappings().first()
    return task_from_row(row) if row else None


def _condition(wanted: Wanted) -> Any:
    conditions: list[Any] = [tasks.c.key_id == wanted.key_id, tasks.c.created_at >= wanted.after]
    if wanted.before is not None:
        conditions.append(tasks.c.created_at < wanted.before)
    if wanted.model:
        conditions.append(tasks.c.model == wanted.model)
    if wanted.statuses is not None:
        conditions.append(tasks.c.status.in_([status.value for status in wanted.statuses]))
    if wanted.search:
        conditions.append(tasks.c.request["prompt"].as_string().icontains(wanted.search, autoescape=True))
    if wanted.is_favourite:
        conditions.append(tasks.c.is_favourite.is_(true()))
    return and_(*conditions)
