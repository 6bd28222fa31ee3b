"""Bytes of an image file → upright sRGB pixels, by a child process that may die of them.

Knows nothing of where the bytes came from, and imports no image decoder: those live in `child.py` only. One child per
image: it starts in well under 0.1 s, and no picture ever meets another's remains.
"""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from threading import Timer
from typing import IO

import numpy as np

from mutoscope.engines import Pixels
from mutoscope.references.formats import READ, likeness
from mutoscope.references.limits import Limits

_PROGRAM = Path(__file__).with_name("child.py")
_ANSWER = Struct("<8sIII8sIII")


class DecodeError(Exception):
    """The bytes are no picture that can be used; the text is a sentence without its subject's name and full stop."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded file: `pixels` are (h, w, 3 or 4) uint8, upright, sRGB, perhaps smaller than the file's picture, which
    is `width` × `height` once it is upright. `orientation` is what EXIF said: 1 upright, 2 to 8 turned or mirrored."""

    pixels: Pixels
    format: str
    num_bytes: int
    width: int
    height: int
    orientation: int


def decode(data: bytes, limits: Limits, *, longest_side: int | None, deadline: float) -> Picture:
    """The picture in a file, no side of its pixels longer than `longest_side`.

    `deadline` is a time.monotonic(). Raises DecodeError.
    """
    if not data:
        raise DecodeError("the file is empty")
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise DecodeError("it took too long to arrive")
    bounds = (limits.max_pixels, limits.min_side, longest_side or 0, math.ceil(seconds) + 1)
    command = [sys.executable, "-I", str(_PROGRAM), *map(str, bounds)]
    with subprocess.Popen(  # noqa: S603 — our own program, its arguments are integers
        command,
        bufsize=0,  # so that closing a pipe to a dead child has nothing left to send
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment(),
    ) as child:
        watch = Timer(seconds, child.kill)
        watch.daemon = True
        watch.start()
        try:
            return _converse(child, data, limits, longest_side)
        except EOFError:
            if time.monotonic() >= deadline:
                raise DecodeError("it took too long to read") from None
            raise DecodeError("the file is damaged, or made to do harm: reading it failed") from None
        finally:
            watch.cancel()
            child.kill()


def _converse(child: subprocess.Popen[bytes], data: bytes, limits: Limits, longest_side: int | None) -> Picture:
    """Hand `data` over and take the answer, believing none of it unseen. Raises EOFError where the child died."""
    if child.stdin is None or child.stdout is None:
        raise EOFError
    with contextlib.suppress(BrokenPipeError):  # it died, or has seen enough; its answer tells
        unsent = memoryview(data)
        while unsent:
            unsent = unsent[child.stdin.write(unsent) :]
        child.stdin.close()
    answer = bytearray(_ANSWER.size)
    _fill(child.stdout, memoryview(answer))
    name, width, height, channels, format, *size, orientation = _ANSWER.unpack(answer)
    verdict = name.rstrip(b"\0").decode("ascii", "replace")
    if verdict != "image":
        raise DecodeError(_reason(verdict, width, height, data, limits))
    is_sound = channels in (3, 4) and 0 < width * height <= limits.max_pixels and 1 <= orientation <= 8
    if not is_sound or (longest_side is not None and max(width, height) > longest_side):
        raise EOFError
    pixels: Pixels = np.empty((height, width, channels), np.uint8)
    _fill(child.stdout, pixels.reshape(-1).data)
    kind = format.rstrip(b"\0").decode("ascii", "replace")
    own_width, own_height = reversed(size) if orientation >= 5 else size
    return Picture(pixels, kind, len(data), own_width, own_height, orientation)


def _fill(source: IO[bytes], view: memoryview) -> None:
    while view:
        count: int = source.readinto(view)  # type: ignore[attr-defined]  # a pipe's reader has it, typeshed's IO not
        if not count:
            raise EOFError
        view = view[count:]


def _reason(verdict: str, width: int, height: int, data: bytes, limits: Limits) -> str:
    size = f" ({width} × {height})" if width else ""
    if verdict == "large":
        return f"the picture{size} has more than {limits.max_pixels / 1e6:.3g} megapixels"
    if verdict == "small":
        return f"the picture{size} is smaller than {limits.min_side} pixels on a side"
    if verdict == "memory":
        return "the picture needs more memory to read than this server gives to one"
    if verdict == "unknown":
        looks = likeness(data)
        return f"not an image this server reads ({READ})" + (f"; it looks like {looks}" if looks else "")
    return "the file is damaged or incomplete"


def environment() -> dict[str, str]:
    """What an interpreter needs to start, and no more: ours may hold keys and passwords."""
    needed = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")
    return {name: os.environ[name] for name in needed if name in os.environ} | {"MALLOC_ARENA_MAX": "1"}
