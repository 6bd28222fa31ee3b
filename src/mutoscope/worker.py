"""One task's journey, and the only module that knows its order: claim → images → frames → mp4 → file → finished row.

A worker is one process with one engine at work. It meets the API only in rows and files. Whatever it did not foresee
ends it, after giving the task back: an engine that failed in an unknown way is not trusted with the next task.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

import structlog

from mutoscope import __version__
from mutoscope.engines import Engine, Frames, Image, Step
from mutoscope.files import Links, LocalFiles
from mutoscope.models import MODELS
from mutoscope.references import FetchError, Limits, fetch_images
from mutoscope.store import Hold, Store
from mutoscope.tasks import Task, TaskError, VideoRequest
from mutoscope.video import Mp4Writer, write_poster

log = structlog.get_logger()

_FETCH_SHARE = 0.05  # of a task's progress; the engine's own 0 to 1 fills the rest
_BETWEEN_WRITES_SECONDS = 0.25  # progress that moves faster than this is not worth a durable write


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
    files: LocalFiles
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

    def run(self, idle_seconds: float = 1.0) -> None:
        """Claim and render, one task after another, until `stopping` is set."""
        loaded: dict[str, Engine] = {name: self.open_engine(name) for name in self.engine_names}
        self.scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
        log.info("worker is ready", worker=self.name, engines=list(loaded))
        while not self.stopping.is_set():
            self.bell.clear()
            task = self.store.claim(self.name, list(loaded))
            if task is None:
                self.bell.wait(idle_seconds)
            else:
                self.run_once(task, loaded[task.engine])

    def run_once(self, task: Task, engine: Engine) -> None:
        """Render one claimed task to its end, whatever that is. Raises only what ends this worker."""
        noted = log.bind(task=task.id, attempt=task.attempt, engine=engine.name)
        noted.info("task claimed", shape=task.request.aspect_ratio, duration=task.request.duration)
        lease = Lease(self.store, task, self.lease_seconds, self.stall_seconds)
        try:
            with lease:
                self._render(task, engine, lease)
        except TaskError as error:
            self.store.fail(task, str(error), error.code)
            noted.info("task failed", code=error.code, error=str(error))
        except Canceled:
            self.store.end_canceled(task)
            noted.info("task canceled")
        except LeaseLost:
            noted.warning("lease lost: nothing was written")
        except Stopped:
            self.store.give_back(task)
            noted.info("task given back: this worker is stopping")
        except Exception:
            self.store.give_back(task, failed=True)
            raise
        finally:
            for left in self.scratch.glob(f"{task.id}-{task.attempt}.*"):
                left.unlink(missing_ok=True)

    def _render(self, task: Task, engine: Engine, lease: Lease) -> None:
        self._clear_former_attempts(task)
        request = task.request
        stem = f"{task.id}-{task.attempt}"
        video, poster = self.scratch / f"{stem}.mp4", self.scratch / f"{stem}.jpg"
        clock = Stopwatch()
        first_frame_ms = 0

        images: list[Image] = []
        arriving = fetch_images(
            request.images, self.limits, open_upload=opener(self.links, self.files), longest_side=engine.longest_side
        )
        for number, image in enumerate(arriving, start=1):
            images.append(image)
            self._step(lease, "fetching references", _FETCH_SHARE * number / len(request.images))
        clock.lap("references")

        with closing(film(engine, request, images, video, poster, metadata_of(request, engine))) as shots:
            for shot in shots:
                clock.lap(shot.stage.partition(",")[0])
                if shot.num_frames and not first_frame_ms:
                    first_frame_ms = clock.since_start()
                progress = _FETCH_SHARE + (1 - _FETCH_SHARE) * shot.progress
                self._step(lease, shot.stage, progress, is_step=not shot.num_frames)
        clock.lap("rendering")
        receipt = receipt_of(request, engine, images, video)

        output, picture = f"outputs/{stem}.mp4", f"outputs/{stem}.jpg"
        self.files.put(picture, poster)
        self.files.put(output, video)
        clock.lap("storing")
        timings = {**clock.laps, "first_frame": first_frame_ms}
        hold = self.store.succeed(task, output, picture, timings, receipt)
        if hold is not Hold.KEPT:
            self.files.delete(output)
            self.files.delete(picture)
            raise Canceled if hold is Hold.CANCEL else LeaseLost
        log.info("task succeeded", task=task.id, attempt=task.attempt, **timings)

    def _step(self, lease: Lease, stage: str, progress: float, is_step: bool = True) -> None:
        if self.stopping.is_set():
            raise Stopped
        lease.advance(stage, progress, is_step)

    def _clear_former_attempts(self, task: Task) -> None:
        """Remove what earlier attempts left: they are fenced off, so nobody else will."""
        for attempt in range(1, task.attempt):
            for suffix in ("mp4", "jpg"):
                self.files.delete(f"outputs/{task.id}-{attempt}.{suffix}")
                (self.scratch / f"{task.id}-{attempt}.{suffix}").unlink(missing_ok=True)


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
        self._hold = Hold.KEPT
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"lease-{task.id[:8]}", daemon=True)

    def advance(self, stage: str, progress: float, is_step: bool) -> None:
        """Note progress; a Step is written at once, what lies between now and then. Raises LeaseLost or Canceled."""
        now = self._alive_at = time.monotonic()
        if is_step or now - self._written_at >= _BETWEEN_WRITES_SECONDS:
            self._written_at = now
            self._hold = self._store.advance(self._task, stage, progress)
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


class Stopwatch:
    """Milliseconds by lap; laps of one name add up."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._start = self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self._seconds[name] = self._seconds.get(name, 0.0) + now - self._last
        self._last = now

    @property
    def laps(self) -> dict[str, int]:
        return {name: round(seconds * 1000) for name, seconds in self._seconds.items()}

    def since_start(self) -> int:
        return round((time.monotonic() - self._start) * 1000)


