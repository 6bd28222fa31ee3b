"""Where a subject meets the ground: its contact shadow and its reflection.

Knows an outline and a floor; not the subject's meaning. Both follow the outline's lower hull (the line on which a rigid
thing rests), so a saucer seen from above gets a shadow along its rim and is not stood upon its edge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mutoscope.engines import Pixels
from mutoscope.engines.animatic.filming.layers import Layer
from mutoscope.engines.animatic.filming.lens import Floats

_WORK: Final = 420  # pixels of the longer side at which shadow and reflection are worked out: they are soft


@dataclass(frozen=True, slots=True)
class Rest:
    """How a thing rests: its lower hull's row for each column (NaN beside it), its foot, if it is seen from above."""

    line: NDArray[np.float64]
    foot: float
    from_above: bool


def rest_of(alpha: Pixels) -> Rest:
    """How the outline `alpha` (h, w) rests on the ground."""
    rows, columns = alpha.shape
    line = np.full(columns, np.nan)
    if not (alpha > 127).any():
        return Rest(line, rows - 1.0, False)
    points = cv2.findNonZero((alpha > 127).astype(np.uint8))
    hull = np.asarray(cv2.convexHull(points), np.int64).reshape(-1, 2)
    low, high = int(hull[:, 0].min()), int(hull[:, 0].max())
    filled = cv2.fillConvexPoly(np.zeros((rows, columns), np.uint8), hull.astype(np.int32), 1)
    part = np.asarray(filled)[::-1, low : high + 1]
    line[low : high + 1] = rows - 1 - part.argmax(axis=0)
    foot, top = float(hull[:, 1].max()), float(hull[:, 1].min())
    solid = float((alpha > 127).sum()) / max(1.0, float(np.asarray(filled).sum()))
    near = np.asarray(filled)[int(foot - 0.06 * (foot - top))]
    chord = float(near.sum()) / max(1, high - low + 1)
    return Rest(line, foot, bool(solid > 0.9 and chord < 0.62))


def grounded(subject: Layer, *, shadow: float, reflection: float, side: float, colour: NDArray[np.float64]) -> Layer:
    """What lies under `subject`: a shadow of `colour` (RGB, 0 to 1) and strength `shadow`, and a `reflection`.

    `side` is where the key light stands, -1 left to 1 right: the shadow leans away from it.
    """
    shrink = min(1.0, _WORK / max(subject.picture.shape[:2]))
    size = (max(8, round(subject.picture.shape[1] * shrink)), max(8, round(subject.picture.shape[0] * shrink)))
    small = np.asarray(cv2.resize(subject.picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    rest = rest_of(small[..., 3])
    width, height = size
    air = round(0.3 * width)
    below = round(0.45 * height)
    ys, xs = np.mgrid[0 : height + below, -air : width + air].astype(np.float32)
    line = _continued(rest.line, air)
    dark = _shadow(rest, line, xs, ys, width, height, side)
    picture = np.zeros((height + below, width + 2 * air, 4), np.float32)
    picture[..., 3] = np.clip(dark * shadow, 0, 0.85) * 255
    picture[..., :3] = picture[..., 3:] * colour
    if reflection:
        _reflect(picture, small, line, rest, xs, ys, reflection * (0.8 if rest.from_above else 1.0), air)
    baked = np.clip(picture + 0.5, 0, 255).astype(np.uint8)
    density = subject.density * small.shape[1] / subject.picture.shape[1]
    origin = (subject.origin[0] - air / density, subject.origin[1])
    return Layer(baked, origin, density, subject.depth)


def _continued(line: NDArray[np.float64], air: int) -> Floats:
    """The resting line, carried on level beside the outline."""
    known = np.flatnonzero(~np.isnan(line))
    if not len(known):
        return np.zeros(len(line) + 2 * air, np.float32)
    full = np.interp(np.arange(-air, len(line) + air), known, line[known])
    smooth = cv2.GaussianBlur(full.astype(np.float32)[None, :], (0, 0), 0.012 * len(full))
    return np.asarray(smooth, np.float32).reshape(-1)


def _shadow(
    rest: Rest, line: Floats, xs: Floats, ys: Floats, width: int, height: int, side: float
) -> NDArray[np.float32]:
    below = ys - line[None, :]
    lifted = np.clip((rest.foot - line) / height, 0, 1)
    reach = 0.5 if rest.from_above else 0.10
    touching = np.exp(-((lifted / reach) ** 2))
    known = np.flatnonzero(~np.isnan(rest.line))
    left, right = (float(known[0]), float(known[-1])) if len(known) else (0.0, float(width))
    span = max(1.0, right - left)
    x = xs[0]
    beside = np.maximum(np.maximum(left + 0.02 * span - x, x - right + 0.02 * span), 0) / (0.04 * span)
    touching = touching * np.exp(-(beside**2))
    tight = np.exp(-((np.maximum(below, -0.5 * below) / (0.010 * span + 1)) ** 1.2)) * touching[None, :]
    soft = np.exp(-((np.maximum(below, -0.4 * below) / (0.085 * span)) ** 1.3)) * touching[None, :]
    tight = cv2.GaussianBlur(tight.astype(np.float32), (0, 0), 0.006 * span + 0.5)
    soft = cv2.GaussianBlur(soft.astype(np.float32), (0, 0), sigmaX=0.05 * span, sigmaY=0.022 * span)
    leaning = np.array([[1, 0, -side * 0.05 * span], [0, 1, 0.014 * span]], np.float32)
    soft = cv2.warpAffine(soft, leaning, (soft.shape[1], soft.shape[0]))
    return np.asarray(1 - (1 - 0.62 * np.clip(tight, 0, 1)) * (1 - 0.78 * np.clip(soft * 1.5, 0, 1)), np.float32)


def _reflect(
    picture: NDArray[np.float32],
    small: Pixels,
    line: Floats,
    rest: Rest,
    xs: Floats,
    ys: Floats,
    amount: float,
    air: int,
) -> None:
    """Lay the mirror image below the resting line into `picture`, over the shadow, fading as it goes down."""
    height = small.shape[0]
    mirrored = cv2.remap(
        small.astype(np.float32), xs, 2 * line[None, :] - ys - 1, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
    )
    depth = (ys - line[None, :]) / (0.36 * height)
    lifted = np.clip((rest.foot - line) / height, 0, 1)[None, :]
    fade = np.clip(1 - depth, 0, 1) ** 1.7 * (depth > 0) * np.exp(-((lifted / 0.35) ** 2))
    near = cv2.GaussianBlur(mirrored, (0, 0), 0.8)
    far = cv2.GaussianBlur(mirrored, (0, 0), sigmaX=0.015 * height, sigmaY=0.03 * height)
    blend = np.clip(depth * 1.6, 0, 1)[..., None]
    image = (near * (1 - blend) + far * blend) * (fade * amount)[..., None].astype(np.float32)
    picture *= 1 - image[..., 3:] / 255
    picture += image
