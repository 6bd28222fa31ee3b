"""Pictures made larger or smaller with care.

Knows sampling only. Enlarging doubles step by step: each step is Lanczos, then sharpened; the first, which has real
detail to work on, within what its neighbourhood holds, so that edges get crisp without a halo.
"""

from __future__ import annotations

import cv2
import numpy as np

from mutoscope.engines import Pixels


def resized(picture: Pixels, scale: float) -> Pixels:
    """(h, w, 3) or straight (h, w, 4) at `scale`: averaged when smaller, sharpened step by step when larger."""
    rows, columns = picture.shape[:2]
    size = (max(2, round(columns * scale)), max(2, round(rows * scale)))
    if scale <= 1:
        return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    colour = np.ascontiguousarray(picture[..., :3])
    steps = max(1, int(np.ceil(np.log2(scale) - 0.2)))
    for step in range(1, steps + 1):
        part = (size[0] / columns) ** (step / steps), (size[1] / rows) ** (step / steps)
        to = size if step == steps else (round(columns * part[0]), round(rows * part[1]))
        grown = np.asarray(cv2.resize(colour, to, interpolation=cv2.INTER_LANCZOS4), np.uint8)
        colour = _crisped(grown) if step == 1 and scale > 1.3 else _sharpened(grown, 0.35)
    if picture.shape[2] == 3:
        return colour
    alpha = cv2.resize(picture[..., 3], size, interpolation=cv2.INTER_CUBIC)
    if scale > 2.5:
        # A matte enlarged is a matte blurred: its slope is made as steep again as it was, short of jagged.
        soft = cv2.GaussianBlur(alpha, (0, 0), 0.35 * scale).astype(np.float32)
        alpha = np.clip((soft - 127.5) * min(2.2, 0.45 * scale) + 127.5, 0, 255).astype(np.uint8)
    return np.dstack([colour, alpha])


def _sharpened(picture: Pixels, amount: float) -> Pixels:
    return np.asarray(
        cv2.addWeighted(picture, 1 + amount, cv2.GaussianBlur(picture, (0, 0), 1.0), -amount, 0), np.uint8
    )


def _crisped(picture: Pixels) -> Pixels:
    """Sharpened, mostly held within the values around each pixel: firm edges that neither ring nor turn to paint."""
    sharp = _sharpened(picture, 0.9)
    around = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    held = cv2.min(cv2.max(sharp, cv2.erode(picture, around)), cv2.dilate(picture, around))
    return np.asarray(cv2.addWeighted(held, 0.6, picture, 0.4, 0), np.uint8)
