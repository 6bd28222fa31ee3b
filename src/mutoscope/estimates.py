"""Queue places and times left, from one look at the database a second, however many are asking."""

from __future__ import annotations

import math
import threading
import time
from bisect import bisect_left, insort
from dataclasses import dataclass, field

from sqlalchemy import func, select

from mutoscope.database import UNREACHABLE
from mutoscope.engines import ENGINES
from mutoscope.schema import tasks
from mutoscope.store import Store
from mutoscope.tasks import Status, Task

_REFRESH_SECONDS = 1.0
_SHORT = 10_000  # queued tasks that are counted in a few milliseconds
_SAMPLE = 50  # of an engine's latest videos, to learn how long one takes
_COUNTED = 1000  # places are exact up to here, and estimated further back


_FIRST_GUESS_SECONDS = 1.0  # run time per second of video, as long as none was rendered here
_FIRST_GUESS_SPREAD = 2.0  # and how far off that may be


@dataclass(slots=True)
class _Look:
    at: float = float("-inf")
    newest: int = 0  # seq of the newest task that is counted here
    num_queued: dict[str, int] = field(default_factory=dict)
    first: dict[str, list[float]] = field(default_factory=dict)  # engine → turns of its first queued tasks, ascending
    last: dict[str, float] = field(default_factory=dict)  # engine → turn of its last queued task
    running: dict[str, int] = field(default_factory=dict)
    by_account: dict[str, int] = field(default_factory=dict)  # account → its queued tasks
    seconds: dict[str, float] = field(default_factory=dict)  # engine → run time per second of video, the median
    spread: dict[str, float] = field(default_factory=dict)  # engine → what nine of ten keep, as a multiple of that

    def place(self, task: Task) -> int:
        first = self.first.get(task.engine, [])
        if len(first) < _COUNTED or task.turn <= first[-1]:
            return bisect_left(first, task.turn) + 1
        span = self.last.get(task.engine, 0.0) - first[-1]
        share = (task.turn - first[-1]) / span if span > 0 else 1.0
        return _COUNTED + max(1, round(min(1.0, share) * (self.num_queued[task.engine] - _COUNTED)))


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
            look.by_account[task.account_id] = look.by_account.get(task.account_id, 0) + 1
            first = look.first.setdefault(task.engine, [])
            if len(first) < _COUNTED or task.turn < first[-1]:
                insort(first, task.turn)
            look.last[task.engine] = max(look.last.get(task.engine, 0.0), task.turn)

    def num_queued(self) -> int:
        """How many tasks wait, of all engines."""
        return sum(self._fresh().num_queued.values())

    def num_queued_of(self, account_id: str) -> int:
        """How many tasks of one account wait."""
        return self._fresh().by_account.get(account_id, 0)

    def seconds(self, engine: str, duration: int) -> float:
        """How long a video of `duration` seconds takes, from the latest ones."""
        return self._fresh().seconds.get(engine, _FIRST_GUESS_SECONDS) * duration

    def of(self, task: Task) -> tuple[int, float]:
        """(place in the queue, seconds until done); the next to be claimed has place 1, a task that doesn't wait 0."""
        if task.status.is_terminal:
            return 0, 0.0
        look = self._fresh()
        pace = look.seconds.get(task.engine, _FIRST_GUESS_SECONDS)
        if task.status is Status.RUNNING:
            elapsed = max(0.0, self._store.database.now() - (task.started_at or task.created_at))
            if task.progress > 0.1:
                return 0, round(elapsed / task.progress * (1 - task.progress), 1)
            return 0, round(max(0.0, pace * task.request.duration - elapsed), 1)
        place = look.place(task)
        at_once = max(1, look.running.get(task.engine, 0))
        return place, round(pace * task.request.duration * (1 + place / at_once), 1)

    def interval(self, task: Task) -> tuple[float, float]:
        """Seconds until done, as half and as nine of ten of the latest videos would keep them."""
        place, seconds = self.of(task)
        look = self._fresh()
        over = look.spread.get(task.engine, _FIRST_GUESS_SPREAD) - 1
        if place:  # those ahead, and itself: some are slow and some are not, so their spreads add as squares do
            over /= math.sqrt(1 + place / max(1, look.running.get(task.engine, 0)))
        return seconds, round(seconds * (1 + over), 1)

    def _fresh(self) -> _Look:
        # Whoever finds the look stale takes the next one; the others go on with the one there is.
        if time.monotonic() - self._look.at > _REFRESH_SECONDS and self._looking.acquire(blocking=False):
            is_quick = self._store.database.is_local and sum(self._look.num_queued.values()) < _SHORT
            if is_quick or self._look.at == float("-inf"):
                self._renew()
            else:  # the one who asks may be the event loop, which must not wait for a server or for a long queue
                threading.Thread(target=self._renew, name="estimates", daemon=True).start()
        return self._look

    def _renew(self) -> None:
        try:
            self._look = self._take()
        except UNREACHABLE:  # what was seen last is better than nothing
            self._look.at = time.monotonic()
        finally:
            self._looking.release()

    def _take(self) -> _Look:
        waiting = tasks.c.status == Status.QUEUED.value
        # Each by itself: an index holds all that the one asks for, and another all of the other.
        of_engines = select(tasks.c.engine, func.count()).where(waiting).group_by(tasks.c.engine)
        of_accounts = select(tasks.c.account_id, func.count()).where(waiting).group_by(tasks.c.account_id)
        running = (
            select(tasks.c.engine, func.count()).where(tasks.c.status == Status.RUNNING.value).group_by(tasks.c.engine)
        )
        first: dict[str, list[float]] = {}
        last: dict[str, float] = {}
        medians: dict[str, float] = {}
        spreads: dict[str, float] = {}
        with self._store.database.connect() as connection:
            newest = connection.execute(select(func.max(tasks.c.seq))).scalar() or 0
            num_queued: dict[str, int] = dict(connection.execute(of_engines).all())
            by_account: dict[str, int] = dict(connection.execute(of_accounts).all())
            for engine in num_queued:
                front = select(tasks.c.turn).where(waiting, tasks.c.engine == engine)
                first[engine] = list(connection.execute(front.order_by(tasks.c.turn).limit(_COUNTED)).scalars())
                last[engine] = connection.execute(front.order_by(tasks.c.turn.desc()).limit(1)).scalar() or 0.0
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
                    spreads[engine] = paces[len(paces) * 9 // 10] / max(medians[engine], 1e-9)
        return _Look(time.monotonic(), newest, num_queued, first, last, at_work, by_account, medians, spreads)
