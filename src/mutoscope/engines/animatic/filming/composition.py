"""Composition: from cutouts and a direction to shots, each with its layers in place.

Knows what makes a picture (how large, where, before what, in what light); the parts it calls know how.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np

from mutoscope.engines import Pixels
from mutoscope.engines.animatic.cutout import Cutout
from mutoscope.engines.animatic.direction import Direction, Moves
from mutoscope.engines.animatic.filming import backdrop, framing, ground, studio, subject
from mutoscope.engines.animatic.filming.casting import Cast, cast, host
from mutoscope.engines.animatic.filming.grade import Grade, grade_for, matched
from mutoscope.engines.animatic.filming.layers import Layer
from mutoscope.engines.animatic.filming.lens import Lens
from mutoscope.engines.animatic.filming.light import Light
from mutoscope.engines.animatic.filming.lineup import Stand, line_up
from mutoscope.engines.animatic.filming.path import Path, closest, lay_path
from mutoscope.engines.animatic.filming.renderer import Shot, falloff_of, grain_of
from mutoscope.engines.animatic.filming.weather import Air

BEHIND: Final = 0.8  # depth of a background, in distances from camera to subject


def compose(cutouts: Sequence[Cutout], direction: Direction, lens: Lens, seconds: float, seed: int) -> list[Shot]:
    """The shots that show every one of `cutouts`, in order; together they last `seconds`."""
    casts = cast([_own_edges(cutout) for cutout in cutouts])
    side = 1.0 if np.random.default_rng([seed, 7]).random() < 0.5 else -1.0
    shots = []
    for index, one in enumerate(casts):
        set_up = _SetUp(direction, lens, seconds / len(casts), seed + index, side if index % 2 == 0 else -side)
        shots.append(set_up.shoot(one))
    return shots


@dataclass(frozen=True, slots=True)
class _SetUp:
    """What every layer of one shot shares."""

    direction: Direction
    lens: Lens
    seconds: float
    seed: int
    side: float  # of the key light, -1 left to 1 right

    def shoot(self, one: Cast) -> Shot:
        if not one.players:
            assert one.scene is not None
            return self._picture(one.scene)
        if len(one.players) == 1 and one.scene is None:
            only = one.players[0]
            return self._picture(only) if "top" in only.cropped else self._alone(only)
        return self._together(one)

    # One reference

    def _picture(self, cutout: Cutout) -> Shot:
        """The whole reference as one picture in relief: a scene, or a close-up that fills its reference."""
        lens = self.lens
        path = self._path(Moves(push=0.75, truck=0.28 * self.side))
        grade = grade_for(self.direction, cutout.rgb)
        rgb = grade.applied(cutout.rgb)
        depth, height = 0.3, 0.32
        bounds = backdrop.bounds_of(lens, path, depth, height)
        place = _covering(rgb, bounds, _focus(cutout))
        rows, columns = rgb.shape[:2]
        if cutout.subject is None:
            kept = (0.2 * columns, 0.2 * rows, 0.8 * columns, 0.8 * rows)
            horizon = place.y + 0.45 * rows * place.scale
            relief = backdrop.floor_relief(bounds, horizon, max(bounds.y1, horizon + 1))
        else:
            kept = (float(cutout.box.x0), float(cutout.box.y0), float(cutout.box.x1), float(cutout.box.y1))
            nearer = closest(path) ** (1 / (1 + depth))
            shown = 0.97 * lens.width / nearer / max(1, cutout.box.width)
            if len(cutout.cropped) == 4:  # its outline is the picture's: some of it may go, but not much
                shown = max(min(shown, 0.72 * place.scale), 0.45 * place.scale)
            scale = min(place.scale, shown)
            if scale < place.scale:  # all of its width, even if the picture must be drawn out above and below it
                x = lens.width / 2 - scale * (kept[0] + kept[2]) / 2
                if {"left", "right"} - cutout.cropped:  # the side that is cut belongs on the frame's edge
                    x = _kept_over(x, scale * columns, bounds)
                place = framing.Place(x, lens.height / 2 - scale * (kept[1] + kept[3]) / 2, scale)
            relief = _relief_over(cutout, place, bounds)
        layer = backdrop.extend_plate(
            rgb,
            place,
            kept,
            bounds,
            depth=depth,
            density=1.4,  # finer than the frame, so that moving by parts of a pixel does not soften it in turns
            soften=0.0,
            relief=relief,
            height=height,
            seed=self.seed,
            centred=True,
            most=7.0 if cutout.subject is not None else backdrop.MOST_STRETCH,
        )
        return self._shot(path, (replace(layer, lit=cutout.subject is not None),))

    def _alone(self, cutout: Cutout) -> Shot:
        """One subject, before its own background or in a studio."""
        lens, paper = self.lens, self.direction.studio or cutout.transparent
        if paper:
            path = self._path(Moves(orbit=0.9 * self.side, push=0.5))
        elif cutout.kind == "person":
            path = self._path(Moves(push=0.75, truck=0.2 * self.side), aim=(0.0, -0.12 * lens.height))
        else:
            path = self._path(Moves(push=0.65, orbit=0.4 * self.side))
        framed = framing.frame(cutout, _wish_alone(cutout, lens, paper=paper), lens, path)
        place, path = framed.place, framed.path
        grade = grade_for(self.direction, np.full_like(cutout.rgb, 150) if paper else cutout.rgb)
        assert cutout.subject is not None
        rgba = _graded(cutout.subject, grade)
        stood = self._stand(cutout, rgba, framed)
        behind = self._paper([stood], rgba, grade, path) if paper else self._own(cutout, place, grade, path)
        under = self._ground(stood, paper=paper) if paper and "bottom" not in cutout.cropped else ()
        return self._shot(path, (behind, *under, stood), paper=paper)

    def _own(self, cutout: Cutout, place: framing.Place, grade: Grade, path: Path) -> Layer:
        """The reference's own background about its subject."""
        box = cutout.box
        kept = (float(box.x0), float(box.y0), float(box.x1), float(box.y1))
        stands = "bottom" not in cutout.cropped
        height = BEHIND if stands else 0.0
        bounds = backdrop.bounds_of(self.lens, path, BEHIND, height)
        relief = None
        if stands:
            _, top, _, foot = place.box(box)
            relief = backdrop.floor_relief(bounds, foot - 0.55 * (foot - top), foot)
        plate = grade.applied(backdrop.close_plate(cutout))
        soften = self._softness(1.8)
        return backdrop.extend_plate(
            plate,
            place,
            kept,
            bounds,
            depth=BEHIND,
            density=0.9 if soften < 4 else 0.6,
            soften=soften,
            relief=relief,
            height=height,
            seed=self.seed,
            far=grade.applied(cutout.plate),
            most=backdrop.FLOOR_STRETCH if stands else backdrop.MOST_STRETCH,
        )

    # Several references

    def _together(self, one: Cast) -> Shot:
        lens, direction = self.lens, self.direction
        paper = one.scene is None and (direction.studio or all(player.transparent for player in one.players))
        home = one.scene if one.scene is not None else host(one.players)
        plate = home.rgb if home.subject is None else home.plate
        grade = grade_for(direction, np.full_like(plate, 150) if paper else plate)
        path = self._path(Moves(push=0.6, truck=0.4 * self.side))
        path, stands = line_up(one.players, lens, path, self.side, scenic=one.scene is not None, paper=paper)
        layers: list[Layer] = []
        stood: list[Layer] = []
        for player, framed, depth in stands:
            assert player.subject is not None
            rgba = player.subject
            if not paper and player is not home:
                rgba = matched(rgba, player.plate, plate, 0.42 if player.kind == "person" else 0.55)
            layer = self._stand(player, _graded(rgba, grade), framed, depth)
            if "bottom" not in player.cropped:
                layers += self._ground(layer, paper=paper)
            layers.append(layer)
            stood.append(layer)
        if paper:
            first = stands[0][0].subject
            assert first is not None
            return self._shot(path, (self._paper(stood, first, grade, path), *layers), paper=True)
        height = 0.5 * BEHIND
        bounds = backdrop.bounds_of(lens, path, BEHIND, height)
        graded = grade.applied(plate)
        rows, columns = graded.shape[:2]
        place = _covering(graded, bounds, _focus(home) if home.subject is None else None)
        if one.scene is not None and (head := _only_head(stands)) is not None:
            place = _beside(head, place, columns, rows, lens, bounds)
        on_foot = any("bottom" not in player.cropped for player in one.players)
        if home.subject is None and not home.faces and on_foot:
            # The lower part of a scene is its ground, and there are feet to be put on it.
            place = replace(place, y=bounds.y1 - place.scale * rows)
        soften = self._softness(1.2 if home.subject is None else 4.0)
        behind = backdrop.extend_plate(
            graded,
            place,
            (0.0, 0.0, float(columns), float(rows)),
            bounds,
            depth=BEHIND,
            density=1.25 if soften < 4 else 0.6,
            soften=soften,
            relief=backdrop.floor_relief(bounds, 0.62 * lens.height, 1.0 * lens.height),
            height=height,
            seed=self.seed,
        )
        return self._shot(path, (behind, *layers))

    # The parts of a shot

    def _path(self, otherwise: Moves, aim: tuple[float, float] = (0.0, 0.0)) -> Path:
        moves = self.direction.moves
        return lay_path(self.lens, otherwise if moves is None else moves, self.seconds, self.seed, aim)

    def _softness(self, otherwise: float) -> float:
        """The background's blur in pixels."""
        asked = self.direction.soften
        unit = min(self.lens.width, self.lens.height) / 720
        return (otherwise if asked is None else 11.0 * asked) * unit

    def _stand(self, cutout: Cutout, rgba: Pixels, framed: framing.Framed, depth: float = 0.0) -> Layer:
        return subject.stand(
            cutout,
            rgba,
            framed.place,
            closest=closest(framed.path),
            distance=self.lens.distance,
            depth=depth,
            faded=framed.faded,
            rim=self._rim(),
        )

    def _rim(self) -> subject.Rim | None:
        direction = self.direction
        if direction.night > 0.4:
            return subject.Rim(-self.side, (0.66, 0.80, 1.0), 0.55)
        if direction.warmth > 0.3:
            return subject.Rim(-self.side, (1.0, 0.80, 0.52), 0.55)
        return subject.Rim(-self.side, (1.0, 0.97, 0.93), 0.30) if direction.studio else None

    def _ground(self, stood: Layer, *, paper: bool) -> tuple[Layer, ...]:
        mirror = 0.44 if paper else 0.0
        black = np.array([0.02, 0.018, 0.02])
        shadow = 0.85 if paper else 0.75
        return (ground.grounded(stood, shadow=shadow, reflection=mirror, side=self.side, colour=black),)

    def _paper(self, stood: Sequence[Layer], rgba: Pixels, grade: Grade, path: Path) -> Layer:
        bounds = backdrop.bounds_of(self.lens, path, BEHIND, BEHIND)
        boxes = [(*layer.origin, layer.origin[0] + layer.size[0], layer.origin[1] + layer.size[1]) for layer in stood]
        x0, y0 = min(box[0] for box in boxes), min(box[1] for box in boxes)
        x1, y1 = max(box[2] for box in boxes), max(box[3] for box in boxes)
        rests = [ground.rest_of(np.asarray(cv2.resize(layer.picture[..., 3], (200, 200)), np.uint8)) for layer in stood]
        return studio.sweep_of_paper(
            bounds,
            grade.colour(studio.backdrop_colour(self.direction.backdrop, rgba)),
            centre=((x0 + x1) / 2, (y0 + y1) / 2),
            foot=y1,
            reach=0.62 * max(x1 - x0, y1 - y0, 0.55 * min(self.lens.width, self.lens.height)),
            side=self.side,
            from_above=any(rest.from_above for rest in rests),
            depth=BEHIND,
            height=BEHIND,
            seed=self.seed,
        )

    def _shot(self, path: Path, layers: tuple[Layer, ...], *, paper: bool = False) -> Shot:
        direction, lens = self.direction, self.lens
        sweep = direction.sweep or (0.75 if paper else 0.0)
        light = Light(self.side, 0.16 if paper else 0.09, sweep)
        air = None
        if direction.weather or direction.rays:
            air = Air(direction.weather, direction.rays, self.side, lens, self.seconds, self.seed)
        falloff = falloff_of(lens, 0.10 if paper else 0.24 + 0.10 * max(direction.night, direction.contrast))
        grain = grain_of(lens, direction.grain, self.seed) if direction.grain else None
        return Shot(lens, path, layers, light, air, falloff, grain)


