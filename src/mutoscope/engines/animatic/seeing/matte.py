"""From yes-or-no to a matte: soft edges that follow the picture, and colours that belong to the subject alone.

Knows nothing of networks or of what the subject is.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from mutoscope.engines import Pixels

Map = NDArray[np.float32]

SIDE = 640
"""The guided filter's coefficients are found at this size and applied at the picture's own (He & Sun 2015)."""


def soft_matte(rgb: Pixels, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Alpha, (h, w), for `rgb` (h, w, 3) from a smaller 0-or-255 mask over the same picture.

    A guided filter with a colour guide (He, Sun, Tang 2010, https://doi.org/10.1007/978-3-642-15549-9_1) in a band
    along the mask's edge; beyond the band the mask has the say.
    """
    height, width = rgb.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    guide = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    edge = cv2.resize(mask, size, interpolation=cv2.INTER_CUBIC).astype(np.float32) / 255
    reach = max(2, round(max(size) * 0.012))
    slopes, offset = _guided_coefficients(guide, edge, reach, 1e-4)
    full = cv2.resize(np.dstack([slopes, offset]), (width, height), interpolation=cv2.INTER_LINEAR)
    alpha = full[..., 3] + cv2.transform(cv2.multiply(full[..., :3], rgb, scale=1 / 255, dtype=cv2.CV_32F), _SUM)
    # The filter leaves a veil of a few percent on both sides, which shows as a halo on another background.
    alpha = np.clip((alpha - 0.1) / 0.8, 0, 1)
    binary = (edge > 0.5).astype(np.uint8) * 255
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    least = cv2.resize(cv2.erode(binary, disc), (width, height), interpolation=cv2.INTER_LINEAR)
    most = cv2.resize(cv2.dilate(binary, disc), (width, height), interpolation=cv2.INTER_LINEAR)
    whole = np.rint(alpha * 255).astype(np.uint8)
    return np.minimum(np.maximum(whole, least), most)


def spread_colours(rgb: Pixels, alpha: NDArray[np.uint8]) -> Pixels:
    """The subject's own colours, (h, w, 3): under a soft edge, what `rgb` would be without the background in it.

    Blur fusion, twice (Forte 2021, https://arxiv.org/abs/2110.00236).
    """
    picture = rgb.astype(np.float32)
    cover = (alpha.astype(np.float32) / 255)[..., None]
    longest = max(alpha.shape)
    fore, back = picture, picture
    for reach in (max(3, longest // 24), max(2, longest // 160)):
        fore, back = _fuse(picture, fore, back, cover, reach)
    # Where the subject is whole its pixels stay as they came.
    return np.where(alpha[..., None] == 255, rgb, np.clip(np.rint(fore), 0, 255).astype(np.uint8))


def _fuse(picture: Map, fore: Map, back: Map, cover: Map, reach: int) -> tuple[Map, Map]:
    size = (2 * reach + 1, 2 * reach + 1)
    weight = cv2.blur(cover, size)[..., None]
    near_fore = cv2.blur(fore * cover, size) / (weight + 1e-5)
    near_back = cv2.blur(back * (1 - cover), size) / (1 - weight + 1e-5)
    return near_fore + cover * (picture - cover * near_fore - (1 - cover) * near_back), near_back


_SUM = np.ones((1, 3), np.float32)


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
