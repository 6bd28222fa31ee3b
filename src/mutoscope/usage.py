"""What was asked for, made and paid, read from the books: they keep their entries when tasks and their files are gone.

A task counts at the moment it was accepted, with what is held for it or was charged in the end. Money is micro-dollars,
times are seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import and_, case, func, select

from mutoscope.database import Database
from mutoscope.schema import entries, keys, tasks

DAY_SECONDS = 86_400

ChargeKind = Literal["hold", "release", "credit"]


@dataclass(frozen=True, slots=True)
class Used:
    """One model on one day (UTC; `day` is its first second)."""

    day: float
    model: str
    num_requests: int
    num_made: int
    spent_micros: int
    last_at: float


@dataclass(frozen=True, slots=True)
class Charge:
    """One line of the bill: a task's price was set aside, some or all of it was given back, or credit was given.

    `ended_at` of a task that has ended, `status` of one that is still there, empty otherwise.
    """

    seq: int
    kind: ChargeKind
    key_id: str
    key_name: str
    amount_micros: int
    created_at: float
    ended_at: float | None
    task_id: str
    model: str
    status: str


@dataclass(frozen=True, slots=True)
class Billed:
    """Which lines of the bill: of an account, or of one of its keys, made in [start, end), and all that is given."""

    account_id: str
    key_id: str = ""
    kinds: tuple[ChargeKind, ...] = ("hold", "release")
    start: float | None = None
    end: float | None = None
    model: str = ""
    task_ids: Sequence[str] | None = None
    is_oldest_first: bool = False


_SETTLED = entries.alias("settled")
_RELEASED = entries.alias("released")


def used(
    database: Database, account_id: str, start: float, end: float, *, key_id: str = "", model: str = ""
) -> Iterator[Used]:
    """What an account, or one of its keys, asked for in [start, end): by day, the models of each by name."""
    settled = and_(_SETTLED.c.task_id == entries.c.task_id, _SETTLED.c.kind == "settle")
    released = and_(_RELEASED.c.task_id == entries.c.task_id, _RELEASED.c.kind == "release")
    is_made = and_(_SETTLED.c.seq.is_not(None), _RELEASED.c.seq.is_(None))
    query = (
        select(
            entries.c.model,
            func.count(),
            func.sum(case((is_made, 1), else_=0)),
            func.sum(entries.c.amount_micros - func.coalesce(_RELEASED.c.amount_micros, 0)),
            func.max(entries.c.created_at),
        )
        .select_from(entries.outerjoin(_SETTLED, settled).outerjoin(_RELEASED, released))
        .where(entries.c.kind == "hold", _whose(account_id, key_id))
        .group_by(entries.c.model)
        .order_by(entries.c.model)
    )
    if model:
        query = query.where(entries.c.model == model)
    with database.connect() as connection:
        day = start - start % DAY_SECONDS
        while day < end:
            until = day + DAY_SECONDS
            within = and_(entries.c.created_at >= max(day, start), entries.c.created_at < min(until, end))
            for name, num_requests, num_made, spent, last_at in connection.execute(query.where(within)):
                yield Used(day, name, num_requests, int(num_made), int(spent), last_at)
            day = until


def bill(database: Database, billed: Billed, page: int, page_size: int) -> tuple[list[Charge], int]:
    """The `page`-th (from 1) `page_size` lines of a bill, and how many there are in all."""
    condition = _billed(billed)
    closed = (
        select(func.max(_SETTLED.c.created_at))
        .where(_SETTLED.c.task_id == entries.c.task_id, _SETTLED.c.kind.in_(("settle", "release")))
        .scalar_subquery()
    )
    order = (entries.c.created_at, entries.c.seq)
    query = (
        select(
            entries.c.seq,
            entries.c.kind,
            func.coalesce(entries.c.key_id, ""),
            func.coalesce(keys.c.name, ""),
            # Credit that was taken back left the account's book.
            case((and_(entries.c.kind == "credit", entries.c.debit == "available"), -1), else_=1)
            * entries.c.amount_micros,
            entries.c.created_at,
            closed,
            case((entries.c.kind == "credit", ""), else_=func.coalesce(entries.c.task_id, "")),
            entries.c.model,
            func.coalesce(tasks.c.status, ""),
        )
        .select_from(
            entries.outerjoin(keys, keys.c.id == entries.c.key_id).outerjoin(tasks, tasks.c.id == entries.c.task_id)
        )
        .where(condition)
        .order_by(*(order if billed.is_oldest_first else [column.desc() for column in order]))
        .limit(page_size)
        .offset((page - 1) * page_size)
    )
    with database.connect() as connection:
        rows: Sequence[Any] = connection.execute(query).all()
        total = connection.execute(select(func.count()).select_from(entries).where(condition)).scalar_one()
    return [Charge(*row) for row in rows], total


def _whose(account_id: str, key_id: str) -> Any:
    mine = entries.c.account_id == account_id
    return and_(mine, entries.c.key_id == key_id) if key_id else mine


def _billed(billed: Billed) -> Any:
    conditions = [_whose(billed.account_id, billed.key_id), entries.c.kind.in_(billed.kinds)]
    conditions.append(entries.c.amount_micros > 0)  # what is free is no line of a bill
    if billed.start is not None:
        conditions.append(entries.c.created_at >= billed.start)
    if billed.end is not None:
        conditions.append(entries.c.created_at < billed.end)
    if billed.model:
        conditions.append(entries.c.model == billed.model)
    if billed.task_ids is not None:
        conditions.append(entries.c.task_id.in_(billed.task_ids))
    return and_(*conditions)