def _own_edges(cutout: Cutout) -> Cutout:
    """A caller's own cut-out may touch its picture's edges without being cut by them, as a disc does."""
    if not cutout.transparent or cutout.subject is None:
        return cutout
    alpha = cutout.subject[..., 3] > 127
    strips = {"left": alpha[:, 0], "right": alpha[:, -1], "top": alpha[0], "bottom": alpha[-1]}
    cropped = frozenset(edge for edge in cutout.cropped if strips[edge].mean() > 0.22)
    return replace(cutout, cropped=cropped)


def _graded(rgba: Pixels, grade: Grade) -> Pixels:
    return np.dstack([grade.applied(np.ascontiguousarray(rgba[..., :3])), rgba[..., 3]])


def _wish_alone(cutout: Cutout, lens: Lens, *, paper: bool) -> framing.Wish:
    """How one subject would best stand in the frame, if nothing forbids it."""
    rows, columns = cutout.rgb.shape[:2]
    box, tall = cutout.box, lens.height > lens.width
    covers = max(lens.width / columns, lens.height / rows)
    holds = min(lens.width / columns, lens.height / rows)
    margin = 0.045 * min(lens.width, lens.height)
    if paper and "bottom" not in cutout.cropped:
        fits = min(
            (0.82 if tall else 0.62) * lens.width / box.width, (0.60 if tall else 0.72) * lens.height / box.height
        )
        return framing.Wish(fits, lens.width / 2, (0.52 if tall else 0.51) * lens.height, margin, margin, 0.6 * fits)
    scale = covers
    if cutout.faces:
        face = cutout.faces[0]
        scale = min(scale, max((0.185 if tall else 0.27) * lens.height / face.height, holds))
    elif box.height * covers < 0.4 * lens.height and box.width * covers < 0.4 * lens.width:
        scale = min(1.5 * covers, 0.5 * lens.height / box.height)
    fits = min(0.94 * lens.width / box.width, 0.92 * lens.height / box.height)
    x = lens.width / 2
    y = (0.56 if "bottom" not in cutout.cropped else 0.6) * lens.height
    if not tall and not cutout.faces:
        y = lens.height * 0.53
    return framing.Wish(scale, x, y, margin, margin, 0.5 * min(scale, fits))


