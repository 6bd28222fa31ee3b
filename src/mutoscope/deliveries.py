"""Webhooks to be delivered, as rows: what is due, to whom, what came of each attempt. Sends nothing.

A delivery is claimed by moving its `due_at` past the time that an attempt can take. Whoever claimed it notes what came
of it; if they never do, it is due again. So any number of processes may deliver, and a crash only delays.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import RowMapping, bindparam, func, insert, select, update

from mutoscope.database import Database
from mutoscope.schema import deliveries, delivery_attempts, tasks
from mutoscope.store import task_from_row
from mutoscope.tasks import Task

State = Literal["due", "delivered", "refused", "given_up"]

_LOOKED_AT_ONCE = 256

_DECIDE = (
    update(deliveries)
    .where(deliveries.c.id == bindparam("delivery"), deliveries.c.attempts == bindparam("attempt"))
    .where(deliveries.c.status == "due")
    .values(status=bindparam("state"), due_at=bindparam("due"), ended_at=bindparam("ended"))
)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A webhook that is being sent, for the `attempt`-th time; that number is the fencing token of what is noted."""

    id: str
    task: Task
    url: str
    receiver: str  # host and port of the URL
    attempt: int
    created_at: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attempt. `due_at` is the time of the next one; None: `state` is the end of it."""

    delivery: Delivery
    made_at: float
    milliseconds: int
    status_code: int | None
    error: str
    state: State
    due_at: float | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """A delivery as people see it, with its attempts so far, the oldest first."""

    row: RowMapping
    log: Sequence[RowMapping]


class Deliveries:
    """The deliveries of one database. Safe to share between threads."""

    def __init__(self, database: Database, *, clock: Callable[[], float] | None = None) -> None:
        self._database = database
        self.clock = clock or database.now

    def claim(
        self,
        has_room: Callable[[str, str], bool],
        lease_seconds: float,
        *,
        without_receivers: Collection[str] = (),
        without_keys: Collection[str] = (),
    ) -> list[Delivery]:
        """Deliveries that are due, the longest first; nobody else is handed them for `lease_seconds`.

        `has_room` is asked for each, with its receiver and key, whether to take it. None is of the receivers and keys
        that are left out; so call again until nothing is claimed.
        """
        now = self.clock()
        is_due = (deliveries.c.status == "due", deliveries.c.due_at <= now)
        waiting = (
            select(deliveries.c.id, deliveries.c.receiver, deliveries.c.key_id)
            .where(*is_due)
            .where(deliveries.c.receiver.not_in(without_receivers), deliveries.c.key_id.not_in(without_keys))
            .order_by(deliveries.c.due_at)
            .limit(_LOOKED_AT_ONCE)
        )
        with self._database.connect() as connection:  # most looks find nothing: don't take the write lock for them
            ids = [row.id for row in connection.execute(waiting) if has_room(row.receiver, row.key_id)]
        if not ids:
            return []
        # What another process is claiming right now is its own.
        unclaimed = select(deliveries.c.id).where(deliveries.c.id.in_(ids), *is_due).correlate(None)
        unclaimed = unclaimed.with_for_update(skip_locked=True)
        with self._database.write() as connection:
            claimed = connection.execute(
                update(deliveries)
                .where(deliveries.c.id.in_(unclaimed))
                .values(attempts=deliveries.c.attempts + 1, due_at=now + lease_seconds)
                .returning(deliveries)
            )
            rows = {row["task_id"]: row for row in claimed.mappings()}
            found = connection.execute(select(tasks).where(tasks.c.id.in_(rows))).mappings()
            pairs = [(rows[task["id"]], task_from_row(task)) for task in found]
        return [
            Delivery(row["id"], task, row["url"], row["receiver"], row["attempts"], row["created_at"])
            for row, task in sorted(pairs, key=lambda pair: float(pair[0]["created_at"]))
        ]

    def note(self, outcomes: Sequence[Outcome]) -> None:
        """Write down what came of attempts. One that was claimed again since is logged, and decides nothing."""
        with self._database.write() as connection:
            ids = [outcome.delivery.id for outcome in outcomes]
            kept = set(connection.execute(select(deliveries.c.id).where(deliveries.c.id.in_(ids))).scalars())
            told = [outcome for outcome in outcomes if outcome.delivery.id in kept]  # the others' tasks are deleted
            if told:
                connection.execute(_DECIDE, [_decision(outcome) for outcome in told])
                connection.execute(insert(delivery_attempts), [_entry(outcome) for outcome in told])

    def replay(self, delivery_id: str, key_id: str | None = None) -> bool:
        """Have it sent again now, whatever came of it before; False where there is none of this id (and key)."""
        statement = update(deliveries).where(deliveries.c.id == delivery_id)
        if key_id is not None:
            statement = statement.where(deliveries.c.key_id == key_id)
        with self._database.write() as connection:
            again = connection.execute(statement.values(status="due", due_at=self.clock(), ended_at=None))
        return again.rowcount > 0

    def page(self, page: int, size: int, key_id: str | None = None) -> tuple[int, list[Listed]]:
        """How many there are (of a key, or for the operator of all), and one page of them, the newest first."""

        mine = () if key_id is None else (deliveries.c.key_id == key_id,)
        newest = select(deliveries).where(*mine).order_by(deliveries.c.created_at.desc(), deliveries.c.id)
        with self._database.snapshot() as connection:
            total = connection.execute(select(func.count()).select_from(deliveries).where(*mine)).scalar_one()
            rows = connection.execute(newest.offset((page - 1) * size).limit(size)).mappings().all()
            ids = [row["id"] for row in rows]
            made = select(delivery_attempts).where(delivery_attempts.c.delivery_id.in_(ids))
            attempts = connection.execute(made.order_by(delivery_attempts.c.seq)).mappings().all()
        return total, [Listed(row, [made for made in attempts if made["delivery_id"] == row["id"]]) for row in rows]


def _decision(outcome: Outcome) -> dict[str, Any]:
    is_over = outcome.due_at is None  # then `due_at` means nothing, but no delivery is without one
    return {
        "delivery": outcome.delivery.id,
        "attempt": outcome.delivery.attempt,
        "state": outcome.state,
        "due": outcome.made_at if is_over else outcome.due_at,
        "ended": outcome.made_at if is_over else None,
    }


def _entry(outcome: Outcome) -> dict[str, Any]:
    return {
        "delivery_id": outcome.delivery.id,
        "made_at": outcome.made_at,
        "status_code": outcome.status_code,
        "error": outcome.error,
        "milliseconds": outcome.milliseconds,
    }
