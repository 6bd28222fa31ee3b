"""Whose turn it is: a queue that is fair across accounts by the seconds of work that they ask for.

Start-time fair queueing (Goyal, Vin and Cheng, 1996): each task takes a turn that follows its account's last one by the
task's cost, but never lies before the turn that is being served. So an account with a hundred times the load waits for
itself, and one that was idle neither loses its place nor has saved any up.

Every function works inside the transaction of the connection that it is handed.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, and_, bindparam, case, exists, func, select, update

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

# Claiming, whose statements are compiled once, too.
_QUEUED = tasks.c.status == Status.QUEUED.value
_WANTED = and_(_QUEUED, tasks.c.engine.in_(bindparam("engines", expanding=True)))
_LAPSED = and_(tasks.c.status == Status.RUNNING.value, tasks.c.lease_until < bindparam("now"))
_LATE = and_(_QUEUED, tasks.c.deadline_at < bindparam("now"))
_LOOK = select(*(exists(select(tasks.c.seq).where(each)) for each in (_LAPSED, _LATE, _WANTED)))
_MAY_RUN = and_(_WANTED, tasks.c.key_id.not_in(bindparam("full", expanding=True)))
_BUSY = (
    select(tasks.c.key_id)
    .join(keys, keys.c.id == tasks.c.key_id)
    .where(tasks.c.status == Status.RUNNING.value)
    .group_by(tasks.c.key_id, keys.c.concurrency)
    .having(func.count() >= keys.c.concurrency)
)
_CANDIDATE = select(tasks.c.seq, tasks.c.account_id, tasks.c.key_id, tasks.c.turn).where(_MAY_RUN)
_HEAD = _CANDIDATE.order_by(tasks.c.turn, tasks.c.seq).limit(1).with_for_update(skip_locked=True)
_SERVE = (
    update(accounts)
    .where(accounts.c.id == bindparam("account"))
    .values(served=case((accounts.c.served < bindparam("at"), bindparam("at")), else_=accounts.c.served))
)
_MINE = tasks.c.account_id == bindparam("account")
# In two steps, because no index is ordered by falling priority and rising seq at once.
_TOP = select(tasks.c.priority).where(_MAY_RUN, _MINE).order_by(tasks.c.priority.desc()).limit(1)
_URGENT = (
    _CANDIDATE.where(_MINE, tasks.c.priority == _TOP.correlate(None).scalar_subquery())
    .order_by(tasks.c.seq)
    .limit(1)
    .with_for_update(skip_locked=True)
)
_SWAP = update(tasks).where(tasks.c.seq == bindparam("head")).values(turn=bindparam("its_turn"))
_RUNNING = and_(tasks.c.key_id == bindparam("key"), tasks.c.status == Status.RUNNING.value)
_HAS_ROOM = select(keys.c.concurrency > select(func.count()).where(_RUNNING).scalar_subquery()).where(
    keys.c.id == bindparam("key")
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


def look(connection: Connection, engines: Sequence[str], now: float) -> tuple[bool, bool, bool]:
    """Whether there are tasks whose lease is over; queued ones whose deadline is; and any for one of `engines`."""
    found = connection.execute(_LOOK, {"now": now, "engines": list(engines)}).one()
    return found[0], found[1], found[2]


def choose(connection: Connection, engines: Sequence[str]) -> tuple[int, float] | None:
    """(seq, turn) of the queued task that runs next on one of `engines`; None when none may.

    A key whose tasks run as many at once as it may is passed over. Of the account whose turn it is, the most urgent
    task uses that turn, and of these the oldest; the two change places. Raises Full.
    """
    full = connection.execute(_BUSY).scalars().all()
    among = {"engines": list(engines), "full": full}
    head = connection.execute(_HEAD, among).first()
    if head is None:
        return None
    # Written even where it stays as it is: whoever else claims from this account waits here until we are done.
    connection.execute(_SERVE, {"account": head.account_id, "at": head.turn})
    # None: another worker has just taken it.
    chosen = connection.execute(_URGENT, {**among, "account": head.account_id}).first() or head
    _refuse_full(connection, chosen.key_id)
    if chosen.seq != head.seq:
        connection.execute(_SWAP, {"head": head.seq, "its_turn": chosen.turn})
    return chosen.seq, head.turn


def _refuse_full(connection: Connection, key_id: str) -> None:
    # Others may have claimed tasks of this key since it was found to have room; none can while we hold its account.
    if connection.dialect.name == "sqlite":  # which has one writer at a time
        return
    if not connection.execute(_HAS_ROOM, {"key": key_id}).scalar():
        raise Full
