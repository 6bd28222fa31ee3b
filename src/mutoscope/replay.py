"""Render a finished task again, and tell whether the same came out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mutoscope.client import ClientError, Progress
from mutoscope.config import Settings
from mutoscope.files import Links, open_files, read_secret
from mutoscope.film import Film
from mutoscope.opening import limits_of, open_engine, opener
from mutoscope.tasks import Status, Task, TaskError

_WHY = {
    "images_sha256": "its references are not what they were",
    "engine_version": "the engine is another version",
    "checkpoint_sha256": "the weights are others",
    "libraries": "libraries are other versions",
    "device": "it ran on another device",
}


class Replay:
    """A finished task rendered again: drive `run` to its end, then ask what differs."""

    def __init__(self, settings: Settings, task: Task, folder: Path) -> None:
        """`folder` takes the new video. Raises ClientError for a task that has no receipt."""
        if task.status is not Status.SUCCEEDED or task.receipt is None:
            raise ClientError(f"Task {task.id} can't be replayed: it is {task.status} and has no receipt.")
        self._settings = settings
        self._task = task
        self._before = task.receipt
        self._after: dict[str, object] = {}
        self.video = folder / f"{task.id}-replay.mp4"
        self._poster = folder / f"{task.id}-replay.jpg"

    def run(self) -> Iterator[Progress]:
        """Render. Raises ClientError for references that are gone."""
        settings = self._settings
        film = Film(open_engine(self._task.engine, settings), self._task.request, self.video, self._poster)
        own = opener(Links(read_secret(settings.home, "links")), open_files(settings.files), settings.max_image_bytes)
        try:
            for shot in film.shoot(limits_of(settings), own):
                yield Progress(shot.stage, shot.progress)
        except TaskError as error:
            raise ClientError(str(error)) from error
        finally:
            self._poster.unlink(missing_ok=True)
        self._after = film.receipt()

    @property
    def is_same(self) -> bool:
        """Whether the new video has the very bytes of the first."""
        return bool(self._after["video_sha256"] == self._before["video_sha256"])

    def reasons(self) -> list[str]:
        """What differs that may explain another video."""
        return [why for name, why in _WHY.items() if self._before.get(name) != self._after.get(name)]
