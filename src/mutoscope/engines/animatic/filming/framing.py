"""Framing: where a subject stands so that the whole move keeps it whole.

Solves for place and size only. Sides that the reference left whole stay inside the frame with a margin, at every moment
of the path; sides that the reference itself cut off stay at or beyond the frame's edge, so that nothing floats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from mutoscope.engines.animatic.cutout import Box, Cutout, Edge
from mutoscope.engines.animatic.filming.lens import Lens, Matrix, carry
from mutoscope.engines.animatic.filming.path import Path, lessened

MOMENTS: Final = 13  # of the path at which the frame is checked
_SCALES: Final = tuple(sorted((1.04**step for step in range(-48, 36)), key=lambda s: abs(np.log(s))))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a reference lies: the rest coordinates of its pixel (0, 0), and rest pixels per reference pixel."""

    x: float
    y: float
    scale: float

    def box(self, box: Box) -> tuple[float, float, float, float]:
        """`box` of the reference in rest coordinates: x0, y0, x1, y1."""
        return (
            self.x + box.x0 * self.scale,
            self.y + box.y0 * self.scale,
            self.x + box.x1 * self.scale,
            self.y + box.y1 * self.scale,
        )


@dataclass(frozen=True, slots=True)
class Wish:
    """What framing aims for: the subject's scale and the rest coordinates of its box's centre; margins in pixels."""

    scale: float
    x: float
    y: float
    margin: float
    headroom: float


@dataclass(frozen=True, slots=True)
class _Bound:
    """`at`, an offset from the subject's centre in reference pixels, must be projected to >= (or <=) `limit`."""

    at: float
    limit: float
    at_least: bool


def frame(cutout: Cutout, wish: Wish, lens: Lens, path: Path, depth: float = 0.0) -> tuple[Place, Path]:
    """Where `cutout` stands, and the path, lessened if the whole of it can't be had."""
    for by in (1.0, 0.75, 0.5, 0.25, 0.0):
        tried = path if by == 1.0 else lessened(path, by)
        if place := place_along(cutout, wish, lens, tried, depth):
            return place, tried
    still = lessened(path, 0.0)
    for given_up in ({"bottom"}, {"left", "right"}, {"left", "right", "bottom"}, {"left", "top", "right", "bottom"}):
        if place := place_along(cutout, wish, lens, still, depth, frozenset(given_up)):
            return place, still
    raise AssertionError("with every bound given up any place will do")


def place_along(
    cutout: Cutout, wish: Wish, lens: Lens, path: Path, depth: float, given_up: frozenset[str] = frozenset()
) -> Place | None:
    """The place nearest to the wish that keeps every bound all along `path`; None when there is none."""
    views = [lens.project(path.at(moment / (MOMENTS - 1)), depth) for moment in range(MOMENTS)]
    across, down = _bounds(cutout, wish, lens, given_up)
    box = cutout.box
    for factor in _SCALES:
        scale = wish.scale * factor
        x = _interval(views, wish, scale, across, 0, box.height)
        y = _interval(views, wish, scale, down, 1, box.width)
        if x[0] > x[1] or y[0] > y[1]:
            continue
        centre_x, centre_y = min(max(wish.x, x[0]), x[1]), min(max(wish.y, y[0]), y[1])
        return Place(centre_x - scale * (box.x0 + box.x1) / 2, centre_y - scale * (box.y0 + box.y1) / 2, scale)
    return None


def _bounds(cutout: Cutout, wish: Wish, lens: Lens, given_up: frozenset[str]) -> tuple[list[_Bound], list[_Bound]]:
    box = cutout.box
    mid_x, mid_y = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
    across: list[_Bound] = []
    down: list[_Bound] = []

    def bound(edge: Edge, at: float, limit: float, beyond: float) -> None:
        if edge in given_up:
            return
        bounds = across if edge in ("left", "right") else down
        starts = edge in ("left", "top")
        if edge in cutout.cropped:
            bounds.append(_Bound(at, beyond, not starts))
        else:
            bounds.append(_Bound(at, limit, starts))

    bound("left", box.x0 - mid_x, wish.margin, -1)
    bound("right", box.x1 - mid_x, lens.width - wish.margin, lens.width + 1)
    bound("top", box.y0 - mid_y, wish.headroom, -1)
    bound("bottom", box.y1 - mid_y, lens.height - wish.margin, lens.height + 1)
    for face in cutout.faces[:1]:  # a face is kept even where the reference crops the rest
        near = 0.02 * lens.height
        if face.y0 > 0.02 * cutout.rgb.shape[0]:
            down.append(_Bound(face.y0 - mid_y, near, True))
        down.append(_Bound(face.y1 - mid_y, lens.height - near, False))
        if "left" not in given_up:
            across.append(_Bound(face.x0 - mid_x, 0, True))
            across.append(_Bound(face.x1 - mid_x, lens.width, False))
    return across, down


def _interval(
    views: list[Matrix], wish: Wish, scale: float, bounds: list[_Bound], axis: int, other: float
) -> tuple[float, float]:
    """Where the subject's centre may lie on one axis. The projection is linearised about the wish."""
    low, high = -np.inf, np.inf
    centre = np.array([wish.x, wish.y], np.float32)
    step = np.eye(2, dtype=np.float32) * 16
    for view in views:
        seen, right, below = carry(view, np.stack([centre, centre + step[0], centre + step[1]]))
        slope = (right - seen, below - seen)[axis][axis] / 16
        slant = abs((right - seen, below - seen)[1 - axis][axis]) / 16 * other * scale / 2
        for bound in bounds:
            # seen + slope * (place + scale * at - wish) +- slant against the limit, solved for place
            place = (bound.limit - seen[axis]) / slope + centre[axis] - scale * bound.at
            if bound.at_least:
                low = max(low, place + slant / slope)
            else:
                high = min(high, place - slant / slope)
    return float(low), float(high)
