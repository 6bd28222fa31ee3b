"""What lies behind the subjects: a reference's own background, drawn out until it fills every view of the move.

Knows plates and studio gradients; not the subjects, except where they stand. A picture is drawn out by stretching what
is near its edges, more and more outwards, and by softening it there: floors, walls and skies take it well, and nothing
is seen twice as in a mirror.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mutoscope.engines import Pixels
from mutoscope.engines.animatic.filming.framing import Place
from mutoscope.engines.animatic.filming.layers import Layer
from mutoscope.engines.animatic.filming.lens import Floats, Lens, carry, inverse
from mutoscope.engines.animatic.filming.path import Path

MOST_STRETCH: Final = 2.2  # at the outer edge of what is drawn out; beyond it the whole plate is enlarged instead
_DITHER: Final = 1.1  # standard deviation, in levels: hides the steps of a smooth gradient


@dataclass(frozen=True, slots=True)
class Bounds:
    """The rest coordinates that a layer must cover to fill the frame throughout a move."""

    x0: float
    y0: float
    x1: float
    y1: float


def bounds_of(lens: Lens, path: Path, depth: float, height: float = 0.0) -> Bounds:
    """What of the plane at `depth` (and of the one `height` nearer) is seen along `path`, and a little more."""
    corners = lens.corners()
    seen = [
        carry(inverse(lens.project(path.at(moment / 24), plane)), corners)
        for moment in range(25)
        for plane in {depth, depth - height}
    ]
    low, high = np.min(seen, axis=(0, 1)), np.max(seen, axis=(0, 1))
    margin = 0.02 * max(lens.width, lens.height)
    return Bounds(float(low[0] - margin), float(low[1] - margin), float(high[0] + margin), float(high[1] + margin))


def extend_plate(
    plate: Pixels,
    place: Place,
    kept: tuple[float, float, float, float],
    bounds: Bounds,
    *,
    depth: float,
    density: float,
    soften: float,
    relief: Floats | None = None,
    height: float = 0.0,
    seed: int = 0,
) -> Layer:
    """`plate` (h, w, 3) as an opaque layer over `bounds`.

    `place` is where it would lie as photographed, `kept` the part (of the plate, in its pixels: x0, y0, x1, y1) that is
    not stretched if that can be had, `soften` the blur's standard deviation in rest pixels.
    """
    rows, columns = plate.shape[:2]
    place = _enlarged(plate, place, kept, bounds)
    xs, worn_x = _drawn_out(place.x, place.scale, columns, (kept[0], kept[2]), bounds.x0, bounds.x1, density)
    ys, worn_y = _drawn_out(place.y, place.scale, rows, (kept[1], kept[3]), bounds.y0, bounds.y1, density)
    source = _sized(plate, place.scale * density)
    ratio_x, ratio_y = source.shape[1] / columns, source.shape[0] / rows
    at = np.stack(np.meshgrid((xs + 0.5) * ratio_x - 0.5, (ys + 0.5) * ratio_y - 0.5), axis=-1).astype(np.float32)
    picture = cv2.remap(source, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)  # type: ignore[call-overload]
    picture = blurred(picture, soften * density)
    worn = np.maximum(worn_x[None, :], worn_y[:, None])
    if worn.max() > 0.05:
        softer = blurred(picture, max(14.0, soften) * density)
        weight = np.clip(worn * 1.4, 0, 1).astype(np.float32)
        picture = cv2.blendLinear(picture, softer, 1 - weight, weight)
    return Layer(_dithered(picture, seed), (bounds.x0, bounds.y0), density, depth, relief, height, opaque=True)


def _enlarged(plate: Pixels, place: Place, kept: tuple[float, float, float, float], bounds: Bounds) -> Place:
    """`place`, enlarged about the foot of what stands there until no edge is stretched by more than MOST_STRETCH."""
    rows, columns = plate.shape[:2]
    foot_x, foot_y = (kept[0] + kept[2]) / 2, kept[3]
    grown = place
    for _ in range(40):
        edges = (
            (grown.x, kept[0], bounds.x0, -1),
            (grown.x, columns - kept[2], bounds.x1, 1),
            (grown.y, kept[1], bounds.y0, -1),
            (grown.y, rows - kept[3], bounds.y1, 1),
        )
        spans = (columns, columns, rows, rows)
        worst = max(
            _stretch(origin, grown.scale, span, room, bound, side)
            for (origin, room, bound, side), span in zip(edges, spans, strict=True)
        )
        if worst <= MOST_STRETCH:
            break
        scale = grown.scale * 1.06
        x = place.x + foot_x * (place.scale - scale)
        y = place.y + foot_y * (place.scale - scale)
        grown = Place(x, y, scale)
    return grown


def _zone(room: float, span: int) -> float:
    """How much of an edge may be drawn out: the room beside what is kept, within reason."""
    return float(min(max(room, 0.14 * span), 0.4 * span))


def _stretch(origin: float, scale: float, span: int, room: float, bound: float, side: int) -> float:
    zone = _zone(room, span)
    inner = origin + scale * (zone if side < 0 else span - zone)
    return abs(bound - inner) / (scale * zone)


def _drawn_out(
    origin: float, scale: float, span: int, kept: tuple[float, float], low: float, high: float, density: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each texel from `low` to `high`: the plate's coordinate shown there, and how much it is stretched, 0 to 1."""
    count = max(2, round((high - low) * density))
    rest = low + np.arange(count) / density
    at = (rest - origin) / scale
    worn = np.zeros(count)
    if low < origin:
        zone = _zone(kept[0], span)
        _pull(at, worn, at < zone, zone, 0.0, abs(low - origin - scale * zone) / scale)
    if high > origin + scale * span:
        zone = _zone(span - kept[1], span)
        _pull(at, worn, at > span - zone, zone, span, abs(high - origin - scale * (span - zone)) / scale)
    return np.clip(at, 0, span - 1), worn


