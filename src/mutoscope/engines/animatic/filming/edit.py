"""The edit: shots on one time line, joined by dissolves or cuts, as frames in order.

Knows frame numbers; not what the shots show. Two shots are mixed directly, so no join passes through black.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import cv2
import numpy as np

from mutoscope.engines import Pixels
from mutoscope.engines.animatic.direction import Join
from mutoscope.engines.animatic.filming.renderer import Film, Shot

BATCH: Final = 4  # frames that travel together
DISSOLVE: Final = 14  # frames that two shots share


class Edit:
    """`shots` over `count` frames."""

    def __init__(self, shots: Sequence[Shot], count: int, join: Join) -> None:
        shared = min(DISSOLVE, count // (2 * len(shots))) if join == "dissolve" and len(shots) > 1 else 0
        ends = [round(count * (index + 1) / len(shots)) for index in range(len(shots))]
        starts = [0, *ends[:-1]]
        # A shot begins half a dissolve before its own time and ends half a dissolve after it.
        self._spans = [
            (
                max(0, start - shared // 2) if start else 0,
                min(count, end + shared - shared // 2) if end < count else count,
            )
            for start, end in zip(starts, ends, strict=True)
        ]
        self._films = [Film(shot) for shot in shots]
        self._count = count
        size = shots[0].lens
        self._other: Pixels = np.empty((size.height, size.width, 3), np.uint8)

    def frames(self) -> Iterator[Pixels]:
        """All frames in order, (n, h, w, 3) with n up to BATCH. The next ones are drawn while these are used."""
        with ThreadPoolExecutor(1, "filming") as filming:
            try:
                ahead = filming.submit(self._draw, 0)
                for first in range(0, self._count, BATCH):
                    ready = ahead.result()
                    if first + BATCH < self._count:
                        ahead = filming.submit(self._draw, first + BATCH)
                    yield ready
            finally:
                filming.shutdown(wait=True, cancel_futures=True)

    def _draw(self, first: int) -> Pixels:
        height, width = self._other.shape[:2]
        batch: Pixels = np.empty((min(BATCH, self._count - first), height, width, 3), np.uint8)
        for index, out in enumerate(batch):
            self._expose(first + index, out)
        return batch

    def _expose(self, number: int, out: Pixels) -> None:
        on = [index for index, (start, end) in enumerate(self._spans) if start <= number < end]
        self._films[on[0]].expose(self._moment(on[0], number), out)
        if len(on) > 1:
            self._films[on[1]].expose(self._moment(on[1], number), self._other)
            begun, over = self._spans[on[1]][0], self._spans[on[0]][1]
            mixed = (number - begun + 1) / (over - begun + 1)
            mixed = mixed * mixed * (3 - 2 * mixed)
            cv2.addWeighted(out, 1 - mixed, self._other, mixed, 0, dst=out)

    def _moment(self, index: int, number: int) -> float:
        start, end = self._spans[index]
        return (number - start) / max(1, end - 1 - start)
