"""The books: what is held, settled, released and credited, in integer micro-dollars. Knows no price.

Double entry: each entry moves an amount from one book (its debit) to another (its credit), so the sum over all books
is zero at any moment. An account's books are `available` and `held`; ours are `funding`, where credit comes from, and
`revenue`, where it ends. The two sums of an account are kept beside its entries, and change with them.

Every function works inside the transaction of the connection that it is handed.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, bindparam, case, func, insert, or_, select, update

from mutoscope.schema import accounts, entries, tasks
from mutoscope.tasks import Status

AVAILABLE, HELD, FUNDING, REVENUE = "available", "held", "funding", "revenue"


@dataclass(frozen=True, slots=True)
class Missing:
    """The balance is too small, by so many micro-dollars. Nothing was written."""

    micros: int


@dataclass(frozen=True, slots=True)
class Before:
    """Credit of this name was given before, so many micro-dollars. Nothing was written."""

    micros: int


# Compiled once, run with every task.
_ENTRY = insert(entries)
_HOLD = (
    update(accounts)
    .where(
        accounts.c.id == bindparam("account"),
        or_(accounts.c.is_unlimited, accounts.c.available_micros - bindparam("amount") >= accounts.c.floor_micros),
    )
    .values(
        available_micros=accounts.c.available_micros - bindparam("amount"),
        held_micros=accounts.c.held_micros + bindparam("amount"),
    )
)
_CLOSE = (
    update(accounts)
    .where(accounts.c.id == bindparam("account"))
    .values(
        available_micros=accounts.c.available_micros + bindparam("back"),
        held_micros=accounts.c.held_micros - bindparam("amount"),
    )
)


def hold(
    connection: Connection, account_id: str, amount: int, *, task_id: str, key_id: str, model: str, now: float
) -> Missing | None:
    """Set the price of a task aside. Nothing is written when the balance would fall below its floor.

    What costs nothing is entered too: the books tell who asked for what, long after the task is gone.
    """
    if amount and connection.execute(_HOLD, {"account": account_id, "amount": amount}).rowcount == 0:
        account = connection.execute(select(accounts).where(accounts.c.id == account_id)).mappings().one()
        return Missing(amount - (account["available_micros"] - account["floor_micros"]))
    _enter(connection, account_id, "hold", AVAILABLE, HELD, amount, now, task_id=task_id, key_id=key_id, model=model)
    return None


def close(
    connection: Connection,
    account_id: str,
    held: int,
    charged: int,
    *,
    is_made: bool,
    now: float,
    **of: str,
) -> None:
    """End a hold: `charged` of it is ours, what remains is the account's again; `of` is as in `hold`.

    A video that was made (`is_made`) is settled and nothing else, even for nothing; whatever ends otherwise is
    released, even of nothing. That is how the books tell one from the other.

    A second end of the same hold breaks the index on entries, and with it the transaction.
    """
    if not 0 <= charged <= held:
        raise ValueError(f"{charged} of {held} held micro-dollars can't be charged")
    if charged or is_made:
        _enter(connection, account_id, "settle", HELD, REVENUE, charged, now, **of)
    if held > charged or not is_made:
        _enter(connection, account_id, "release", HELD, AVAILABLE, held - charged, now, **of)
    if held:
        connection.execute(_CLOSE, {"account": account_id, "amount": held, "back": held - charged})


def credit(
    connection: Connection, account_id: str, amount: int, *, note: str, now: float, name: str = ""
) -> Missing | Before | None:
    """Give an account credit, or (a negative amount) take some back, never below its floor.

    `name`, if any, is the giver's for this one credit: it is entered once, however often it is asked for.
    """
    number = sha256(f"{account_id}\n{name}".encode()).hexdigest()[:32] if name else None
    if number:
        connection.execute(select(accounts.c.id).where(accounts.c.id == account_id).with_for_update(key_share=True))
        same = (entries.c.task_id == number) & (entries.c.kind == "credit")
        before = connection.execute(select(entries.c.credit, entries.c.amount_micros).where(same)).first()
        if before is not None:
            return Before(before.amount_micros if before.credit == AVAILABLE else -before.amount_micros)
    taken = max(0, -amount)
    after = accounts.c.available_micros + amount
    statement = update(accounts).where(accounts.c.id == account_id).values(available_micros=after)
    if taken:
        statement = statement.where(or_(accounts.c.is_unlimited, after >= accounts.c.floor_micros))
    if connection.execute(statement).rowcount == 0:
        account = connection.execute(select(accounts).where(accounts.c.id == account_id)).mappings().one()
        return Missing(taken - (account["available_micros"] - account["floor_micros"]))
    books = (FUNDING, AVAILABLE) if amount >= 0 else (AVAILABLE, FUNDING)
    _enter(connection, account_id, "credit", *books, abs(amount), now, task_id=number, note=note)
    return None


def _enter(
    connection: Connection,
    account_id: str,
    kind: str,
    debit: str,
    credited: str,
    amount: int,
    now: float,
    **of: Any,
) -> None:
    row = {"task_id": None, "key_id": None, "model": "", "note": "", **of}
    row |= {"account_id": account_id, "kind": kind, "debit": debit, "credit": credited, "amount_micros": amount}
    connection.execute(_ENTRY, {**row, "created_at": now})


def spent_since(connection: Connection, key_id: str, moment: float) -> int:
    """Micro-dollars that a key's tasks accepted since `moment` cost: charged, or still held."""
    recent = select(entries.c.task_id).where(
        entries.c.key_id == key_id, entries.c.kind == "hold", entries.c.created_at >= moment
    )
    signed = case((entries.c.kind == "hold", entries.c.amount_micros), else_=-entries.c.amount_micros)
    total = select(func.coalesce(func.sum(signed), 0)).where(
        entries.c.task_id.in_(recent), entries.c.kind.in_(("hold", "release"))
    )
    return int(connection.execute(total).scalar_one())


def audit(connection: Connection) -> list[str]:
    """What is wrong with the books, a sentence each: sums that differ from their entries, holds without a task."""
    found: list[str] = []

    def sums(column: Any, book: str) -> dict[str, int]:
        query = select(entries.c.account_id, func.sum(entries.c.amount_micros)).where(column == book)
        rows = connection.execute(query.group_by(entries.c.account_id)).all()
        return {account_id: int(total) for account_id, total in rows}

    open_holds = (
        select(tasks.c.account_id, func.sum(tasks.c.price_micros))
        .where(tasks.c.status.in_((Status.QUEUED.value, Status.RUNNING.value)))
        .group_by(tasks.c.account_id)
    )
    at_work = {account_id: int(total) for account_id, total in connection.execute(open_holds).all()}
    books = {book: (sums(entries.c.credit, book), sums(entries.c.debit, book)) for book in (AVAILABLE, HELD)}
    for account in connection.execute(select(accounts)).mappings():
        account_id = account["id"]
        for book, (credits, debits) in books.items():
            total = credits.get(account_id, 0) - debits.get(account_id, 0)
            if total != account[f"{book}_micros"]:
                found.append(f"account {account_id}: {book} is {account[f'{book}_micros']}, its entries sum to {total}")
        if account["held_micros"] != at_work.get(account_id, 0):
            held, tasks_hold = account["held_micros"], at_work.get(account_id, 0)
            found.append(f"account {account_id}: {held} is held, for tasks that hold {tasks_hold}")
        if account["available_micros"] < account["floor_micros"] and not account["is_unlimited"]:
            found.append(f"account {account_id}: {account['available_micros']} is below its floor")
    return found
