"""Preflight: what the service sees in references before they are filmed, and advice on what to mend.

Fetching and decoding are `references`' and as guarded as for a task; `looker.py` sees, in a child process;
`advice.py` and `mentions.py` judge. Nothing is kept, and nothing here knows a task, a key's owner or HTTP.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from mutoscope.inspection import advice
from mutoscope.inspection.advice import Advice, Fit
from mutoscope.inspection.looker import Box, Looker, LookError, Sight
from mutoscope.inspection.mentions import mentioned
from mutoscope.references import Limits, Picture, fetch_picture
from mutoscope.tasks import ReferenceUnusableError, Shape

__all__ = ["BusyError", "Inspector", "Report"]

LONGEST_SIDE = 1280
"""Pictures are looked at in the video's size: more than that, no video shows."""
MOST = 8
MOST_EACH = 2
"""Inspections at a time, of all and of one caller."""
LOOK_SECONDS = 30.0
"""For the looks at all references of one inspection, which take one or two where nobody else wants the processor; each
reference has its own time to be fetched before."""
REMEMBERED = 256
"""Sights that are kept, some hundred bytes each: whoever adds a reference need not wait for the others again."""


class BusyError(Exception):
    """As many inspections are under way as there may be; `is_caller` where they are the caller's own."""

    def __init__(self, is_caller: bool) -> None:
        super().__init__()
        self.is_caller = is_caller


@dataclass(frozen=True, slots=True)
class Report:
    """What was found; `show` gives it as plain data."""

    pictures: tuple[Picture | None, ...]
    sights: tuple[Sight | None, ...]
    fits: tuple[Fit | None, ...]
    advice: tuple[tuple[Advice, ...], ...]  # of each reference
    errors: tuple[str, ...]
    of_all: tuple[Advice, ...]

    def show(self) -> dict[str, Any]:
        """JSON's own types. References and the `images` of advice are counted from 1, as a prompt's @1 is; boxes are
        [x, y, width, height] in fractions."""
        entries = zip(self.pictures, self.sights, self.fits, self.advice, self.errors, strict=True)
        return {
            "images": [_entry(number, *entry) for number, entry in enumerate(entries, 1)],
            "advice": [{"code": one.code, "message": one.message, "images": list(one.images)} for one in self.of_all],
        }


class Inspector:
    """Inspects references, so many at a time. Its threads and its child process are its own; `close` it."""

    def __init__(self, limits: Limits, open_upload: Callable[[str], bytes | None]) -> None:
        self._limits = limits
        self._open_upload = open_upload
        self._looker = Looker()
        self._inspecting = ThreadPoolExecutor(MOST, "inspect")
        self._fetching = ThreadPoolExecutor(MOST * MOST_EACH, "inspect-fetch")
        self._lock = threading.Lock()
        self._running: Counter[str] = Counter()
        self._seen: OrderedDict[tuple[str, bytes], Sight] = OrderedDict()

    def start(self, caller: str, images: Sequence[str], prompt: str, shape: Shape) -> Future[Report]:
        """Begin for a caller of that name. Raises BusyError."""
        with self._lock:
            if self._running[caller] >= MOST_EACH or self._running.total() >= MOST:
                raise BusyError(is_caller=self._running[caller] >= MOST_EACH)
            self._running[caller] += 1
        begun = self._inspecting.submit(self.inspect, images, prompt, shape, caller)
        begun.add_done_callback(lambda _: self._end(caller))
        return begun

    def inspect(self, images: Sequence[str], prompt: str, shape: Shape, caller: str = "") -> Report:
        """Look at 1 to 4 references, URLs, data URIs or whatever `open_upload` knows. Raises nothing for any of them:
        what can't be read is an error in the report."""
        arriving = [self._fetching.submit(self._fetch, *numbered) for numbered in enumerate(images, 1)]
        arrived = [one.result() for one in arriving]
        deadline = time.monotonic() + LOOK_SECONDS
        pictures, sights, fits, advices, errors = [], [], [], [], []
        for number, (picture, error) in enumerate(arrived, 1):
            sight = lies = None
            if picture is not None:
                try:
                    sight = self._look(picture, deadline, caller)
                except LookError as reason:
                    error = f"Image {number}: {reason}."
                lies = advice.fit(picture.width, picture.height, shape, sight)
            pictures.append(picture)
            sights.append(sight)
            fits.append(lies)
            advices.append(tuple(advice.of_picture(picture, sight, lies, shape)) if picture and lies else ())
            errors.append(error)
        kinds = [sight.kind if sight else "" for sight in sights]
        mentions = mentioned(prompt, images, kinds) if prompt.strip() else None
        of_all = advice.of_all(pictures, sights, mentions)
        return Report(tuple(pictures), tuple(sights), tuple(fits), tuple(advices), tuple(errors), tuple(of_all))

    def close(self) -> None:
        """End what is under way, and the child process."""
        self._inspecting.shutdown(wait=False, cancel_futures=True)
        self._fetching.shutdown(wait=False, cancel_futures=True)
        self._looker.close()

    def _fetch(self, number: int, reference: str) -> tuple[Picture | None, str]:
        try:
            return fetch_picture(
                number, reference, self._limits, open_upload=self._open_upload, longest_side=LONGEST_SIDE
            ), ""
        except ReferenceUnusableError as error:
            return None, str(error)

    def _look(self, picture: Picture, deadline: float, caller: str) -> Sight:
        # By what it shows and by caller: nobody can tell by the time it takes what another has looked at.
        pixels = picture.pixels
        key = (caller, sha256(repr(pixels.shape).encode() + pixels.tobytes()).digest())
        with self._lock:
            sight = self._seen.pop(key, None)
        sight = sight or self._looker.look(pixels, deadline)
        with self._lock:
            self._seen[key] = sight
            if len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
        return sight

    def _end(self, caller: str) -> None:
        with self._lock:
            self._running[caller] -= 1
            if not self._running[caller]:
                del self._running[caller]


def _entry(
    number: int, picture: Picture | None, sight: Sight | None, lies: Fit | None, found: tuple[Advice, ...], error: str
) -> dict[str, Any]:
    return {
        "index": number,
        "width": picture.width if picture else 0,
        "height": picture.height if picture else 0,
        "format": picture.format if picture else "",
        "bytes": picture.num_bytes if picture else 0,
        "has_alpha": bool(picture and picture.pixels.shape[2] == 4),
        "orientation": picture.orientation if picture else 1,
        "sharpness": round(sight.sharpness, 3) if sight else 0.0,
        "kind": sight.kind if sight else "",
        "faces": [_rounded(face) for face in sight.faces] if sight else [],
        "subject": _rounded(sight.subject) if sight and sight.subject else None,
        "coverage": round(sight.coverage, 3) if sight else 0.0,
        "crop": _rounded(lies.crop) if lies and lies.crop else None,
        "pad": _rounded(lies.pad) if lies else None,
        "advice": [{"code": one.code, "message": one.message} for one in found],
        "error": error,
    }


def _rounded(box: Box) -> list[float]:
    return [round(side, 4) for side in box]
