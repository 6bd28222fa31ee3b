"""Whether a submission becomes a task: asked before? too fast? over its cap? can it pay? All in one transaction.

Knows the order of these questions and nothing of HTTP. A refusal is returned, not raised, and leaves nothing behind: it
must not undo what others write in the same commit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from mutoscope import ledger, turns
from mutoscope.database import Database
from mutoscope.schema import accounts, keys, submissions, tasks
from mutoscope.store import Store, task_from_row
from mutoscope.tasks import Caller, Status, Task, VideoRequest

REMEMBERED_SECONDS = 24 * 3600
"""How long an Idempotency-Key means the same task."""

SYNC = "sync:"
"""How the names of held requests begin, which their callers did not give."""

_CAME_TO_NOTHING = (Status.FAILED.value, Status.CANCELED.value)
_DAY = 24 * 3600
_MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Submission:
    """What a caller asks for, priced. `cost` is the seconds of work that its turn in the queue is reckoned with.

    `name` and `body_digest` make a repetition the same task: within `window_seconds`, a submission of the same name
    must have the same body.
    """

    task_id: str
    caller: Caller
    model: str
    engine: str
    request: VideoRequest
    price_micros: int = 0
    cost: float = 1.0
    base64_output: bool = False
    priority: int = 0
    deadline_at: float | None = None
    webhook_url: str = ""
    base_url: str = ""
    name: str = ""
    body_digest: str = ""
    window_seconds: float = REMEMBERED_SECONDS


@dataclass(frozen=True, slots=True)
class Admitted:
    """The task, durable once the transaction is; not `is_new` when it was asked for before."""

    task: Task
    is_new: bool


@dataclass(frozen=True, slots=True)
class TooFast:
    """The key has used up its videos per minute, until so many seconds from now."""

    videos_per_minute: int
    retry_seconds: float


@dataclass(frozen=True, slots=True)
class OverCap:
    """The key's cap for the day leaves too little, by so many micro-dollars."""

    missing_micros: int


@dataclass(frozen=True, slots=True)
class Reused:
    """The name was used before for something else, or for a task that is gone."""

    is_gone: bool


Refusal = ledger.Missing | TooFast | OverCap | Reused

_LOCK = select(accounts.c.id).where(accounts.c.id == bindparam("account")).with_for_update(key_share=True)
_ASKED = select(submissions).where(submissions.c.key_id == bindparam("key"), submissions.c.name == bindparam("name"))
_KEY = select(keys.c.daily_cap_micros, keys.c.videos_per_minute, keys.c.rate_until).where(keys.c.id == bindparam("key"))
_SPEND_RATE = update(keys).where(keys.c.id == bindparam("key")).values(rate_until=bindparam("until"))


class Admission:
    """Turns submissions into tasks of one store."""

    def __init__(self, store: Store, *, clock: Callable[[], float] | None = None) -> None:
        self._store = store
        self._clock = clock or store.database.now

    def admit(self, asked: Submission, connection: Connection) -> Admitted | Refusal:
        """Accept a submission inside the caller's transaction, or say why not."""
        now = self._clock()
        caller = asked.caller
        if not self._store.database.is_local:
            # Other processes that ask for this account wait here until this transaction is over.
            connection.execute(_LOCK, {"account": caller.account_id})
        if asked.name and (known := self._asked_before(asked, now, connection)) is not None:
            return known

        key = connection.execute(_KEY, {"key": caller.key_id}).mappings().one()
        share = _MINUTE / key["videos_per_minute"]
        until = max(key["rate_until"], now) + share
        if until - now > _MINUTE + 1e-6:
            return TooFast(key["videos_per_minute"], until - now - _MINUTE)
        cap = key["daily_cap_micros"]
        if cap is not None and asked.price_micros:
            spent = ledger.spent_since(connection, caller.key_id, now - now % _DAY)
            if spent + asked.price_micros > cap:
                return OverCap(spent + asked.price_micros - cap)
        missing = ledger.hold(
            connection,
            caller.account_id,
            asked.price_micros,
            task_id=asked.task_id,
            key_id=caller.key_id,
            model=asked.model,
            now=now,
        )
        if missing is not None:
            return missing
        connection.execute(_SPEND_RATE, {"key": caller.key_id, "until": until})
        task = self._store.add(
            asked.task_id,
            caller,
            asked.model,
            asked.engine,
            asked.request,
            connection=connection,
            base64_output=asked.base64_output,
            price_micros=asked.price_micros,
            cost=asked.cost,
            turn=turns.take(connection, caller.account_id, asked.cost),
            priority=asked.priority,
            deadline_at=asked.deadline_at,
            webhook_url=asked.webhook_url,
            base_url=asked.base_url,
        )
        if asked.name:
            connection.execute(insert(submissions), _row(asked, now))
        return Admitted(task, is_new=True)

    def _asked_before(self, asked: Submission, now: float, connection: Connection) -> Admitted | Reused | None:
        which = {"key": asked.caller.key_id, "name": asked.name}
        before = connection.execute(_ASKED, which).mappings().first()
        if before is None:
            return None
        row = connection.execute(select(tasks).where(tasks.c.id == before["task_id"])).mappings().first()
        # A held request that is sent once more after its task has come to nothing asks for another.
        is_void = asked.name.startswith(SYNC) and (row is None or row["status"] in _CAME_TO_NOTHING)
        if is_void or before["created_at"] <= now - asked.window_seconds:
            same = (submissions.c.key_id == asked.caller.key_id) & (submissions.c.name == asked.name)
            connection.execute(delete(submissions).where(same))
            return None
        if before["body_digest"] != asked.body_digest:
            return Reused(is_gone=False)
        return Admitted(task_from_row(row), is_new=False) if row else Reused(is_gone=True)


def _row(asked: Submission, now: float) -> dict[str, Any]:
    return {
        "key_id": asked.caller.key_id,
        "name": asked.name,
        "body_digest": asked.body_digest,
        "task_id": asked.task_id,
        "created_at": now,
    }


def forget_submissions(database: Database, moment: float) -> None:
    """Names of submissions older than this mean nothing any more."""
    with database.write() as connection:
        connection.execute(delete(submissions).where(submissions.c.created_at < moment))
