"""The background as if the subject had never stood there: filled from what surrounds it, smooth and out of focus.

Knows pixels and a matte, nothing else. It invents no detail: a fill that claims to know would show as a ghost.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from mutoscope.engines import Pixels

Map = NDArray[np.float32]

SIDE = 512
"""The fill is smooth, so it is found at this size."""


def fill_behind(rgb: Pixels, alpha: NDArray[np.uint8]) -> Pixels:
    """`rgb` (h, w, 3) with what lies under and around the matte (h, w) filled in smoothly.

    The sharp picture goes over into a soft one towards the hole, so that no outline of the subject is left.
    """
    height, width = alpha.shape
    scale = min(1.0, SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    # The most of the area and the linear answer: a thin strand must not slip between two small pixels.
    cover = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)
    reach = max(2, round(max(size) * 0.02))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    hole = cv2.dilate((cover > 4).astype(np.uint8), disc)
    known = (1 - hole).astype(np.float32)
    if not known.any():
        soft = cv2.GaussianBlur(small, (0, 0), max(size) * 0.1)
        return np.clip(cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR), 0, 255).astype(np.uint8)
    filled = push_pull(small, known)
    soft = cv2.GaussianBlur(filled, (0, 0), max(size) * 0.012)
    away = cv2.distanceTransform(1 - hole, cv2.DIST_L2, 5) / (max(size) * 0.06)
    sharp = cv2.resize(np.clip(away, 0, 1), (width, height), interpolation=cv2.INTER_LINEAR)
    sharp = (sharp * sharp * (3 - 2 * sharp))[..., None]
    blurred = cv2.resize(soft, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(np.rint(blurred + (rgb - blurred) * sharp), 0, 255).astype(np.uint8)


def push_pull(picture: Map, known: Map) -> Map:
    """`picture` (h, w, 3) with the pixels of weight 0 in `known` (h, w) filled from ever coarser averages.

    Gortler et al. 1996, The Lumigraph, section 3.3.
    """
    levels = [(picture * known[..., None], known)]
    while min(levels[-1][1].shape) > 1:
        colours, weights = levels[-1]
        size = (max(1, weights.shape[1] // 2), max(1, weights.shape[0] // 2))
        weights = cv2.resize(weights, size, interpolation=cv2.INTER_AREA)
        colours = cv2.resize(colours, size, interpolation=cv2.INTER_AREA)
        # A pixel half known is as good as known: more weight would only keep coarser levels in play for longer.
        gain = np.minimum(1, weights * 2) / np.maximum(weights, 1e-6)
        levels.append((colours * gain[..., None], weights * gain))
    colours, weights = levels[-1]
    filled = np.full_like(colours, (colours.sum(axis=(0, 1)) / max(float(weights.sum()), 1e-6)))
    for colours, weights in reversed(levels):
        coarse = cv2.resize(filled, weights.shape[::-1], interpolation=cv2.INTER_LINEAR)
        coarse = cv2.GaussianBlur(coarse.reshape(*weights.shape, 3), (0, 0), 1)
        filled = colours + coarse * (1 - weights[..., None])
    return filled
