"""From yes-or-no to a matte: soft edges that follow the picture, and colours that belong to the subject alone.

Knows nothing of networks or of what the subject is.
"""

from __future__ import annotations

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from mutoscope.engines import Pixels

Map = MatLike  # float32
Channel = MatLike  # uint8
Index = NDArray[np.intp]

REACH = 0.012
"""Half the width of the band in which the edge is sought, as a share of the picture's longest side."""

GAP = 0.004
"""Half the width of the gaps that are closed in a thing without strands, likewise."""


def soft_matte(rgb: Pixels, small: Pixels, mask: Channel, strands: bool) -> Channel:
    """Alpha, (h, w), for `rgb` (h, w, 3), given the same picture at working size and a 0-or-255 mask over it.

    A guided filter with a colour guide (He, Sun, Tang 2010, https://doi.org/10.1007/978-3-642-15549-9_1), its
    coefficients found small and applied large (He & Sun 2015, https://arxiv.org/abs/1505.00996), in a band along the
    mask's edge; beyond the band the mask has the say. With `strands` every hair is followed; without, glints
    along a rim are ignored and hairline gaps closed.
    """
    height, width = rgb.shape[:2]
    guide = small.astype(np.float32) / 255
    edge = cv2.resize(mask, small.shape[1::-1], interpolation=cv2.INTER_LINEAR).astype(np.float32) / 255
    reach = max(2, round(max(small.shape) * REACH))
    coefficients = _guided_coefficients(guide, edge, reach, 1e-4 if strands else 2e-3)
    inside, outside = (cv2.distanceTransform(side, cv2.DIST_L2, 5) for side in _sides(edge))
    band = np.where(np.maximum(inside, outside) <= reach + 1, 128, np.where(inside > 0, 255, 0)).astype(np.uint8)
    alpha = np.asarray(cv2.resize(band, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)
    ys, xs = _where(cv2.inRange(alpha, 128, 128))
    if not len(ys):
        return alpha
    # Only along the band is anything computed at full size: it is a few percent of the picture.
    there = _sample(np.dstack([*coefficients, inside - outside]), ys, xs, alpha.shape)
    soft = (there[:, :3] * rgb[ys, xs]).sum(axis=1) / 255 + there[:, 3]
    # The filter leaves a veil of a few percent on both sides, which shows as a halo on another background.
    soft = (soft - 0.1) / 0.8
    # It fades into the mask over the band's outer half, so that the band's own border can't be seen.
    depth = np.clip((np.abs(there[:, 4]) / reach - 0.5) * 2, 0, 1)
    soft = soft * (1 - depth) + (there[:, 4] > 0) * depth
    alpha[ys, xs] = np.rint(np.clip(soft, 0, 1) * 255)
    if strands:
        return alpha
    gap = max(1, round(max(height, width) * GAP))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * gap + 1, 2 * gap + 1))
    # Repeated beyond the border: closing would otherwise grow the matte onto every edge it comes near.
    frame = 2 * gap
    framed = cv2.copyMakeBorder(alpha, frame, frame, frame, frame, cv2.BORDER_REPLICATE)
    return cv2.morphologyEx(framed, cv2.MORPH_CLOSE, disc)[frame:-frame, frame:-frame]


def spread_colours(rgb: Pixels, small: Pixels, alpha: Channel) -> Pixels:
    """The subject's own colours, (h, w, 3): under a soft edge, what `rgb` would be without the background in it.

    After blur fusion (Forte 2021, https://arxiv.org/abs/2110.00236), with the blurs at working size (`small`) and
    taken from pixels that are surely the one or the other. Where the subject is whole its pixels stay as they came;
    where it is absent its nearby colours go on.
    """
    height, width = alpha.shape
    size = small.shape[1::-1]
    picture = small.astype(np.float32)
    cover = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    fore = _nearby(picture, np.clip(cover * 5 - 4, 0, 1) + cover * 1e-3)
    back = _nearby(picture, np.clip(1 - cover * 5, 0, 1) + (1 - cover) * 1e-3)
    near = _enlarge(fore, (width, height))
    subject = rgb.copy()
    cv2.copyTo(near, cv2.inRange(alpha, 0, 0), subject)
    ys, xs = _where(cv2.inRange(alpha, 1, 254))
    own, behind = near[ys, xs].astype(np.float32), _sample(back, ys, xs, alpha.shape)
    part = alpha[ys, xs, None].astype(np.float32) / 255
    own += part * (rgb[ys, xs] - part * own - (1 - part) * behind)
    subject[ys, xs] = np.rint(np.clip(own, 0, 255))
    return subject


