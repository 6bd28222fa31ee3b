"""The animatic: a storyboard in motion, on a CPU, in about real time, with no model.

Subjects are cut out of their references (`seeing`), laid in depth before a scene, and filmed by a camera that the
prompt directs (`direction`, `filming`). Identity is exact because the pixels are the reference's own. Nobody acts in
it, and it never claims to be anything but an animatic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from importlib.metadata import version
from typing import Any

from mutoscope.engines import Event, Frames, Image, Step
from mutoscope.engines.animatic.cutout import Cutout
from mutoscope.engines.animatic.direction import read_direction
from mutoscope.engines.animatic.filming.composition import compose
from mutoscope.engines.animatic.filming.edit import Edit
from mutoscope.engines.animatic.filming.lens import Lens
from mutoscope.engines.animatic.seeing import saliency_weights, see
from mutoscope.tasks import FPS, VideoRequest

_SEEING = 0.12  # of the whole work, for progress
_COMPOSING = 0.08

_Key = tuple[str, tuple[int, ...], bytes]


class Animatic:
    """The Engine called "animatic".

    Between requests it holds what it made out in the references of the last one, for that one's scope alone: whoever
    changes a prompt asks again for the same pictures.
    """

    name = "animatic"
    version = "1"
    longest_side: int | None = 2304

    def __init__(self) -> None:
        self._seen: dict[_Key, Cutout] = {}

    def receipt(self) -> dict[str, Any]:
        """The libraries whose arithmetic the frames depend on, and whether saliency helped to see."""
        return {
            "libraries": {name: version(name) for name in ("opencv-python-headless", "numpy")},
            "saliency": saliency_weights() is not None,
        }

    def generate(self, request: VideoRequest, images: Sequence[Image], scope: str = "") -> Iterator[Event]:
        """Frames that depend on nothing but the prompt, the seed, the size, the duration and the images."""
        cutouts = []
        keys = [_key(image, scope) if scope else None for image in images]
        for number, (key, image) in enumerate(zip(keys, images, strict=True)):
            which = f", {number + 1} of {len(images)}" if len(images) > 1 else ""
            yield Step(f"looking at the references{which}", _SEEING * number / len(images))
            cutouts.append(self._seen.get(key) or see(image) if key else see(image))
        self._seen = {key: cutout for key, cutout in zip(keys, cutouts, strict=True) if key}
        yield Step("composing", _SEEING)
        count = request.num_frames
        direction = read_direction(request.prompt)
        shots = compose(cutouts, direction, Lens(*request.size), count / FPS, request.seed)
        del cutouts
        yield Step("rendering", _SEEING + _COMPOSING)
        done = 0
        frames = Edit(shots, count, direction.join).frames()
        try:
            for pixels in frames:
                done += len(pixels)
                yield Frames(pixels, _SEEING + _COMPOSING + (1 - _SEEING - _COMPOSING) * done / count)
        finally:
            frames.close()  # type: ignore[attr-defined]


def _key(image: Image, scope: str) -> _Key:
    return scope, image.pixels.shape, blake2b(image.pixels.tobytes()).digest()
