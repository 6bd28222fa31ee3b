"""The domain's own words: what is asked for, what becomes of it, and how it can go wrong.

Pure: nothing here knows a database, HTTP, an engine or a file, and nothing of ours is imported. The words of a wire
dialect (`created`, `completed`, ...) are not known here either; `api/wavespeed.py` translates.

A task's states and the only moves between them:

                  a            b               c
        (none) ──────▶ queued ───▶ running ──────▶ succeeded
                        │   ▲        │ │ │
                      f │   └────────┘ │ │ e
                        ▼       d      │ └───────▶ failed
                     canceled ◀────────┘
                                 g

    a  add        a request was accepted; from here on the task survives any crash
    b  claim      a worker holds it under a lease; `attempt` counts up
    c  finish     the video is whole and stored
    d  give_back  the worker is told to stop, met an unexpected error, or its lease ran out
    e  finish     a TaskError, or attempts used up
    f  cancel     at once
    g  cancel     at the worker's next step, or as it would finish

Terminal is terminal: nothing leaves succeeded, failed or canceled.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

FPS = 24
MAX_SEED = 2**63 - 1

Shape = Literal["16:9", "9:16", "1:1"]

Resolution = Literal["480p", "540p", "720p"]

RESOLUTIONS: tuple[Resolution, ...] = ("480p", "540p", "720p")  # from the smallest

SIZES: dict[Resolution, dict[Shape, tuple[int, int]]] = {
    "480p": {"16:9": (848, 480), "9:16": (480, 848), "1:1": (640, 640)},
    "540p": {"16:9": (960, 544), "9:16": (544, 960), "1:1": (720, 720)},
    "720p": {"16:9": (1280, 720), "9:16": (720, 1280), "1:1": (960, 960)},
}
"""Width and height in pixels of a video, by resolution and shape: sizes that SkyReels-V3 was trained with."""


class Status(StrEnum):
    """Where a task stands. See the picture above."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def is_terminal(self) -> bool:
        return self in (Status.SUCCEEDED, Status.FAILED, Status.CANCELED)


@dataclass(frozen=True, slots=True)
class VideoRequest:
    """What an engine is asked to make: already validated, free of any dialect.

    `images` are the references as they were sent (URLs or data URIs), 1 to 4 of them; `duration` is in seconds.
    """

    prompt: str
    images: tuple[str, ...]
    aspect_ratio: Shape = "16:9"
    duration: int = 5
    seed: int = 0
    resolution: Resolution = "720p"

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the video in pixels."""
        return SIZES[self.resolution][self.aspect_ratio]

    @property
    def num_frames(self) -> int:
        """24 per second and one more, as the model counts (its latents hold 4 frames each, after the first)."""
        return FPS * self.duration + 1


Scope = Literal["generate", "read", "admin"]

SCOPES: tuple[Scope, ...] = ("generate", "read", "admin")
"""What a key may do: make and end videos; see what there is; manage the keys and the money of its account."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is asking: a key that is good now, and the account that pays."""

    key_id: str
    account_id: str
    scopes: frozenset[str]
    is_operator: bool = False


@dataclass(frozen=True, slots=True)
class Task:
    """One request and what has become of it: a row of `tasks`, read. Times are seconds since the epoch, UTC.

    `attempt` is the fencing token: each claim counts it up, and a write that names an older one changes nothing.
    `timings` are milliseconds by stage; `receipt` says how a video was made; `output` and `poster` are keys of
    files; `preview` is one, `#`, and which picture is there now. `price_micros` is held until the task ends,
    `charged_micros` is what was settled then.
    """

    seq: int
    id: str
    key_id: str
    account_id: str
    model: str
    engine: str
    request: VideoRequest
    base64_output: bool
    status: Status
    created_at: float
    attempt: int
    stage: str
    progress: float
    cancel_requested: bool
    started_at: float | None
    finished_at: float | None
    error: str
    error_code: int
    output: str | None
    poster: str | None
    preview: str | None
    timings: dict[str, int]
    receipt: dict[str, Any] | None
    price_micros: int
    charged_micros: int | None
    cost: float
    turn: float
    priority: int
    webhook_url: str
    base_url: str
    is_favourite: bool

    @property
    def spritesheet(self) -> str:
        """The key of the grid of frames that somebody may have asked for; of a finished video."""
        return f"{self.output}.sheet.jpg"

    @property
    def files(self) -> list[str]:
        """The keys of all files that were made of it, of which some may not be there."""
        return [key for key in (self.output, self.poster, self.output and self.spritesheet) if key]


class TaskError(Exception):
    """A failure that belongs to the task, told to its owner and never tried again.

    The message is one sentence that a person can act on; `code` is the number that clients know.

    * TaskError (1403)
      + ReferenceUnusableError (1402) a reference could not be fetched or read
      + InvalidRequestError (1401)    the engine can't render what is asked
      + AttemptsUsedUpError (1406)    it was tried as often as allowed
      + TooLateError (5004)           no worker was free before its deadline
    """

    code = 1403


class ReferenceUnusableError(TaskError):
    """A reference image can't be fetched, is too large, or is no picture; names which one and why."""

    code = 1402


class InvalidRequestError(TaskError):
    """The engine can't render what is asked, though the request was well formed."""

    code = 1401


class AttemptsUsedUpError(TaskError):
    """The task was tried as often as allowed."""

    code = 1406


class TooLateError(TaskError):
    """No worker was free before the task's deadline."""

    code = 5004
