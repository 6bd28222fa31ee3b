"""Whose turn it is: a queue that is fair across accounts by the seconds of work that they ask for.

Start-time fair queueing (Goyal, Vin and Cheng, 1996): each task takes a turn that follows its account's last one by the
task's cost, but never lies before the turn that is being served. So an account with a hundred times the load waits for
itself, and one that was idle neither loses its place nor has saved any up.

Every function works inside the transaction of the connection that it is handed.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, and_, bindparam, case, func, select, update

from mutoscope.schema import accounts, keys, tasks
from mutoscope.tasks import Status

_served = select(accounts.c.served).order_by(accounts.c.served.desc()).limit(1).scalar_subquery()
_TAKE = (
    update(accounts)
    .where(accounts.c.id == bindparam("account"))
    .values(turn=case((accounts.c.turn > _served, accounts.c.turn), else_=_served) + bindparam("cost"))
    .returning(accounts.c.turn)
)
_CORRECT = (
    update(accounts).where(accounts.c.id == bindparam("account")).values(turn=accounts.c.turn + bindparam("seconds"))
)


class Full(Exception):
    """The key of the chosen task has just had as many claimed as it may run at once: choose again, in a new
    transaction."""


def take(connection: Connection, account_id: str, cost: float) -> float:
    """The turn of an account's next task, which is thought to take `cost` seconds."""
    turn: float = connection.execute(_TAKE, {"account": account_id, "cost": cost}).scalar_one()
    return turn


def correct(connection: Connection, account_id: str, seconds: float) -> None:
    """A task of this account took so many seconds more (or fewer) than its turn was reckoned with."""
    connection.execute(_CORRECT, {"account": account_id, "seconds": seconds})


def choose(connection: Connection, engines: Sequence[str]) -> tuple[int, float] | None:
    """(seq, turn) of the queued task that runs next on one of `engines`; None when none may.

    A key whose tasks run as many at once as it may is passed over. Of the account whose turn it is, the most urgent
    task uses that turn, and of these the oldest; the two change places. Raises Full.
    """
    queued = and_(tasks.c.status == Status.QUEUED.value, tasks.c.engine.in_(engines))
    busy = (
        select(tasks.c.key_id)
        .join(keys, keys.c.id == tasks.c.key_id)
        .where(tasks.c.status == Status.RUNNING.value)
        .group_by(tasks.c.key_id, keys.c.concurrency)
        .having(func.count() >= keys.c.concurrency)
    )
    full = [row[0] for row in connection.execute(busy)]
    may_run = and_(queued, tasks.c.key_id.not_in(full)) if full else queued
    first = select(tasks.c.seq, tasks.c.account_id, tasks.c.key_id, tasks.c.turn).where(may_run)
    head = connection.execute(
        first.order_by(tasks.c.turn, tasks.c.seq).limit(1).with_for_update(skip_locked=True)
    ).first()
    if head is None:
        return None
    # Written even where it stays as it is: whoever else claims from this account waits here until we are done.
    later = case((accounts.c.served < head.turn, head.turn), else_=accounts.c.served)
    connection.execute(update(accounts).where(accounts.c.id == head.account_id).values(served=later))

    mine = tasks.c.account_id == head.account_id
    most = select(tasks.c.priority).where(may_run, mine).order_by(tasks.c.priority.desc()).limit(1)
    top = connection.execute(most).scalar()
    urgent = first.where(mine, tasks.c.priority == top).order_by(tasks.c.seq)
    # None: another worker has just taken it.
    chosen = connection.execute(urgent.limit(1).with_for_update(skip_locked=True)).first() or head
    _refuse_full(connection, chosen.key_id)
    if chosen.seq != head.seq:
        connection.execute(update(tasks).where(tasks.c.seq == head.seq).values(turn=chosen.turn))
    return chosen.seq, head.turn


def _refuse_full(connection: Connection, key_id: str) -> None:
    # Others may have claimed tasks of this key since it was found to have room; none can while we hold its account.
    if connection.dialect.name == "sqlite":  # which has one writer at a time
        return
    running = and_(tasks.c.key_id == key_id, tasks.c.status == Status.RUNNING.value)
    count = select(func.count()).where(running).scalar_subquery()
    if not connection.execute(select(keys.c.concurrency > count).where(keys.c.id == key_id)).scalar():
        raise Full
