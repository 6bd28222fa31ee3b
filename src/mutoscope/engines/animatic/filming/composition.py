"""Composition: from cutouts and a direction to shots, each with its layers in place.

Knows what makes a picture (who stands where, before what); the parts it calls know how.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mutoscope.engines.animatic.cutout import Cutout
from mutoscope.engines.animatic.direction import Direction, Moves
from mutoscope.engines.animatic.filming import backdrop, framing, subject
from mutoscope.engines.animatic.filming.lens import Lens
from mutoscope.engines.animatic.filming.path import lay_path
from mutoscope.engines.animatic.filming.renderer import Shot, falloff_of

BEHIND: Final = 0.9  # depth of a background, in distances from camera to subject


def compose(cutouts: Sequence[Cutout], direction: Direction, lens: Lens, seconds: float, seed: int) -> list[Shot]:
    """The shots that show every one of `cutouts`, in order; together they last `seconds`."""
    return [_alone(cutout, direction, lens, seconds / len(cutouts), seed) for cutout in cutouts]


def _alone(cutout: Cutout, direction: Direction, lens: Lens, seconds: float, seed: int) -> Shot:
    path = lay_path(lens, direction.moves or Moves(push=0.8, truck=0.2), seconds, seed)
    rows, columns = cutout.rgb.shape[:2]
    cover = max(lens.width / columns, lens.height / rows)
    wish = framing.Wish(cover, lens.width / 2, lens.height / 2, 0.04 * lens.width, 0.04 * lens.height)
    if cutout.subject is None:
        place = framing.Place(lens.width / 2 - cover * columns / 2, lens.height / 2 - cover * rows / 2, cover)
        bounds = backdrop.bounds_of(lens, path, 0.0)
        whole = (0.3 * columns, 0.3 * rows, 0.7 * columns, 0.7 * rows)
        layer = backdrop.extend_plate(cutout.rgb, place, whole, bounds, depth=0.0, density=1.0, soften=0, seed=seed)
        return Shot(lens, path, (layer,), falloff_of(lens, 0.25))
    place, path = framing.frame(cutout, wish, lens, path)
    bounds = backdrop.bounds_of(lens, path, BEHIND)
    kept = (float(cutout.box.x0), float(cutout.box.y0), float(cutout.box.x1), float(cutout.box.y1))
    behind = backdrop.extend_plate(
        cutout.plate,
        place,
        kept,
        bounds,
        depth=BEHIND,
        density=0.8,
        soften=3.0,
        seed=seed,
    )
    closest = max(path.at(t).zoom / (1 - path.at(t).z) for t in (0.0, 1.0))
    before = subject.stand(cutout, place, closest=closest, distance=lens.distance)
    return Shot(lens, path, (behind, before), falloff_of(lens, 0.25))
