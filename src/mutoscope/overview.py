"""How things stand at this moment, from the rows: what waits, what runs and where, what has ended lately.

For operators: `mutoscope top` shows it, `metrics.py` exports it. Every question is answered by an index.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from mutoscope.schema import accounts, deliveries, tasks
from mutoscope.tasks import Status


@dataclass(frozen=True, slots=True)
class Queue:
    """What waits for one engine: how many, and for how many seconds the first of them has."""

    engine: str
    length: int
    age_seconds: float


@dataclass(frozen=True, slots=True)
class Running:
    """A task at work. `silent_seconds` above 0: its lease is over, and nobody has taken it yet."""

    task_id: str
    engine: str
    worker: str
    stage: str
    progress: float
    seconds: float
    silent_seconds: float


@dataclass(frozen=True, slots=True)
class Overview:
    """All of it. Money is in micro-dollars; `ended` counts tasks by their state within the window asked for."""

    queues: list[Queue]
    running: list[Running]
    ended: Counter[str]
    video_seconds: int  # of the videos that were finished in the window
    webhooks_due: int
    webhook_age_seconds: float  # how long the first of them has been due; 0 where none is late
    available_micros: int
    held_micros: int


def look(connection: Connection, now: float, window_seconds: float) -> Overview:
    """How things stand `now`, and what ended in the last `window_seconds`."""
    ended: Counter[str] = Counter()
    video_seconds = 0
    for status, request in connection.execute(
        select(tasks.c.status, tasks.c.request).where(tasks.c.finished_at > now - window_seconds)
    ):
        ended[status] += 1
        video_seconds += request["duration"] if status == Status.SUCCEEDED else 0
    num_due, first_due = connection.execute(
        select(func.count(), func.min(deliveries.c.due_at)).where(deliveries.c.status == "due")
    ).one()
    money = select(func.sum(accounts.c.available_micros), func.sum(accounts.c.held_micros))
    available, held = connection.execute(money).one()
    return Overview(
        queues=_queues(connection, now),
        running=_running(connection, now),
        ended=ended,
        video_seconds=video_seconds,
        webhooks_due=num_due,
        webhook_age_seconds=max(0.0, now - first_due) if first_due is not None else 0.0,
        available_micros=int(available or 0),
        held_micros=int(held or 0),
    )


def _queues(connection: Connection, now: float) -> list[Queue]:
    waiting = tasks.c.status == Status.QUEUED.value
    counts = select(tasks.c.engine, func.count(), func.min(tasks.c.seq)).where(waiting).group_by(tasks.c.engine)
    found = []
    for engine, length, first in connection.execute(counts).all():
        created_at = connection.execute(select(tasks.c.created_at).where(tasks.c.seq == first)).scalar_one()
        found.append(Queue(engine, length, max(0.0, now - created_at)))
    return found


def _running(connection: Connection, now: float) -> list[Running]:
    columns = [tasks.c[name] for name in ("id", "engine", "worker", "stage", "progress", "started_at", "lease_until")]
    rows = connection.execute(select(*columns).where(tasks.c.status == Status.RUNNING.value).order_by(tasks.c.seq))
    return [
        Running(
            row.id,
            row.engine,
            row.worker or "",
            row.stage,
            row.progress,
            max(0.0, now - row.started_at),
            max(0.0, now - row.lease_until),
        )
        for row in rows
    ]
