"""Queue places and times left, from one look at the database a second, however many are asking."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from dataclasses import dataclass, field

from sqlalchemy import func, select

from mutoscope.engines import ENGINES
from mutoscope.schema import tasks
from mutoscope.store import Store
from mutoscope.tasks import Status, Task

_REFRESH_SECONDS = 1.0
_SAMPLE = 50  # of an engine's latest videos, to learn how long one takes
_COUNTED = 1000  # places are exact up to here; nobody further back minds being off by the few that were canceled


_FIRST_GUESS_SECONDS = 1.0  # run time per second of video, as long as none was rendered here


@dataclass(slots=True)
class _Look:
    at: float = float("-inf")
    newest: int = 0  # seq of the newest task that is counted here
    num_queued: dict[str, int] = field(default_factory=dict)
    first: dict[str, list[int]] = field(default_factory=dict)  # engine → seq of its first queued tasks, ascending
    running: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)  # engine → run time per second of video

    def place(self, task: Task) -> int:
        first = self.first.get(task.engine, [])
        if len(first) < _COUNTED or task.seq <= first[-1]:
            return bisect_left(first, task.seq) + 1
        return min(_COUNTED + task.seq - first[-1], self.num_queued[task.engine] + 1)


class Estimates:
    """What a waiting caller wants to know. Places and times are up to a second old."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._look = _Look()
        self._looking = threading.Lock()

    def add(self, task: Task) -> None:
        """A task was just accepted here: count it now, for those who ask before the next look."""
        look = self._look
        if task.seq > look.newest:
            look.newest = task.seq
            look.num_queued[task.engine] = look.num_queued.get(task.engine, 0) + 1
            first = look.first.setdefault(task.engine, [])
            if len(first) < _COUNTED:
                first.append(task.seq)

    def num_queued(self) -> int:
        """How many tasks wait, of all engines."""
        return sum(self._fresh().num_queued.values())

    def of(self, task: Task) -> tuple[int, float]:
        """(place in the queue, seconds until done); the next to be claimed has place 1, a task that doesn't wait 0."""
        if task.status.is_terminal:
            return 0, 0.0
        look = self._fresh()
        pace = look.seconds.get(task.engine, _FIRST_GUESS_SECONDS)
        if task.status is Status.RUNNING:
            elapsed = max(0.0, time.time() - (task.started_at or task.created_at))
            if task.progress > 0.1:
                return 0, round(elapsed / task.progress * (1 - task.progress), 1)
            return 0, round(max(0.0, pace * task.request.duration - elapsed), 1)
        place = look.place(task)
        at_once = max(1, look.running.get(task.engine, 0))
        return place, round(pace * task.request.duration * (1 + place / at_once), 1)

    def _fresh(self) -> _Look:
        # Whoever finds the look stale takes the next one; the others go on with the one there is.
        if time.monotonic() - self._look.at > _REFRESH_SECONDS and self._looking.acquire(blocking=False):
            try:
                self._look = self._take()
            finally:
                self._looking.release()
        return self._look

    def _take(self) -> _Look:
        waiting = tasks.c.status == Status.QUEUED.value
        counts = select(tasks.c.engine, func.count()).where(waiting).group_by(tasks.c.engine)
        running = (
            select(tasks.c.engine, func.count()).where(tasks.c.status == Status.RUNNING.value).group_by(tasks.c.engine)
        )
        first: dict[str, list[int]] = {}
        medians: dict[str, float] = {}
        with self._store.database.connect() as connection:
            newest = connection.execute(select(func.max(tasks.c.seq))).scalar() or 0
            num_queued: dict[str, int] = dict(connection.execute(counts).all())
            for engine in num_queued:
                front = select(tasks.c.seq).where(waiting, tasks.c.engine == engine)
                first[engine] = list(connection.execute(front.order_by(tasks.c.seq).limit(_COUNTED)).scalars())
            at_work: dict[str, int] = dict(connection.execute(running).all())
            for engine in ENGINES:  # each by itself, so that an index finds the latest without sorting all there are
                latest = (
                    select(tasks.c.started_at, tasks.c.finished_at, tasks.c.request)
                    .where(tasks.c.status == Status.SUCCEEDED.value, tasks.c.engine == engine)
                    .order_by(tasks.c.seq.desc())
                    .limit(_SAMPLE)
                )
                rows = connection.execute(latest).all()
                if paces := sorted((finished - started) / request["duration"] for started, finished, request in rows):
                    medians[engine] = paces[len(paces) // 2]
        return _Look(time.monotonic(), newest, num_queued, first, at_work, medians)
