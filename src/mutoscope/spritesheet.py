"""A grid of small frames from a finished video, as one JPEG. Run as a program: `python -m mutoscope.spritesheet`.

Knows no task, and no place where files are kept.
"""

from __future__ import annotations

import sys
from pathlib import Path

import av
import cv2
import numpy as np

_COLUMNS, _ROWS = 5, 5
_LONGEST_SIDE = 256  # of one frame, in pixels
_QUALITY = 80


def write_spritesheet(video: Path, target: Path) -> None:
    """25 frames from the first to the last, in reading order, 5 to a row; each 256 pixels at its longest side."""
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        scale = _LONGEST_SIDE / max(stream.width, stream.height)
        width, height = round(stream.width * scale), round(stream.height * scale)
        count = _COLUMNS * _ROWS
        wanted = np.linspace(0, stream.frames - 1, count).round().astype(int).tolist()
        sheet = np.zeros((_ROWS * height, _COLUMNS * width, 3), np.uint8)
        place = 0
        for number, frame in enumerate(container.decode(stream)):
            if place == count:
                break
            if number < wanted[place]:
                continue
            small = frame.reformat(width, height, "bgr24", interpolation="AREA").to_ndarray()
            while place < count and wanted[place] == number:  # a video of fewer frames shows some again
                row, column = divmod(place, _COLUMNS)
                sheet[row * height : (row + 1) * height, column * width : (column + 1) * width] = small
                place += 1
    done, data = cv2.imencode(".jpg", sheet, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not done:
        raise ValueError("the spritesheet could not be encoded")
    target.write_bytes(data.tobytes())


if __name__ == "__main__":
    try:
        write_spritesheet(Path(sys.argv[1]), Path(sys.argv[2]))
    except OSError as error:
        sys.exit(error.errno)  # whoever started this tells a full disk by it
