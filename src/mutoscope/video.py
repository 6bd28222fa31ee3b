"""Frames in, an mp4 out, while they arrive; and a poster. Knows no task, no engine and no place where files are kept.

H.264 High, yuv420p, BT.709 limited range and tagged so, the index in front (faststart), 24 frames a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import cv2
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter

from mutoscope.engines import Pixels
from mutoscope.tasks import FPS

_JPEG_QUALITY = 88

# A fixed number of threads: x264's bytes depend on it, and the same request must give the same file on any machine.
_ENCODING = {"preset": "veryfast", "crf": "19", "profile": "high", "bf": "2", "threads": "4"}


@cache
def _encoding() -> dict[str, str]:
    """The encoder's options on this machine.

    x264's AVX-512 code, in PyAV's build of it, now and then gives other bytes for the same frames (720 pixels wide, for
    one); its AVX2 code, which any processor with AVX-512 has too, does not.
    """
    try:
        has_avx512 = "avx512" in Path("/proc/cpuinfo").read_text()
    except OSError:
        has_avx512 = False
    return _ENCODING | ({"x264-params": "asm=AVX2"} if has_avx512 else {})


class Mp4Writer:
    """Encodes frames into `path` as they are added; use as a context manager.

    Leaving the block normally finishes the file; leaving it by an exception abandons it, unfinished.
    """

    def __init__(self, path: Path, size: tuple[int, int], metadata: Mapping[str, str]) -> None:
        width, height = size
        self.num_frames = 0
        self._container = av.open(str(path), "w", format="mp4", options={"movflags": "+faststart+use_metadata_tags"})
        self._container.metadata.update(metadata)
        stream = self._container.add_stream("libx264", rate=FPS, options=_encoding())
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = Fraction(1, FPS)
        context = stream.codec_context
        context.color_primaries = ColorPrimaries.BT709
        context.color_trc = ColorTrc.BT709
        context.colorspace = Colorspace.ITU709
        context.color_range = ColorRange.MPEG
        self._stream = stream
        self._reformatter = VideoReformatter()

    def add(self, pixels: Pixels) -> None:
        """Encode (count, height, width, 3) RGB uint8 frames. Raises ValueError for frames of another size."""
        expected = (self._stream.height, self._stream.width, 3)
        if pixels.shape[1:] != expected:  # the encoder would read past their end
            raise ValueError(f"frames are {pixels.shape[1:]}, not {expected}")
        for image in pixels:
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame = self._reformatter.reformat(
                frame,
                format="yuv420p",
                src_colorspace=Colorspace.ITU709,
                dst_colorspace=Colorspace.ITU709,
                src_color_range=ColorRange.JPEG,
                dst_color_range=ColorRange.MPEG,
            )
            frame.pts = self.num_frames
            frame.time_base = Fraction(1, FPS)
            self._container.mux(self._stream.encode(frame))
            self.num_frames += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._container.mux(self._stream.encode(None))
        self._container.close()


def write_jpeg(path: Path, pixels: Pixels) -> None:
    """One (height, width, 3) RGB frame as a JPEG."""
    done, data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not done:
        raise ValueError("the picture could not be encoded")
    path.write_bytes(data.tobytes())
