"""Numbers → advice: what a person might mend in their references before they pay for a video. Advice, never a wall.

Pure: knows sizes, boxes and kinds; no pixel, address or process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from mutoscope.inspection.looker import Box, Sight
from mutoscope.references import Picture
from mutoscope.tasks import SIZES, Shape

SOFT = 0.45
"""Sharpness below which a person sees blur: what a Gaussian of 2 to 3 pixels leaves of a sharp photograph."""
MOST_ENLARGED = 1.5
SMALL_FACE = 64
"""Height of a face in pixels of the video: below it, the model has four by four of its tokens for all of it."""
SMALL_SUBJECT = 0.05
LEAST_FILLED = 0.8
"""Shares: of the picture, of the frame."""
MOST_BITS = 10  # of 64 in which the hashes of near-duplicates differ
MOST_TONE = 16.0  # levels by which their mean colours do


@dataclass(frozen=True, slots=True)
class Advice:
    """A word that a program can act on, a sentence for a person, and which references it is about, from 1."""

    code: str
    message: str
    images: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Fit:
    """A picture and a frame of another shape.

    `crop` is the largest part of the picture that has the frame's shape, placed to keep the faces and the subject (None
    where they have one shape); `pad` is where in the frame the whole picture lies. `filled` is the share of the frame
    that it fills, `kept` and `kept_faces` the shares of the subject's and of the faces' box that the crop keeps,
    `enlarged` by how much the whole is enlarged.
    """

    crop: Box | None
    pad: Box
    filled: float
    kept: float
    kept_faces: float
    enlarged: float


def fit(width: int, height: int, shape: Shape, sight: Sight | None) -> Fit:
    """How a picture of `width` × `height` pixels lies in a frame of `shape`."""
    frame_width, frame_height = SIZES["720p"][shape]
    across, down = frame_width / width, frame_height / height
    scale = min(across, down)
    inner_width, inner_height = width * scale / frame_width, height * scale / frame_height
    pad = ((1 - inner_width) / 2, (1 - inner_height) / 2, inner_width, inner_height)
    filled = inner_width * inner_height
    if filled > 0.98:
        return Fit(None, pad, filled, 1.0, 1.0, scale)
    box = (sight.subject if sight else None) or (0.0, 0.0, 1.0, 1.0)
    faces = _around([_with_hair(face) for face in sight.faces]) if sight and sight.faces else box
    length = scale / max(across, down)
    if across < down:  # the picture is too wide for the frame: a column of it
        x, kept, kept_faces = _slide(length, (box[0], box[2]), (faces[0], faces[2]))
        crop = (x, 0.0, length, 1.0)
    else:
        y, kept, kept_faces = _slide(length, (box[1], box[3]), (faces[1], faces[3]))
        crop = (0.0, y, 1.0, length)
    return Fit(crop, pad, filled, kept, kept_faces, scale)


def _slide(length: float, subject: tuple[float, float], faces: tuple[float, float]) -> tuple[float, float, float]:
    """Where a window of `length` on the line from 0 to 1 begins, and the shares of subject and faces that it shows.

    Both are (start, length). It is centred on the subject, then moved as far as the faces need.
    """
    if faces[1] >= length:
        start = faces[0] + (faces[1] - length) / 2
    else:
        start = subject[0] + (subject[1] - length) / 2
        start = max(min(start, faces[0]), faces[0] + faces[1] - length)
    start = min(max(start, 0.0), 1.0 - length)

    def shown(part: tuple[float, float]) -> float:
        return max(0.0, min(start + length, sum(part)) - max(start, part[0])) / part[1] if part[1] else 1.0

    return start, shown(subject), shown(faces)


def _with_hair(face: Box) -> Box:
    """A face's box with the hair above it and the chin below, which detectors leave out."""
    x, y, width, height = face
    top, bottom = max(0.0, y - 0.5 * height), min(1.0, y + 1.15 * height)
    return x, top, width, bottom - top


