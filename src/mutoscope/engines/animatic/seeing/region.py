"""Which pixels are the subject: the networks' maps, brought together and cut along the picture's own edges.

Works small (384 pixels) and answers yes or no for every pixel. Soft edges, hair and colours are `matte`'s; what lies
behind is `plate`'s.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from cv2.typing import MatLike

from mutoscope.engines import Pixels
from mutoscope.engines.animatic.cutout import Kind
from mutoscope.engines.animatic.seeing.networks import Face, Map, Networks

Mask = MatLike  # uint8, 0 or 255

SIDE = 384
MODEL_SIDE = 160
"""Longest sides, in pixels, of the picture that is cut and of the one its colours are learnt from."""
BAND = 0.02
"""How far to either side of the prior's outline colour has a say, as a share of the longest side."""
PERSON_PATCHES = 200
OBJECT_PATCHES = 330
"""How closely the eye looks: a person's outline comes from another network, an object's from this one alone."""
NO_BOX = (0, 0, 1, 1)  # unread: GrabCut is given a mask
LEAST_AREA = 0.05
LEAST_PERSON = 0.01
"""What is smaller than this share of the picture, object or person, is part of a scene."""
PERSON_HOLES = 0.01
OBJECT_HOLES = 0.002
"""What a glint makes, in shares of the subject's area; the gap under an arm or in a handle is larger."""


@dataclass(frozen=True, slots=True)
class Region:
    """The subject at working size. `mask` is None for a scene; `faces` in pixels of the picture looked at."""

    kind: Kind
    mask: Mask | None
    faces: tuple[Face, ...]


def find_region(rgb: Pixels, networks: Networks) -> Region:
    """The subject of `rgb` (h, w, 3), or a scene when nothing stands out. `rgb` is best some 500 pixels a side."""
    small = fit(rgb, SIDE)
    far, near = networks.faces(rgb)
    persons = _onto(networks.persons(rgb), small)
    faces = tuple(f for f in far if f.score >= 0.6 and _mean_in(persons, f, rgb) > 0.5)
    saliency = networks.saliency(rgb, PERSON_PATCHES if faces else OBJECT_PATCHES)
    if not faces:
        faces = tuple(f for f in near if _fills(f, rgb) and _mean_in(persons, f, rgb) > 0.85)[:1]
        if faces and saliency is not None:
            persons = _onto(saliency, small)  # an animal's: the person network knows its face, not where it ends
    salient = _colour_contrast(small) if saliency is None else _onto(saliency, small)
    prior = _prior(persons, salient, bool(faces), saliency is None)
    if prior is None:
        return Region("scene", None, ())
    guessed = saliency is None and not faces
    mask = _cut(small, prior, holes=1.0 if guessed else PERSON_HOLES if faces else OBJECT_HOLES)
    least = LEAST_PERSON if faces else LEAST_AREA
    if mask is None or np.count_nonzero(mask) < least * mask.size or (guessed and not _has_edges(small, mask)):
        return Region("scene", None, faces)
    return Region("person" if faces else "object", mask, faces)


def _prior(persons: Map, salient: Map, has_face: bool, guessed: bool) -> Map | None:
    """How likely each pixel is the subject's, 0 to 1, before its colour is looked at; None when nothing stands out."""
    floor, top = (float(v) for v in np.percentile(salient, (10, 99.5)))
    stands_out = top - floor > 0.3 and top > 0.7
    if not stands_out and not has_face:
        return None
    salient = np.asarray(np.clip((salient - floor) / max(top - floor, 0.3), 0, 1), np.float32)
    if has_face:
        return persons if guessed else _with_belongings(persons, salient)
    person, eye = persons > 0.5, salient > 0.4
    either = int(np.count_nonzero(person | eye))
    if either and np.count_nonzero(person & eye) > 0.7 * either:
        return (salient + persons) / 2  # someone from behind; or a thing, then with the sharper network's outline
    return salient


