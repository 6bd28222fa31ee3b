"""The frame loop: one shot's layers, light and weather drawn for one moment, and shots joined into a video.

Knows order and time; not why anything stands where it does.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from mutoscope.engines import Pixels
from mutoscope.engines.animatic.filming.layers import Canvas, Layer, lay, look_at
from mutoscope.engines.animatic.filming.lens import Lens
from mutoscope.engines.animatic.filming.path import Path


@dataclass(frozen=True, slots=True)
class Shot:
    """What one camera run films: layers from the farthest to the nearest."""

    lens: Lens
    path: Path
    layers: tuple[Layer, ...]
    falloff: Pixels  # (h, w, 4): the lens's own darkening towards the corners; 255 is none


class Film:
    """One shot being filmed. Not for two threads at once: it draws on one canvas."""

    def __init__(self, shot: Shot) -> None:
        self._shot = shot
        self._canvas = Canvas.of(shot.lens)

    def expose(self, time: float, out: Pixels) -> None:
        """Draw the moment `time` (0 to 1) into `out` (h, w, 3) RGB."""
        shot, canvas = self._shot, self._canvas
        pose = shot.path.at(time)
        for layer in shot.layers:
            if sight := look_at(layer, shot.lens, pose):
                lay(layer, sight, canvas)
        cv2.multiply(canvas.pixels, shot.falloff, dst=canvas.pixels, scale=1 / 255)
        cv2.cvtColor(canvas.pixels, cv2.COLOR_RGBA2RGB, dst=out)


def falloff_of(lens: Lens, amount: float) -> Pixels:
    """(h, w, 4) uint8: `amount` (0 to 1) of light lost in the corners, none in the middle."""
    ys, xs = np.mgrid[-1 : 1 : lens.height * 1j, -1 : 1 : lens.width * 1j]
    radius = np.sqrt((xs**2 + ys**2) / 2)
    kept = 255 * (1 - amount * np.clip(radius, 0, 1) ** 2.6)
    dither = np.random.default_rng(3).uniform(-0.5, 0.5, kept.shape)
    return np.repeat(np.clip(kept + dither, 0, 255).round().astype(np.uint8)[..., None], 4, axis=2)
