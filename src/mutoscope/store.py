"""Tasks and uploads as rows: add, get, claim, advance, give back, finish, cancel. The row is the queue.

Every write repeats the state it expects in its WHERE, so a worker that lost its lease changes nothing and is told so.
The store knows no HTTP, no engine and no file, and never decides what a task's work is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from enum import Enum
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    Executable,
    RowMapping,
    and_,
    bindparam,
    case,
    delete,
    insert,
    or_,
    select,
    update,
)

from mutoscope.schema import keys, tasks, uploads
from mutoscope.tasks import AttemptsUsedUpError, Status, Task, VideoRequest

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
_STANDING = (Status.RUNNING, Status.SUCCEEDED)

# Compiled once, run thousands of times a second.
_BY_KEY_DIGEST = select(keys.c.id).where(keys.c.digest == bindparam("digest"), keys.c.revoked_at.is_(None))
_OF_KEY = select(tasks).where(tasks.c.id == bindparam("id"), tasks.c.key_id == bindparam("key_id"))
_POLL = (
    select(keys.c.id.label("caller"), tasks)
    .select_from(
        keys.outerjoin(tasks, and_(tasks.c.id == bindparam("id"), tasks.c.key_id == keys.c.id)),
    )
    .where(keys.c.digest == bindparam("digest"), keys.c.revoked_at.is_(None))
)


class Store:
    """The rows of one database. Safe to share between threads.

    `lease_seconds`, `max_attempts` and `max_losses` as in Settings; `clock` gives seconds since the epoch.
    """

    def __init__(
        self,
        database: Engine,
        *,
        lease_seconds: float = 15,
        max_attempts: int = 3,
        max_losses: int = 50,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.database = database
        self.reads_are_local = database.dialect.name == "sqlite"
        self._lease_seconds = lease_seconds
        self._max_attempts = max_attempts
        self._max_losses = max_losses
        self._clock = clock
        self._one_writer = threading.Lock()
        self._reader: Connection | None = None
        self._one_reader = threading.Lock()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is committed at the end of the block, or rolled back if it raises."""
        if not self.reads_are_local:
            with self.database.begin() as connection:
                yield connection
            return
        # SQLite has one writer: threads queue here, in order, rather than sleep and retry inside SQLite.
        with self._one_writer, self.database.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection
            connection.commit()

    def _look_up(self, statement: Executable, parameters: dict[str, str]) -> RowMapping | None:
        """The first row of a statement that finds at most one, by an index."""
        if not self.reads_are_local:
            with self.database.connect() as connection:
                return connection.execute(statement, parameters).mappings().first()
        # Checking a connection out of the pool and back in costs as much as such a read does, so one is kept. It holds
        # no transaction open between reads: the driver is in autocommit mode.
        with self._one_reader:
            if self._reader is None:
                self._reader = self.database.connect()
            return self._reader.execute(statement, parameters).mappings().first()

    # Submitting and reading

    def add(
        self,
        task_id: str,
        key_id: str,
        model: str,
        engine: str,
        request: VideoRequest,
        *,
        base64_output: bool = False,
        connection: Connection,
    ) -> Task:
        """Accept a task, inside the caller's transaction (see `write` and `GroupCommit`)."""
        row: dict[str, Any] = {
            "id": task_id,
            "key_id": key_id,
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
        }
        result = connection.execute(insert(tasks), row)
        key = result.inserted_primary_key
        blank = dict.fromkeys(("started_at", "finished_at", "output", "poster", "receipt"))
        return task_from_row({**row, **blank, "seq": key[0] if key else 0})

    def caller(self, digest: str) -> str | None:
        """The id of the key with this digest, unless it was revoked."""
        row = self._look_up(_BY_KEY_DIGEST, {"digest": digest})
        return row["id"] if row else None

    def poll(self, digest: str, task_id: str) -> tuple[str | None, Task | None]:
        """Who is asking, and their task of this id: `caller` and `get` in one statement, for the busiest route."""
        row = self._look_up(_POLL, {"digest": digest, "id": task_id})
        if row is None:
            return None, None
        return row["caller"], task_from_row(row) if row["seq"] is not None else None

    def get(self, key_id: str, task_id: str) -> Task | None:
        """The task of this id, if it is this key's."""
        row = self._look_up(_OF_KEY, {"id": task_id, "key_id": key_id})
        return task_from_row(row) if row else None

    def newest(self, *, key_id: str | None = None, status: Status | None = None, limit: int = 50) -> list[Task]:
        """The newest tasks first; of one key, or (for an operator) of all."""
        query = select(tasks).order_by(tasks.c.seq.desc()).limit(limit)
        if key_id is not None:
            query = query.where(tasks.c.key_id == key_id)
        if status is not None:
            query = query.where(tasks.c.status == status.value)
        with self.database.connect() as connection:
            return [task_from_row(row) for row in connection.execute(query).mappings()]

    def find(self, task_id: str) -> Task | None:
        """The task of this id, whoever owns it: for the operator and the worker, never for a caller of the API."""
        with self.database.connect() as connection:
            row = connection.execute(select(tasks).where(tasks.c.id == task_id)).mappings().first()
        return task_from_row(row) if row else None

    # Working

    def claim(self, worker: str, engines: Sequence[str]) -> Task | None:
        """The oldest queued task that one of `engines` can render, now running under this worker's lease; or None.

        Tasks whose lease has run out are queued again first.
        """
        now = self._clock()
        lapsed = and_(tasks.c.status == Status.RUNNING.value, tasks.c.lease_until < now)
        queued = and_(tasks.c.status == Status.QUEUED.value, tasks.c.engine.in_(engines))
        with self.database.connect() as connection:  # most looks find nothing: don't take the write lock for them
            if connection.execute(select(tasks.c.seq).where(or_(lapsed, queued)).limit(1)).first() is None:
                return None
        with self.write() as connection:
            connection.execute(self._lapse(lapsed, now))
            oldest = select(tasks.c.seq).where(queued).order_by(tasks.c.seq).limit(1).with_for_update(skip_locked=True)
            row = (
                connection.execute(
                    update(tasks)
                    .where(tasks.c.seq == oldest.scalar_subquery(), tasks.c.status == Status.QUEUED.value)
                    .values(
                        status=Status.RUNNING.value,
                        attempt=tasks.c.attempt + 1,
                        worker=worker,
                        lease_until=now + self._lease_seconds,
                        started_at=now,
                        stage="starting",
                        progress=0.0,
                    )
                    .returning(tasks)
                )
                .mappings()
                .first()
            )
        return task_from_row(row) if row else None

    def renew(self, task: Task) -> Hold:
        """Hold the task for another lease."""
        return self._write_held(task, lease_until=self._clock() + self._lease_seconds)

    def advance(self, task: Task, stage: str, progress: float) -> Hold:
        """Note how far the work is (0 to 1), and renew the lease."""
        return self._write_held(task, stage=stage, progress=progress, lease_until=self._clock() + self._lease_seconds)

    def succeed(
        self, task: Task, output: str, poster: str, timings: dict[str, int], receipt: dict[str, Any] | None = None
    ) -> Hold:
        """The video is whole and stored under these keys; `receipt` says how it was made.

        CANCEL, with nothing written, where a cancel came first.
        """
        made = {"output": output, "poster": poster, "timings": timings, "receipt": receipt}
        wanted = tasks.c.cancel_requested.is_(False)
        hold = self._finish(task, Status.SUCCEEDED, wanted, progress=1.0, **made)
        return self.renew(task) if hold is Hold.LOST else hold

    def fail(self, task: Task, message: str, code: int) -> Hold:
        """The task can't be rendered: `message` tells its owner why and what to do."""
        return self._finish(task, Status.FAILED, error=message, error_code=code)

    def end_canceled(self, task: Task) -> Hold:
        """The work has stopped because the task's owner wanted it."""
        return self._finish(task, Status.CANCELED)

    def give_back(self, task: Task, *, failed: bool = False) -> Hold:
        """Let another worker have the task; `failed` counts against its attempts, being told to stop does not."""
        now = self._clock()
        held = and_(tasks.c.id == task.id, tasks.c.attempt == task.attempt, tasks.c.status == Status.RUNNING.value)
        statement = self._lapse(held, now, failures=1 if failed else 0, losses=0)
        with self.write() as connection:
            return Hold.KEPT if connection.execute(statement).rowcount else Hold.LOST

    def release(self, worker: str, *, failed: bool) -> int:
        """Give back all that a worker process held that is known to be dead; returns how many tasks that were.

        `failed`: it died of its own doing (which counts as a failed attempt) rather than being killed.
        """
        held = and_(tasks.c.worker == worker, tasks.c.status == Status.RUNNING.value)
        statement = self._lapse(held, self._clock(), failures=1 if failed else 0, losses=0 if failed else 1)
        with self.write() as connection:
            return connection.execute(statement).rowcount

    def _lapse(self, condition: Any, now: float, *, failures: int = 0, losses: int = 1) -> Any:
        # Arrows d, e and g of the picture in tasks.py, for tasks that nobody works on any more.
        used_up = or_(
            tasks.c.failures + failures >= self._max_attempts,
            tasks.c.losses + losses >= self._max_losses,
        )

        def by_fate(canceled: Any, failed: Any, queued: Any) -> Any:
            return case((tasks.c.cancel_requested, canceled), (used_up, failed), else_=queued)

        return (
            update(tasks)
            .where(condition)
            .values(
                status=by_fate(Status.CANCELED.value, Status.FAILED.value, Status.QUEUED.value),
                finished_at=by_fate(now, now, None),
                error=by_fate("", _GIVEN_UP, ""),
                error_code=by_fate(0, AttemptsUsedUpError.code, 0),
                failures=tasks.c.failures + failures,
                losses=tasks.c.losses + losses,
                worker=None,
                lease_until=None,
                stage="",
                progress=0.0,
            )
        )

    def _write_held(self, task: Task, *conditions: Any, **values: Any) -> Hold:
        # The attempt alone says who holds the task: every claim counts it up, so no two workers share one.
        statement = (
            update(tasks)
            .where(tasks.c.id == task.id, tasks.c.attempt == task.attempt, tasks.c.status == Status.RUNNING.value)
            .where(*conditions)
            .values(**values)
            .returning(tasks.c.cancel_requested)
        )
        with self.write() as connection:
            cancel = connection.execute(statement).scalar()
        if cancel is None:
            return Hold.LOST
        return Hold.CANCEL if cancel else Hold.KEPT

    def _finish(self, task: Task, status: Status, *conditions: Any, **values: Any) -> Hold:
        ended = {"status": status.value, "finished_at": self._clock(), "worker": None, "lease_until": None, "stage": ""}
        return self._write_held(task, *conditions, **ended, **values)

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
            )
        )
        with self.write() as connection:
            connection.execute(statement)
            row = connection.execute(select(tasks).where(mine)).mappings().first()
        return task_from_row(row) if row else None

    def remove(self, task_ids: Sequence[str]) -> None:
        """Forget ended tasks. Their files are the caller's to delete, first."""
        ended = tasks.c.status.in_((Status.SUCCEEDED.value, Status.FAILED.value, Status.CANCELED.value))
        with self.write() as connection:
            connection.execute(delete(tasks).where(tasks.c.id.in_(task_ids), ended))

    def ended_before(self, moment: float, limit: int = 500) -> list[Task]:
        """Ended tasks, oldest first, whose retention is over."""
        # The first condition follows from the second, and is the one with an index.
        old = and_(tasks.c.created_at < moment, tasks.c.finished_at < moment)
        query = select(tasks).where(old).order_by(tasks.c.created_at).limit(limit)
        with self.database.connect() as connection:
            return [task_from_row(row) for row in connection.execute(query).mappings()]

    def standing(self, task_ids: Iterable[str]) -> set[tuple[str, int]]:
        """Of these tasks, (id, attempt) of the attempts that run or have won: the only ones whose files count."""
        # The status is judged here: SQLite would take the index on it, and read all that ever succeeded.
        query = select(tasks.c.id, tasks.c.attempt, tasks.c.status).where(tasks.c.id.in_(task_ids))
        with self.database.connect() as connection:
            rows = connection.execute(query)
            return {(task_id, attempt) for task_id, attempt, status in rows if status in _STANDING}

    # Uploads

    def add_upload(
        self, upload_id: str, key_id: str, *, filename: str, content_type: str, size: int, file: str
    ) -> None:
        """Note a file that a caller has sent, or has a ticket to send."""
        row = {
            "id": upload_id,
            "key_id": key_id,
            "filename": filename,
            "content_type": content_type,
            "size": size,
            "file": file,
            "created_at": self._clock(),
        }
        with self.write() as connection:
            connection.execute(insert(uploads), row)

    def get_upload(self, upload_id: str) -> RowMapping | None:
        with self.database.connect() as connection:
            return connection.execute(select(uploads).where(uploads.c.id == upload_id)).mappings().first()

    def uploads_before(self, moment: float, limit: int = 500) -> Sequence[RowMapping]:
        """Uploads whose retention is over."""
        with self.database.connect() as connection:
            return (
                connection.execute(select(uploads).where(uploads.c.created_at < moment).limit(limit)).mappings().all()
            )

    def remove_uploads(self, upload_ids: Sequence[str]) -> None:
        with self.write() as connection:
            connection.execute(delete(uploads).where(uploads.c.id.in_(upload_ids)))
