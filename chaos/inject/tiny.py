"""An engine that answers by the contract in a few milliseconds: a still, brighter with every frame."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mutoscope.engines import Event, Frames, Image, Preview, Step
from mutoscope.tasks import VideoRequest

_LONGEST_PAUSE_SECONDS = 0.03


class Tiny:
    """Steps, a preview, and frames in two batches, with pauses between them in which a kill can fall."""

    name = "animatic"
    version = "chaos"
    longest_side = None

    def receipt(self) -> dict[str, Any]:
        return {}

    def generate(self, request: VideoRequest, images: Sequence[Image], scope: str = "") -> Iterator[Event]:
        width, height = request.size
        count = request.num_frames
        frames = np.empty((count, height, width, 3), np.uint8)
        frames[:] = np.linspace(0, 255, count, dtype=np.uint8)[:, None, None, None]
        for step in range(2):
            yield Step(f"step, {step + 1} of 2", step / 4)
            time.sleep(random.uniform(0, _LONGEST_PAUSE_SECONDS))
        yield Preview(frames[:1, :16].reshape(-1, width, 3))
        for begin, end in ((0, count // 2), (count // 2, count)):
            time.sleep(random.uniform(0, _LONGEST_PAUSE_SECONDS))
            yield Frames(frames[begin:end], end / count)
