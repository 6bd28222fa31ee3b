"""The program that looks at pictures: `python -m mutoscope.inspection.looking`, one picture after another.

    asked, on standard input:     height · width · channels (uint32, little-endian) · pixels (uint8)
    answered, on standard output: a line of JSON, the fields of a Sight (see `looker.py`)

It runs by itself so that whoever asks loads no network, and loses nothing where OpenCV crashes or stalls. Knows pixels
alone: no file, address, prompt or other picture. It ends with its standard input, or when nobody has asked for a while.
"""

from __future__ import annotations

import json
import os
import select
import struct
import sys
from typing import Any

import cv2
import numpy as np
from cv2.typing import MatLike

from mutoscope.engines import Image, Pixels
from mutoscope.engines.animatic.seeing.networks import Face, Networks, load_networks
from mutoscope.engines.animatic.seeing.region import find_region, fit

SIDE = 512
"""Working size of the networks, as in `seeing`."""
IDLE_SECONDS = 300
TILE = 32  # pixels a side, in which sharpness is measured
TEXTURE = 2.0  # grey levels from pixel to pixel, on average: with less, a tile has nothing that could be blurred
SURE = 0.68  # score of a face that needs no other evidence
PLAIN = 14.0  # deviation of the border's colours, in levels of Lab, up to which a background is a studio's

Box = list[float]


def main() -> None:
    """Answer until standard input ends or falls silent."""
    networks = load_networks()
    networks.warm()
    os.nice(5)  # from here on the API's answers come first
    asked = sys.stdin.buffer
    while select.select([asked], [], [], IDLE_SECONDS)[0]:
        header = asked.read(12)
        if len(header) < 12:
            return
        height, width, channels = struct.unpack("<III", header)
        pixels = np.frombuffer(asked.read(height * width * channels), np.uint8).reshape(height, width, channels)
        print(json.dumps(look(Image(pixels), networks)), flush=True)


def look(image: Image, networks: Networks) -> dict[str, Any]:
    """What there is to see: kind, faces, subject, coverage, sharpness, and what tells a near-duplicate."""
    rgb = np.ascontiguousarray(image.rgb())
    small = fit(rgb, SIDE)
    mask: MatLike | None
    if image.has_alpha:  # a caller's own cut-out: what they left is the subject
        mask = (fit(np.ascontiguousarray(image.pixels[..., 3]), SIDE) > 127).astype(np.uint8)
        mask = mask if mask.any() else None
        faces = tuple(face for face in networks.faces(small)[0] if face.score >= 0.6)
        kind = "scene" if mask is None else "person" if faces else "product"
    else:
        region = find_region(small, networks)
        mask, kind = region.mask, region.kind
        # A cut-out needs the person too; here a face that is sure by itself counts.
        faces = region.faces or tuple(face for face in networks.faces(small)[0] if face.score >= SURE)
        if faces:
            kind = "person"
        elif kind == "object" and _is_plain_around(small):
            kind = "product"
    if faces:
        kind = _kind_by_face(faces[0], small, networks)
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    return {
        "kind": kind,
        "faces": [_box(face, small) for face in faces],
        "subject": None if mask is None else _bounds(mask),
        "coverage": 0.0 if mask is None else float(np.count_nonzero(mask) / mask.size),
        "sharpness": sharpness(grey, mask),
        "hash": fingerprint(grey),
        "tones": cv2.resize(rgb, (4, 4), interpolation=cv2.INTER_AREA).ravel().tolist(),
    }


