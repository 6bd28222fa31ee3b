"""A subject as a layer: cut to size with care, given volume.

Knows one cutout and the scale it is filmed at; not where it stands among others, nor what lies behind it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from mutoscope.engines import Pixels
from mutoscope.engines.animatic.cutout import Box, Cutout, Edge
from mutoscope.engines.animatic.filming.enlarge import resized
from mutoscope.engines.animatic.filming.framing import Place
from mutoscope.engines.animatic.filming.layers import RELIEF, Layer, premultiplied
from mutoscope.engines.animatic.filming.lens import Floats

_AIR: Final = 3  # reference pixels kept around the matte
_BEYOND: Final = 0.06  # of the box: how far a side that the reference crops is continued, out of sight


@dataclass(frozen=True, slots=True)
class Rim:
    """A light from behind and beside: `side` -1 left to 1 right, its `colour` (RGB, 0 to 1) and `strength`."""

    side: float
    colour: tuple[float, float, float]
    strength: float


def stand(
    cutout: Cutout,
    rgba: Pixels,
    place: Place,
    *,
    closest: float,
    distance: float,
    depth: float = 0.0,
    faded: frozenset[Edge] = frozenset(),
    rim: Rim | None = None,
) -> Layer:
    """`cutout`'s subject as a layer at `place`, in the colours of `rgba` (h, w, 4; its subject, graded).

    `closest` is the largest magnification that the path reaches; sides in `faded` melt away instead of ending in a cut.
    """
    part, box = _cut_out(rgba, cutout, faded)
    sized = resized(part, place.scale * closest * 1.08)
    if rim:
        _rim_lit(sized, rim)
    density = sized.shape[1] / part.shape[1] / place.scale
    # The texel's centre, not its corner, is what lies at a coordinate.
    half = 0.5 / density - 0.5 * place.scale
    origin = (place.x + place.scale * box.x0 + half, place.y + place.scale * box.y0 + half)
    height = 0.30 * min(cutout.box.width, cutout.box.height) * place.scale / distance
    relief = relief_of(part, cutout, box)
    return Layer(premultiplied(sized), origin, density, depth, relief, height * (1 + depth), lit=True)


def _rim_lit(rgba: Pixels, rim: Rim) -> None:
    """Light the edge that faces the rim's side, in place: what separates a subject from what lies behind it."""
    wide = max(1.5, 0.0045 * max(rgba.shape[:2]))  # pixels of the half-size matte below
    small = cv2.resize(rgba[..., 3], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    shift = np.array([[1, 0, -rim.side * wide], [0, 1, 0.55 * wide]], np.float32)
    inner = cv2.warpAffine(small, shift, small.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
    edge = cv2.GaussianBlur(cv2.subtract(small, inner), (0, 0), 0.6 * wide)
    edge = cv2.resize(edge, rgba.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    edge = cv2.multiply(edge, rgba[..., 3], scale=rim.strength / 255)
    glow = cv2.multiply(cv2.merge([edge] * 3), (*rim.colour, 0.0))  # type: ignore[call-overload]
    # Screened, so that the light lifts what is dark and spares what is already bright.
    colour = np.ascontiguousarray(rgba[..., :3])
    rgba[..., :3] = cv2.add(colour, cv2.multiply(glow, cv2.bitwise_not(colour), scale=1 / 255))


def _cut_out(rgba: Pixels, cutout: Cutout, faded: frozenset[Edge]) -> tuple[Pixels, Box]:
    """The subject with air around it, its cropped sides continued; and where that lies in the reference."""
    rows, columns = rgba.shape[:2]
    b = cutout.box
    inner = Box(max(b.x0 - _AIR, 0), max(b.y0 - _AIR, 0), min(b.x1 + _AIR, columns), min(b.y1 + _AIR, rows))
    far = max(4, round(_BEYOND * max(b.width, b.height)))
    left, right = (far if "left" in cutout.cropped else _AIR), (far if "right" in cutout.cropped else _AIR)
    top, bottom = (far if "top" in cutout.cropped else _AIR), (far if "bottom" in cutout.cropped else _AIR)
    left, right = min(left, inner.width - 1), min(right, inner.width - 1)
    top, bottom = min(top, inner.height - 1), min(bottom, inner.height - 1)
    part = rgba[inner.y0 : inner.y1, inner.x0 : inner.x1].copy()
    for edge in faded:
        _fade(part, edge)
    # Sideways what is cut goes straight on: mirrored, a falling outline would rise again beside the cut.
    wider = cv2.copyMakeBorder(part, 0, 0, left, right, cv2.BORDER_REPLICATE)
    part = np.asarray(cv2.copyMakeBorder(wider, top, bottom, 0, 0, cv2.BORDER_REFLECT_101), np.uint8)
    for edge, air in (
        ("left", np.s_[:, :left]),
        ("right", np.s_[:, -right:]),
        ("top", np.s_[:top]),
        ("bottom", np.s_[-bottom:]),
    ):
        if edge not in cutout.cropped:
            part[air][..., 3] = 0
    return part, Box(inner.x0 - left, inner.y0 - top, inner.x1 + right, inner.y1 + bottom)


def _fade(rgba: Pixels, edge: Edge) -> None:
    rows, columns = rgba.shape[:2]
    length = rows if edge in ("top", "bottom") else columns
    ramp = np.clip(np.arange(length) / (0.14 * length), 0, 1)
    ramp = ramp * ramp * (3 - 2 * ramp)
    if edge in ("right", "bottom"):
        ramp = ramp[::-1]
    along = ramp[:, None] if edge in ("top", "bottom") else ramp[None, :]
    rgba[..., 3] = np.rint(rgba[..., 3] * along).astype(np.uint8)


def whole(cutout: Cutout) -> Box:
    """The whole reference as a box."""
    rows, columns = cutout.rgb.shape[:2]
    return Box(0, 0, columns, rows)


def relief_of(part: Pixels, cutout: Cutout, box: Box) -> Floats:
    """How far each place of the subject stands forward, 0 to 1: swollen from its outline, the face most."""
    rows, columns = part.shape[:2]
    shrink = RELIEF / max(rows, columns)
    size = (max(8, round(columns * shrink)), max(8, round(rows * shrink)))
    solid = (cv2.resize(part[..., 3], size, interpolation=cv2.INTER_AREA) > 110).astype(np.uint8)
    # A side that the reference crops is no outline: the body goes on there.
    pad = RELIEF // 2
    open_ends = cv2.copyMakeBorder(solid, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=0)
    for edge, outside, rim in (
        ("left", np.s_[:, :pad], open_ends[:, pad : pad + 1]),
        ("right", np.s_[:, -pad:], open_ends[:, -pad - 1 : -pad]),
        ("top", np.s_[:pad], open_ends[pad : pad + 1]),
        ("bottom", np.s_[-pad:], open_ends[-pad - 1 : -pad]),
    ):
        if edge in cutout.cropped:
            open_ends[outside] = rim
    inside = cv2.distanceTransform(open_ends, cv2.DIST_L2, 5)[pad:-pad, pad:-pad]
    round_over = max(2.0, 0.22 * min(size))
    swell = np.clip(inside / round_over, 0, 1)
    relief = np.sqrt(1 - (1 - swell) ** 2)
    ys, xs = np.mgrid[0 : size[1], 0 : size[0]].astype(np.float32)
    relief *= 0.8
    for face in cutout.faces[:1]:
        cx = ((face.x0 + face.x1) / 2 - box.x0) * shrink
        cy = ((face.y0 + face.y1) / 2 - box.y0) * shrink
        rx, ry = max(1.0, 0.55 * face.width * shrink), max(1.0, 0.65 * face.height * shrink)
        relief += 0.25 * np.exp(-(((xs - cx) / rx) ** 2) - ((ys - cy) / ry) ** 2)
    smooth: Floats = cv2.GaussianBlur(relief.astype(np.float32), (0, 0), 0.035 * max(size))
    return np.clip(smooth, 0, 1)