def _with_belongings(persons: Map, salient: Map) -> Map:
    """What a person holds or wears is the person's: strong saliency that touches a person joins in.

    Not when it is larger than half the person: then it is what they stand before.
    """
    person = persons > 0.5
    usual = float(np.median(salient[person])) if person.any() else 0.0
    if usual > 0.3:
        # The person network takes in scraps of what hangs beside a person, a flag say; the eye passes over them.
        # Scraps only: what is larger the eye may well neglect and be wrong (a black helmet held in the lap).
        doubtful = (person & (salient < 0.45 * usual)).astype(np.uint8)
        _, parts, stats, _ = cv2.connectedComponentsWithStats(doubtful)
        small = stats[:, cv2.CC_STAT_AREA] < 0.04 * np.count_nonzero(person)
        persons = np.where((doubtful > 0) & small[parts], persons * 0.4, persons)
        person = persons > 0.5
    held = salient > 0.6
    _, parts = cv2.connectedComponents((held | person).astype(np.uint8))
    touching = np.unique(parts[person])
    added = held & np.isin(parts, touching[touching > 0]) & ~person
    if np.count_nonzero(added) > 0.5 * np.count_nonzero(person):
        return persons
    return np.where(added, np.maximum(persons, salient), persons)


def _cut(small: Pixels, prior: Map, holes: float) -> Mask | None:
    """GrabCut (Rother et al. 2004) in the band where the prior is unsure; None when nothing is left.

    Holes up to that share of the subject's area are filled.
    """
    threshold = _otsu(prior)
    likely = np.where(prior > threshold, 255, 0).astype(np.uint8)
    if not likely.any():
        return None
    band = _disc(max(small.shape[:2]) * BAND)
    inner, outer = cv2.erode(likely, band), cv2.dilate(likely, band)
    labels: Mask = np.where(likely > 0, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    # Gaps that the prior half sees (under a handle, between legs) are left for colour to decide.
    labels[(inner > 0) & (prior > 0.8 * float(np.median(prior[likely > 0])))] = cv2.GC_FGD
    labels[outer == 0] = cv2.GC_BGD
    labels = _grab(small, labels)
    mask = np.where((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD), 255, 0).astype(np.uint8)
    return _tidy(mask, prior, threshold, holes)


def _grab(small: Pixels, labels: Mask) -> Mask:
    """`labels` with the unsure pixels decided.

    The colour models are learnt on a thumbnail: k-means over every pixel would take longer than the cut itself.
    """
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
    scale = min(1.0, MODEL_SIDE / max(small.shape[:2]))
    size = tuple(max(1, round(side * scale)) for side in small.shape[1::-1])
    thumbnail = cv2.resize(small, size, interpolation=cv2.INTER_AREA)
    first = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
    unsure = (labels == cv2.GC_PR_BGD) | (labels == cv2.GC_PR_FGD)
    is_fore = (first == cv2.GC_FGD) | (first == cv2.GC_PR_FGD)
    if not unsure.any() or is_fore.sum() < 8 or (~is_fore).sum() < 8:
        return labels
    cv2.setRNGSeed(1)  # GrabCut's k-means draws from OpenCV's generator: the same picture must give the same cut
    cv2.grabCut(thumbnail, first, NO_BOX, background, foreground, 1, cv2.GC_INIT_WITH_MASK)
    labels = labels.copy()
    cv2.grabCut(small, labels, NO_BOX, background, foreground, 1, cv2.GC_EVAL)
    return labels


def _tidy(mask: Mask, prior: Map, threshold: float, holes: float) -> Mask | None:
    """The mask without crumbs, stray islands and pinholes."""
    side = max(mask.shape)
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, _disc(side * 0.003))
    # Repeated beyond the border: closing would otherwise grow the mask onto every edge it comes near.
    mask = cv2.copyMakeBorder(mask, 8, 8, 8, 8, cv2.BORDER_REPLICATE)
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, _disc(side * 0.004))[8:-8, 8:-8]
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if count < 2:
        return None
    areas = stats[1:, cv2.CC_STAT_AREA]
    sure = np.bincount(parts.ravel(), weights=prior.ravel(), minlength=count)[1:] / areas
    kept = 1 + np.flatnonzero((areas >= 0.08 * areas.max()) & ((sure > threshold) | (areas == areas.max())))
    mask = np.where(np.isin(parts, kept), 255, 0).astype(np.uint8)
    return _fill_holes(mask, prior, threshold, holes)


