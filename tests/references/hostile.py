"""Files that must be refused, each with the words that must be in the reason."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

from . import craft
from .corpus import RIGHT, animated, archive, texts
from .craft import chunk, png, png_rows, quadrants, save, tiff, tiff_tags

UNKNOWN, LARGE, SMALL = "not an image this server reads", "megapixels", "smaller than 64 pixels"
DAMAGED, ANY = "damaged", ""


def patched(data: bytes, mark: bytes, skip: int, format: str, *values: int) -> bytes:
    """`data` with other numbers `skip` bytes behind the last `mark`."""
    changed = bytearray(data)
    struct.pack_into(format, changed, changed.rindex(mark) + len(mark) + skip, *values)
    return bytes(changed)


def png_header(width: int, height: int, *, body: bytes = b"") -> bytes:
    """A PNG that claims a size; its data is `body`, already compressed."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def zeros(megabytes: int) -> bytes:
    """So many megabytes of zeros, compressed a thousandfold."""
    packer = zlib.compressobj(9, wbits=-15)
    block = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = megabytes * 2**20 % 65521 << 16 | 1
    return b"\x78\xda" + block * megabytes + b"\3\0" + struct.pack(">I", checksum)


def profile_bomb() -> bytes:
    return png((96, 64), 8, 2, png_rows(quadrants().tobytes(), 288), before=chunk(b"iCCP", b"x\0\0" + zeros(300)))


def text_bomb() -> bytes:
    many = b"".join(chunk(b"zTXt", b"a\0\0" + zeros(7)) for _ in range(200))
    return png((96, 64), 8, 2, png_rows(quadrants().tobytes(), 288), before=many)


def webp_canvas(width: int, height: int) -> bytes:
    return patched(animated("WEBP"), b"VP8X", 8, "<HBHB", width & 0xFFFF, width >> 16, height & 0xFFFF, height >> 16)


def gif_canvas(width: int, height: int) -> bytes:
    return patched(save(quadrants(), "GIF"), b"GIF87a", 0, "<HH", width, height)


def gif_frame(width: int, height: int) -> bytes:
    data = bytearray(save(quadrants(), "GIF"))
    at = data.index(b",\0\0\0\0\x60\0\x40\0")
    struct.pack_into("<HH", data, at + 5, width, height)
    return bytes(data)


def tiff_loop() -> bytes:
    data = bytearray(tiff(tiff_tags((96, 64), [8] * 3, 2), [quadrants().tobytes()]))
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    struct.pack_into("<H", data, start, 0xFFFF)
    struct.pack_into("<I", data, start + 2 + 12 * count, start)
    return bytes(data)


def tiff_of(size: tuple[int, int], **more: list[int]) -> bytes:
    return tiff(tiff_tags(size, [8] * 3, 2, **more), [quadrants().tobytes()], tiled="tile_width" in more)


def nan_tiff() -> bytes:
    samples = np.full((64, 96), np.nan, "<f4")
    return tiff(tiff_tags((96, 64), [32], 1, sample_format=[3]), [samples.tobytes()])


