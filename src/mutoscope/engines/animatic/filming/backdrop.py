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
from mutoscope.engines.animatic.cutout import Cutout
from mutoscope.engines.animatic.filming.enlarge import resized
from mutoscope.engines.animatic.filming.framing import Place
from mutoscope.engines.animatic.filming.layers import Layer
from mutoscope.engines.animatic.filming.lens import Floats, Lens, carry, inverse
from mutoscope.engines.animatic.filming.path import Path

MOST_STRETCH: Final = 2.2  # at the outer edge of what is drawn out; beyond it the whole plate is enlarged instead
FLOOR_STRETCH: Final = 4.5  # the same where something stands on a floor, which must not part from it
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


def close_plate(cutout: Cutout) -> Pixels:
    """The reference with its subject, and no more than that, filled in from what lies right beside it: (h, w, 3).

    The cutout's own plate is smooth for some way around the subject. Where the subject stands before the very place
    where it stood, the photograph itself, shadow and all, is the better background right up to the matte.
    """
    if cutout.subject is None or cutout.transparent:
        return cutout.plate
    rows, columns = cutout.rgb.shape[:2]
    shrink = min(1.0, 400 / max(rows, columns))
    size = (max(2, round(columns * shrink)), max(2, round(rows * shrink)))
    alpha = cv2.resize(cutout.subject[..., 3], size, interpolation=cv2.INTER_AREA)
    grown = cv2.dilate((alpha > 12).astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7)))
    known = (1 - grown).astype(np.float32)
    small = cv2.resize(cutout.rgb, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    filled = np.asarray(cv2.resize(cutout.plate, size, interpolation=cv2.INTER_AREA), np.float32)
    # From the widest surroundings to the nearest: each place takes the nearest that it has any of.
    for sigma in (36.0, 12.0, 4.0):
        share = cv2.GaussianBlur(known, (0, 0), sigma)
        colour = cv2.GaussianBlur(small * known[..., None], (0, 0), sigma) / np.maximum(share, 1e-4)[..., None]
        trust = np.clip(share * 9, 0, 1)[..., None]
        filled = np.asarray(filled * (1 - trust) + colour * trust, np.float32)
    fill = cv2.resize(np.clip(filled + 0.5, 0, 255).astype(np.uint8), (columns, rows), interpolation=cv2.INTER_LINEAR)
    weight = cv2.resize(cv2.GaussianBlur(1 - known, (0, 0), 1.2), (columns, rows), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.blendLinear(fill, cutout.rgb, weight, 1 - weight), np.uint8)


def floor_relief(bounds: Bounds, horizon: float, foot: float) -> Floats:
    """A relief for a background with a floor: flat above `horizon`, risen to the subject's plane from `foot` down.

    Both are rest rows. It keeps what stands on the floor from sliding over it as the camera moves.
    """
    rows = 64
    ys = bounds.y0 + (np.arange(rows) + 0.5) / rows * (bounds.y1 - bounds.y0)
    risen = np.clip((ys - horizon) / max(1.0, foot - horizon), 0, 1)
    return np.repeat((risen * risen * (3 - 2 * risen))[:, None], 4, axis=1).astype(np.float32)


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
    far: Pixels | None = None,
    centred: bool = False,
    most: float = MOST_STRETCH,
) -> Layer:
    """`plate` (h, w, 3) as an opaque layer over `bounds`.

    `place` is where it would lie as photographed, `kept` the part (of the plate, in its pixels: x0, y0, x1, y1) that is
    not stretched if that can be had, `soften` the blur's standard deviation in rest pixels. Where an edge would be
    stretched by more than `most`, the plate is enlarged about the foot of `kept`, or about its middle when `centred`,
    and `far` is shown in its stead.
    """
    anchor = ((kept[0] + kept[2]) / 2, (kept[1] + kept[3]) / 2 if centred else kept[3])
    grown = _enlarged(plate, place, kept, bounds, anchor, most)
    enlarged = grown.scale > 1.03 * place.scale
    if enlarged and far is not None and relief is not None:
        # What stands there needs its own ground about it: the plate as photographed, melting into the enlarged one.
        picture = _stretched(far, grown, kept, bounds, density, max(9.0, soften))
        _inset(picture, plate, place, bounds, density, soften)
    else:
        picture = _stretched(far if enlarged and far is not None else plate, grown, kept, bounds, density, soften)
    return Layer(dithered(picture, seed), (bounds.x0, bounds.y0), density, depth, relief, height, opaque=True)


