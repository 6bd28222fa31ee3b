"""What comes out of a picture, what is refused, and that no file harms the process that asked."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mutoscope.engines import Pixels
from mutoscope.references import Limits
from mutoscope.references.decode import DecodeError, decode, environment

from .corpus import RIGHT, TURNED, Corners
from .craft import HEIC, quadrants, save
from .hostile import HARMLESS, WRONG, scans

RSS_KB = 512 * 1024
SECONDS = 5
LIMITS = Limits()


def read(data: bytes, limits: Limits = LIMITS, *, longest_side: int | None = None) -> Pixels:
    """Decode within the bars on time and memory."""
    found, seconds, peak_kb = _small_process().submit(_measured, data, limits, longest_side).result()
    assert seconds < SECONDS
    assert peak_kb <= RSS_KB
    if isinstance(found, DecodeError):
        raise found
    return found


def _measured(data: bytes, limits: Limits, longest_side: int | None) -> tuple[Pixels | DecodeError, float, int]:
    started = time.monotonic()
    try:
        found: Pixels | DecodeError = decode(
            data, limits, longest_side=longest_side, deadline=started + limits.timeout_seconds
        ).pixels
    except DecodeError as error:
        found = error
    return found, time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss


@cache
def _small_process() -> ProcessPoolExecutor:
    # A child counts as large as its parent until it has become its own program, and this process may be a large one.
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"))


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


@pytest.mark.parametrize(
    "name", [name for name in RIGHT if not name.startswith(("jpeg-exif-", "tiff-tiff", "bmp"))][::2]
)
def test_shows_the_same_when_it_is_made_smaller(name: str) -> None:
    make, expected = RIGHT[name]

    pixels = read(make(), longest_side=48)

    assert sorted(pixels.shape[:2]) == [32, 48]
    assert_shows(pixels, expected)


@pytest.mark.parametrize("turn", [1, 3, 6, 8])
def test_what_the_file_says_is_told_of_the_upright_picture(turn: int) -> None:
    data = RIGHT[f"jpeg-exif-{turn}"][0]()

    picture = decode(data, LIMITS, longest_side=48, deadline=deadline())

    assert (picture.width, picture.height) == ((64, 96) if turn >= 5 else (96, 64))
    assert picture.pixels.shape[:2] == ((48, 32) if turn >= 5 else (32, 48))
    assert (picture.format, picture.num_bytes, picture.orientation) == ("JPEG", len(data), turn)


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


def deadline(seconds: float = 10) -> float:
    return time.monotonic() + seconds


def test_a_slow_picture_is_given_up_in_time() -> None:
    data = scans(2000)
    started = time.monotonic()

    with pytest.raises(DecodeError, match="it took too long to read"):
        decode(data, LIMITS, longest_side=None, deadline=deadline(1))

    assert time.monotonic() - started < 2


def test_a_large_file_for_a_child_that_has_no_time_for_it() -> None:
    with pytest.raises(DecodeError, match="it took too long to read"):
        decode(b"BM" + bytes(30 * 2**20), LIMITS, longest_side=None, deadline=deadline(0.01))


def test_memory_is_bounded_by_the_pixels_allowed() -> None:
    with pytest.raises(DecodeError, match="needs more memory"):
        decode(b"BM" + bytes(300 * 2**20), Limits(max_pixels=1_000_000), longest_side=None, deadline=deadline())


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(max_pixels=6143), r"the picture \(96 × 64\) has more than 0.00614 megapixels"),
        (Limits(min_side=65), r"the picture \(96 × 64\) is smaller than 65 pixels on a side"),
    ],
)
def test_the_operator_s_limits_hold(limits: Limits, reason: str) -> None:
    for format in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"):
        with pytest.raises(DecodeError, match=reason):
            read(save(quadrants(), format), limits)
    with pytest.raises(DecodeError, match=reason):
        read(HEIC, limits)


def test_a_picture_at_the_limits_is_read() -> None:
    assert read(HEIC, Limits(max_pixels=6144, min_side=64)).shape == (64, 96, 3)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_a_picture_is_made_smaller_and_never_larger(format: str) -> None:
    data = save(quadrants((1500, 1000)), format)

    assert read(data, longest_side=300).shape == (200, 300, 3)
    assert read(data, longest_side=1500).shape == (1000, 1500, 3)
    assert read(data, longest_side=9999).shape == (1000, 1500, 3)
    assert_shows(read(data, longest_side=300), RIGHT["png"][1])


def test_what_shines_through_does_not_bleed_when_made_smaller() -> None:
    image = Image.new("RGBA", (256, 256), (255, 0, 255, 0))
    image.paste((30, 160, 30, 255), (64, 64, 192, 192))

    pixels = read(save(image, "PNG"), longest_side=64)

    assert np.abs(pixels[pixels[..., 3] > 40][:, :3].astype(int) - (30, 160, 30)).max() <= 6


def test_the_child_knows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUTOSCOPE_DATABASE_URL", "postgresql://user:password@db/")

    assert set(environment()) <= {"LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "MALLOC_ARENA_MAX"}


def test_no_decoder_is_imported_here() -> None:
    program = "import sys, mutoscope.references; sys.exit('PIL' in sys.modules or 'pi_heif' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


SEEDS = ("jpeg-exif-6", "jpeg-progressive", "jpeg-cmyk-profile", "png-16-rgba", "png-palette-clear", "gif-animated")
SEEDS += ("webp-lossless-alpha", "bmp-rle8", "tiff-tiff_lzw", "tiff-tiled", "avif-alpha", "heic-turned")


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_damaged_file_is_refused_or_shown(data: st.DataObject) -> None:
    file = bytearray(RIGHT[data.draw(st.sampled_from(SEEDS))][0]())
    for _ in range(data.draw(st.integers(1, 6))):
        # Headers are where it hurts, so half of the damage is done to the first bytes.
        end = data.draw(st.sampled_from([min(200, len(file)), len(file)])) - 1
        at = data.draw(st.integers(0, max(0, end)))
        what = data.draw(st.sampled_from(["set", "cut", "double", "drop", "insert"]))
        if what == "set":
            values = data.draw(
                st.sampled_from([b"\0", b"\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff"]) | st.binary(max_size=4)
            )
            file[at : at + len(values)] = values
        elif what == "cut":
            del file[max(1, at) :]
        elif what == "double":
            file[at:at] = file[at : at + 64]
        elif what == "drop":
            del file[at : at + data.draw(st.integers(1, 16))]
        else:
            file[at:at] = data.draw(st.binary(max_size=16))

    try:
        pixels = read(bytes(file))
    except DecodeError:
        return

    assert pixels.dtype == np.uint8
    assert pixels.shape[2] in (3, 4)
    assert min(pixels.shape[:2]) >= 64