def _focus(cutout: Cutout) -> tuple[float, float] | None:
    """What a picture must not lose when it is cropped to the frame: the middle of its faces, in its pixels."""
    if not cutout.faces:
        return None
    xs = [v for face in cutout.faces for v in (face.x0, face.x1)]
    ys = [v for face in cutout.faces for v in (face.y0, face.y1)]
    return (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2


def _covering(rgb: Pixels, bounds: backdrop.Bounds, focus: tuple[float, float] | None) -> framing.Place:
    """The smallest place at which `rgb` covers `bounds`, `focus` (or its middle) as near their middle as can be."""
    rows, columns = rgb.shape[:2]
    wide, high = bounds.x1 - bounds.x0, bounds.y1 - bounds.y0
    scale = max(wide / columns, high / rows) * 1.001
    at = focus or (columns / 2, rows / 2)
    x = (bounds.x0 + bounds.x1) / 2 - scale * at[0]
    y = (bounds.y0 + bounds.y1) / 2 - scale * at[1]
    return framing.Place(
        _kept_over(x, scale * columns, bounds), min(max(y, bounds.y1 - scale * rows), bounds.y0), scale
    )


def _only_head(stands: Sequence[Stand]) -> float | None:
    """Where, across the frame, the one face is (or the one player, faceless); None when there are several."""
    heads = [framed.place.box(player.faces[0]) for player, framed, _ in stands if player.faces]
    if not heads and len(stands) == 1:
        heads = [framed.place.box(player.box) for player, framed, _ in stands]
    return (heads[0][0] + heads[0][2]) / 2 if len(heads) == 1 else None


def _beside(
    head: float, place: framing.Place, columns: int, rows: int, lens: Lens, bounds: backdrop.Bounds
) -> framing.Place:
    """A scene's `place`, enlarged a little and moved so that its middle is not behind the only `head` (a rest x)."""
    aside = 0.30 * lens.width
    free = head + aside if head < lens.width / 2 else head - aside
    free = min(max(free, 0.2 * lens.width), 0.8 * lens.width)
    needed = 2 * max(free - bounds.x0, bounds.x1 - free) / columns
    scale = min(max(place.scale, needed), 1.2 * place.scale)
    x = _kept_over(free - scale * columns / 2, scale * columns, bounds)
    y = 0.6 * bounds.y0 + 0.4 * bounds.y1 - 0.4 * scale * rows  # what towers up says more than what lies below
    return framing.Place(x, min(max(y, bounds.y1 - scale * rows), bounds.y0), scale)


def _kept_over(x: float, width: float, bounds: backdrop.Bounds) -> float:
    return min(max(x, bounds.x1 - width), bounds.x0)


def _relief_over(
    cutout: Cutout, place: framing.Place, bounds: backdrop.Bounds
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """The subject's relief, as a map of `bounds`."""
    assert cutout.subject is not None
    wide, high = bounds.x1 - bounds.x0, bounds.y1 - bounds.y0
    size = (96, max(8, round(96 * high / wide)))
    own = subject.relief_of(cutout.subject, cutout, subject.whole(cutout))
    step = wide / size[0]
    ratio = own.shape[1] / (cutout.rgb.shape[1] * place.scale)
    back = np.array(
        [[step * ratio, 0, (bounds.x0 - place.x) * ratio], [0, step * ratio, (bounds.y0 - place.y) * ratio]]
    )
    laid = cv2.warpAffine(
        own, back, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(cv2.GaussianBlur(laid, (0, 0), 2.5), np.float32)