def of_picture(picture: Picture, sight: Sight | None, lies: Fit, shape: Shape) -> list[Advice]:
    """What there is to say of one reference by itself."""
    found = []
    size = f"{picture.width} × {picture.height} pixels"
    if lies.enlarged > MOST_ENLARGED:
        found.append(
            Advice(
                "small",
                f"It has {size} and is enlarged {lies.enlarged:.1f} times for a {shape} video: a larger picture "
                "gives finer detail.",
            )
        )
    if sight and sight.sharpness < SOFT:
        found.append(Advice("blurred", "It looks blurred or enlarged: a sharper picture gives a sharper video."))
    if picture.pixels.shape[2] == 4:
        found.append(Advice("transparent", "Its transparent parts are shown as white."))
    elif lies.filled < LEAST_FILLED and lies.crop:
        found.append(
            Advice("shape", _of_shape(lies, shape, bool(sight and sight.subject), bool(sight and sight.faces)))
        )
    if picture.orientation != 1:
        found.append(Advice("turned", "Its EXIF data say that it lies on its side or is mirrored; it is set upright."))
    if sight and sight.faces:
        tallest = max(face[3] for face in sight.faces) * lies.pad[3] * SIZES["720p"][shape][1]
        if len(sight.faces) > 1:
            number = f"{len(sight.faces)} faces"
            found.append(Advice("faces", f"It shows {number}: crop it to the person you mean, or say which one."))
        elif tallest < SMALL_FACE:
            found.append(
                Advice("small_face", f"The face is {tallest:.0f} pixels high in the video's frame: crop closer.")
            )
    elif sight and sight.subject and sight.coverage < SMALL_SUBJECT:
        found.append(Advice("small_subject", f"The subject takes {sight.coverage:.0%} of the picture: crop closer."))
    return found


def _of_shape(lies: Fit, shape: Shape, has_subject: bool, has_faces: bool) -> str:
    bars = f"In a {shape} frame, white bars take {1 - lies.filled:.0%} of what the model sees"
    if not has_subject:
        return f"{bars}: crop it to {shape} if nothing that matters is lost."
    if lies.kept > 0.97:
        return f"{bars}: crop it to {shape}, which leaves the subject whole."
    if has_faces and lies.kept_faces > 0.97:
        return f"{bars}: cropped to {shape}, the face is whole, and {lies.kept:.0%} of the subject is left."
    return f"{bars}, and a crop would cut into the subject: better a picture with more around it, or the bars."


def of_all(
    pictures: Sequence[Picture | None], sights: Sequence[Sight | None], mentions: set[int] | None
) -> list[Advice]:
    """What there is to say of the references beside each other. `mentions` are those that the prompt speaks of."""
    found = []
    for (one, first), (other, second) in combinations(enumerate(zip(pictures, sights, strict=True), 1), 2):
        if _look_alike(first, second):
            message = (
                f"Images {one} and {other} are all but the same: the second adds nothing, so replace or remove it."
            )
            found.append(Advice("near_duplicates", message, (one, other)))
    silent = [number for number in range(1, len(sights) + 1) if mentions is not None and number not in mentions]
    if silent and len(sights) > 1:
        names = [f"image {number}{_named(sights[number - 1])}" for number in silent]
        listed = " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
        where = " or ".join(f"@{number}" for number in silent)
        found.append(
            Advice(
                "unmentioned",
                f"The prompt does not seem to mention {listed}: say what becomes of it, or write {where} for it.",
                tuple(silent),
            )
        )
    return found


def _named(sight: Sight | None) -> str:
    article = {"animal": "an animal", "object": "an object"}
    return f" ({article.get(sight.kind, f'a {sight.kind}')})" if sight else ""


def _look_alike(one: tuple[Picture | None, Sight | None], other: tuple[Picture | None, Sight | None]) -> bool:
    first, second = one[1], other[1]
    if first is None or second is None:
        return False
    apart = sum(abs(a - b) for a, b in zip(first.tones, second.tones, strict=True)) / len(first.tones)
    return (first.hash ^ second.hash).bit_count() <= MOST_BITS and apart <= MOST_TONE


def _around(boxes: Sequence[Box]) -> Box:
    x0, y0 = min(box[0] for box in boxes), min(box[1] for box in boxes)
    x1, y1 = max(box[0] + box[2] for box in boxes), max(box[1] + box[3] for box in boxes)
    return x0, y0, x1 - x0, y1 - y0
