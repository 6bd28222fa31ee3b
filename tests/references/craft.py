"""Image files made byte by byte, for what Pillow reads but does not write. Knows no test and no expectation."""

from __future__ import annotations

import io
import struct
import zlib
from base64 import b64decode
from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageCms, ImageDraw

SIZE = (96, 64)
RED, GREEN, BLUE, YELLOW = (200, 30, 30), (30, 160, 30), (30, 30, 200), (200, 200, 30)
GREYS = (0, 85, 170, 255)


def quadrants(size: tuple[int, int] = SIZE) -> Image.Image:
    """Red, green over blue, yellow: every turn and every swap of channels shows."""
    return _four(Image.new("RGB", size), (RED, GREEN, BLUE, YELLOW))


def greys(size: tuple[int, int] = SIZE) -> Image.Image:
    """Black, dark over light, white."""
    return _four(Image.new("L", size), GREYS)


def _four(image: Image.Image, colours: Sequence[Any]) -> Image.Image:
    draw, (width, height) = ImageDraw.Draw(image), image.size
    for at, colour in enumerate(colours):
        left, top = at % 2 * width // 2, at // 2 * height // 2
        draw.rectangle((left, top, left + width // 2 - 1, top + height // 2 - 1), fill=colour)
    return image


def save(image: Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(
    size: tuple[int, int],
    depth: int,
    colour: int,
    rows: bytes,
    *,
    before: bytes = b"",
    interlaced: bool = False,
    pieces: int = 1,
) -> bytes:
    """A PNG of `rows` (each with its filter byte); `before` are chunks that stand before the image data."""
    header = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, int(interlaced))
    packed = zlib.compress(rows)
    step = -(-len(packed) // pieces)
    data = b"".join(chunk(b"IDAT", packed[at : at + step]) for at in range(0, len(packed), step))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before + data + chunk(b"IEND", b"")


def png_rows(samples: bytes, row_bytes: int) -> bytes:
    return b"".join(b"\0" + samples[at : at + row_bytes] for at in range(0, len(samples), row_bytes))


def adam7(image: Image.Image) -> bytes:
    """An interlaced PNG."""
    rows = b""
    for left, top, across, down in (
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    ):
        for y in range(top, image.height, down):
            pixels = [image.getpixel((x, y)) for x in range(left, image.width, across)]
            rows += b"\0" + b"".join(bytes(pixel) for pixel in pixels)  # type: ignore[arg-type]
    return png(image.size, 8, 2, rows, interlaced=True)


def tiff(
    tags: dict[int, tuple[int, Sequence[int]]], blocks: Sequence[bytes], *, order: str = "<", tiled: bool = False
) -> bytes:
    """A TIFF of `blocks`; a tag is (type, values), the tags for the blocks' places are added."""
    body, offsets = b"", []
    for block in blocks:
        offsets.append(8 + len(body))
        body += block
    where, length = (324, 325) if tiled else (273, 279)
    tags = tags | {where: (4, offsets), length: (4, [len(block) for block in blocks])}
    start = 8 + len(body)
    beyond, entries = b"", b""
    for tag, (kind, values) in sorted(tags.items()):
        raw = struct.pack(order + {1: "B", 3: "H", 4: "I"}[kind] * len(values), *values)
        if len(raw) > 4:
            at = start + 2 + 12 * len(tags) + 4 + len(beyond)
            beyond += raw
            raw = struct.pack(order + "I", at)
        entries += struct.pack(order + "HHI", tag, kind, len(values)) + raw.ljust(4, b"\0")
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return (
        mark
        + struct.pack(order + "I", start)
        + body
        + struct.pack(order + "H", len(tags))
        + entries
        + b"\0" * 4
        + beyond
    )


def tiff_tags(
    size: tuple[int, int], bits: Sequence[int], photometric: int, **more: Sequence[int]
) -> dict[int, tuple[int, Sequence[int]]]:
    names = {
        "planar": 284,
        "sample_format": 339,
        "tile_width": 322,
        "tile_height": 323,
        "compression": 259,
        "orientation": 274,
    }
    return {
        256: (4, [size[0]]),
        257: (4, [size[1]]),
        258: (3, list(bits)),
        259: (3, [1]),
        262: (3, [photometric]),
        277: (3, [len(bits)]),
        278: (4, [size[1]]),
    } | {names[name]: (3, list(values)) for name, values in more.items()}


def bmp(
    width: int, height: int, bits: int, compression: int, body: bytes, *, palette: bytes = b"", masks: bytes = b""
) -> bytes:
    """A BMP; a negative height is stored from the top down."""
    start = 14 + 40 + len(masks) + len(palette)
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(body), 0, 0, len(palette) // 4, 0)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + header + masks + palette + body


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


def swapped_profile() -> bytes:
    """sRGB with red's and blue's primaries exchanged: where it is applied, red turns blue."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    places = {}
    for at in range(132, 132 + 12 * struct.unpack_from(">I", profile, 128)[0], 12):
        name, offset, length = struct.unpack_from(">4sII", profile, at)
        places[name] = (offset, length)
    (red, length), (blue, _) = places[b"rXYZ"], places[b"bXYZ"]
    first, second = profile[red : red + length], profile[blue : blue + length]
    profile[red : red + length], profile[blue : blue + length] = second, first
    return bytes(profile)


def cmyk_profile() -> bytes:
    """A printer's profile of 2 grid points a side in which cyan prints as a strong red and all else as white."""
    corners = b"".join(bytes((136, 208, 192)) if at & 8 and not at & 7 else b"\xff\x80\x80" for at in range(16))
    ramp = bytes(range(256))
    matrix = struct.pack(">9i", *(65536 if at % 4 == 0 else 0 for at in range(9)))
    table = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + matrix + ramp * 4 + corners + ramp * 3
    text = b"text\0\0\0\0test\0"
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    tags, body = [], b""
    for name, data in ((b"cprt", text), (b"wtpt", white), (b"A2B0", table), (b"A2B1", table)):
        tags.append((name, 128 + 4 + 12 * 4 + len(body), len(data)))
        body += data + b"\0" * (-len(data) % 4)
    index = struct.pack(">I", len(tags)) + b"".join(struct.pack(">4sII", *tag) for tag in tags)
    head = struct.pack(">I4sI4s4s4s", 128 + len(index) + len(body), b"lcms", 0x02400000, b"prtr", b"CMYK", b"Lab ")
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 28 + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + index + body


HEIC = b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAVZtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAACJpbG9jAA"
    "AAAERAAAEAAQAAAAABegABAAAAAAAAANMAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAAA5waXRtAAAAAAABAAAA1mlwcnAA"
    "AAC3aXBjbwAAAHhodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQArQgEBA3AAAAMAkA"
    "AAAwAAAwAeoDCBBZbqSSmubgIaDAgAAAMAyAAAAwAIQGIAAQAHRAHBcrAiQAAAABNjb2xybmNseAABAA0ABoAAAAAUaXNwZQAAAAAAAABgAAAA"
    "QAAAABBwaXhpAAAAAAMICAgAAAAXaXBtYQAAAAAAAAABAAEEgQIDBAAAANttZGF0AAAAzygBrwT47KXpOu3/4sP///1SN7L+1UohO6XX3qW1/+"
    "2hf/9ldZjLdlcR8ERL8mc7f2J7Bpp8FHO4N/XqSgf61wewLsx4mXVcZRshC7Ie321GhXXxI9b/g9gAOLLcDi/l/wjXo37cOj//BWtZSYi14tf8"
    "AgF5HSzWAEprl3i7MO3JmVsi/F1pL8h0QTsYkLwaRCBpOGDXbT3AY1x4fphMWDURdDXD/9KoE67A2F//82Qbb2MEsLA2MCWQvGvl1oMrtQ06tu"
    "bT9EeEH1Sd/TNBwA=="
)
HEIC_TURNED = b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAaFtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAADRpbG9jAA"
    "AAAERAAAIAAQAAAAABxQABAAAAAAAAANMAAgAAAAACmAABAAAAAAAAACQAAAA4aWluZgAAAAAAAgAAABVpbmZlAgAAAAABAABodmMxAAAAABVp"
    "bmZlAgAAAQACAABFeGlmAAAAAA5waXRtAAAAAAABAAAA4GlwcnAAAADAaXBjbwAAAHhodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGE"
    "ABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQArQgEBA3AAAAMAkAAAAwAAAwAeoDCBBZbqSSmubgIaDAgAAAMAyAAAAwAIQGIAAQAHRAHBcrAi"
    "QAAAABNjb2xybmNseAABAA0ABoAAAAAUaXNwZQAAAAAAAABgAAAAQAAAABBwaXhpAAAAAAMICAgAAAAJaXJvdAMAAAAYaXBtYQAAAAAAAAABAA"
    "EFgQIDBIUAAAAaaXJlZgAAAAAAAAAOY2RzYwACAAEAAQAAAP9tZGF0AAAAzygBrwT47KXpOu3/4sP///1SN7L+1UohO6XX3qW1/+2hf/9ldZjL"
    "dlcR8ERL8mc7f2J7Bpp8FHO4N/XqSgf61wewLsx4mXVcZRshC7Ie321GhXXxI9b/g9gAOLLcDi/l/wjXo37cOj//BWtZSYi14tf8AgF5HSzWAE"
    "prl3i7MO3JmVsi/F1pL8h0QTsYkLwaRCBpOGDXbT3AY1x4fphMWDURdDXD/9KoE67A2F//82Qbb2MEsLA2MCWQvGvl1oMrtQ06tubT9EeEH1Sd"
    "/TNBwAAAAAZFeGlmAABNTQAqAAAACAABARIAAwAAAAEABgAAAAAAAA=="
)
HEIC_ALPHA = b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAkVtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAADRpbG9jAA"
    "AAAERAAAIAAQAAAAACaQABAAAAAAAAANMAAgAAAAADPAABAAAAAAAAAEYAAAA4aWluZgAAAAAAAgAAABVpbmZlAgAAAAABAABodmMxAAAAABVp"
    "bmZlAgAAAAACAABodmMxAAAAAA5waXRtAAAAAAABAAABhGlwcnAAAAFeaXBjbwAAAHhodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGE"
    "ABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQArQgEBA3AAAAMAkAAAAwAAAwAeoDCBBZbqSSmubgIaDAgAAAMAyAAAAwAIQGIAAQAHRAHBcrAi"
    "QAAAABNjb2xybmNseAABAA0ABoAAAAAUaXNwZQAAAAAAAABgAAAAQAAAABBwaXhpAAAAAAMICAgAAAByaHZjQwEECAAAAJ/4AAAAAB7wAPz8+P"
    "gAAA8DYAABABdAAQwB//8ECAAAAwCf+AAAAwAAHroCQGEAAQAmQgEBBAgAAAMAn/gAAAMAAB7AwgQWW6kkprmwIAAAAwMgAAADACFiAAEAB0QB"
    "wXKwIkAAAAAOcGl4aQAAAAABCAAAACdhdXhDAAAAAHVybjptcGVnOmhldmM6MjAxNTphdXhpZDoxAAAAAB5pcG1hAAAAAAAAAAIAAQSBAgMEAA"
    "IEhQMGhwAAABppcmVmAAAAAAAAAA5hdXhsAAIAAQABAAABIW1kYXQAAADPKAGvBPjspek67f/iw////VI3sv7VSiE7pdfepbX/7aF//2V1mMt2"
    "VxHwREvyZzt/YnsGmnwUc7g39epKB/rXB7AuzHiZdVxlGyELsh7fbUaFdfEj1v+D2AA4stwOL+X/CNejftw6P/8Fa1lJiLXi1/wCAXkdLNYASm"
    "uXeLsw7cmZWyL8XWkvyHRBOxiQvBpEIGk4YNdtPcBjXHh+mExYNRF0NcP/0qgTrsDYX//zZBtvYwSwsDYwJZC8a+XWgyu1DTq25tP0R4QfVJ39"
    "M0HAAAAAQigBrgnwZMLqvJchKlINcYp85WX7uBoW24O+gr+p9v0NkXQEdSHQKQea9/5ur9nU75R36BIvMnhsaQJG6YKsJkmtwA=="
)
"""`quadrants()` as HEVC: as it is; stored upright with a turn (irot) as for EXIF orientation 6; with alpha."""
