"""Layers: pictures baked once, at the resolution they are filmed at, and how one is laid into a frame.

Knows pixels, relief and blending; not what a layer shows or why it stands where it stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from mutoscope.engines import Pixels
from mutoscope.engines.animatic.filming.lens import Floats, Lens, Pose, Window, carry, inverse

RELIEF: Final = 96  # pixels of a relief's longer side: volume is smooth, and small maps are quick to sample


@dataclass(frozen=True, slots=True)
class Layer:
    """A picture standing in the scene.

    `picture` is (h, w, 4) uint8, colour premultiplied by alpha; its texel (0, 0) lies at rest coordinates `origin`, and
    one rest pixel is `density` texels. `relief` (small, 0 to 1, covering the picture) bulges it up to `height` towards
    the camera. An `opaque` layer fills the frame.
    """

    picture: Pixels
    origin: tuple[float, float]
    density: float
    depth: float
    relief: Floats | None = None
    height: float = 0.0
    opaque: bool = False
    lit: bool = False  # the travelling light falls on it

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in rest pixels."""
        return self.picture.shape[1] / self.density, self.picture.shape[0] / self.density


@dataclass(frozen=True, slots=True)
class Canvas:
    """The frame being drawn, (h, w, 4) uint8 (the fourth channel means nothing), and room to work in beside it."""

    pixels: Pixels
    drawn: Pixels
    cover: Pixels

    @classmethod
    def of(cls, lens: Lens) -> Canvas:
        shape = (lens.height, lens.width, 4)
        return cls(np.zeros(shape, np.uint8), np.empty(shape, np.uint8), np.empty(shape, np.uint8))


@dataclass(frozen=True, slots=True)
class Sight:
    """A layer as one pose sees it: where in the frame, and which texel each grid point of that window shows."""

    window: Window
    texels: Floats  # (rows, columns, 2)


def look_at(layer: Layer, lens: Lens, pose: Pose) -> Sight | None:
    """Where `layer` is seen from `pose`; None when it is outside the frame."""
    homography = lens.project(pose, layer.depth)
    window = Window(0, 0, lens.width, lens.height)
    if not layer.opaque:
        width, height = layer.size
        x, y = layer.origin
        corners = np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]], np.float32)
        seen = carry(homography, corners)
        if layer.relief is not None:
            seen = np.concatenate([seen, carry(lens.project(pose, layer.depth - layer.height), corners)])
        x0, y0 = (int(v) for v in np.floor(np.maximum(seen.min(axis=0) - 1, 0)))
        x1, y1 = (int(v) for v in np.ceil(np.minimum(seen.max(axis=0) + 2, [lens.width, lens.height])))
        if x1 <= x0 or y1 <= y0:
            return None
        window = Window(x0, y0, x1 - x0, y1 - y0)
    points = window.grid()
    origin = np.array(layer.origin, np.float32)
    texels = (carry(inverse(homography), points) - origin) * np.float32(layer.density)
    if layer.relief is not None:
        raised = carry(inverse(lens.project(pose, layer.depth - layer.height)), points)
        lift = (raised - origin) * np.float32(layer.density) - texels
        flat = texels
        for _ in range(2):  # the texel seen at a point is the one whose own height brings it there
            texels = flat + lift * sample(layer.relief, layer.picture.shape, texels)[..., None]
    return Sight(window, texels)


def sample(field: Floats, shape: tuple[int, ...], texels: Floats) -> Floats:
    """`field`, a small map of a picture of `shape`, at `texels` (rows, columns, 2) of that picture."""
    rows, columns = field.shape[:2]
    scale = np.array([columns / shape[1], rows / shape[0]], np.float32)
    at = (texels + np.float32(0.5)) * scale - np.float32(0.5)
    return cv2.remap(field, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[no-any-return, call-overload]


def lay(layer: Layer, sight: Sight, canvas: Canvas, gain: Floats | None = None) -> None:
    """Draw `layer` over the canvas. `gain` (rows, columns) or (rows, columns, 3): light on it at the grid's points."""
    window = sight.window
    part = np.s_[window.y : window.y + window.height, window.x : window.x + window.width]
    target = canvas.pixels[part]
    drawn = target if layer.opaque else canvas.drawn[: window.height, : window.width]
    border = cv2.BORDER_REFLECT_101 if layer.opaque else cv2.BORDER_CONSTANT
    cv2.remap(layer.picture, window.spread(sight.texels), None, cv2.INTER_LINEAR, dst=drawn, borderMode=border)  # type: ignore[call-overload]
    if gain is not None:
        _light(drawn, window, gain)
    if layer.opaque:
        return
    cover = canvas.cover[: window.height, : window.width]
    alpha = cv2.extractChannel(drawn, 3)
    cv2.cvtColor(cv2.bitwise_not(alpha, dst=alpha), cv2.COLOR_GRAY2BGRA, dst=cover)
    cv2.multiply(target, cover, dst=target, scale=1 / 255)
    cv2.add(target, drawn, dst=target)


def _light(drawn: Pixels, window: Window, gain: Floats) -> None:
    # 128 is a gain of 1; the alpha channel keeps it, so that light never changes what covers what.
    scaled = np.full((*gain.shape[:2], 4), 128, np.uint8)
    scaled[..., :3] = np.clip(gain * 128 + 0.5, 0, 255).reshape(*gain.shape[:2], -1)
    cv2.multiply(drawn, window.spread(scaled), dst=drawn, scale=1 / 128)


def premultiplied(rgba: Pixels) -> Pixels:
    """Straight (h, w, 4) to premultiplied."""
    alpha = cv2.cvtColor(rgba[..., 3], cv2.COLOR_GRAY2BGRA)
    out: Pixels = cv2.multiply(rgba, alpha, scale=1 / 255)  # type: ignore[assignment]
    out[..., 3] = rgba[..., 3]
    return out