def _fill_holes(mask: Mask, prior: Map, threshold: float, share: float) -> Mask:
    """Background pieces that touch no border are filled when they are small, or when the prior holds them likely."""
    area = np.count_nonzero(mask)
    count, parts, stats, _ = cv2.connectedComponentsWithStats(255 - mask, connectivity=4)
    sums = np.bincount(parts.ravel(), weights=prior.ravel(), minlength=count)
    filled = mask.copy()
    height, width = mask.shape
    for part in range(1, count):
        x, y, w, h, size = (int(v) for v in stats[part])
        if x == 0 or y == 0 or x + w == width or y + h == height:
            continue
        if size < share * area or sums[part] / size > threshold:
            filled[parts == part] = 255
    return filled


def _has_edges(small: Pixels, mask: Mask) -> bool:
    """Whether most of the mask's outline inside the picture lies where colours really change."""
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB).astype(np.float32)
    inside = (mask > 0).astype(np.float32)[..., None]
    size = (9, 9)
    share = cv2.blur(inside, size)[..., None]
    fore = cv2.blur(lab * inside, size) / np.maximum(share, 1e-3)
    back = cv2.blur(lab * (1 - inside), size) / np.maximum(1 - share, 1e-3)
    outline = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, _disc(1)) > 0
    change = np.linalg.norm(fore - back, axis=2)[outline]
    return bool(change.size and np.mean(change > 12) > 0.7)


def _colour_contrast(small: Pixels) -> Map:
    """A stand-in for the saliency network: how unlike the picture's border each pixel is, favouring the middle."""
    lab = cv2.GaussianBlur(cv2.cvtColor(small, cv2.COLOR_RGB2LAB), (0, 0), 2).astype(np.float32)
    height, width = lab.shape[:2]
    edge = max(1, round(min(height, width) * 0.04))
    border = np.concatenate([part.reshape(-1, 3) for part in (lab[:edge], lab[-edge:], lab[:, :edge], lab[:, -edge:])])
    spread = np.cov(border.T) + np.eye(3) * 20
    away = lab - border.mean(axis=0)
    distance = np.sqrt(np.einsum("hwi,ij,hwj->hw", away, np.linalg.inv(spread), away))
    ys, xs = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None]
    centred = np.exp(-(xs**2 + ys**2) / 0.8)
    return np.asarray(np.clip(distance / 4, 0, 1) * centred**0.5, np.float32)


def _otsu(prior: Map) -> float:
    level, _ = cv2.threshold((prior * 255).astype(np.uint8), 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return float(np.clip(level / 255, 0.25, 0.5))


def _mean_in(field: Map, face: Face, rgb: Pixels) -> float:
    """The mean of `field`, which covers the picture `rgb`, inside a face of that picture."""
    down, across = field.shape[0] / rgb.shape[0], field.shape[1] / rgb.shape[1]
    x0, x1 = max(0, int(face.x * across)), int(np.ceil((face.x + face.width) * across))
    y0, y1 = max(0, int(face.y * down)), int(np.ceil((face.y + face.height) * down))
    inside = field[y0 : max(y1, 0), x0 : max(x1, 0)]
    return float(inside.mean()) if inside.size else 0.0


def _fills(face: Face, rgb: Pixels) -> bool:
    return bool(face.width * face.height > 0.3 * rgb.shape[0] * rgb.shape[1])


def fit(rgb: Pixels, side: int) -> Pixels:
    """`rgb` with its longest side at most `side`."""
    height, width = rgb.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return rgb
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)


def _onto(field: Map, picture: Pixels) -> Map:
    return np.clip(cv2.resize(field, picture.shape[1::-1], interpolation=cv2.INTER_LINEAR), 0, 1)


def _disc(radius: float) -> Mask:
    reach = max(1, round(radius))
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
