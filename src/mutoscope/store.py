"""Tasks as rows: add, get, claim, advance, give back, finish, cancel. The row is the queue.

Every write repeats the state it expects in its WHERE, so a worker that lost its lease changes nothing and is told so.
What a task's end brings with it (its hold is settled, its webhook is due) is written in the same transaction. The store
knows no HTTP, no engine and no file, and never decides what a task's work is.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from enum import Enum
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import Connection, RowMapping, and_, bindparam, case, delete, insert, or_, select, update

from mutoscope import ledger, turns
from mutoscope.database import Database, LookUp
from mutoscope.schema import deliveries, keys, tasks
from mutoscope.tasks import AttemptsUsedUpError, Caller, Status, Task, TooLateError, VideoRequest

_GIVEN_UP = (
    "The video could not be made: every attempt ended in an error of the server. Nothing was charged; try again, "
    "and tell the operator if it happens again."
)


class Hold(Enum):
    """What a worker learns when it writes to the task it holds."""

    KEPT = "kept"
    CANCEL = "cancel"  # still held, but its owner wants it ended
    LOST = "lost"  # another attempt has it, or it has ended: nothing was written


def task_from_row(row: RowMapping | Mapping[str, Any]) -> Task:
    """A row of `tasks` as the domain knows it."""
    values = {name: row[name] for name in _TASK_FIELDS}
    request = values["request"]
    values["request"] = VideoRequest(**{**request, "images": tuple(request["images"])})
    values["status"] = Status(values["status"])
    return Task(**values)


_TASK_FIELDS = tuple(Task.__slots__)
_BLANK = dict.fromkeys(_TASK_FIELDS)
_LET_GO = {"worker": None, "lease_until": None, "stage": "", "preview": None}
_ENDED = [
    tasks.c[name]
    for name in (
        "id", "key_id", "account_id", "model", "status", "price_micros", "charged_micros", "cost", "started_at",
        "webhook_url",
    )
]  # fmt: skip

_LONGEST_STAGE = 64  # which PostgreSQL holds the column to

_TOO_LATE = "No worker was free before the task's deadline. Nothing was charged; try again later."

# Compiled once, run thousands of times a second.
_OF_KEY = LookUp(select(tasks).where(tasks.c.id == bindparam("id"), tasks.c.key_id == bindparam("key_id")))
_POLL = LookUp(
    select(keys.c.id.label("caller"), keys.c.scopes.label("scopes"), keys.c.expires_at.label("expires_at"), tasks)
    .select_from(
        keys.outerjoin(tasks, and_(tasks.c.id == bindparam("id"), tasks.c.key_id == keys.c.id)),
    )
    .where(keys.c.digest == bindparam("digest"), keys.c.revoked_at.is_(None))
)
_IS_QUEUED = tasks.c.status == Status.QUEUED.value
_IS_RUNNING = tasks.c.status == Status.RUNNING.value
_TAKE = (
    update(tasks)
    .where(tasks.c.seq == bindparam("chosen"), _IS_QUEUED)
    .values(
        status=Status.RUNNING.value,
        attempt=tasks.c.attempt + 1,
        worker=bindparam("by"),
        lease_until=bindparam("until"),
        started_at=bindparam("now"),
        stage="starting",
        progress=0.0,
        deadline_at=None,  # it was started in time; should it go back, it waits
        turn=bindparam("at_turn"),
    )
    .returning(tasks)
)
_ADD = insert(tasks)


def _held(task: Task) -> Any:
    # The attempt alone says who holds the task: every claim counts it up, so no two workers share one.
    return and_(tasks.c.id == task.id, tasks.c.attempt == task.attempt, _IS_RUNNING)


def _unlocked(condition: Any) -> Any:
    # Of rows that another process is changing right now, it sees to what this one would.
    found = select(tasks.c.seq).where(condition).correlate(None).with_for_update(skip_locked=True)
    return tasks.c.seq.in_(found)


class Store:
    """The rows of one database. Safe to share between threads.

    `lease_seconds`, `max_attempts` and `max_losses` as in Settings; `clock` gives seconds since the epoch, and is the
    database's own if left out.
    """

    def __init__(
        self,
        database: Database,
        *,
        lease_seconds: float = 15,
        max_attempts: int = 3,
        max_losses: int = 50,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.database = database
        self._lease_seconds = lease_seconds
        self._max_attempts = max_attempts
        self._max_losses = max_losses
        self._clock = clock or database.now

    # Submitting and reading

    def add(
        self,
        task_id: str,
        caller: Caller,
        model: str,
        engine: str,
        request: VideoRequest,
        *,
        connection: Connection,
        base64_output: bool = False,
        price_micros: int = 0,
        cost: float = 0.0,
        turn: float = 0.0,
        priority: int = 0,
        deadline_at: float | None = None,
        webhook_url: str = "",
        base_url: str = "",
    ) -> Task:
        """Write down a task, inside the caller's transaction. Whether it may be one is decided in `admission.py`."""
        row: dict[str, Any] = {
            "id": task_id,
            "key_id": caller.key_id,
            "account_id": caller.account_id,
            "model": model,
            "engine": engine,
            "request": asdict(request),
            "base64_output": base64_output,
            "status": Status.QUEUED.value,
            "created_at": self._clock(),
            "attempt": 0,
            "failures": 0,
            "losses": 0,
            "stage": "",
            "progress": 0.0,
            "cancel_requested": False,
            "error": "",
            "error_code": 0,
            "timings": {},
            "price_micros": price_micros,
            "cost": cost,
            "turn": turn,
            "priority": priority,
            "deadline_at": deadline_at,
            "webhook_url": webhook_url,
            "base_url": base_url,
            "is_favourite": False,
        }
        result = connection.execute(_ADD, row)
        key = result.inserted_primary_key
        return task_from_row({**_BLANK, **row, "seq": key[0] if key else 0})

    def poll(self, digest: str, task_id: str) -> tuple[bool, Task | None]:
        """Whether a key of this digest may read, and its task of this id: in one statement, for the busiest route."""
        row = self.database.look_up(_POLL, {"digest": digest, "id": task_id})
        if row is None or (row["expires_at"] is not None and row["expires_at"] <= self._clock()):
            return False, None
        return True, task_from_row(row) if row["seq"] is not None else None

    def get(self, key_id: str, task_id: str) -> Task | None:
        """The task of this id, if it is this key's."""
        row = self.database.look_up(_OF_KEY, {"id": task_id, "key_id": key_id})
        return task_from_row(row) if row else None

    def newest(self, limit: int = 50) -> list[Task]:
        """The newest tasks of all keys first, for the operator."""
        query = select(tasks).order_by(tasks.c.seq.desc()).limit(limit)
        with self.database.connect() as connection:
            return [task_from_row(row) for row in connection.execute(query).mappings()]

    def find(self, task_id: str) -> Task | None:
        """The task of this id, whoever owns it: for the operator and the worker, never for a caller of the API."""
        with self.database.connect() as connection:
            row = connection.execute(select(tasks).where(tasks.c.id == task_id)).mappings().first()
        return task_from_row(row) if row else None

    # Working

    def claim(self, worker: str, engines: Sequence[str]) -> Task | None:
        """The task whose turn it is that one of `engines` can render, now running under this worker's lease; or None.

        Tasks whose lease has run out are queued again first; those whose deadline is over have failed.
        """
        now = self._clock()
        with self.database.connect() as connection:  # most looks find nothing: don't take the write lock for them
            has_lapsed, has_late, has_queued = turns.look(connection, engines, now)
        # Each in a transaction of its own, so that none holds one account's row while it waits for another's.
        if has_lapsed:
            with self.database.write() as connection:
                self._lapse(connection, _unlocked(and_(_IS_RUNNING, tasks.c.lease_until < now)))
        if has_late:
            self.expire()
        if not (has_lapsed or has_queued):
            return None
        while True:
            try:
                with self.database.write() as connection:
                    row = self._take(connection, worker, engines, now)
                return task_from_row(row) if row else None
            except turns.Full:  # which now everybody can see
                continue

    def _take(self, connection: Connection, worker: str, engines: Sequence[str], now: float) -> RowMapping | None:
        if (chosen := turns.choose(connection, engines)) is None:
            return None
        seq, turn = chosen
        values = {"chosen": seq, "by": worker, "now": now, "until": now + self._lease_seconds, "at_turn": turn}
        return connection.execute(_TAKE, values).mappings().first()

    def renew(self, task: Task) -> Hold:
        """Hold the task for another lease."""
        return self._write_held(task, lease_until=self._clock() + self._lease_seconds)

    def advance(self, task: Task, stage: str, progress: float, preview: str | None = None) -> Hold:
        """Note how far the work is (0 to 1), and a new preview where there is one, and renew the lease."""
        noted = {"stage": stage[:_LONGEST_STAGE], "progress": progress} | ({"preview": preview} if preview else {})
        return self._write_held(task, lease_until=self._clock() + self._lease_seconds, **noted)

    def succeed(
        self, task: Task, output: str, poster: str, timings: dict[str, int], receipt: dict[str, Any] | None = None
    ) -> Hold:
        """The video is whole and stored under these keys; `receipt` says how it was made. Its price is charged.

        CANCEL, with nothing written, where a cancel came first.
        """
        made = {"output": output, "poster": poster, "timings": timings, "receipt": receipt}
        wanted = tasks.c.cancel_requested.is_(False)
        hold = self._finish(task, Status.SUCCEEDED, wanted, charged=task.price_micros, progress=1.0, **made)
        if hold is not Hold.LOST:
            return hold
        # It may be written already: where the connection broke as it was committed, it is written twice.
        found = self.find(task.id)
        if found is not None and (found.status, found.attempt) == (Status.SUCCEEDED, task.attempt):
            return Hold.KEPT
        return self.renew(task)

    def fail(self, task: Task, message: str, code: int) -> Hold:
        """The task can't be rendered: `message` tells its owner why and what to do. Nothing is charged."""
        return self._finish(task, Status.FAILED, error=message, error_code=code)

    def end_canceled(self, task: Task, done: float = 0.0) -> Hold:
        """The work has stopped because the task's owner wanted it; `done` of it (0 to 1) is charged, rounded down."""
        return self._finish(task, Status.CANCELED, charged=int(task.price_micros * min(1.0, max(0.0, done))))

    def give_back(self, task: Task, *, failed: bool = False) -> Hold:
        """Let another worker have the task; `failed` counts against its attempts, being told to stop does not."""
        with self.database.write() as connection:
            freed = self._lapse(connection, _held(task), failures=1 if failed else 0, losses=0)
        return Hold.KEPT if freed else Hold.LOST

    def release(self, worker: str, *, failed: bool) -> int:
        """Give back all that a worker process held that is known to be dead; returns how many tasks that were.

        `failed`: it died of its own doing (which counts as a failed attempt) rather than being killed.
        """
        held = and_(tasks.c.worker == worker, _IS_RUNNING)
        with self.database.write() as connection:
            return self._lapse(connection, held, failures=1 if failed else 0, losses=0 if failed else 1)

    def expire(self) -> int:
        """Fail the queued tasks whose deadline is over; returns how many those were."""
        now = self._clock()
        late = (
            update(tasks)
            .where(_unlocked(and_(_IS_QUEUED, tasks.c.deadline_at < now)))
            .values(status=Status.FAILED.value, finished_at=now, error=_TOO_LATE, error_code=TooLateError.code)
            .values(charged_micros=0)
            .returning(*_ENDED)
        )
        with self.database.write() as connection:
            return self._end(connection, connection.execute(late).mappings().all())

    def _lapse(self, connection: Connection, condition: Any, *, failures: int = 0, losses: int = 1) -> int:
        # Arrows d, e and g of the picture in tasks.py, for tasks that nobody works on any more.
        now = self._clock()
        used_up = or_(
            tasks.c.failures + failures >= self._max_attempts,
            tasks.c.losses + losses >= self._max_losses,
        )

        def by_fate(canceled: Any, failed: Any, queued: Any) -> Any:
            return case((tasks.c.cancel_requested, canceled), (used_up, failed), else_=queued)

        statement = (
            update(tasks)
            .where(condition)
            .values(
                status=by_fate(Status.CANCELED.value, Status.FAILED.value, Status.QUEUED.value),
                finished_at=by_fate(now, now, None),
                error=by_fate("", _GIVEN_UP, ""),
                error_code=by_fate(0, AttemptsUsedUpError.code, 0),
                failures=tasks.c.failures + failures,
                losses=tasks.c.losses + losses,
                charged_micros=by_fate(0, 0, None),
                progress=0.0,
                **_LET_GO,
            )
            .returning(*_ENDED)
        )
        return self._end(connection, connection.execute(statement).mappings().all())

    def _end(self, connection: Connection, rows: Sequence[RowMapping]) -> int:
        """What the end of a task brings with it, for those of `rows` that have ended; returns how many rows there are.

        The side effects of an end are rows of the same transaction: none is ever lost, and none happens twice.
        """
        now = self._clock()
        # By account, as everybody who writes to several: so no two ever wait for each other.
        for row in sorted(rows, key=lambda row: row["account_id"]):
            status = Status(row["status"])
            if not status.is_terminal:
                continue
            whose = {"task_id": row["id"], "key_id": row["key_id"]}
            amounts, of = (row["price_micros"], row["charged_micros"]), {**whose, "model": row["model"]}
            ledger.close(connection, row["account_id"], *amounts, is_made=status is Status.SUCCEEDED, now=now, **of)
            if status is Status.SUCCEEDED:
                turns.correct(connection, row["account_id"], now - row["started_at"] - row["cost"])
            if row["webhook_url"] and status is not Status.CANCELED:
                to = {"url": row["webhook_url"], "receiver": urlsplit(row["webhook_url"]).netloc.lower()}
                due = {"status": "due", "attempts": 0, "due_at": now, "created_at": now}
                connection.execute(insert(deliveries), {"id": uuid.uuid4().hex, **whose, **to, **due})
        return len(rows)

    def _write_held(self, task: Task, **values: Any) -> Hold:
        statement = update(tasks).where(_held(task)).values(**values).returning(tasks.c.cancel_requested)
        with self.database.write() as connection:
            cancel = connection.execute(statement).scalar()
        if cancel is None:
            return Hold.LOST
        return Hold.CANCEL if cancel else Hold.KEPT

    def _finish(self, task: Task, status: Status, *conditions: Any, charged: int = 0, **values: Any) -> Hold:
        ended = {**_LET_GO, "charged_micros": charged}
        statement = (
            update(tasks)
            .where(_held(task), *conditions)
            .values(status=status.value, finished_at=self._clock(), **ended, **values)
            .returning(*_ENDED)
        )
        with self.database.write() as connection:
            return Hold.KEPT if self._end(connection, connection.execute(statement).mappings().all()) else Hold.LOST

    # Ending

    def cancel(self, key_id: str | None, task_id: str) -> Task | None:
        """End a queued task at once, a running one at its next step; leave an ended one as it is. None: no such task.

        `key_id` None is the operator, who may cancel any.
        """
        mine = tasks.c.id == task_id if key_id is None else and_(tasks.c.id == task_id, tasks.c.key_id == key_id)
        queued = tasks.c.status == Status.QUEUED.value
        statement = (
            update(tasks)
            .where(mine, tasks.c.status.in_((Status.QUEUED.value, Status.RUNNING.value)))
            .values(
                cancel_requested=True,
                status=case((queued, Status.CANCELED.value), else_=tasks.c.status),
                finished_at=case((queued, self._clock()), else_=None),
                charged_micros=case((queued, 0), else_=None),
            )
            .returning(*_ENDED)
        )
        with self.database.write() as connection:
            self._end(connection, connection.execute(statement).mappings().all())
            row = connection.execute(select(tasks).where(mine)).mappings().first()
        return task_from_row(row) if row else None

    def remove(self, task_ids: Sequence[str]) -> None:
        """Forget ended tasks and their webhooks. Their files are the caller's to delete, last."""
        ended = tasks.c.status.in_((Status.SUCCEEDED.value, Status.FAILED.value, Status.CANCELED.value))
        with self.database.write() as connection:
            gone = connection.execute(delete(tasks).where(tasks.c.id.in_(task_ids), ended).returning(tasks.c.id))
            connection.execute(delete(deliveries).where(deliveries.c.task_id.in_(gone.scalars().all())))
