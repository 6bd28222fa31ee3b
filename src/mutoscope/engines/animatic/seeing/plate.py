"""The background as if the subject had never stood there: filled from what surrounds it, smooth and out of focus.

Knows pixels and a matte, nothing else. It invents no detail: a fill that claims to know would show as a ghost.
"""

from __future__ import annotations

import cv2
import numpy as np
from cv2.typing import MatLike

from mutoscope.engines import Pixels

Map = MatLike  # float32


def fill_behind(rgb: Pixels, small: Pixels, alpha: MatLike) -> Pixels:
    """`rgb` (h, w, 3) with what lies under and around the matte (h, w) filled in smoothly.

    The fill is found in `small`, the same picture at working size. The sharp picture goes over into a soft one
    towards the hole, so that no outline of the subject is left.
    """
    height, width = alpha.shape
    size = small.shape[1::-1]
    picture = small.astype(np.float32)
    cover = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)
    hole = _hole(picture, cv2.dilate((cover > 4).astype(np.uint8), _disc(max(size) * 0.02)))
    known = (1 - hole).astype(np.float32)
    if not known.any():
        soft = cv2.GaussianBlur(picture, (0, 0), max(size) * 0.1)
        return np.clip(cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR), 0, 255).astype(np.uint8)
    filled = push_pull(picture, known)
    soft = cv2.GaussianBlur(filled, (0, 0), max(size) * 0.012)
    away = np.clip(cv2.distanceTransform(1 - hole, cv2.DIST_L2, 5) / (max(size) * 0.06), 0, 1)
    sharp = cv2.resize(away * away * (3 - 2 * away), (width, height), interpolation=cv2.INTER_LINEAR)
    rounded = np.rint(np.clip(soft, 0, 255)).astype(np.uint8)
    blurred = cv2.resize(rounded, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.blendLinear(rgb, blurred, sharp, 1 - sharp), np.uint8)


def _hole(picture: Map, hole: MatLike) -> MatLike:
    """`hole` and the subject's shadow: what lies close around it and is darker than what lies farther off.

    Left in, a shadow would draw the subject's outline on the plate and darken the fill.
    """
    longest = max(hole.shape)
    near = (cv2.distanceTransform(1 - hole, cv2.DIST_L2, 5) <= longest * 0.07).astype(np.uint8)
    if np.count_nonzero(near == 0) < 0.05 * near.size:
        return hole
    expected = push_pull(picture, (1 - near).astype(np.float32)).mean(axis=2)
    light = cv2.GaussianBlur(picture.mean(axis=2), (0, 0), longest * 0.006)
    shade = ((light < 0.8 * expected) & (near > 0)).astype(np.uint8)
    shade = cv2.morphologyEx(shade, cv2.MORPH_OPEN, _disc(longest * 0.008))
    return cv2.dilate(cv2.bitwise_or(hole, shade), _disc(longest * 0.012))


def _disc(radius: float) -> MatLike:
    reach = max(1, round(radius))
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1)), np.uint8)


def push_pull(picture: Map, known: Map) -> Map:
    """`picture` (h, w, 3) with the pixels of weight 0 in `known` (h, w) filled from ever coarser averages.

    Gortler et al. 1996, The Lumigraph, section 3.3.
    """
    levels: list[tuple[Map, Map]] = [(picture * known[..., None], known)]
    while min(levels[-1][1].shape) > 1:
        colours, weights = levels[-1]
        size = (max(1, weights.shape[1] // 2), max(1, weights.shape[0] // 2))
        weights = cv2.resize(weights, size, interpolation=cv2.INTER_AREA)
        colours = cv2.resize(colours, size, interpolation=cv2.INTER_AREA)
        # A pixel half known is as good as known: more weight would only keep coarser levels in play for longer.
        gain = np.minimum(1, weights * 2) / np.maximum(weights, 1e-6)
        levels.append((colours * gain[..., None], weights * gain))
    colours, weights = levels[-1]
    filled: Map = np.full_like(colours, colours.sum(axis=(0, 1)) / max(float(weights.sum()), 1e-6))
    for colours, weights in reversed(levels):
        coarse = cv2.resize(filled, weights.shape[::-1], interpolation=cv2.INTER_LINEAR)
        coarse = cv2.GaussianBlur(coarse.reshape(*weights.shape, 3), (0, 0), 1)
        filled = colours + coarse * (1 - weights[..., None])
    return filled