def spread_beyond(rgb: Pixels, alpha: Channel) -> Pixels:
    """`rgb` (h, w, 3) with the colours of what shows going on where nothing does (alpha 0); all others untouched.

    What is written under full transparency is arbitrary, often black, and would seep in when the picture is resized.
    """
    height, width = alpha.shape
    reach = max(3, round(max(height, width) * 0.03))
    near = _mean(rgb.astype(np.float32), alpha.astype(np.float32) / 255, reach)[0]
    spread = rgb.copy()
    cv2.copyTo(np.rint(np.clip(near, 0, 255)).astype(np.uint8), cv2.inRange(alpha, 0, 0), spread)
    return spread


def _nearby(picture: Map, weight: Map) -> Map:
    """The mean of `picture` (h, w, 3) around every pixel by `weight` (h, w): from close by, or else from farther."""
    longest = max(weight.shape)
    close, enough = _mean(picture, weight, max(2, longest // 120))
    far, _ = _mean(picture, weight, max(3, longest // 16))
    trust = np.clip(enough[..., None] * 10, 0, 1)
    return far + (close - far) * trust


def _mean(picture: Map, weight: Map, reach: int) -> tuple[Map, Map]:
    """The weighted mean of `picture` within `reach` of every pixel, (h, w, 3), and the mean weight there, (h, w)."""
    size = (2 * reach + 1, 2 * reach + 1)
    enough = cv2.blur(weight, size)
    return cv2.blur(picture * weight[..., None], size) / np.maximum(enough, 1e-6)[..., None], enough


def _where(mask: Channel) -> tuple[Index, Index]:
    """Rows and columns of the pixels that are not 0."""
    if not mask.any():
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    points = cv2.findNonZero(mask).reshape(-1, 2).astype(np.intp)  # numpy's nonzero takes several times as long
    return points[:, 1], points[:, 0]


def _sides(edge: Map) -> tuple[Channel, Channel]:
    inside = (edge > 0.5).astype(np.uint8)
    return inside, 1 - inside


def _enlarge(colours: Map, size: tuple[int, int]) -> Pixels:
    """`colours` (0 to 255) at `size` (width, height), rounded first: eight bits enlarge several times faster."""
    rounded = np.rint(np.clip(colours, 0, 255)).astype(np.uint8)
    return np.asarray(cv2.resize(rounded, size, interpolation=cv2.INTER_LINEAR), np.uint8)


def _sample(field: Map, ys: Index, xs: Index, shape: tuple[int, int]) -> Map:
    """`field` (small h, small w, channels), covering a picture of `shape`, at pixels of that picture: (n, channels)."""
    if not len(ys):  # a matte may have no soft pixel at all, and OpenCV's remap takes no empty list
        return np.zeros((0, field.shape[2]), np.float32)
    down, across = field.shape[0] / shape[0], field.shape[1] / shape[1]
    row = 1024  # OpenCV's remap takes no more than 32767 pixels a side
    grid = np.zeros((2, -(-len(ys) // row) * row), np.float32)
    grid[0, : len(xs)], grid[1, : len(ys)] = (xs + 0.5) * across - 0.5, (ys + 0.5) * down - 0.5
    columns, rows = grid.reshape(2, -1, row)
    found = cv2.remap(field.astype(np.float32), columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found, np.float32).reshape(-1, field.shape[2])[: len(ys)]


def _guided_coefficients(guide: Map, edge: Map, reach: int, smooth: float) -> tuple[Map, Map]:
    """Slopes (h, w, 3) and offset (h, w) of the filter that explains `edge` (h, w) by `guide` (h, w, 3), 0 to 1."""
    size = (2 * reach + 1, 2 * reach + 1)
    red, green, blue = cv2.split(guide)
    products = cv2.merge([red * red, red * green, red * blue, green * green])
    others = cv2.merge([green * blue, blue * blue])
    mean = cv2.blur(guide, size)
    mean_edge = cv2.blur(edge, size)
    with_edge = cv2.blur(guide * edge[..., None], size) - mean * mean_edge[..., None]
    rr, rg, rb, gg = cv2.split(cv2.blur(products, size))
    gb, bb = cv2.split(cv2.blur(others, size))
    r, g, b = cv2.split(mean)
    rr, rg, rb = rr - r * r + smooth, rg - r * g, rb - r * b
    gg, gb, bb = gg - g * g + smooth, gb - g * b, bb - b * b + smooth
    # The inverse of each pixel's symmetric 3 × 3 covariance, written out.
    i_rr, i_rg, i_rb = gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb
    i_gg, i_gb, i_bb = rr * bb - rb * rb, rb * rg - rr * gb, rr * gg - rg * rg
    determinant = rr * i_rr + rg * i_rg + rb * i_rb
    er, eg, eb = cv2.split(with_edge)
    slopes = (
        np.dstack(
            [i_rr * er + i_rg * eg + i_rb * eb, i_rg * er + i_gg * eg + i_gb * eb, i_rb * er + i_gb * eg + i_bb * eb]
        )
        / determinant[..., None]
    )
    offset = mean_edge - (slopes * mean).sum(axis=2)
    return cv2.blur(slopes, size), cv2.blur(offset, size)
