"""A photographer's studio: a seamless backdrop, lit.

Knows colours and light on paper; not what is photographed, beyond its colours and where it stands.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mutoscope.engines import Pixels
from mutoscope.engines.animatic.filming.backdrop import Bounds, dithered
from mutoscope.engines.animatic.filming.layers import Layer

Colour = NDArray[np.float64]  # RGB, 0 to 1

_NAMED: Final = {
    "white": (0.93, 0.93, 0.94),
    "black": (0.10, 0.10, 0.11),
    "grey": (0.55, 0.55, 0.56),
    "gray": (0.55, 0.55, 0.56),
    "red": (0.62, 0.13, 0.12),
    "orange": (0.86, 0.47, 0.18),
    "yellow": (0.90, 0.75, 0.28),
    "green": (0.27, 0.48, 0.33),
    "teal": (0.15, 0.44, 0.46),
    "cyan": (0.38, 0.70, 0.76),
    "blue": (0.20, 0.36, 0.62),
    "navy": (0.10, 0.15, 0.30),
    "purple": (0.38, 0.25, 0.52),
    "violet": (0.45, 0.33, 0.62),
    "pink": (0.88, 0.66, 0.70),
    "beige": (0.84, 0.77, 0.67),
    "cream": (0.93, 0.89, 0.80),
    "brown": (0.42, 0.30, 0.22),
    "pastel": (0.85, 0.80, 0.84),
    "dark": (0.10, 0.105, 0.12),
    "light": (0.88, 0.88, 0.89),
}


def backdrop_colour(named: str | None, rgba: Pixels) -> Colour:
    """The paper's colour: the one that is `named`, else one that sets off the subject `rgba` (h, w, 4)."""
    if named in _NAMED:
        return np.array(_NAMED[named])
    small = cv2.resize(rgba, (48, 48), interpolation=cv2.INTER_AREA).reshape(-1, 4) / 255
    solid = small[small[:, 3] > 0.6]
    mean = solid[:, :3].mean(axis=0) if len(solid) else np.full(3, 0.5)
    light = float(mean @ [0.2126, 0.7152, 0.0722])
    # A breath of the subject's own hue ties the picture together; the lightness keeps away from the subject's.
    tint = np.clip(mean / max(0.05, light), 0.65, 1.6)
    level = 0.66 if light < 0.46 else 0.17
    return np.clip(level * (1 + 0.22 * (tint - 1)), 0.03, 0.95)


def sweep_of_paper(
    bounds: Bounds,
    colour: Colour,
    *,
    centre: tuple[float, float],
    foot: float,
    reach: float,
    side: float,
    from_above: bool,
    depth: float,
    height: float,
    seed: int,
) -> Layer:
    """The backdrop over `bounds`: a pool of light behind `centre` (`reach` wide), a floor that begins above `foot`.

    The wall runs into the floor without a line; seen `from_above` there is only the table.
    """
    columns = max(2, round((bounds.x1 - bounds.x0) / 4))
    rows = max(2, round((bounds.y1 - bounds.y0) / 4))
    xs = np.linspace(bounds.x0, bounds.x1, columns)[None, :]
    ys = np.linspace(bounds.y0, bounds.y1, rows)[:, None]
    pool_x = centre[0] + 0.28 * side * reach
    pool_y = centre[1] + (0.05 if from_above else -0.22) * reach
    pool = np.exp(-0.5 * (((xs - pool_x) / (1.05 * reach)) ** 2 + ((ys - pool_y) / (0.85 * reach)) ** 2))
    light = 0.46 + 0.92 * pool
    # 0 on the wall, 1 on the floor; the bend of the paper is wide and has no edge.
    floor = 1 / (1 + np.exp(-(ys - (foot - 0.20 * reach)) / (0.07 * reach)))
    if from_above:
        floor = np.full_like(floor, 0.6)
    sheen = np.exp(-0.5 * (((xs - centre[0]) / (0.9 * reach)) ** 2 + ((ys - foot - 0.1 * reach) / (0.28 * reach)) ** 2))
    light = light * (1 - 0.10 * floor) + 0.20 * floor * sheen * pool
    bend = np.exp(-0.5 * ((ys - (foot - 0.20 * reach)) / (0.10 * reach)) ** 2) * (0 if from_above else 0.05)
    light = light - bend
    paper = np.clip(colour, 0, 1) ** 2.2 * light[..., None] ** 1.6
    paper = paper + 0.010 * pool[..., None]  # even black paper shows where it is lit
    warm = np.array([1.012, 1.0, 0.985])  # the key is a little warmer than what fills the shadows
    paper = paper * (warm * pool[..., None] + (2 - warm) * (1 - pool[..., None]))
    shoulder = paper / (1 + 0.12 * paper)
    picture = np.clip(shoulder * 1.12, 0, 1) ** (1 / 2.2) * 255
    full = cv2.resize(
        picture.astype(np.float32),
        (round(bounds.x1 - bounds.x0), round(bounds.y1 - bounds.y0)),
        interpolation=cv2.INTER_CUBIC,
    )
    relief = np.repeat(floor[::4, :1], 4, axis=1).astype(np.float32)
    return Layer(
        dithered(np.asarray(full, np.float32), seed), (bounds.x0, bounds.y0), 1.0, depth, relief, height, opaque=True
    )
