"""The line-up: several subjects in one picture, each with a place, a size and a depth of its own.

Knows outlines and the frame; not colours or pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from mutoscope.engines.animatic.cutout import Cutout
from mutoscope.engines.animatic.filming.framing import Framed, Wish, frame
from mutoscope.engines.animatic.filming.lens import Lens
from mutoscope.engines.animatic.filming.path import Path

Stand = tuple[Cutout, Framed, float]  # who, where, and how deep

_STEP: Final = 0.07  # of depth between one rank and the next
_OVERLAP: Final = 0.22  # of the narrower one's width, at most, between neighbours; in a tall frame twice that


@dataclass(frozen=True, slots=True)
class _Slot:
    """Where in the frame someone is meant to stand, as shares of its width and height."""

    x: float
    share: float  # of the width
    foot: float
    row: int  # 0 in front
    alone: bool


def line_up(
    players: Sequence[Cutout], lens: Lens, path: Path, side: float, *, scenic: bool, paper: bool
) -> tuple[Path, list[Stand]]:
    """The path (lessened if someone could not be kept whole) and the players' stands, the farthest first.

    `scenic`: there is a scene that wants to be seen beside them; `paper`: a studio.
    """
    ordered = _from_left(players)
    slots = _slots(ordered, lens, side, scenic=scenic, paper=paper)
    sizes = [1.0] * len(ordered)
    for _ in range(8):
        stands: list[Stand] = []
        for index, (player, slot, size) in enumerate(zip(ordered, slots, sizes, strict=True)):
            wish = _wish(player, slot, lens, size, scenic=scenic, paper=paper)
            depth = _STEP * (2 * slot.row + index % 2)
            stands.append((player, frame(player, wish, lens, path, depth), depth))
        least = min((framed.path for _, framed, _ in stands), key=_amount)
        crowded = _crowded(stands, slots, tall=lens.height > lens.width)
        if _amount(least) >= _amount(path) * 0.999 and not crowded:
            break
        path = least
        sizes = [size * (0.88 if index in crowded else 1.0) for index, size in enumerate(sizes)]
    stands.sort(key=lambda stand: -stand[2])
    return path, [(player, replace(framed, path=path), depth) for player, framed, depth in stands]


def _from_left(players: Sequence[Cutout]) -> list[Cutout]:
    """As they were given, but whoever is cut off at a side stands at that side."""

    def side(player: Cutout) -> int:
        return ("right" in player.cropped) - ("left" in player.cropped)

    return sorted(players, key=side)


def _slots(players: Sequence[Cutout], lens: Lens, side: float, *, scenic: bool, paper: bool) -> list[_Slot]:
    tall = lens.height > lens.width
    behind = [player for player in players if _stands_back(player)]
    front = [player for player in players if not _stands_back(player)]
    if not tall or not behind or not front:
        # One row. Overlap is what makes a group of a row; in a tall frame there has to be more of it.
        count = len(players)
        share = 1.0 if count == 1 else (1.4 if tall else 1.18) / count
        spread = 0.86 if tall else 1.0
        slots = []
        for index, player in enumerate(players):
            x = 0.5 + spread * ((index + 0.5) / count - 0.5)
            if count == 1 and scenic and not tall:
                x = 0.5 - 0.17 * side
            foot = (0.80 if paper else 0.93) - (0.10 * (index % 2) if tall and count > 1 else 0.0)
            slots.append(_Slot(x, share, foot, int(_stands_back(player)), count == 1))
        return slots
    # Two rows: what is small stands before who is cut at the foot.
    found = {}
    for index, player in enumerate(behind):
        x = (index + 0.5) / len(behind) if len(behind) > 1 else 0.5 + 0.08 * side
        found[id(player)] = _Slot(x, 1.45 / len(behind), 0.97, 1, len(behind) == 1)
    for index, player in enumerate(front):
        x = (index + 0.5) / len(front) if len(front) > 1 else 0.5 - 0.20 * side
        found[id(player)] = _Slot(x, 0.5 if len(front) == 1 else 0.9 / len(front), 0.955, 0, False)
    return [found[id(player)] for player in players]


def _stands_back(player: Cutout) -> bool:
    return "bottom" in player.cropped or player.kind == "person"


def _wish(player: Cutout, slot: _Slot, lens: Lens, size: float, *, scenic: bool, paper: bool) -> Wish:
    tall = lens.height > lens.width
    box = player.box
    margin = 0.035 * min(lens.width, lens.height)
    person = player.kind == "person"
    if "bottom" in player.cropped:
        # A foot that the reference cuts may be cut higher: what counts is the size of the head.
        high = (1.15 if slot.alone else 0.95) * lens.height * (0.72 if tall else 1.0)
        scale = min(high / box.height, slot.share * lens.width / box.width * (1.3 if person else 1.0))
        if player.faces:
            scale = min(scale, (0.26 if not tall else 0.17) * lens.height / player.faces[0].height)
        if tall and scenic:  # what towers in the scene is seen above the heads
            scale *= 0.74
        scale *= size
        top = max(0.10 * lens.height, lens.height - scale * box.height)
        return Wish(scale, slot.x * lens.width, top + scale * box.height / 2, margin, 1.5 * margin, 0.55 * scale)
    high = 0.80 if person else 0.60 if paper else 0.46
    if tall:
        high *= 0.72
    scale = min(high * lens.height / box.height, 0.92 * slot.share * lens.width / box.width) * size
    y = slot.foot * lens.height - scale * box.height / 2
    return Wish(scale, slot.x * lens.width, y, margin, 1.5 * margin, 0.55 * scale)


def _crowded(stands: Sequence[Stand], slots: Sequence[_Slot], *, tall: bool) -> set[int]:
    """Those of one row who hide too much of each other."""
    boxes = [framed.place.box(player.box) for player, framed, _ in stands]
    most = _OVERLAP * (2.0 if tall else 1.0)
    crowded: set[int] = set()
    for one in range(len(boxes)):
        for other in range(one + 1, len(boxes)):
            if slots[one].row != slots[other].row and (tall or len(stands) > 2):
                continue  # a row in front hides what the reference crops anyway
            a, b = boxes[one], boxes[other]
            shared = min(a[2], b[2]) - max(a[0], b[0])
            if shared > most * min(a[2] - a[0], b[2] - b[0]) and min(a[3], b[3]) > max(a[1], b[1]):
                crowded |= {one, other}
    return crowded


def _amount(path: Path) -> float:
    moves = path.moves
    names = ("push", "zoom", "pan", "tilt", "truck", "crane", "orbit", "roll", "handheld")
    return float(sum(abs(getattr(moves, name)) for name in names))
