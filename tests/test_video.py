"""The mp4 that clients get: what it holds, by PyAV's and our own reading of its boxes."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from mutoscope import __version__
from mutoscope.tasks import SIZES
from mutoscope.video import Mp4Writer, write_jpeg
from tests.installation import ANIMATIC

Pixels = NDArray[np.uint8]


def moving(count: int, width: int = 320, height: int = 180) -> Pixels:
    """(count, height, width, 3): a ramp that drifts, with a square of pure red."""
    x = np.arange(width, dtype=np.int64)[None, None, :] + 3 * np.arange(count)[:, None, None]
    y = np.arange(height, dtype=np.int64)[None, :, None]
    frames = np.stack([(x + 0 * y) % 256, (x + y) % 256, (y + 0 * x) % 256], axis=-1).astype(np.uint8)
    frames[:, 20:80, 20:80] = (255, 0, 0)
    return frames


def write(path: Path, frames: Pixels, chunk: int = 10, **metadata: str) -> bytes:
    size = (frames.shape[2], frames.shape[1])
    with Mp4Writer(path, size, metadata) as writer:
        for start in range(0, len(frames), chunk):
            writer.add(frames[start : start + chunk])
        assert writer.num_frames == len(frames)
    return path.read_bytes()


def boxes(data: bytes) -> list[str]:
    """The names of an mp4's outermost boxes, in order."""
    names, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        names.append(data[at + 4 : at + 8].decode())
        assert size >= 8
        at += size
    return names


@pytest.fixture(scope="module")
def served(completed: dict[str, Any]) -> bytes:
    """A video as the server hands it out."""
    return httpx.get(completed["outputs"][0]).content


@pytest.fixture
def opened(served: bytes) -> Iterator[Any]:
    with av.open(io.BytesIO(served)) as container:
        yield container


# What a served video is


def test_the_index_comes_first(served: bytes) -> None:
    names = boxes(served)
    assert names[0] == "ftyp"
    assert names.index("moov") < names.index("mdat")
    assert names.count("mdat") == 1


def test_it_is_h264_high_yuv420p_bt709_at_24_frames_a_second(opened: Any) -> None:
    (stream,) = opened.streams
    context = stream.codec_context
    assert (stream.type, context.name, context.profile, context.pix_fmt) == ("video", "h264", "High", "yuv420p")
    assert (context.width, context.height) == SIZES["720p"]["1:1"] == (960, 960)
    assert stream.average_rate == stream.base_rate == Fraction(24)
    assert int(context.color_primaries) == int(context.color_trc) == int(context.colorspace) == 1  # BT.709
    assert int(context.color_range) == 1  # limited


def test_it_has_24_frames_a_second_and_one_more(opened: Any) -> None:
    (stream,) = opened.streams
    times = [frame.time for frame in opened.decode(video=0)]
    assert len(times) == stream.frames == 24 * 5 + 1
    assert times == pytest.approx([number / 24 for number in range(121)], abs=1e-4)
    assert opened.duration / av.time_base == pytest.approx(121 / 24, abs=0.01)


def test_it_says_what_made_it(opened: Any) -> None:
    metadata = opened.metadata
    assert metadata["title"] == "a cat, slow push in"
    assert (metadata["engine"], metadata["model"], metadata["seed"]) == ("animatic", ANIMATIC, "7")
    assert metadata["software"] == f"Mutoscope {__version__}"
    assert "animatic" in metadata["comment"]


def test_the_poster_is_one_of_its_frames(opened: Any, completed: dict[str, Any]) -> None:
    data = np.frombuffer(httpx.get(completed["poster"]).content, np.uint8)
    poster = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)
    assert poster is not None
    frames = [frame.to_ndarray(format="rgb24") for frame in opened.decode(video=0)]
    assert poster.shape == frames[0].shape
    differences = [np.abs(frame.astype(int) - poster).mean() for frame in frames]
    assert min(differences) < 4
    assert 30 <= int(np.argmin(differences)) <= 50  # a third of the way in


# The writer


@pytest.mark.parametrize("size", SIZES["720p"].values())
def test_every_shape(tmp_path: Path, size: tuple[int, int]) -> None:
    data = write(tmp_path / "v.mp4", moving(3, *size))
    with av.open(io.BytesIO(data)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [frame.shape for frame in frames] == [(size[1], size[0], 3)] * 3


def test_colours_come_back_as_they_were(tmp_path: Path) -> None:
    frames = moving(5)
    with av.open(io.BytesIO(write(tmp_path / "v.mp4", frames))) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert np.abs(decoded[2][35:65, 35:65].astype(int) - (255, 0, 0)).mean() < 6  # BT.601 would be off by 20
    assert np.abs(decoded[2][100:, 100:200].astype(int) - frames[2, 100:, 100:200]).mean() < 8


def test_the_same_frames_give_the_same_bytes_however_they_arrive(tmp_path: Path) -> None:
    frames = moving(30)
    first = write(tmp_path / "1.mp4", frames, seed="5")
    for chunk in range(1, 31):  # often, because x264 is known to stray now and then
        assert write(tmp_path / "2.mp4", frames, chunk=chunk, seed="5") == first
    changed = frames.copy()
    changed[7, 90, 160] ^= 255
    assert write(tmp_path / "3.mp4", changed, seed="5") != first


def test_metadata_of_any_letters(tmp_path: Path) -> None:
    title = "Grüße 写真 😀 = ; # \\ \" ' " + "é" * 200
    with av.open(io.BytesIO(write(tmp_path / "v.mp4", moving(2), title=title, engine="x"))) as container:
        assert container.metadata["title"] == title
        assert container.metadata["engine"] == "x"


@pytest.mark.parametrize("num_frames", [0, 1, 40])
def test_a_writer_that_is_abandoned_lets_go_of_its_file(tmp_path: Path, num_frames: int) -> None:
    path = tmp_path / "v.mp4"

    def abandon() -> None:
        with Mp4Writer(path, (320, 180), {}) as writer:
            if num_frames:
                writer.add(moving(num_frames))
            raise LookupError("the engine failed")

    with pytest.raises(LookupError, match="the engine failed"):
        abandon()
    open_files = [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    assert str(path) not in open_files
    path.unlink(missing_ok=True)


def test_frames_of_another_size_are_refused(tmp_path: Path) -> None:
    def mix() -> None:
        with Mp4Writer(tmp_path / "v.mp4", (320, 180), {}) as writer:
            writer.add(moving(1))
            writer.add(moving(1, 160, 90))

    with pytest.raises(ValueError, match=r"frames are \(90, 160, 3\), not \(180, 320, 3\)"):
        mix()


def test_a_poster(tmp_path: Path) -> None:
    path = tmp_path / "p.jpg"
    frame = moving(1)[0]
    write_jpeg(path, frame)
    assert re.match(rb"\xff\xd8\xff", path.read_bytes())
    decoded = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    assert decoded is not None
    assert np.abs(decoded[35:65, 35:65].astype(int) - (255, 0, 0)).mean() < 5