def _stretched(
    plate: Pixels,
    place: Place,
    kept: tuple[float, float, float, float],
    bounds: Bounds,
    density: float,
    soften: float,
) -> Pixels:
    rows, columns = plate.shape[:2]
    xs, worn_x = _drawn_out(place.x, place.scale, columns, (kept[0], kept[2]), bounds.x0, bounds.x1, density)
    ys, worn_y = _drawn_out(place.y, place.scale, rows, (kept[1], kept[3]), bounds.y0, bounds.y1, density)
    source = _sized(plate, place.scale * density)
    ratio_x, ratio_y = source.shape[1] / columns, source.shape[0] / rows
    at = np.stack(np.meshgrid((xs + 0.5) * ratio_x - 0.5, (ys + 0.5) * ratio_y - 0.5), axis=-1).astype(np.float32)
    picture = cv2.remap(source, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)  # type: ignore[call-overload]
    picture = blurred(picture, soften * density)
    worn = np.maximum(worn_x[None, :], worn_y[:, None])
    if worn.max() > 0.05:
        for sigma, share in ((max(10.0, soften), worn * 2.2), (36.0, (worn - 0.25) * 1.8), (100.0, (worn - 0.5) * 2.2)):
            softer = blurred(np.asarray(picture, np.uint8), sigma * density)
            weight = np.clip(share, 0, 1).astype(np.float32)
            picture = cv2.blendLinear(picture, softer, 1 - weight, weight)
    return np.asarray(picture, np.uint8)


def _inset(picture: Pixels, plate: Pixels, place: Place, bounds: Bounds, density: float, soften: float) -> None:
    rows, columns = plate.shape[:2]
    x0, y0 = (place.x - bounds.x0) * density, (place.y - bounds.y0) * density
    scale = place.scale * density
    source = blurred(_sized(plate, scale), soften * density)
    weight = np.minimum.outer(
        _melting(source.shape[0], place.y > bounds.y0, place.y + place.scale * rows < bounds.y1),
        _melting(source.shape[1], place.x > bounds.x0, place.x + place.scale * columns < bounds.x1),
    )
    size = (picture.shape[1], picture.shape[0])
    across, down = scale * columns / source.shape[1], scale * rows / source.shape[0]
    onto = np.array([[across, 0, x0 + 0.5 * across - 0.5], [0, down, y0 + 0.5 * down - 0.5]])
    laid = cv2.warpAffine(source, onto, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    share = cv2.warpAffine(weight, onto, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    picture[:] = cv2.blendLinear(laid, picture, share, 1 - share)


def _melting(length: int, at_start: bool, at_end: bool) -> Floats:
    ramp = np.ones(length, np.float32)
    rise = np.clip(np.arange(length, dtype=np.float32) / (0.26 * length), 0, 1)
    rise = rise * rise * (3 - 2 * rise)
    if at_start:
        ramp *= rise
    if at_end:
        ramp *= rise[::-1]
    return ramp


def _enlarged(
    plate: Pixels,
    place: Place,
    kept: tuple[float, float, float, float],
    bounds: Bounds,
    anchor: tuple[float, float],
    most: float,
) -> Place:
    """`place`, enlarged about `anchor` (a plate pixel) until no edge is stretched by more than `most`."""
    rows, columns = plate.shape[:2]
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
        if worst <= most:
            break
        scale = grown.scale * 1.06
        x = place.x + anchor[0] * (place.scale - scale)
        y = place.y + anchor[1] * (place.scale - scale)
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
    worn[part] = np.clip(q * (ratio - 1) / 1.6, 0, 1)


def _sized(picture: Pixels, scale: float) -> Pixels:
    """`picture` at `scale`, or as it is where that is near enough: filming it then never aliases."""
    return picture if 0.95 < scale < 1.15 else resized(picture, min(scale, 24.0))


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


def dithered(picture: Pixels | Floats, seed: int) -> Pixels:
    """`picture` (h, w, 3) with an opaque fourth channel and a breath of noise, so that no gradient shows steps."""
    rows, columns = picture.shape[:2]
    rng = np.random.default_rng([seed, 5])
    # Drawn once for a tile: noise this faint does not show that it repeats.
    tile = rng.normal(0, _DITHER, (256, 256)).astype(np.float32)
    noise = np.tile(tile, (-(-rows // 256), -(-columns // 256)))[:rows, :columns]
    out = np.full((rows, columns, 4), 255, np.uint8)
    for channel in range(3):
        np.clip(picture[..., channel] + noise + 0.5, 0, 255, out=out[..., channel], casting="unsafe")
    return out
