"""Pixels → what there is to see in them, by a child process that may die of it. Loads no network itself.

One child serves all who ask, one picture at a time. It starts when it is first needed (about half a second), and again
where it has ended: of having nothing to do, of a crash, or of having taken too long.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from struct import pack
from threading import Timer
from typing import Any, Final

from mutoscope.engines import Pixels
from mutoscope.references.decode import environment

Box = tuple[float, float, float, float]
"""x, y, width, height as fractions of a picture."""


_FRESH_SECONDS: Final = 240
"""A child that had nothing to do for longer than this may be about to end of that, just when it is asked."""


class LookError(Exception):
    """It can't be told what is in the picture; the text is a sentence without its subject and full stop."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What is seen in one picture.

    `kind`: person, face (a person's, close), animal, product (a thing before a plain background or none), object (any
    other thing), scene. `faces` are the surest first; `subject` and `coverage` (the share of the picture that it takes,
    0 to 1) are None and 0 where nothing stands out. `sharpness` is 0 to 1: below 0.45 a person sees blur. `hash` and
    `tones` (4 × 4 mean colours) serve to tell near-duplicates.
    """

    kind: str
    faces: tuple[Box, ...]
    subject: Box | None
    coverage: float
    sharpness: float
    hash: int
    tones: tuple[int, ...]


class Looker:
    """Looks at pictures. Safe to share between threads; `close` it."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._asked_at = 0.0

    def look(self, pixels: Pixels, deadline: float) -> Sight:
        """What is in `pixels`, (h, w, 3 or 4), by `deadline`, a time.monotonic(). Raises LookError."""
        if not self._turn.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise LookError("this server has too many others to look at now; try again in a moment")
        try:
            return self._ask(pixels, deadline)
        finally:
            self._turn.release()

    def close(self) -> None:
        """End the child, whatever it is doing."""
        if (child := self._child) is not None:
            child.kill()
        with self._turn:
            self._end()

    def _ask(self, pixels: Pixels, deadline: float) -> Sight:
        child = self._child
        if child is None or child.poll() is not None or time.monotonic() - self._asked_at > _FRESH_SECONDS:
            self._end()
            child = self._child = _start()
        watch = Timer(max(0.0, deadline - time.monotonic()), child.kill)
        watch.daemon = True
        watch.start()
        try:
            assert child.stdin is not None
            assert child.stdout is not None
            unsent = memoryview(pack("<III", *pixels.shape) + pixels.tobytes())
            while unsent:
                unsent = unsent[child.stdin.write(unsent) :]
            return _read(json.loads(child.stdout.readline(2**16)))
        except (OSError, ValueError, KeyError, TypeError):  # it died, before or after it was asked
            self._end()
            late = time.monotonic() >= deadline
            raise LookError("looking at it took too long" if late else "looking at it failed") from None
        finally:
            watch.cancel()
            self._asked_at = time.monotonic()

    def _end(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.communicate()  # closes the pipes, and leaves no zombie
            self._child = None


def _start() -> subprocess.Popen[bytes]:
    path = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
    return subprocess.Popen(
        [sys.executable, "-m", "mutoscope.inspection.looking"],
        bufsize=0,  # so that closing a pipe to a dead child has nothing left to send
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment() | path,
    )


def _read(answer: dict[str, Any]) -> Sight:
    return Sight(
        kind=str(answer["kind"]),
        faces=tuple(_box(face) for face in answer["faces"]),
        subject=None if answer["subject"] is None else _box(answer["subject"]),
        coverage=float(answer["coverage"]),
        sharpness=float(answer["sharpness"]),
        hash=int(answer["hash"], 16),
        tones=tuple(int(tone) for tone in answer["tones"]),
    )


def _box(sides: Any) -> Box:
    x, y, width, height = (float(side) for side in sides)
    return x, y, width, height
