"""What has had its time: old outputs, uploads and their rows, and leftovers of attempts that no longer exist.

Files go before their rows, so that a crash between the two is mended by the next sweep.
"""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path

import structlog

from mutoscope.files import LocalFiles
from mutoscope.store import Store
from mutoscope.tasks import Status

log = structlog.get_logger()

_ATTEMPT = re.compile(r"([0-9a-f]{32})-(\d+)\.(?:mp4|jpg)$")
_UPLOAD_SECONDS = 3600  # an upload that is still arriving is younger than this


def sweep(store: Store, files: LocalFiles, scratch: Path, retention_days: float) -> int:
    """Remove what has ended, and what nobody owns; returns how many tasks and uploads went."""
    before = time.time() - retention_days * 86_400
    removed = 0
    while ended := store.ended_before(before):
        for task in ended:
            for key in filter(None, (task.output, task.poster)):
                files.delete(key)
        store.remove([task.id for task in ended])
        removed += len(ended)
    while uploads := store.uploads_before(before):
        for upload in uploads:
            files.delete(upload["file"])
        store.remove_uploads([upload["id"] for upload in uploads])
        removed += len(uploads)
    for key in files.list("outputs"):
        if _is_orphan(store, key):
            files.delete(key)
    for path in scratch.iterdir() if scratch.is_dir() else ():
        if path.name.startswith("upload-"):
            if time.time() - path.stat().st_mtime > _UPLOAD_SECONDS:
                path.unlink(missing_ok=True)
        elif _is_orphan(store, path.name):
            path.unlink(missing_ok=True)
    return removed


def _is_orphan(store: Store, name: str) -> bool:
    """Whether a file carries the name of an attempt that neither runs nor won."""
    match = _ATTEMPT.search(name)
    if match is None:
        return False
    task = store.find(match[1])
    if task is None:
        return True
    if task.attempt != int(match[2]):
        return True
    return task.status not in (Status.RUNNING, Status.SUCCEEDED)


class Housekeeper:
    """Sweeps now and then, on a thread of its own."""

    def __init__(
        self, store: Store, files: LocalFiles, scratch: Path, retention_days: float, every_seconds: float = 60
    ) -> None:
        self._arguments = (store, files, scratch, retention_days)
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