def opener(links: Links, files: LocalFiles) -> Callable[[str], bytes | None]:
    """What reads a reference that is a file of our own: one kept with its task, or a signed link of ours."""

    def open_own(reference: str) -> bytes | None:
        key = reference.removeprefix("file:") if reference.startswith("file:") else links.key_of(reference)
        if key is None:
            return None
        data = files.read(key)
        if data is None:
            raise FetchError("this upload is gone; uploads are kept for some days, so send it again")
        return data

    return open_own


@dataclass(frozen=True, slots=True)
class Shot:
    """A moment of filming: the stage and the progress (0 to 1), and how many frames have just been encoded."""

    stage: str
    progress: float
    num_frames: int = 0


def film(
    engine: Engine,
    request: VideoRequest,
    images: Sequence[Image],
    video: Path,
    poster: Path,
    metadata: Mapping[str, str],
) -> Generator[Shot, None, None]:
    """Drive an engine into an mp4 and a poster, telling of each step. Closing it early leaves the files unfinished."""
    poster_at = request.num_frames // 3  # past the first frames, which say least, and before the end, which says all
    work = engine.generate(request, images)
    with Mp4Writer(video, request.size, metadata) as writer, _closing(work):
        for event in work:
            match event:
                case Step(stage=stage, progress=progress):
                    yield Shot(stage, progress)
                case Frames(pixels=pixels, progress=progress):
                    if writer.num_frames <= poster_at < writer.num_frames + len(pixels):
                        write_poster(poster, pixels[poster_at - writer.num_frames])
                    writer.add(pixels)
                    yield Shot("rendering", progress, len(pixels))
        if writer.num_frames != request.num_frames:
            raise RuntimeError(f"{engine.name} made {writer.num_frames} frames, not {request.num_frames}")


def metadata_of(request: VideoRequest, engine: Engine) -> dict[str, str]:
    """What a video says of itself: what made it, and from what seed.

    `model` is the one that the engine stands for, which in a sandbox is not the one that was asked for.
    """
    model = next(model.id for model in MODELS.values() if model.engine == engine.name)
    title = "".join(letter if letter.isprintable() else " " for letter in request.prompt)
    return {
        "title": title if len(title) <= 120 else title[:119] + "…",
        "engine": engine.name,
        "engine_version": engine.version,
        "model": model,
        "seed": str(request.seed),
        "software": f"Mutoscope {__version__}",
        "comment": f"Made by Mutoscope {__version__} with the engine {engine.name}",
    }


def receipt_of(request: VideoRequest, engine: Engine, images: Sequence[Image], video: Path) -> dict[str, Any]:
    """How a video was made, and digests to tell by whether it was made again: of each decoded image, and of the mp4."""
    width, height = request.size
    with video.open("rb") as file:
        video_sha256 = file_digest(file, "sha256").hexdigest()
    return {
        "engine": engine.name,
        "engine_version": engine.version,
        "mutoscope": __version__,
        "seed": request.seed,
        "width": width,
        "height": height,
        "frames": request.num_frames,
        **engine.receipt(),
        "images_sha256": [sha256(image.pixels.tobytes()).hexdigest() for image in images],
        "video_sha256": video_sha256,
    }


@contextmanager
def _closing(work: Iterator[Step | Frames]) -> Iterator[None]:
    # A generator left halfway would hold its threads and memory until somebody collects it.
    try:
        yield
    finally:
        close = getattr(work, "close", None)
        if close is not None:
            close()
