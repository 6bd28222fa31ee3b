"""What an engine is, and the names of those there are.

An engine turns a request and its decoded images into Steps, Previews and Frames; it knows nothing of tasks, rows,
files, HTTP or mp4. It yields and never calls back: whoever drives the generator owns progress, cancel, time-outs and
the encoder.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mutoscope.tasks import VideoRequest

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Image:
    """One decoded reference: upright, sRGB, (height, width, 3) or, when it has transparency, (height, width, 4) uint8.

    Alpha is straight, not premultiplied.
    """

    pixels: Pixels

    @property
    def has_alpha(self) -> bool:
        return bool(self.pixels.shape[2] == 4)

    def rgb(self) -> Pixels:
        """(height, width, 3): transparency composited on white, the padding colour the model was trained with."""
        if not self.has_alpha:
            return self.pixels
        alpha = self.pixels[..., 3:].astype(np.uint16)
        over = self.pixels[..., :3] * alpha + 255 * (255 - alpha)
        return ((over + 127) // 255).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Step:
    """A piece of work begins: `stage` is what it is, in words a person understands, and where it is one of several of a
    kind, a comma and which; `progress` is of the whole so far, 0 to 1. It lasts until the next Step, or the end."""

    stage: str
    progress: float


@dataclass(frozen=True, slots=True)
class Frames:
    """The next frames of the video, in order: (count, height, width, 3) RGB uint8; `progress` as in Step."""

    pixels: Pixels
    progress: float


@dataclass(frozen=True, slots=True)
class Preview:
    """What the video is going to look like, as far as can be told yet: some of its frames, small, side by side.

    (height, width, 3) RGB uint8. A later one replaces it.
    """

    pixels: Pixels


Event = Step | Frames | Preview


class EngineLostError(Exception):
    """Where the engine ran is gone (a node, a process), and not by the task's doing: it may be rendered elsewhere."""


class Engine(Protocol):
    """The contract. `name` is what responses and metadata carry; `version` names weights and code for the receipt.

    `longest_side` bounds the decoded references in pixels (None: as they are), so that an engine that never needs
    more does not pay for it.
    """

    name: str
    version: str
    longest_side: int | None

    def receipt(self) -> dict[str, Any]:
        """What another machine would need to render the same again: weights, precision, steps, libraries, device."""
        ...

    def generate(self, request: VideoRequest, images: Sequence[Image], scope: str = "") -> Iterator[Event]:
        """Yield Steps, Previews if it can, and, in all, exactly `request.num_frames` frames of `request.size`.

        The same request and images give the same frames. `scope` names whose request it is: what an engine keeps of it
        serves that scope alone, and without one it keeps nothing. Raises TaskError for what the caller can mend, and
        EngineLostError; anything else is a fault of ours. Closing the generator ends the work and frees what it holds.
        """
        ...


ENGINES = ("animatic", "skyreels-v3")
"""The engines there are. `opening.py` opens one; importing this page loads none."""

ON_RAY = "ray:"
"""Before an engine's name: the same engine, but on a node of a Ray cluster."""
