"""A request on its way to an mp4: references → images → frames → video and poster, with its timings and its receipt.

Whoever renders, films through this: a worker, the command line, a replay. Knows no row, no lease, and no place where
files are kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

from mutoscope import __version__
from mutoscope.engines import Engine, Event, Frames, Image, Pixels, Preview, Step
from mutoscope.models import MODELS
from mutoscope.references import Limits, Recent, fetch_images
from mutoscope.tasks import VideoRequest
from mutoscope.video import Mp4Writer, write_jpeg

_FETCH_SHARE = 0.05  # of the progress; the engine's own 0 to 1 fills the rest


@dataclass(frozen=True, slots=True)
class Shot:
    """A moment of filming: what is under way, the progress (0 to 1), how many frames have just been encoded, and a new
    preview, (height, width, 3) RGB uint8, where the engine made one."""

    stage: str
    progress: float
    num_frames: int = 0
    preview: Pixels | None = None


class Film:
    """One request, filmed by one engine: drive `shoot` to its end, then ask for the receipt."""

    def __init__(
        self,
        engine: Engine,
        request: VideoRequest,
        video: Path,
        poster: Path,
        scope: str = "",
        recent: Recent | None = None,
    ) -> None:
        """`video` and `poster` are the files to write; `scope` as in `Engine.generate`, and for it `recent` holds the
        references of former requests."""
        self._scope = scope
        self._recent = recent or Recent()
        self._engine = engine
        self._request = request
        self._video = video
        self._poster = poster
        self._images: list[Image] = []
        self._clock = Stopwatch()
        self._first_frame_ms = 0

    def shoot(self, limits: Limits, open_upload: Callable[[str], bytes | None]) -> Generator[Shot]:
        """Do all of it, telling of each step. Closing it early ends the engine's work, and leaves the files unfinished.

        `open_upload` as in `fetch_images`. Raises TaskError for what the caller can mend.
        """
        request, engine, clock = self._request, self._engine, self._clock
        yield Shot("fetching references", 0.0)
        arriving = fetch_images(
            request.images,
            limits,
            open_upload=open_upload,
            longest_side=engine.longest_side,
            decode=self._recent.decoder(self._scope),
        )
        for image in arriving:
            self._images.append(image)
            yield Shot("fetching references", _FETCH_SHARE * len(self._images) / len(request.images))
        lap = stage = "references"
        progress = _FETCH_SHARE
        work = engine.generate(request, self._images, self._scope)
        with Mp4Writer(self._video, request.size, metadata_of(request, engine)) as writer, _closing(work):
            for event in work:
                match event:
                    case Preview(pixels=pixels):
                        clock.lap("previews")
                        yield Shot(stage, progress, preview=pixels)
                    case Step():
                        clock.lap(lap)
                        stage, progress = event.stage, _share(event.progress)
                        lap = stage.partition(",")[0]
                        yield Shot(stage, progress)
                    case Frames(pixels=pixels):
                        clock.lap(lap)
                        self._encode(writer, pixels)
                        clock.lap("encoding")
                        progress = _share(event.progress)
                        yield Shot(stage, progress, len(pixels))
            clock.lap(lap)
            if writer.num_frames != request.num_frames:
                raise RuntimeError(f"{engine.name} made {writer.num_frames} frames, not {request.num_frames}")
        clock.lap("encoding")

    @property
    def timings(self) -> dict[str, int]:
        """Milliseconds by stage, and until the first frame; of one that is over or still under way."""
        return {**self._clock.laps, "first_frame": self._first_frame_ms}

    def receipt(self) -> dict[str, Any]:
        """How the video was made, and digests to tell by whether it was made again: of each decoded image, and of the
        mp4."""
        request, engine = self._request, self._engine
        width, height = request.size
        with self._video.open("rb") as file:
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
            "images_sha256": [sha256(image.pixels.tobytes()).hexdigest() for image in self._images],
            "video_sha256": video_sha256,
        }

    def _encode(self, writer: Mp4Writer, pixels: Pixels) -> None:
        self._first_frame_ms = self._first_frame_ms or self._clock.since_start()
        # A third into the video: past the first frames, which say least, and before the end, which says all.
        poster_at = self._request.num_frames // 3 - writer.num_frames
        if 0 <= poster_at < len(pixels):
            write_jpeg(self._poster, pixels[poster_at])
        writer.add(pixels)


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


def _share(of_engine: float) -> float:
    return _FETCH_SHARE + (1 - _FETCH_SHARE) * of_engine


def share_rendered(progress: float) -> float:
    """How much of the rendering is done (0 to 1), of a progress that counts the fetching too."""
    return max(0.0, progress - _FETCH_SHARE) / (1 - _FETCH_SHARE)


@contextmanager
def _closing(work: Iterator[Event]) -> Iterator[None]:
    # A generator left halfway would hold its threads and memory until somebody collects it.
    try:
        yield
    finally:
        close = getattr(work, "close", None)
        if close is not None:
            close()
