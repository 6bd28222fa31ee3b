"""What the animatic knows of one reference: its subject cut out, and what lies behind it.

The seam between seeing (networks, GrabCut, matting: `seeing`) and filming (composition, camera, light: `filming`).
Nothing here computes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from mutoscope.engines import Pixels

Edge = Literal["left", "top", "right", "bottom"]
Kind = Literal["person", "object", "scene"]


class Box(NamedTuple):
    """Pixels of the reference, half open: x0 <= x < x1, y0 <= y < y1."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def width(self) -> int:
        return self.x1 - self.x0

    @property
    def height(self) -> int:
        return self.y1 - self.y0


@dataclass(frozen=True, slots=True)
class Cutout:
    """One reference, understood. All arrays share the reference's height and width.

    `kind`: a person (or animal's) portrait or figure, an object, or a scene (no clear subject: then `subject` is None).
    """

    kind: Kind
    rgb: Pixels  # (h, w, 3) the reference itself, transparency on white
    subject: Pixels | None  # (h, w, 4) straight alpha; the subject's colours are spread under the matte's edge
    box: Box  # of the subject's matte (alpha > 0.5); the whole picture for a scene
    plate: Pixels  # (h, w, 3) the background, filled in smoothly where the subject stood
    faces: tuple[Box, ...]  # largest first
    cropped: frozenset[Edge]  # the picture's edges that already cut the subject off
    transparent: bool  # the caller's own cut-out: `subject` carries their alpha, `plate` is neutral
