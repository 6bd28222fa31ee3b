"""What has had its time: old outputs, uploads and their rows, and leftovers of attempts that no longer exist.

Files go before their rows, so that a crash between the two is mended by the next sweep.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path

import structlog
from sqlalchemy import and_, select

from mutoscope.admission import REMEMBERED_SECONDS, forget_submissions
from mutoscope.database import Database
from mutoscope.files import LocalFiles
from mutoscope.schema import tasks
from mutoscope.store import Store, task_from_row
from mutoscope.tasks import Status, Task
from mutoscope.uploads import Uploads

log = structlog.get_logger()

_ATTEMPT = re.compile(r"([0-9a-f]{32})-(\d+)\.(?:mp4|jpg)")  # half-made copies of one carry its name, and more
_STANDING = (Status.RUNNING, Status.SUCCEEDED)
_LOOKED_UP_AT_ONCE = 500
_UPLOAD_SECONDS = 3600  # an upload that is still arriving is younger than this


def sweep(store: Store, files: LocalFiles, scratch: Path, cache: Path, retention_days: float) -> int:
    """Remove what has ended, and what nobody owns; returns how many tasks and uploads went."""
    before = time.time() - retention_days * 86_400
    removed = 0
    while ended := ended_before(store.database, before):
        for task in ended:
            for key in task.files:
                files.delete(key)
        store.remove([task.id for task in ended])
        removed += len(ended)
    uploads = Uploads(store.database)
    while old := uploads.before(before):
        for upload in old:
            files.delete(upload["file"])
        uploads.remove([upload["id"] for upload in old])
        removed += len(old)
    forget_submissions(store.database, time.time() - REMEMBERED_SECONDS)
    store.expire()
    for key in _orphans(store, chain(files.list("outputs"), files.list("previews"))):
        files.delete(key)
    if scratch.is_dir():
        for name in _orphans(store, (path.name for path in scratch.iterdir())):
            (scratch / name).unlink(missing_ok=True)
        for path in scratch.glob("upload-*"):
            with suppress(FileNotFoundError):  # it has arrived meanwhile
                if time.time() - path.stat().st_mtime > _UPLOAD_SECONDS:
                    path.unlink()
    for path in cache.iterdir() if cache.is_dir() else ():
        with suppress(FileNotFoundError):  # its owner made room meanwhile
            if path.stat().st_mtime < before:  # which is when it was last of use
                path.unlink()
    return removed


def _orphans(store: Store, names: Iterable[str]) -> Iterator[str]:
    """Those files that carry the name of an attempt that neither runs nor won.

    Rows are read after the names they are held against, so whatever has won meanwhile is seen to have.
    """
    remaining = iter(names)
    while batch := list(islice(remaining, _LOOKED_UP_AT_ONCE)):
        attempts = {name: (match[1], int(match[2])) for name in batch if (match := _ATTEMPT.search(name))}
        counting = standing(store.database, {task_id for task_id, _ in attempts.values()})
        yield from (name for name, attempt in attempts.items() if attempt not in counting)


def ended_before(database: Database, moment: float, limit: int = 500) -> list[Task]:
    """Ended tasks, oldest first, whose retention is over."""
    # The first condition follows from the second, and is the one with an index.
    old = and_(tasks.c.created_at < moment, tasks.c.finished_at < moment)
    query = select(tasks).where(old).order_by(tasks.c.created_at).limit(limit)
    with database.connect() as connection:
        return [task_from_row(row) for row in connection.execute(query).mappings()]


def standing(database: Database, task_ids: Iterable[str]) -> set[tuple[str, int]]:
    """Of these tasks, (id, attempt) of the attempts that run or have won: the only ones whose files count."""
    # The status is judged here: SQLite would take the index on it, and read all that ever succeeded.
    query = select(tasks.c.id, tasks.c.attempt, tasks.c.status).where(tasks.c.id.in_(task_ids))
    with database.connect() as connection:
        rows = connection.execute(query)
        return {(task_id, attempt) for task_id, attempt, status in rows if status in _STANDING}


class Housekeeper:
    """Sweeps now and then, on a thread of its own."""

    def __init__(
        self,
        store: Store,
        files: LocalFiles,
        scratch: Path,
        cache: Path,
        retention_days: float,
        every_seconds: float = 60,
    ) -> None:
        self._arguments = (store, files, scratch, cache, retention_days)
        self._every_seconds = every_seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                if removed := sweep(*self._arguments):
                    log.info("swept", removed=removed)
            except Exception:  # a full disk or a busy database must not end the keeping of the house
                log.exception("sweep failed; it is tried again")
            if self._stopping.wait(self._every_seconds):
                return
