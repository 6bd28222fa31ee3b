"""The grade: one look over everything that is filmed, and one picture's colours brought into another's light.

Knows colour only. It is applied to the pictures once, before filming, so a frame costs nothing for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mutoscope.engines import Pixels
from mutoscope.engines.animatic.direction import Direction

_LUMA: Final = np.array([0.2126, 0.7152, 0.0722])
_NIGHT_LEVEL: Final = 0.2  # mean lightness that a night is brought down to, 0 to 1


@dataclass(frozen=True, slots=True)
class Grade:
    """A 3x3 matrix over RGB, then a curve for each channel, (256, 3) uint8."""

    matrix: NDArray[np.float32]
    curves: Pixels

    def applied(self, rgb: Pixels) -> Pixels:
        """`rgb` (h, w, 3) graded, as a new array."""
        mixed = cv2.transform(rgb, self.matrix)
        return np.asarray(cv2.LUT(mixed, self.curves.reshape(1, 256, 3)), np.uint8)

    def colour(self, rgb: NDArray[np.float64]) -> NDArray[np.float64]:
        """One colour (3 values, 0 to 1), graded."""
        pixel = np.clip(rgb * 255, 0, 255).astype(np.uint8).reshape(1, 1, 3)
        return self.applied(pixel).reshape(3) / 255


def grade_for(direction: Direction, scene: Pixels) -> Grade:
    """The look that `direction` asks for; `scene` (h, w, 3) tells how bright the picture is to begin with."""
    saturation = direction.colour * (1 - 0.15 * direction.night)
    matrix = saturation * np.eye(3) + (1 - saturation) * np.tile(_LUMA, (3, 1))
    level = np.linspace(0, 1, 256)
    # A soft shoulder and a little weight in the shadows: the curve that film has and a phone picture has not.
    bend = 0.10 + 0.35 * direction.contrast * (1 - 0.5 * direction.night)
    curve = level + bend * (level * level * (3 - 2 * level) - level)
    if direction.night:
        mean = max(0.02, mean_light(scene))
        gamma = float(np.clip(np.log(_NIGHT_LEVEL) / np.log(min(mean, 0.9)), 1.0, 2.3))
        curve = curve ** (1 + (gamma - 1) * direction.night)
    warm, night = direction.warmth, direction.night
    gains = np.array([1 + 0.10 * warm - 0.10 * night, 1 + 0.012 * warm - 0.035 * night, 1 - 0.13 * warm + 0.08 * night])
    gains /= np.dot(gains, _LUMA) ** 0.7
    curves = curve[:, None] * (1 + (gains - 1) * (1 - 0.35 * level[:, None] ** 3))  # highlights keep their white
    return Grade(matrix.astype(np.float32), np.clip(curves * 255 + 0.5, 0, 255).astype(np.uint8))


def mean_light(rgb: Pixels) -> float:
    """Mean lightness of a picture, 0 to 1."""
    small = cv2.resize(rgb, (32, 32), interpolation=cv2.INTER_AREA)
    return float((small.reshape(-1, 3) @ _LUMA).mean() / 255)


def matched(rgba: Pixels, own: Pixels, scene: Pixels, amount: float = 0.55) -> Pixels:
    """`rgba` (h, w, 4), photographed before `own`, as the light of `scene` would show it.

    What differs between the two backgrounds' average colours is taken to be the light; `amount` of it is carried over.
    """
    mine, theirs = _light_of(own), _light_of(scene)
    cast = (theirs / theirs.dot(_LUMA)) / (mine / mine.dot(_LUMA))
    cast = np.clip(cast, 0.5, 2.0) ** amount
    exposure = float(np.clip(theirs.dot(_LUMA) / mine.dot(_LUMA), 0.2, 3.0)) ** (0.4 * amount)
    gains = np.clip(cast / cast.dot(_LUMA), 0.72, 1.35) * np.clip(exposure, 0.62, 1.15)
    level = np.arange(256)[:, None]
    curves = np.clip(level * (1 + (gains - 1) * (1 - 0.3 * (level / 255) ** 2)) + 0.5, 0, 255).astype(np.uint8)
    colour = cv2.LUT(np.ascontiguousarray(rgba[..., :3]), curves.reshape(1, 256, 3))
    return np.dstack([colour, rgba[..., 3]])


def _light_of(rgb: Pixels) -> NDArray[np.float64]:
    small = cv2.resize(rgb, (24, 24), interpolation=cv2.INTER_AREA).reshape(-1, 3) / 255
    # Bright parts tell the light's colour best; the shades-of-grey mean leans towards them.
    mean: NDArray[np.float64] = ((small**3).mean(axis=0)) ** (1 / 3) + 0.02
    return mean
