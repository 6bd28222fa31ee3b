"""One task's journey, and the only module that knows its order: claim → film → files → finished row.

A worker is one process with one engine at work. It meets the API only in rows and files. Whatever it did not foresee
ends it, after giving the task back: an engine that failed in an unknown way is not trusted with the next task.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import structlog

from mutoscope import tracing
from mutoscope.database import UNREACHABLE, insist
from mutoscope.disk import trouble
from mutoscope.engines import Engine, EngineLostError, Pixels
from mutoscope.files import Files, FilesAwayError, Links, discard
from mutoscope.film import Film, share_rendered
from mutoscope.opening import opener
from mutoscope.references import Limits, Recent
from mutoscope.store import Hold, Store
from mutoscope.tasks import Task, TaskError
from mutoscope.video import write_jpeg

log = structlog.get_logger()

Result = TypeVar("Result")

_BETWEEN_WRITES_SECONDS = 0.25  # progress that moves faster than this is not worth a durable write

_DISK_SECONDS = 5.0  # until it is tried whether a full disk has room again


class Stopped(Exception):
    """The worker was told to end: the task goes back, for another."""


class Canceled(Exception):
    """The task's owner no longer wants it."""


class LeaseLost(Exception):
    """Another worker has the task: whatever is done here is for nothing, and writes nothing."""


@dataclass
class Worker:
    """Renders tasks until told to stop. `name` is unique to this process: it tells whose lease is whose."""

    store: Store
    files: Files
    links: Links
    limits: Limits
    scratch: Path
    engine_names: Sequence[str]
    open_engine: Callable[[str], Engine]
    lease_seconds: float
    stall_seconds: float
    name: str = field(default_factory=lambda: f"{os.uname().nodename[:32]}-{os.getpid()}-{secrets.token_hex(4)}")
    stopping: threading.Event = field(default_factory=threading.Event)
    bell: threading.Event = field(default_factory=threading.Event)  # rung when there may be work; the row is the truth
    _recent: Recent = field(default_factory=Recent)
    is_ready: bool = False  # its engines are open; until then, it holds no task

    def run(self, idle_seconds: float = 1.0) -> None:
        """Claim and render, one task after another, until `stopping` is set."""
        # By the engine's own name, which tasks carry: one on a Ray cluster is opened by another.
        loaded = {engine.name: (engine, name) for name in self.engine_names for engine in [self.open_engine(name)]}
        self.scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.is_ready = True
        log.info("worker is ready", worker=self.name, engines=list(loaded))
        while not self.stopping.is_set():
            self.bell.clear()
            try:
                task = self._insist(lambda: self.store.claim(self.name, list(loaded)))
                if task is None:
                    self.bell.wait(idle_seconds)
                else:
                    self._serve(task, loaded)
            except UNREACHABLE:
                if not self.stopping.is_set():
                    raise
                log.warning("the database can't be reached: a task that is held is free when its lease has run out")

    def _serve(self, task: Task, loaded: dict[str, tuple[Engine, str]]) -> None:
        engine, opened_as = loaded[task.engine]
        try:
            self.run_once(task, engine)
        except EngineLostError as error:
            log.warning("the engine is gone: it is opened elsewhere", engine=engine.name, error=str(error))
            self.is_ready = False
            if not self.stopping.is_set():
                loaded[task.engine] = self.open_engine(opened_as), opened_as
                self.is_ready = True

    def _insist(self, write: Callable[[], Result]) -> Result:
        # A database that is restarted, or away for a while, costs no task and no work that is done.
        return insist(write, self.stopping.wait)

    def _insist_on_files(self, action: Callable[[], Result]) -> Result:
        # Nor does a bucket. Whoever is told to stop meanwhile gives the task back.
        try:
            return insist(action, self.stopping.wait, what="the place for files", away=(FilesAwayError,))
        except FilesAwayError:
            raise Stopped from None

    def run_once(self, task: Task, engine: Engine) -> None:
        """Render one claimed task to its end, whatever that is. Raises what ends this worker, or its engine
        (EngineLostError)."""
        noted = log.bind(task=task.id, attempt=task.attempt, engine=engine.name)
        noted.info("task claimed", shape=task.request.aspect_ratio, duration=task.request.duration)
        lease = Lease(self.store, task, self.lease_seconds, self.stall_seconds)
        try:
            with lease, tracing.span("render", task.id, engine=engine.name, attempt=task.attempt):
                self._render(task, engine, lease)
        except TaskError as error:
            message, code = str(error), error.code
            hold = self._insist(lambda: self.store.fail(task, message, code))
            _tell(noted, hold, "task failed", code=code, error=message)
        except Canceled:
            hold = self._insist(lambda: self.store.end_canceled(task, share_rendered(lease.progress)))
            _tell(noted, hold, "task canceled")
        except LeaseLost:
            _tell(noted, Hold.LOST, "")
        except Stopped:
            hold = self._insist(lambda: self.store.give_back(task))
            _tell(noted, hold, "task given back: this worker is stopping")
        except EngineLostError:
            # As if this worker had been killed: a loss, not a failure.
            self._insist(lambda: self.store.release(self.name, failed=False))
            raise
        except Exception as error:
            if (why := trouble(error)) is not None:  # which is neither the task's fault nor the engine's
                hold = self._insist(lambda: self.store.give_back(task))
                _tell(noted, hold, "task given back", why=why.value, error=str(error))
                self.stopping.wait(_DISK_SECONDS)
                return
            hold = self._insist(lambda: self.store.give_back(task, failed=True))
            # Whoever has the task next removes what we made of it: that these files are gone is no fault of the engine.
            if not (hold is Hold.LOST and isinstance(error, FileNotFoundError)):
                raise
            _tell(noted, hold, "")
        finally:
            with suppress(OSError):  # housekeeping tries again
                for left in self.scratch.glob(f"{task.id}-{task.attempt}.*"):
                    left.unlink(missing_ok=True)

    def _render(self, task: Task, engine: Engine, lease: Lease) -> None:
        self._clear_former_attempts(task)
        stem = f"{task.id}-{task.attempt}"
        video, poster = self.scratch / f"{stem}.mp4", self.scratch / f"{stem}.jpg"
        film = Film(engine, task.request, video, poster, scope=task.account_id, recent=self._recent)
        open_own = opener(self.links, self.files, self.limits.max_bytes)
        with closing(Previews(self.files, self.scratch, stem)) as previews:
            shooting = film.shoot(self.limits, lambda reference: self._insist_on_files(lambda: open_own(reference)))
            with closing(shooting) as shots:
                for shot in shots:
                    if self.stopping.is_set():
                        raise Stopped
                    shown = None if shot.preview is None else previews.put(shot.preview)
                    lease.advance(shot.stage, shot.progress, is_step=not shot.num_frames, preview=shown)
            self._store(task, film, video, poster)

    def _store(self, task: Task, film: Film, video: Path, poster: Path) -> None:
        """Put the finished files where they stay, and finish the row."""
        shot_at = time.monotonic()
        receipt = film.receipt()
        output, picture = f"outputs/{video.name}", f"outputs/{poster.name}"
        self._insist_on_files(lambda: self.files.put(picture, poster))
        self._insist_on_files(lambda: self.files.put(output, video))
        timings = {**film.timings, "storing": round((time.monotonic() - shot_at) * 1000)}
        hold = self._insist(lambda: self.store.succeed(task, output, picture, timings, receipt))
        if hold is not Hold.KEPT:
            discard(self.files, [output, picture])
            raise Canceled if hold is Hold.CANCEL else LeaseLost
        log.info("task succeeded", task=task.id, attempt=task.attempt, **timings)

    def _clear_former_attempts(self, task: Task) -> None:
        """Remove what earlier attempts left: they are fenced off, so nobody else will."""
        for attempt in range(1, task.attempt):
            stem = f"{task.id}-{attempt}"
            discard(self.files, [preview_key(stem), f"outputs/{stem}.mp4", f"outputs/{stem}.jpg"])
            for suffix in ("mp4", "jpg"):
                (self.scratch / f"{task.id}-{attempt}.{suffix}").unlink(missing_ok=True)