def _pull(
    at: NDArray[np.float64], worn: NDArray[np.float64], part: NDArray[np.bool_], zone: float, edge: float, reach: float
) -> None:
    """Map `reach` plate pixels onto the `zone` that ends at `edge`, beginning unstretched."""
    ratio = reach / zone
    inner = zone if edge == 0 else edge - zone
    sign = -1 if edge == 0 else 1
    q = np.clip(np.abs(at[part] - inner) / reach, 0, 1)
    at[part] = inner + sign * zone * (1 - (1 - q) ** ratio)
    worn[part] = np.clip(q * (ratio - 1), 0, 1)


def _sized(picture: Pixels, scale: float) -> Pixels:
    """`picture` at `scale`: averaged when smaller, cubic when larger, so that filming it never aliases."""
    if scale > 0.95:
        return picture if scale < 1.3 else _resized(picture, min(scale, 4.0), cv2.INTER_CUBIC)
    return _resized(picture, scale, cv2.INTER_AREA)


def _resized(picture: Pixels, scale: float, how: int) -> Pixels:
    size = (max(2, round(picture.shape[1] * scale)), max(2, round(picture.shape[0] * scale)))
    return cv2.resize(picture, size, interpolation=how)  # type: ignore[return-value]


def blurred(picture: Pixels, sigma: float) -> Pixels:
    """Blurred with a standard deviation of `sigma` pixels; large blurs are worked out on a smaller picture."""
    if sigma < 0.4:
        return picture
    shrink = max(1, int(sigma / 3))
    if shrink == 1:
        return cv2.GaussianBlur(picture, (0, 0), sigma)  # type: ignore[return-value]
    rows, columns = picture.shape[:2]
    small = cv2.resize(picture, (max(2, columns // shrink), max(2, rows // shrink)), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / shrink)
    return cv2.resize(small, (columns, rows), interpolation=cv2.INTER_CUBIC)  # type: ignore[return-value]


def _dithered(picture: Pixels, seed: int) -> Pixels:
    """`picture` with an opaque fourth channel and a breath of noise, once, so that blurs and grades show no steps."""
    rows, columns = picture.shape[:2]
    noise = np.random.default_rng([seed, 5]).normal(128, _DITHER, (rows, columns)).clip(0, 255)
    mono = cv2.cvtColor(np.rint(noise).astype(np.uint8), cv2.COLOR_GRAY2BGR)
    out = cv2.addWeighted(picture, 1, mono, 1, -128)
    return cv2.cvtColor(out, cv2.COLOR_RGB2RGBA)  # type: ignore[return-value]
