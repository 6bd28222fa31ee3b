"""Casting: which references share a shot, and over which background.

Knows the cutouts' kinds, outlines and backgrounds; not frames, nor the camera. No reference is ever left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mutoscope.engines.animatic.cutout import Cutout
from mutoscope.engines.animatic.filming.framing import cut_from
from mutoscope.engines.animatic.filming.grade import mean_light


@dataclass(frozen=True, slots=True)
class Cast:
    """One shot's references: the `players` in front, over `scene` (None: a player's own background, or a studio)."""

    players: tuple[Cutout, ...]
    scene: Cutout | None


def cast(cutouts: Sequence[Cutout]) -> list[Cast]:
    """The shots, in the order of the references they are led by.

    Subjects that are whole enough are put together in one picture, over the scene if there is one. A picture that
    can't be shared (a second scene, a close-up that its reference crops all round) is a shot of its own.
    """
    order = {id(cutout): index for index, cutout in enumerate(cutouts)}
    scenes = [cutout for cutout in cutouts if cutout.subject is None]
    players: list[Cutout] = []
    apart: list[Cutout] = []
    taken: set[str] = set()
    for cutout in cutouts:
        if cutout.subject is None:
            continue
        sides = cut_sides(cutout)
        if "top" in cutout.cropped or len(sides) > 1 or sides & taken:
            apart.append(cutout)
        else:
            players.append(cutout)
            taken |= sides
    shots = [(order[id(cutout)], Cast((cutout,), None)) for cutout in apart]
    if players:
        scene = scenes.pop(0) if scenes else None
        shots.append((order[id(players[0])], Cast(tuple(players), scene)))
    shots += [(order[id(scene)], Cast((), scene)) for scene in scenes]
    return [shot for _, shot in sorted(shots, key=lambda pair: pair[0])]


def cut_sides(cutout: Cutout) -> set[str]:
    """The sides at which the reference cuts the subject so high up that it must stand at that side of the frame."""
    sides: set[str] = set()
    for edge in cutout.cropped & {"left", "right"}:
        if "bottom" not in cutout.cropped or cut_from(cutout, edge) < cutout.box.y0 + 0.5 * cutout.box.height:
            sides.add(edge)
    return sides


def host(players: Sequence[Cutout]) -> Cutout:
    """Whose own background the others are invited into: the one with the most of it to show."""
    return max(players, key=_background)


def _background(cutout: Cutout) -> float:
    if cutout.transparent:
        return 0.0
    rows, columns = cutout.rgb.shape[:2]
    free = float(rows * columns - 0.85 * cutout.box.width * cutout.box.height)
    # A background that is all but black shows nothing, and would leave the others in the dark.
    return free * (1.0 if mean_light(cutout.plate) > 0.08 else 0.1)
