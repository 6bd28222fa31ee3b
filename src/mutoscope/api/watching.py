"""Many wait for tasks, and one looks: a quarter second's query for all that this process is asked about.

Works whoever writes, since only rows are read. Knows no dialect, and nothing of how those who wait are answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import structlog
from sqlalchemy import select
from starlette.concurrency import run_in_threadpool

from mutoscope.database import UNREACHABLE
from mutoscope.estimates import Estimates
from mutoscope.schema import tasks
from mutoscope.store import Store, task_from_row
from mutoscope.tasks import Status, Task

log = structlog.get_logger()

_LOOK_SECONDS = 0.25
_AGAIN_SECONDS = 2.0  # after a look that failed
_AT_ONCE = 500  # ids in one statement

# What tells one moment of a task from another. Whole rows cost ten times as much: only those that changed are read.
_MOMENT = (tasks.c.status, tasks.c.attempt, tasks.c.stage, tasks.c.progress, tasks.c.preview)

Moment = tuple[str, int, str, float, str | None]


def moment_of(task: Task) -> Moment:
    """What tells one moment of a task from another."""
    return task.status.value, task.attempt, task.stage, task.progress, task.preview


def _rank(task: Task) -> tuple[bool, int, bool, float]:
    # Moments in their order: an attempt runs, goes back to the queue, and the next one counts up.
    return task.status.is_terminal, task.attempt, task.status is Status.QUEUED, task.progress


class Watched:
    """A task that somebody waits for. `place` is its place in the queue.

    `is_gone`: its row was deleted. `is_left`: this server is ending, and will tell nothing more.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.place = 0
        self.is_gone = False
        self.is_left = False
        self.news = asyncio.Event()
        self.num_waiting = 0

    @property
    def has_ended(self) -> bool:
        """Whether nothing can change any more."""
        return self.task.status.is_terminal or self.is_gone or self.is_left

    def learn(self, task: Task) -> None:
        """Take a later look at the task; an earlier one, which came in late, is ignored."""
        if _rank(task) >= _rank(self.task):
            self.task = task

    async def news_within(self, seconds: float, news: asyncio.Event | None = None) -> bool:
        """Wait until something has changed (since `news` was taken), and whether it has in time."""
        try:
            async with asyncio.timeout(seconds):
                await (news or self.news).wait()
        except TimeoutError:
            return False
        return True

    def tell(self) -> None:
        """Wake those who wait; whoever waits from now on waits for the next news."""
        self.news.set()
        self.news = asyncio.Event()


class Watcher:
    """Looks as long as somebody waits. Belongs to one event loop."""

    def __init__(self, store: Store, estimates: Estimates, is_ending: Callable[[], bool]) -> None:
        self._store = store
        self._estimates = estimates
        self._is_ending = is_ending
        self._watched: dict[str, Watched] = {}
        self._looking: asyncio.Task[None] | None = None

    @contextmanager
    def watch(self, task: Task) -> Iterator[Watched]:
        """Have the task looked at within the block. To miss nothing, take `news`, then read, then wait for it."""
        watched = self._watched.setdefault(task.id, Watched(task))
        watched.num_waiting += 1
        watched.learn(task)
        watched.place, _ = self._estimates.of(watched.task)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_on())
        try:
            yield watched
        finally:
            watched.num_waiting -= 1
            if not watched.num_waiting:
                del self._watched[task.id]

    async def _look_on(self) -> None:
        while self._watched and not self._is_ending():
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                await self._look()
            except UNREACHABLE as error:
                log.warning("tasks can't be looked at; it is tried again", error=str(error).splitlines()[0])
                await asyncio.sleep(_AGAIN_SECONDS)
            except Exception:  # those who wait must not wait in vain for a loop that has died
                log.exception("tasks could not be looked at; it is tried again")
                await asyncio.sleep(_AGAIN_SECONDS)
        for watched in list(self._watched.values()):
            watched.is_left = True
            watched.tell()

    async def _look(self) -> None:
        known = {watched.task.id: moment_of(watched.task) for watched in self._watched.values()}
        changed, gone = await run_in_threadpool(self._read, known)
        for task in changed:
            if watched := self._watched.get(task.id):
                watched.learn(task)
        for task_id in gone:
            if watched := self._watched.get(task_id):
                watched.is_gone = True
        fresh = gone | {task.id for task in changed}
        for watched in list(self._watched.values()):
            place = self._estimates.of(watched.task)[0] if watched.task.status is Status.QUEUED else 0
            if place != watched.place or watched.task.id in fresh:
                watched.place = place
                watched.tell()

    def _read(self, known: Mapping[str, Moment]) -> tuple[list[Task], set[str]]:
        """Of the tasks known at these moments, those that have moved on, and the ids of those that are gone."""
        self._estimates.num_queued()  # a look of its own, taken here so that the event loop need not wait for it
        ids = list(known)
        changed: list[Task] = []
        gone = set(ids)
        with self._store.database.connect() as connection:
            for start in range(0, len(ids), _AT_ONCE):
                these = tasks.c.id.in_(ids[start : start + _AT_ONCE])
                moments = {
                    row[0]: tuple(row)[1:] for row in connection.execute(select(tasks.c.id, *_MOMENT).where(these))
                }
                gone -= moments.keys()
                moved = [task_id for task_id, moment in moments.items() if moment != known[task_id]]
                if moved:
                    rows = connection.execute(select(tasks).where(tasks.c.id.in_(moved))).mappings()
                    changed += map(task_from_row, rows)
        return changed, gone
