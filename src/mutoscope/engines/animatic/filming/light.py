"""The light that moves: a key that travels round the subject and a band that sweeps over it.

Knows reliefs and time; not colours of scenes (`grade`) nor shadows on the ground (`ground`). Worked out on the coarse
grid only, so it costs next to nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, sin
from typing import Final

import cv2
import numpy as np

from mutoscope.engines.animatic.filming.layers import Layer, Sight, sample
from mutoscope.engines.animatic.filming.lens import Floats

_BAND: Final = 0.16  # width of the sweep's band, of the subject's
_STEEP: Final = 2.4  # how strongly a relief's slope turns it to the light


@dataclass(frozen=True, slots=True)
class Light:
    """`side`: where the key stands, -1 left to 1 right. `modelling`: how much volume shows in light and shade.
    `sweep`: strength of the band that passes over, from the key's side to the other."""

    side: float
    modelling: float
    sweep: float

    def gain(self, layer: Layer, sight: Sight, time: float) -> Floats | None:
        """Light on `layer` at each grid point of `sight`, 1 where it is unchanged; None when nothing changes."""
        if layer.relief is None or not (self.modelling or self.sweep):
            return None
        rows, columns = layer.relief.shape
        gain = np.ones(sight.texels.shape[:2], np.float32)
        if self.modelling:
            slope_x = cv2.Sobel(layer.relief, cv2.CV_32F, 1, 0, ksize=3, scale=columns / 8 * _STEEP / 10)
            slope_y = cv2.Sobel(layer.relief, cv2.CV_32F, 0, 1, ksize=3, scale=rows / 8 * _STEEP / 10)
            # The key drifts by some thirty degrees during the shot; a relief facing it is lit.
            angle = 0.5 * pi * self.side * (0.62 + 0.36 * (time - 0.5))
            lit = -(slope_x * sin(angle) * -1 + slope_y * -cos(angle) * 0.6)
            turned = np.asarray(lit / np.sqrt(1 + slope_x**2 + slope_y**2), np.float32)
            gain += self.modelling * sample(turned, layer.picture.shape, sight.texels)
        if self.sweep:
            height, width = layer.picture.shape[:2]
            along = sight.texels[..., 0] / width + 0.32 * sight.texels[..., 1] / height
            passed = _passage(time)
            centre = -0.35 + 2.0 * passed if self.side < 0 else 1.65 - 2.0 * passed
            band = np.exp(-(((along - centre) / _BAND) ** 2))
            gain += np.float32(0.34 * self.sweep) * band.astype(np.float32)
        return gain


def _passage(time: float) -> float:
    """How far the sweep has come: it crosses once in the middle of the shot, unhurried."""
    x = min(max((time - 0.08) / 0.84, 0.0), 1.0)
    return x * x * (3 - 2 * x)
