"""Casting: which references share a shot, and over which background.

Knows the cutouts' kinds and outlines; not pixels of frames, nor the camera. No reference is ever left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mutoscope.engines.animatic.cutout import Cutout
from mutoscope.engines.animatic.filming.framing import cut_from


@dataclass(frozen=True, slots=True)
class Cast:
    """One shot's references: the `players` in front, over `scene` (None: a player's own background, or a studio)."""

    players: tuple[Cutout, ...]
    scene: Cutout | None


def cast(cutouts: Sequence[Cutout], *, studio: bool) -> list[Cast]:
    """The shots, in the order of the references they are led by.

    Subjects that are whole enough are put together in one picture, over the scene if there is one. A picture that
    can't be shared (a second scene, a close-up that its reference crops all round) is a shot of its own.
    """
    scenes = [cutout for cutout in cutouts if cutout.subject is None]
    players = [cutout for cutout in cutouts if cutout.subject is not None and can_share(cutout)]
    apart = [cutout for cutout in cutouts if cutout.subject is not None and not can_share(cutout)]
    if len(players) + len(apart) == 1 and not scenes:
        return [Cast((*players, *apart), None)]
    shots: list[tuple[Cast, Cutout]] = []
    if players:
        scene = scenes.pop(0) if scenes else None
        if scene is None and apart and len(players) == 1 and not studio:
            shots.append((Cast(tuple(players), None), players[0]))
        else:
            shots.append((Cast(tuple(players), scene), players[0]))
    shots += [(Cast((cutout,), None), cutout) for cutout in apart]
    shots += [(Cast((), cutout), cutout) for cutout in scenes]
    order = {id(cutout): index for index, cutout in enumerate(cutouts)}
    return [shot for shot, lead in sorted(shots, key=lambda pair: order[id(pair[1])])]


def can_share(cutout: Cutout) -> bool:
    """Whether the subject can stand in another picture: its head is whole and no more than its foot is cut."""
    if "top" in cutout.cropped:
        return False
    deep = [
        edge
        for edge in ("left", "right")
        if edge in cutout.cropped and cut_from(cutout, edge) < cutout.box.y0 + 0.45 * cutout.box.height
    ]
    return len(deep) < 2 and ("bottom" in cutout.cropped or not deep)


def host(players: Sequence[Cutout]) -> Cutout:
    """Whose own background the others are invited into: the one with the most of it to show."""
    return max(players, key=_background)


def _background(cutout: Cutout) -> float:
    if cutout.transparent:
        return 0.0
    rows, columns = cutout.rgb.shape[:2]
    return rows * columns - 0.85 * cutout.box.width * cutout.box.height