def sharpness(grey: MatLike, mask: MatLike | None) -> float:
    """How much of the change from pixel to pixel a slight blur takes away, 0 to 1, where the picture is sharpest.

    After Crete et al. 2007 ("The blur effect", https://doi.org/10.1117/12.702790): blurring what is blurred already
    changes little. Measured in tiles and on the subject, because a background out of focus is no fault.
    """
    levels = grey.astype(np.float32)
    rows, columns = grey.shape[0] // TILE, grey.shape[1] // TILE
    if not rows or not columns:
        return 1.0
    change, lost = np.zeros((rows, columns)), np.zeros((rows, columns))
    for axis, size in ((0, (1, 9)), (1, (9, 1))):
        before, after = _change(levels, axis), _change(cv2.blur(levels, size), axis)
        change += _tiles(before, rows, columns)
        lost += _tiles(np.maximum(0, before - after), rows, columns)
    textured = change > TEXTURE
    if mask is not None:
        share = cv2.resize(mask.astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA)
        of_subject = textured & (share > 0.5 * share.max())
        textured = of_subject if np.count_nonzero(of_subject) >= 4 else textured
    if not textured.any():
        return 1.0
    return float(np.percentile(lost[textured] / change[textured], 90))


def _change(levels: MatLike, axis: int) -> MatLike:
    return np.abs(np.diff(levels, axis=axis, append=np.take(levels, [-1], axis)))


def _tiles(field: MatLike, rows: int, columns: int) -> MatLike:
    whole = field[: rows * TILE, : columns * TILE].reshape(rows, TILE, columns, TILE)
    return np.asarray(whole.mean(axis=(1, 3)))


def fingerprint(grey: MatLike) -> str:
    """A perceptual hash, 16 hexadecimal digits: the signs of the 8 × 8 lowest frequencies about their median.

    Pictures that differ in size, compression or a touch of light have hashes that differ in few bits.
    """
    lowest = cv2.dct(cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32))[:8, :8].ravel()
    bits = lowest > np.median(lowest[1:])
    bits[0] = False  # the mean brightness says nothing of the picture
    return np.packbits(bits).tobytes().hex()


def _kind_by_face(face: Face, small: Pixels, networks: Networks) -> str:
    """Whose face it is: the close-up detector knows animals' too, the one for afar people's alone."""
    height, width = small.shape[:2]
    if _is_person(small, networks):
        return "face" if face.width * face.height >= 0.1 * height * width else "person"
    return "animal"


def _is_person(small: Pixels, networks: Networks) -> bool:
    """Whether the detector for afar sees a face; one that fills the picture, once there is room around it."""
    if any(face.score >= 0.6 for face in networks.faces(small)[0]):
        return True
    for share in (0.5, 1.0):
        down, across = (round(side * share) for side in small.shape[:2])
        for grey in (0, 128):
            wide = cv2.copyMakeBorder(small, down, down, across, across, cv2.BORDER_CONSTANT, value=(grey, grey, grey))
            if any(face.score >= 0.5 for face in networks.faces(fit(np.asarray(wide, np.uint8), SIDE))[0]):
                return True
    return False


def _is_plain_around(small: Pixels) -> bool:
    """Whether the picture's border is of one colour, as a packshot's is."""
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB).astype(np.float32)
    edge = max(1, round(min(small.shape[:2]) * 0.04))
    border = np.concatenate([part.reshape(-1, 3) for part in (lab[:edge], lab[-edge:], lab[:, :edge], lab[:, -edge:])])
    middle = np.median(border, axis=0)
    return bool(np.percentile(np.linalg.norm(border - middle, axis=1), 90) < PLAIN)


def _box(face: Face, small: Pixels) -> Box:
    """A face as fractions of the picture, cut at its edges: x, y, width, height."""
    height, width = small.shape[:2]
    x0, y0 = max(0.0, face.x / width), max(0.0, face.y / height)
    x1, y1 = min(1.0, (face.x + face.width) / width), min(1.0, (face.y + face.height) / height)
    return [x0, y0, max(0.0, x1 - x0), max(0.0, y1 - y0)]


def _bounds(mask: MatLike) -> Box:
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    height, width = mask.shape[:2]
    x0, y0 = float(xs[0]) / width, float(ys[0]) / height
    return [x0, y0, float(xs[-1] + 1) / width - x0, float(ys[-1] + 1) / height - y0]


if __name__ == "__main__":
    main()
