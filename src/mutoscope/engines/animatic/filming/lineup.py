"""The line-up: several subjects in one picture, each with a place, a size and a depth of its own.

Knows outlines and the frame; not colours or pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mutoscope.engines.animatic.cutout import Cutout
from mutoscope.engines.animatic.filming.framing import Framed, Wish, frame
from mutoscope.engines.animatic.filming.lens import Lens
from mutoscope.engines.animatic.filming.path import Path

Stand = tuple[Cutout, Framed, float]  # who, where, and how deep

_STEP: Final = 0.07  # of depth between one rank and the next


def line_up(
    players: Sequence[Cutout], lens: Lens, path: Path, side: float, *, alone_in_scene: bool
) -> tuple[Path, list[Stand]]:
    """The path (lessened if someone could not be kept whole) and the players' stands, the farthest first."""
    ordered = _from_left(players)
    ranks = _ranks(ordered)
    for _ in range(4):
        stands: list[Stand] = []
        for slot, player in enumerate(ordered):
            wish = _wish(player, slot, ordered, lens, side, alone_in_scene=alone_in_scene)
            depth = ranks[slot] * _STEP
            stands.append((player, frame(player, wish, lens, path, depth), depth))
        least = min((framed.path for _, framed, _ in stands), key=_amount)
        if _amount(least) >= _amount(path) * 0.999:
            break
        path = least
    stands.sort(key=lambda stand: -stand[2])
    return path, [(player, Framed(framed.place, path, framed.faded), depth) for player, framed, depth in stands]


def _from_left(players: Sequence[Cutout]) -> list[Cutout]:
    """As they were given, but whoever is cut off at a side stands at that side."""

    def side(player: Cutout) -> int:
        return ("right" in player.cropped) - ("left" in player.cropped)

    return sorted(players, key=side)


def _ranks(players: Sequence[Cutout]) -> list[int]:
    """Rank in depth: those whose foot is cut stand behind, whole things before them, alternately near and far."""
    return [(2 if "bottom" in player.cropped else 0) + slot % 2 for slot, player in enumerate(players)]


def _amount(path: Path) -> float:
    moves = path.moves
    return sum(
        abs(amount)
        for amount in (moves.push, moves.zoom, moves.pan, moves.tilt, moves.truck, moves.crane, moves.orbit, moves.roll)
    ) + abs(moves.handheld)


def _wish(
    player: Cutout, slot: int, players: Sequence[Cutout], lens: Lens, side: float, *, alone_in_scene: bool
) -> Wish:
    count = len(players)
    tall = lens.height > lens.width
    box = player.box
    standing = "bottom" in player.cropped
    margin = 0.035 * min(lens.width, lens.height)
    # Overlap is what makes a group of a row; in a tall frame there has to be more of it.
    share = (1.0 if count == 1 else 1.22 / count if not tall else 1.45 / count) * lens.width
    x = lens.width * (slot + 0.5) / count
    if tall and count > 1:
        x = lens.width * (0.5 + 0.82 * ((slot + 0.5) / count - 0.5))
    if count == 1 and alone_in_scene and not tall:
        x = lens.width * (0.5 - 0.12 * side)
    if standing:
        # A foot that the reference cuts may be cut higher: what counts is the size of the head.
        high = {1: 1.15, 2: 1.0, 3: 0.86, 4: 0.74}[min(count, 4)] * lens.height * (0.72 if tall else 1.0)
        scale = min(high / box.height, share / box.width * (1.35 if player.kind == "person" else 1.0))
        if player.faces:
            scale = min(scale, (0.26 if not tall else 0.17) * lens.height / player.faces[0].height)
        top = max(0.10 * lens.height, lens.height - scale * box.height)
        return Wish(scale, x, top + scale * box.height / 2, margin, 1.5 * margin, 0.55 * scale)
    person = player.kind == "person"
    high = (0.78 if person else 0.44 if count <= 2 else 0.40) * lens.height * (0.72 if tall else 1.0)
    scale = min(high / box.height, (0.9 if person else 0.86) * share / box.width)
    foot = (0.945 if not tall else 0.93 - 0.10 * (slot % 2)) * lens.height
    return Wish(scale, x, foot - scale * box.height / 2, margin, 1.5 * margin, 0.55 * scale)