def scans(count: int) -> bytes:
    """A progressive JPEG whose last scan comes `count` times: each costs a pass over the whole picture."""
    data = save(quadrants((4000, 4000)), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * count + data[-2:]


def cut(name: str, share: float) -> bytes:
    data = RIGHT[name][0]()
    return data[: max(1, int(len(data) * share))]


def spoiled_png() -> bytes:
    data = bytearray(save(quadrants(), "PNG"))
    data[data.index(b"IDAT") + 12] ^= 0xFF
    return bytes(data)


CUT = (
    "jpeg",
    "jpeg-progressive",
    "png",
    "png-interlaced",
    "gif",
    "webp",
    "bmp-24",
    "tiff",
    "tiff-tiff_lzw",
    "avif",
    "heic",
)

WRONG: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "the file is empty"),
    "one-byte": (lambda: b"\xff", UNKNOWN),
    "zeros": (lambda: bytes(4096), UNKNOWN),
    "text": (lambda: b"hello, world\n" * 9, "it looks like text"),
    "json": (lambda: b'{"error": "not found"}', "it looks like JSON"),
    "html": (lambda: b"\n<!DOCTYPE html><html><body>404</body></html>", "a web page"),
    "html+jpeg": (lambda: b"<html>" + save(quadrants(), "JPEG"), "a web page"),
    "svg": (lambda: b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>', "it looks like SVG"),
    "svg-xxe": (
        lambda: b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg>&x;</svg>',
        "it looks like SVG",
    ),
    "pdf": (lambda: b"%PDF-1.7\n" + save(quadrants(), "JPEG"), "it looks like PDF"),
    "eps": (lambda: save(quadrants(), "EPS"), "it looks like EPS"),
    "eps-dos": (lambda: b"\xc5\xd0\xd3\xc6" + bytes(60), "it looks like EPS"),
    "psd": (lambda: b"8BPS\0\1" + bytes(60), "it looks like PSD"),
    "ico": (lambda: save(quadrants(), "ICO"), "it looks like ICO"),
    "cur": (lambda: b"\0\0\2\0\1\0" + bytes(60), "it looks like CUR"),
    "jpeg2000": (lambda: save(quadrants(), "JPEG2000"), "it looks like JPEG 2000"),
    "jpeg-xl": (lambda: b"\xff\x0a" + bytes(60), "it looks like JPEG XL"),
    "zip": (archive, "it looks like a ZIP archive"),
    "zip+png": (lambda: archive() + save(quadrants(), "PNG"), "it looks like a ZIP archive"),
    "gzip": (lambda: b"\x1f\x8b\x08" + bytes(60), "it looks like a gzip archive"),
    "mp4": (lambda: b"\0\0\0\x18ftypisom" + bytes(60), "it looks like a video"),
    "webm": (lambda: b"\x1aE\xdf\xa3" + bytes(60), "it looks like a WebM"),
    "wav": (lambda: b"RIFF\0\0\0\0WAVE" + bytes(60), "it looks like a sound"),
    "fits": (lambda: b"SIMPLE  =                    T" + bytes(2880), "it looks like FITS"),
    "ppm": (lambda: save(quadrants(), "PPM"), UNKNOWN),
    "tga": (lambda: save(quadrants(), "TGA"), UNKNOWN),
    "icns": (lambda: b"icns" + bytes(60), "it looks like ICNS"),
    "dds": (lambda: save(quadrants(), "DDS"), "it looks like DDS"),
    "program": (lambda: b"\x7fELF" + bytes(60), "it looks like a program"),
    "ftyp-loop": (lambda: b"\xff\xff\xff\xffftypmif1" + b"mif1" * 500, UNKNOWN),
    **{
        f"only-{name}": (lambda start=start: start + bytes(200), DAMAGED)  # type: ignore[misc]
        for name, start in {
            "jpeg": b"\xff\xd8\xff\xe0",
            "png": b"\x89PNG\r\n\x1a\n",
            "gif": b"GIF89a\x60\0\x60\0",
            "bmp": b"BM",
            "webp": b"RIFF\xff\xff\xff\xffWEBPVP8 ",
            "tiff": b"II*\0\x08\0\0\0",
            "bigtiff": b"MM\0+\0\x08\0\0",
            "avif": b"\0\0\0\x1cftypavif",
            "heic": b"\0\0\0\x1cftypheic",
        }.items()
    },
    "png-30000": (lambda: png_header(30_000, 30_000, body=zeros(2575)), LARGE),
    "png-2^31": (lambda: png_header(2**31 - 1, 2**31 - 1, body=zeros(1)), LARGE),
    "png-no-pixels": (lambda: png_header(0, 0), ANY),
    "png-no-data": (lambda: png_header(96, 64), DAMAGED),
    "png-profile-bomb": (profile_bomb, DAMAGED),
    "png-text-bomb": (text_bomb, DAMAGED),
    "png-text-long": (lambda: save(quadrants(), "PNG", pnginfo=texts(60_000_000)), DAMAGED),
    "png-spoiled": (spoiled_png, DAMAGED),
    "png-1x65535": (lambda: save(Image.new("L", (1, 65535)), "PNG"), SMALL),
    "png-65535x1": (lambda: save(Image.new("L", (65535, 1)), "PNG"), SMALL),
    "jpeg-1x65500": (lambda: save(Image.new("L", (1, 65500)), "JPEG"), SMALL),
    "png-63": (lambda: save(quadrants((63, 640)), "PNG"), SMALL),
    "jpeg-65500": (lambda: patched(save(quadrants(), "JPEG"), b"\xff\xc0\0\x11\x08", 0, ">HH", 65500, 65500), LARGE),
    "jpeg-other-image-header": (lambda: save(quadrants(), "JPEG")[:300] + save(quadrants(), "PNG"), DAMAGED),
    "bmp-20000": (lambda: craft.bmp(20_000, 20_000, 24, 0, b""), LARGE),
    "bmp-rle-bomb": (lambda: craft.bmp(6000, 6000, 8, 1, b"\0\1", palette=bytes(1024)), ANY),
    "bmp-negative": (lambda: craft.bmp(-96, 64, 24, 0, bytes(96 * 64 * 3)), ANY),
    "bmp-bits": (lambda: craft.bmp(96, 64, 77, 0, bytes(96 * 64 * 3)), DAMAGED),
    "gif-canvas": (lambda: gif_canvas(65535, 65535), LARGE),
    "gif-frame": (lambda: gif_frame(65535, 65535), ANY),
    "webp-canvas": (lambda: webp_canvas(16383, 16383), ANY),
    "webp-canvas-2^24": (lambda: webp_canvas(2**24 - 1, 2**24 - 1), ANY),
    "tiff-2^32": (lambda: tiff_of((2**32 - 1, 2**32 - 1)), LARGE),
    "tiff-60000": (lambda: tiff_of((60_000, 60_000)), LARGE),
    "tiff-too-little": (lambda: tiff_of((6000, 6000)), DAMAGED),
    "tiff-huge-tile": (lambda: tiff_of((96, 64), tile_width=[65520], tile_height=[65520]), DAMAGED),
    "tiff-nan": (nan_tiff, DAMAGED),
    "avif-60000": (lambda: patched(save(quadrants(), "AVIF"), b"ispe", 4, ">II", 60_000, 60_000), ANY),
    "heic-60000": (lambda: patched(craft.HEIC, b"ispe", 4, ">II", 60_000, 60_000), ANY),
    **{
        f"{name}-cut-at-{percent}": (lambda name=name, percent=percent: cut(name, percent / 100), ANY)  # type: ignore[misc]
        for name in CUT
        for percent in (5, 40, 80)
    },
}