def _tell(noted: structlog.BoundLogger, hold: Hold, said: str, **of: object) -> None:
    if hold is Hold.LOST:
        noted.warning("lease lost: nothing was written")
    else:
        noted.info(said, **of)


class Previews:
    """The strip that shows what one attempt's video is going to look like: a file, replaced by each newer one."""

    def __init__(self, files: Files, scratch: Path, stem: str) -> None:
        self._files = files
        self._part = scratch / f"{stem}.jpg.preview"
        self._key = preview_key(stem)
        self._count = 0

    def put(self, pixels: Pixels) -> str | None:
        """Store (height, width, 3) RGB uint8; returns what the row says of it: the file's key, `#`, and which it is.

        None where there is no place for it: the video needs no preview.
        """
        self._count += 1
        write_jpeg(self._part, pixels)
        try:
            self._files.put(self._key, self._part)
        except FilesAwayError as error:
            log.warning("a preview could not be kept", file=self._key, error=str(error))
            return None
        return f"{self._key}#{self._count}"

    def close(self) -> None:
        """Remove it: it lives no longer than its attempt."""
        if self._count:
            discard(self._files, [self._key])


def preview_key(stem: str) -> str:
    return f"previews/{stem}.jpg"


class Lease:
    """Keeps a task ours while its work goes on, and tells when it no longer is.

    A thread renews it, because one step of a large model can outlast the lease. It stops renewing when the work has
    shown no sign of life for `stall_seconds`, so that a hung engine loses its task too.
    """

    def __init__(self, store: Store, task: Task, lease_seconds: float, stall_seconds: float) -> None:
        self._store = store
        self._task = task
        self._every = lease_seconds / 3
        self._stall_seconds = stall_seconds
        self._alive_at = time.monotonic()
        self._written_at = 0.0
        self.progress = 0.0
        self._hold = Hold.KEPT
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"lease-{task.id[:8]}", daemon=True)

    def advance(self, stage: str, progress: float, is_step: bool, preview: str | None = None) -> None:
        """Note progress; a Step is written at once, what lies between now and then. Raises LeaseLost or Canceled."""
        now = self._alive_at = time.monotonic()
        self.progress = progress
        if is_step or now - self._written_at >= _BETWEEN_WRITES_SECONDS:
            self._written_at = now
            try:
                self._hold = self._store.advance(self._task, stage, progress, preview)
            except UNREACHABLE:  # the work goes on; whether it is still ours is learnt when the database is back
                log.warning("progress could not be written", task=self._task.id)
        if self._hold is Hold.LOST:
            raise LeaseLost
        if self._hold is Hold.CANCEL:
            raise Canceled

    def _renew(self) -> None:
        while not self._ended.wait(self._every):
            if time.monotonic() - self._alive_at > self._stall_seconds:
                log.error("no sign of life from the engine: the lease is left to run out", task=self._task.id)
                return
            try:
                self._hold = self._store.renew(self._task)
            except Exception:  # a busy database may be free before the lease has run out
                log.exception("the lease could not be renewed; it is tried again", task=self._task.id)
            if self._hold is Hold.LOST:
                return

    def __enter__(self) -> Lease:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
