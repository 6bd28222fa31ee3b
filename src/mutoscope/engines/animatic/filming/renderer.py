"""The renderer: one shot's layers, light and weather drawn for one moment.

Knows the order in which things are drawn; not why anything stands where it does, nor what comes before or after.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from mutoscope.engines import Pixels
from mutoscope.engines.animatic.filming.layers import Canvas, Layer, lay, look_at
from mutoscope.engines.animatic.filming.lens import Lens
from mutoscope.engines.animatic.filming.light import Light
from mutoscope.engines.animatic.filming.path import Path
from mutoscope.engines.animatic.filming.weather import Air


@dataclass(frozen=True, slots=True)
class Shot:
    """What one camera run films: layers from the farthest to the nearest."""

    lens: Lens
    path: Path
    layers: tuple[Layer, ...]
    light: Light
    air: Air | None  # what falls or floats: its own field, so no two films share a shot
    falloff: Pixels  # (h, w, 4): the lens's own darkening towards the corners; 255 is none
    grain: Pixels | None = None  # (h + 64, w + 64, 4) around 128, moved about from frame to frame


class Film:
    """One shot being filmed. Not for two threads at once: it draws on one canvas."""

    def __init__(self, shot: Shot) -> None:
        self._shot = shot
        self._canvas = Canvas.of(shot.lens)

    def expose(self, time: float, out: Pixels) -> None:
        """Draw the moment `time` (0 to 1) into `out` (h, w, 3) RGB."""
        shot, canvas = self._shot, self._canvas
        pose = shot.path.at(time)
        for index, layer in enumerate(shot.layers):
            if sight := look_at(layer, shot.lens, pose):
                lay(layer, sight, canvas, shot.light.gain(layer, sight, time) if layer.lit else None)
            if index == 0 and shot.air:
                shot.air.behind(canvas.pixels, time, pose)
        if shot.air:
            shot.air.before(canvas.pixels, time, pose)
        cv2.multiply(canvas.pixels, shot.falloff, dst=canvas.pixels, scale=1 / 255)
        if shot.grain is not None:
            x, y = _scattered(time)
            part = shot.grain[y : y + shot.lens.height, x : x + shot.lens.width]
            cv2.addWeighted(canvas.pixels, 1, part, 1, -128, dst=canvas.pixels)
        cv2.cvtColor(canvas.pixels, cv2.COLOR_RGBA2RGB, dst=out)


def _scattered(time: float) -> tuple[int, int]:
    """An offset of 0 to 63 on each axis that jumps about from moment to moment."""
    mixed = round(time * 1e6) * 2654435761 % 2**32
    return mixed % 64, mixed // 64 % 64


def grain_of(lens: Lens, amount: float, seed: int) -> Pixels:
    """Film grain: (h + 64, w + 64, 4) uint8 around 128; `amount` 1 is a fast stock."""
    noise = np.random.default_rng([seed, 17]).normal(0, 1, (lens.height + 64, lens.width + 64)).astype(np.float32)
    soft = np.asarray(cv2.GaussianBlur(noise, (0, 0), 0.7), np.float32)
    soft *= 5.5 * amount / max(1e-6, float(soft.std()))
    return np.repeat(np.clip(128.5 + soft, 0, 255).astype(np.uint8)[..., None], 4, axis=2)


def falloff_of(lens: Lens, amount: float) -> Pixels:
    """(h, w, 4) uint8: `amount` (0 to 1) of light lost in the corners, none in the middle."""
    ys, xs = np.mgrid[-1 : 1 : lens.height * 1j, -1 : 1 : lens.width * 1j]
    radius = np.sqrt((xs**2 + ys**2) / 2)
    kept = 255 * (1 - amount * np.clip(radius, 0, 1) ** 2.6)
    dither = np.random.default_rng(3).uniform(-0.5, 0.5, kept.shape)
    return np.repeat(np.clip(kept + dither, 0, 255).round().astype(np.uint8)[..., None], 4, axis=2)
