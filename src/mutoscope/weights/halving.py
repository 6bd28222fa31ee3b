"""float32 safetensors to bfloat16, one file at a time, memory-mapped: the bits that torch's own conversion gives.

numpy alone: weights are fetched on machines that have no torch. Knows no model and no download.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mutoscope.weights.errors import WeightsError

_CHUNK = 4 * 2**20  # numbers at a time: 16 MB in, 8 MB out
_MAX_HEADER_BYTES = 100_000_000  # safetensors' own limit

Header = dict[str, Any]


def read_header(path: Path) -> tuple[Header, int]:
    """A safetensors file's header, and where its data begins. Raises WeightsError when it is no such file, or cut."""
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else size
        if length > min(size, _MAX_HEADER_BYTES):
            raise WeightsError(f"{path} is no safetensors file.")
        try:
            header: Header = json.loads(file.read(length))
            end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise WeightsError(f"{path} is no safetensors file.") from error
    if size != 8 + length + end:
        raise WeightsError(f"{path} has {size:,} bytes where its header promises {8 + length + end:,}.")
    return header, 8 + length


def num_data_bytes(path: Path) -> int:
    """Bytes of the tensors in a file, by its header. Raises WeightsError."""
    return path.stat().st_size - read_header(path)[1]


def has_float32(path: Path) -> bool:
    """Whether any tensor of the file is float32, by its header. Raises WeightsError."""
    header, _ = read_header(path)
    return any(entry["dtype"] == "F32" for name, entry in header.items() if name != "__metadata__")


def halve(path: Path, to: Path) -> Iterator[float]:
    """Write `path` to `to` with its float32 tensors as bfloat16 and all others as they are; yields 0 to 1.

    `to` is written through to the disk, but not atomically: the caller moves it into place. Raises WeightsError.
    """
    header, start = read_header(path)
    metadata = header.pop("__metadata__", None)
    # Wider types first, as safetensors' own writer has them, so that every tensor stays aligned.
    names = sorted(header, key=lambda name: (-_width(_halved(header[name]["dtype"])), header[name]["data_offsets"][0]))
    entries: Header = {} if metadata is None else {"__metadata__": metadata}
    position = 0
    for name in names:
        begin, end = header[name]["data_offsets"]
        length = (end - begin) // (2 if header[name]["dtype"] == "F32" else 1)
        entries[name] = {
            "dtype": _halved(header[name]["dtype"]),
            "shape": header[name]["shape"],
            "data_offsets": [position, position + length],
        }
        position += length
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    data = np.memmap(path, np.uint8, "r", offset=0)
    total = max(1, data.size - start)
    done = 0
    with to.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in names:
            begin, end = header[name]["data_offsets"]
            values = data[start + begin : start + end]
            for written in _write(file, values, header[name]["dtype"] == "F32"):
                done += written
                yield done / total
        file.flush()
        os.fsync(file.fileno())


def bfloat16_bits(values: NDArray[np.uint32]) -> NDArray[np.uint16]:
    """The bits of float32 numbers as bits of bfloat16: rounded to nearest, ties to even, any NaN to the quiet one."""
    rounded = (values + (0x7FFF + ((values >> 16) & 1))) >> 16
    is_nan = (values & 0x7FFFFFFF) > 0x7F800000  # rounding would carry some of them into an infinity, or a zero
    return np.where(is_nan, 0x7FC0, rounded).astype(np.uint16)


def _write(file: BinaryIO, values: NDArray[np.uint8], is_float32: bool) -> Iterator[int]:
    step = 4 * _CHUNK
    for first in range(0, values.size, step):
        chunk = values[first : first + step]
        # Copied first: a header of an odd length leaves the mapped bytes unaligned.
        file.write(bfloat16_bits(np.frombuffer(chunk.tobytes(), "<u4")).tobytes() if is_float32 else chunk.tobytes())
        yield chunk.size


def _halved(dtype: str) -> str:
    return "BF16" if dtype == "F32" else dtype


def _width(dtype: str) -> int:
    digits = "".join(letter for letter in dtype.partition("_")[0] if letter.isdigit())
    return int(digits) if digits else 8
