"""What has had its time: old outputs, uploads and their rows, and leftovers of attempts that no longer exist.

Whatever a crash leaves halfway, the next sweep ends: a finished task's row goes before its files, which are then
nobody's, and an upload's file before its row.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

import structlog
from sqlalchemy import and_, select

from mutoscope.admission import REMEMBERED_SECONDS, forget_submissions
from mutoscope.database import UNREACHABLE, Database
from mutoscope.duties import Duties
from mutoscope.files import Files, FilesError
from mutoscope.schema import installation, tasks
from mutoscope.store import Store, task_from_row
from mutoscope.tasks import Status, Task
from mutoscope.uploads import Uploads

log = structlog.get_logger()

_ATTEMPT = re.compile(r"([0-9a-f]{32})-(\d+)\.(?:mp4|jpg)")  # half-made copies of one carry its name, and more
_STANDING = (Status.RUNNING, Status.SUCCEEDED)
_UNDER_WAY = (Status.RUNNING,)  # of whose attempts there are previews, and files in the scratch folder
_LOOKED_UP_AT_ONCE = 500
_UPLOAD_SECONDS = 3600  # an upload that is still arriving is younger than this


_DUTY = "housekeeping"
_SWEEP_SECONDS = 600.0  # the longest that a sweep may take before another process begins one, too


def own_files(database: Database, files: Files) -> None:
    """Have the folder of files marked as this installation's. Raises FilesError where it is another's.

    Two installations in one folder would each remove the other's videos, as belonging to no task.
    """
    with database.connect() as connection:
        ours = connection.execute(select(installation.c.id)).scalar_one()
    if files.owner(ours) != ours:
        raise FilesError(
            "The place for files belongs to an installation with another database. Give each its own "
            "MUTOSCOPE_FILES_URL."
        )


def sweep(store: Store, files: Files, retention_days: float) -> int:
    """Remove what has ended, and files of nobody; returns how many tasks and uploads went. Raises FilesError."""
    own_files(store.database, files)
    before = store.database.now() - retention_days * 86_400
    removed = 0
    while ended := ended_before(store.database, before):
        store.remove([task.id for task in ended])
        for task in ended:
            for key in task.files:
                files.delete(key)
        removed += len(ended)
    uploads = Uploads(store.database)
    while old := uploads.before(before):
        for upload in old:
            files.delete(upload["file"])
        uploads.remove([upload["id"] for upload in old])
        removed += len(old)
    forget_submissions(store.database, store.database.now() - REMEMBERED_SECONDS)
    store.expire()
    for folder, counting in (("outputs", _STANDING), ("previews", _UNDER_WAY)):
        for key in _orphans(store, files.list(folder), counting):
            files.delete(key)
    return removed


def tidy(store: Store, scratch: Path, cache: Path, retention_days: float) -> None:
    """Remove what was left in this machine's own folders."""
    before = time.time() - retention_days * 86_400
    if scratch.is_dir():
        for name in _orphans(store, (path.name for path in scratch.iterdir()), _UNDER_WAY):
            (scratch / name).unlink(missing_ok=True)
        for path in scratch.glob("upload-*"):
            with suppress(FileNotFoundError):  # it has arrived meanwhile
                if time.time() - path.stat().st_mtime > _UPLOAD_SECONDS:
                    path.unlink()
    for path in cache.iterdir() if cache.is_dir() else ():
        with suppress(FileNotFoundError):  # its owner made room meanwhile
            if path.stat().st_mtime < before:  # which is when it was last of use
                path.unlink()


def _orphans(store: Store, names: Iterable[str], counting: Sequence[Status]) -> Iterator[str]:
    """Those files that carry the name of an attempt that is in none of these states.

    Rows are read after the names they are held against, so whatever has won meanwhile is seen to have.
    """
    remaining = iter(names)
    while batch := list(islice(remaining, _LOOKED_UP_AT_ONCE)):
        attempts = {name: (match[1], int(match[2])) for name in batch if (match := _ATTEMPT.search(name))}
        found = standing(store.database, {task_id for task_id, _ in attempts.values()}, counting)
        yield from (name for name, attempt in attempts.items() if attempt not in found)


def ended_before(database: Database, moment: float, limit: int = 500) -> list[Task]:
    """Ended tasks, oldest first, whose retention is over."""
    # The first condition follows from the second, and is the one with an index.
    old = and_(tasks.c.created_at < moment, tasks.c.finished_at < moment)
    query = select(tasks).where(old).order_by(tasks.c.created_at).limit(limit)
    with database.connect() as connection:
        return [task_from_row(row) for row in connection.execute(query).mappings()]


def standing(database: Database, task_ids: Iterable[str], states: Sequence[Status] = _STANDING) -> set[tuple[str, int]]:
    """Of these tasks, (id, attempt) of the last attempts of those in these states: the only ones whose files count."""
    # The status is judged here: SQLite would take the index on it, and read all that ever succeeded.
    query = select(tasks.c.id, tasks.c.attempt, tasks.c.status).where(tasks.c.id.in_(task_ids))
    with database.connect() as connection:
        rows = connection.execute(query)
        return {(task_id, attempt) for task_id, attempt, status in rows if status in states}


class Housekeeper:
    """Tidies now and then, on a thread of its own, and sweeps, where no other process does."""

    def __init__(
        self,
        store: Store,
        files: Files,
        scratch: Path,
        cache: Path,
        retention_days: float,
        every_seconds: float = 60,
    ) -> None:
        self._store = store
        self._files = files
        self._folders = (scratch, cache)
        self._retention_days = retention_days
        self._duties = Duties(store.database)
        self._every_seconds = every_seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()
        with suppress(*UNREACHABLE):  # then another process has it when the lease is over
            self._duties.lay_down(_DUTY)

    def keep(self) -> None:
        """Do it all, once; the part that is for one process only if this one has that duty."""
        tidy(self._store, *self._folders, self._retention_days)
        if not self._duties.take(_DUTY, _SWEEP_SECONDS):
            return
        if removed := sweep(self._store, self._files, self._retention_days):
            log.info("swept", removed=removed)
        self._duties.take(_DUTY, 1.5 * self._every_seconds)  # it is ours as long as we go on

    def _run(self) -> None:
        while True:
            try:
                self.keep()
            except Exception:  # a full disk or a busy database must not end the keeping of the house
                log.exception("sweep failed; it is tried again")
            if self._stopping.wait(self._every_seconds):
                return