HARMLESS: dict[str, tuple[Callable[[], bytes], tuple[int, int]]] = {
    "jpeg-taller": (
        lambda: patched(save(quadrants(), "JPEG"), b"\xff\xc0\0\x11\x08", 0, ">HH", 6000, 6000),
        (6000, 6000),
    ),
    "tiff-loop": (tiff_loop, (64, 96)),
    # The fuzzer's find: pi_heif 1.4 reads through a null pointer where metadata's type is no UTF-8.
    "heic-segfault": (lambda: craft.HEIC_TURNED.replace(b"Exif", b"Ex\xfff", 1), (96, 64)),
    "png-lies-small": (lambda: png_header(96, 64, body=zeros(2000)), (64, 96)),
    "jpeg-50-scans": (lambda: scans(50), (4000, 4000)),
    "png-crc-of-text": (
        lambda: save(quadrants(), "PNG", pnginfo=texts(99)).replace(b"workflow", b"workflaw"),
        (64, 96),
    ),
    **{
        f"{name}-cut-{what}": (lambda name=name, share=share: cut(name, share), (64, 96))  # type: ignore[misc]
        for name in CUT
        for what, share in (("at-95", 0.95), ("at-99.9", 0.999))
    },
}
"""What may be refused, or shown as viewers show it: file, and (height, width) if it is shown."""
