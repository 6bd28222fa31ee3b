"""Framing: where a subject stands so that the whole move keeps it whole.

Solves for place and size only. Sides that the reference left whole stay inside the frame with a margin, at every moment
of the path; sides that the reference itself cut off stay at or beyond the frame's edge, so that nothing floats.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np

from mutoscope.engines.animatic.cutout import Box, Cutout, Edge
from mutoscope.engines.animatic.filming.lens import Lens, Matrix
from mutoscope.engines.animatic.filming.path import Path, lessened

MOMENTS: Final = 13  # of the path at which the frame is checked
_FACTORS: Final = tuple(sorted((1.04**step for step in range(-48, 36)), key=lambda factor: abs(np.log(factor))))
_NEAR: Final = 1.9  # a scale further from the wish than this is worse than a lesser move


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
    smallest: float = 0.0  # scale below which a lesser move is preferred to a smaller subject


@dataclass(frozen=True, slots=True)
class Framed:
    """Where the subject stands, the path (lessened if the whole of it could not be had), and cropped sides that stay
    in view all the same and must be faded."""

    place: Place
    path: Path
    faded: frozenset[Edge] = frozenset()


@dataclass(frozen=True, slots=True)
class _Bound:
    """`at`, an offset from the subject's centre in reference pixels, must be projected to >= (or <=) `limit`."""

    at: float
    limit: float
    at_least: bool


@dataclass(frozen=True, slots=True)
class _Bounds:
    across: tuple[_Bound, ...]
    down: tuple[_Bound, ...]


def frame(cutout: Cutout, wish: Wish, lens: Lens, path: Path, depth: float = 0.0) -> Framed:
    """Where `cutout` stands. The more a solution gives up (the size wished for, the move, a clean edge) the later it
    is taken."""
    if cutout.faces:  # a face belongs in the middle third, if that costs no more than some of its size
        for by in (1.0, 0.7):
            tried = path if by == 1.0 else lessened(path, by)
            if place := place_along(cutout, wish, lens, tried, depth, reach=_NEAR, centred=True):
                return Framed(place, tried)
    for by, reach in ((1.0, _NEAR), (0.7, _NEAR), (0.45, _NEAR), (0.2, 99.0), (0.0, 99.0)):
        tried = path if by == 1.0 else lessened(path, by)
        if place := place_along(cutout, wish, lens, tried, depth, reach=reach):
            return Framed(place, tried)
    sides: tuple[frozenset[Edge], ...] = (
        frozenset({"left", "right"}),
        frozenset({"left", "right", "top"}),
        frozenset({"left", "right", "bottom"}),
        frozenset({"left", "top", "right", "bottom"}),
    )
    for by, faded in product((1.0, 0.4, 0.0), sides):
        tried = lessened(path, by)
        if place := place_along(cutout, wish, lens, tried, depth, given_up=faded):
            return Framed(place, tried, faded & cutout.cropped)
    raise AssertionError("with every bound given up any place will do")


def place_along(
    cutout: Cutout,
    wish: Wish,
    lens: Lens,
    path: Path,
    depth: float,
    *,
    given_up: frozenset[Edge] = frozenset(),
    reach: float = 99.0,
    centred: bool = False,
) -> Place | None:
    """The place nearest to the wish that keeps every bound all along `path`; None when there is none.

    Bounds of cropped sides in `given_up` are waived; `reach` is the largest departure from the scale wished for;
    `centred` asks for the largest face to be near the wish, not only within the frame.
    """
    views = np.stack([lens.project(path.at(moment / (MOMENTS - 1)), depth) for moment in range(MOMENTS)])
    ways = _ways(cutout, wish, lens, given_up, centred=centred)
    box = cutout.box
    for factor in _FACTORS:
        scale = wish.scale * factor
        if max(factor, 1 / factor) > reach or scale < wish.smallest * (reach < 99):
            continue
        for bounds in ways:
            centre = (wish.x, wish.y)
            for _ in range(2):  # the second time about where the first has found it
                low_x, high_x = _interval(views, centre, scale, bounds.across, 0, box.height)
                low_y, high_y = _interval(views, centre, scale, bounds.down, 1, box.width)
                if low_x > high_x or low_y > high_y:
                    break
                centre = min(max(wish.x, low_x), high_x), min(max(wish.y, low_y), high_y)
            else:
                x, y = centre
                return Place(x - scale * (box.x0 + box.x1) / 2, y - scale * (box.y0 + box.y1) / 2, scale)
    return None


def cut_from(cutout: Cutout, edge: Edge) -> int:
    """The first row of the reference in which its `edge` (left or right) cuts the subject off."""
    if cutout.subject is None:
        return 0
    strip = cutout.subject[:, :2, 3] if edge == "left" else cutout.subject[:, -2:, 3]
    rows = np.flatnonzero(strip.max(axis=1) > 60)
    return int(rows[0]) if len(rows) else cutout.box.y0


