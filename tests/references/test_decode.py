"""What comes out of a picture, what is refused, and that no file harms the process that asked."""

from __future__ import annotations

import resource
import time

import numpy as np
import pytest

from mutoscope.engines import Pixels
from mutoscope.references import Limits
from mutoscope.references.decode import DecodeError, decode

from .corpus import RIGHT, TURNED, Corners
from .hostile import HARMLESS, WRONG

RSS_KB = 512 * 1024
SECONDS = 5
LIMITS = Limits()


def read(data: bytes, limits: Limits = LIMITS, *, longest_side: int | None = None) -> Pixels:
    """Decode within the bars on time and memory."""
    children_before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    started = time.monotonic()
    try:
        return decode(data, limits, longest_side=longest_side, deadline=started + limits.timeout_seconds)
    finally:
        assert time.monotonic() - started < SECONDS
        assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss <= max(children_before, RSS_KB)


def corners(pixels: Pixels) -> list[list[int]]:
    """The middle of each quarter: top left, top right, bottom left, bottom right."""
    height, width = pixels.shape[:2]
    return [pixels[height * y // 4, width * x // 4].tolist() for y in (1, 3) for x in (1, 3)]


def assert_shows(pixels: Pixels, expected: Corners, tolerance: int = 9) -> None:
    wanted = [[corner] * 3 if isinstance(corner, int) else list(corner) for corner in expected]
    found = corners(pixels)
    assert pixels.dtype == np.uint8
    assert [len(corner) for corner in found] == [len(corner) for corner in wanted], found
    for have, want in zip(found, wanted, strict=True):
        # What can't be seen has no colour to be wrong about.
        seen = slice(3, 4) if len(want) == 4 and want[3] == 0 else slice(0, 4)
        assert np.abs(np.subtract(have, want))[seen].max() <= tolerance, f"{found} instead of {wanted}"


@pytest.mark.parametrize("name", RIGHT)
def test_shows_what_a_viewer_shows(name: str) -> None:
    make, expected = RIGHT[name]

    pixels = read(make())

    is_turned = any(expected == TURNED[at] for at in (5, 6, 7, 8))
    assert pixels.shape[:2] == ((96, 64) if is_turned else (64, 96))
    assert_shows(pixels, expected)


@pytest.mark.parametrize("name", RIGHT)
def test_shows_the_same_when_it_is_made_smaller(name: str) -> None:
    make, expected = RIGHT[name]

    pixels = read(make(), longest_side=48)

    assert sorted(pixels.shape[:2]) == [32, 48]
    assert_shows(pixels, expected)


@pytest.mark.parametrize("name", WRONG)
def test_refuses_with_a_reason(name: str) -> None:
    make, reason = WRONG[name]

    with pytest.raises(DecodeError) as refused:
        read(make())

    assert reason in str(refused.value)


@pytest.mark.parametrize("name", HARMLESS)
def test_refuses_or_shows_what_a_viewer_would(name: str) -> None:
    make, size = HARMLESS[name]

    try:
        pixels = read(make())
    except DecodeError:
        return

    assert pixels.shape[:2] == size
    if "-cut-" in name:  # then nothing of the picture itself was lost
        assert_shows(pixels, RIGHT[name.split("-cut-")[0]][1])
