"""Seeing: what the animatic makes out in one reference, from pixels to a Cutout.

`networks` look, `region` decides which pixels are the subject, `matte` finds its edge and colours, `plate` fills the
background. Nothing here knows the prompt, the other references or the film.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from cv2.typing import MatLike

from mutoscope.engines import Image, Pixels
from mutoscope.engines.animatic.cutout import Box, Cutout, Edge
from mutoscope.engines.animatic.seeing.matte import soft_matte, spread_beyond, spread_colours
from mutoscope.engines.animatic.seeing.networks import Face, Networks, load_networks, saliency_weights
from mutoscope.engines.animatic.seeing.plate import fill_behind
from mutoscope.engines.animatic.seeing.region import find_region, fit

__all__ = ["Networks", "load_networks", "saliency_weights", "see"]

SIDE = 512
"""Working size: everything is found at it, and only the matte's band is computed at the picture's own."""

CLOSER = 0.6
"""A subject that takes less than this share of the picture's longest side, margins included, is looked at twice."""

NEUTRAL = 236
"""The grey of the plate behind a caller's own cut-out: a studio's sweep."""


def see(image: Image, networks: Networks | None = None) -> Cutout:
    """The reference, understood: any size, any aspect, colour or grey, with transparency or without.

    `networks` are this process's unless given. The same image gives the same bytes. Never raises for a picture's
    content: what can't be made out is a scene.
    """
    networks = networks or load_networks()
    rgb = np.ascontiguousarray(image.rgb())
    if image.has_alpha and image.pixels[..., 3].min() < 255 and image.pixels[..., 3].max() > 127:
        return _see_own_cutout(image, rgb, networks)
    small = fit(rgb, SIDE)
    region = find_region(small, networks)
    faces = _boxes(region.faces, small, rgb)
    if region.mask is None:
        return _scene(rgb, faces)
    kind, mask = region.kind, region.mask
    window = _window(mask, rgb)
    near, near_small = np.ascontiguousarray(rgb[window.y0 : window.y1, window.x0 : window.x1]), small
    if near.size < rgb.size:
        # A small subject is looked at again from near: in the whole picture it had too few of the pixels worked on.
        near_small = fit(near, SIDE)
        again = find_region(near_small, networks)
        if again.mask is None or again.kind != kind:
            near, near_small, window = rgb, small, _whole(rgb)
        else:
            mask = again.mask
    near_alpha = soft_matte(near, near_small, mask, strands=kind == "person")
    if near_alpha.max() <= 127:
        return _scene(rgb, faces)
    near_subject = np.dstack([spread_colours(near, near_small, near_alpha), near_alpha])
    subject = np.zeros((*rgb.shape[:2], 4), np.uint8)
    subject[window.y0 : window.y1, window.x0 : window.x1] = near_subject
    alpha = np.ascontiguousarray(subject[..., 3])
    return Cutout(
        kind=kind,
        rgb=rgb,
        subject=subject,
        box=_box(alpha),
        plate=fill_behind(rgb, small, alpha),
        faces=faces,
        cropped=_cropped(alpha),
        transparent=False,
    )


def _window(mask: MatLike, rgb: Pixels) -> Box:
    """The part of the picture worth looking at from near: around a small subject; else the whole."""
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    scale = rgb.shape[1] / mask.shape[1]
    x0, x1, y0, y1 = (float(side) * scale for side in (xs[0], xs[-1] + 1, ys[0], ys[-1] + 1))
    margin = max(x1 - x0, y1 - y0) * 0.25
    height, width = rgb.shape[:2]
    box = Box(
        max(0, round(x0 - margin)),
        max(0, round(y0 - margin)),
        min(width, round(x1 + margin)),
        min(height, round(y1 + margin)),
    )
    return box if max(box.width, box.height) < CLOSER * max(width, height) else _whole(rgb)


def _whole(rgb: Pixels) -> Box:
    return Box(0, 0, rgb.shape[1], rgb.shape[0])


def _see_own_cutout(image: Image, rgb: Pixels, networks: Networks) -> Cutout:
    """The caller has cut the subject out already: their alpha is kept to the byte."""
    alpha = image.pixels[..., 3]
    small = fit(rgb, SIDE)
    faces = _boxes([face for face in networks.faces(small)[0] if face.score >= 0.6], small, rgb)
    return Cutout(
        kind="person" if faces else "object",
        rgb=rgb,
        subject=np.dstack([spread_beyond(image.pixels[..., :3], alpha), alpha]),
        box=_box(alpha),
        plate=np.full_like(rgb, NEUTRAL),
        faces=faces,
        cropped=_cropped(alpha),
        transparent=True,
    )


def _scene(rgb: Pixels, faces: tuple[Box, ...]) -> Cutout:
    return Cutout(
        kind="scene",
        rgb=rgb,
        subject=None,
        box=_whole(rgb),
        plate=rgb,
        faces=faces,
        cropped=frozenset(),
        transparent=False,
    )


def _box(alpha: MatLike) -> Box:
    """The half-open box of alpha > 0.5, which there must be."""
    solid = alpha > 127
    ys, xs = np.flatnonzero(solid.any(axis=1)), np.flatnonzero(solid.any(axis=0))
    return Box(int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1)


def _boxes(faces: Sequence[Face], small: Pixels, rgb: Pixels) -> tuple[Box, ...]:
    """Faces found in `small` as boxes inside `rgb`, largest first."""
    height, width = rgb.shape[:2]
    scale = width / small.shape[1]
    boxes = [
        Box(
            max(0, round(face.x * scale)),
            max(0, round(face.y * scale)),
            min(width, round((face.x + face.width) * scale)),
            min(height, round((face.y + face.height) * scale)),
        )
        for face in faces
    ]
    return tuple(sorted((b for b in boxes if b.width > 0 and b.height > 0), key=lambda b: -b.width * b.height))


def _cropped(alpha: MatLike) -> frozenset[Edge]:
    """The edges along which the subject runs out of the picture: more than a touch, which a round thing may make."""
    sides: dict[Edge, MatLike] = {
        "left": alpha[:, 0],
        "top": alpha[0],
        "right": alpha[:, -1],
        "bottom": alpha[-1],
    }
    return frozenset(edge for edge, line in sides.items() if np.count_nonzero(line > 127) > 0.02 * line.size)