def _ways(cutout: Cutout, wish: Wish, lens: Lens, given_up: frozenset[Edge], *, centred: bool) -> list[_Bounds]:
    """The alternative sets of bounds: a side that is cut off lies beyond the frame, or its cut lies below it."""
    box = cutout.box
    mid_x, mid_y = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
    across: list[_Bound] = []
    down: list[_Bound] = []
    choices: list[tuple[tuple[_Bound | None, _Bound | None], ...]] = []
    sides: tuple[tuple[Edge, float, float, float, bool], ...] = (
        ("left", box.x0 - mid_x, wish.margin, -1, True),
        ("right", box.x1 - mid_x, lens.width - wish.margin, lens.width + 1, False),
        ("top", box.y0 - mid_y, wish.headroom, -1, True),
        ("bottom", box.y1 - mid_y, lens.height - wish.margin, lens.height + 1, False),
    )
    for edge, at, inside, beyond, starts in sides:
        sideways = edge in ("left", "right")
        if edge not in cutout.cropped:
            (across if sideways else down).append(_Bound(at, inside, starts))
        elif edge in given_up:
            continue
        elif sideways:
            hidden = None
            if "bottom" in cutout.cropped and cut_from(cutout, edge) > box.y0 + 0.3 * box.height:
                # a little above the cut, for the volume given to the subject moves it
                hidden = _Bound(cut_from(cutout, edge) - 0.035 * box.height - mid_y, lens.height + 1, True)
            flush = _Bound(at, beyond, not starts)
            choices.append(((flush, None), (None, hidden)) if hidden else ((flush, None),))
        else:
            down.append(_Bound(at, beyond, not starts))
    for face in cutout.faces[:1]:
        more_across, more_down = _keep_face(face, cutout, lens)
        across += more_across
        if centred:
            middle = (face.x0 + face.x1) / 2 - mid_x
            across.append(_Bound(middle, wish.x - 0.15 * lens.width, True))
            across.append(_Bound(middle, wish.x + 0.15 * lens.width, False))
        down += more_down
    ways = []
    for chosen in product(*choices):
        sideways_too = [flush for flush, _ in chosen if flush]
        below_too = [hidden for _, hidden in chosen if hidden]
        ways.append(_Bounds((*across, *sideways_too), (*down, *below_too)))
    return ways


def _keep_face(face: Box, cutout: Cutout, lens: Lens) -> tuple[list[_Bound], list[_Bound]]:
    """Bounds that keep a face in the frame, as far as the reference itself shows the whole of it."""
    box = cutout.box
    mid_x, mid_y = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
    rows, columns = cutout.rgb.shape[:2]
    near = 0.02 * lens.height
    across: list[_Bound] = []
    down: list[_Bound] = []
    if face.y0 > 0.05 * rows:
        down.append(_Bound(face.y0 - mid_y, near, True))
    if face.y1 < 0.95 * rows:
        down.append(_Bound(face.y1 - mid_y, lens.height - near, False))
    if face.x0 > 0.05 * columns:
        across.append(_Bound(face.x0 - mid_x, near, True))
    if face.x1 < 0.95 * columns:
        across.append(_Bound(face.x1 - mid_x, lens.width - near, False))
    return across, down


def _interval(
    views: Matrix, centre: tuple[float, float], scale: float, bounds: tuple[_Bound, ...], axis: int, other: float
) -> tuple[float, float]:
    """Where the subject's centre may lie on one axis: each bound's point, at both ends of its side, in every view.

    `views` is (moments, 3, 3); the projection is linearised at each point, with the subject's centre at `centre`.
    """
    if not bounds:
        return -np.inf, np.inf
    at = np.array([bound.at for bound in bounds]) * scale
    points = np.ones((len(bounds), 2, 3))  # bound, end of its side, homogeneous coordinates
    points[..., axis] = centre[axis] + at[:, None]
    points[..., 1 - axis] = centre[1 - axis] + np.array([-0.5, 0.5]) * other * scale
    seen = np.einsum("mij,bej->mbei", views, points)
    here = seen[..., axis] / seen[..., 2]
    slope = (views[:, None, None, axis, axis] - here * views[:, None, None, 2, axis]) / seen[..., 2]
    limits = np.array([bound.limit for bound in bounds])[None, :, None]
    place = centre[axis] + (limits - here) / slope
    at_least = np.array([bound.at_least for bound in bounds])
    low = place[:, at_least].max() if at_least.any() else -np.inf
    high = place[:, ~at_least].min() if not at_least.all() else np.inf
    return float(low), float(high)
