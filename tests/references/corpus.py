"""Files that must decode, each with what must come out: the odd, the old and the badly labelled."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from struct import pack
from typing import Any

import numpy as np
from PIL import Image, ImageCms, PngImagePlugin

from . import craft
from .craft import BLUE, GREEN, GREYS, RED, SIZE, YELLOW, greys, png, png_rows, quadrants, save

Corners = tuple[Any, Any, Any, Any]
COLOURS: Corners = (RED, GREEN, BLUE, YELLOW)
SHADES: Corners = (0, 85, 170, 255)
TURNED: dict[int, Corners] = {
    1: (RED, GREEN, BLUE, YELLOW),
    2: (GREEN, RED, YELLOW, BLUE),
    3: (YELLOW, BLUE, GREEN, RED),
    4: (BLUE, YELLOW, RED, GREEN),
    5: (RED, BLUE, GREEN, YELLOW),
    6: (BLUE, RED, YELLOW, GREEN),
    7: (YELLOW, GREEN, BLUE, RED),
    8: (GREEN, YELLOW, RED, BLUE),
}
"""EXIF orientation → what a viewer shows of `quadrants()`: top left, top right, bottom left, bottom right."""


def with_alpha() -> Image.Image:
    image = quadrants().convert("RGBA")
    image.putalpha(greys())
    return image


SEEN = tuple((*colour, grey) for colour, grey in zip(COLOURS, GREYS, strict=True))


def frames(count: int, size: tuple[int, int] = SIZE) -> list[Image.Image]:
    return [Image.new("RGB", size, (at % 256, at // 256, 99)) for at in range(count)]


def animated(format: str, count: int = 3, **options: Any) -> bytes:
    return save(quadrants(), format, save_all=True, append_images=frames(count), **options)


def archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as zipped:
        zipped.writestr("META-INF/MANIFEST.MF", "Main-Class: Evil")
    return file.getvalue()


def wide(samples: np.ndarray[Any, Any]) -> bytes:
    """Samples as PNG wants them: 16 bits, big-endian."""
    return png_rows(samples.astype(">u2").tobytes(), samples.shape[1] * samples.shape[2] * 2)


def deep(bands: str) -> np.ndarray[Any, Any]:
    """The picture with 16 bits a channel."""
    image = {"L": greys(), "LA": Image.merge("LA", [greys(), greys()]), "RGB": quadrants(), "RGBA": with_alpha()}[bands]
    return np.asarray(image).reshape(SIZE[1], SIZE[0], -1).astype(np.uint16) * 257


def planes() -> list[bytes]:
    return [band.tobytes() for band in quadrants().split()]


def tiles() -> list[bytes]:
    return [quadrants().crop((x, y, x + 32, y + 32)).tobytes() for y in range(0, 64, 32) for x in range(0, 96, 32)]


def grey_tiff(dtype: str, scale: float, photometric: int = 1, sample_format: int = 1) -> bytes:
    samples = (np.asarray(greys(), np.float64) * scale).astype(dtype)
    order = ">" if dtype.startswith(">") else "<"
    tags = craft.tiff_tags(SIZE, [samples.itemsize * 8], photometric, sample_format=[sample_format])
    return craft.tiff(tags, [samples.tobytes()], order=order)


def rle8() -> bytes:
    rows = [bytes((48, low, 48, low + 1, 0, 0)) for low in (2, 0) for _ in range(32)]  # from the bottom up
    palette = b"".join(bytes((*reversed(colour), 0)) for colour in COLOURS)
    return craft.bmp(96, 64, 8, 1, b"".join(rows) + b"\0\1", palette=palette)


def bmp16(masks: bytes, shifts: tuple[int, int, int], bits: tuple[int, int, int]) -> bytes:
    pixels = np.asarray(quadrants(), np.uint16)[::-1]
    packed = sum((pixels[..., at] >> (8 - bits[at])) << shifts[at] for at in range(3))
    return craft.bmp(96, 64, 16, 3 if masks else 0, np.asarray(packed, "<u2").tobytes(), masks=masks)


def palette(bits: int) -> bytes:
    index = np.repeat(np.repeat(np.array([[0, 1], [2, 3]], np.uint8), 32, 0), 48, 1)
    per_byte = 8 // bits
    grouped = index.reshape(64, -1, per_byte)
    packed = sum(grouped[..., at] << (8 - bits * (at + 1)) for at in range(per_byte)).astype(np.uint8)
    plte = craft.chunk(b"PLTE", bytes(part for colour in COLOURS for part in colour))
    return png(SIZE, bits, 3, png_rows(packed.tobytes(), packed.shape[1]), before=plte)


def clear_palette(how: bytes | int) -> bytes:
    image = quadrants().quantize(4)
    return save(image, "PNG", transparency=how if isinstance(how, bytes) else image.getpixel((0, 0)))


def texts(length: int) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("workflow", "x" * length, zip=True)
    return info


def canvas_gif() -> bytes:
    """The first frame covers a part of the canvas only; the rest is see-through."""
    image = Image.new("P", (48, 32), 1)
    image.putpalette(bytes((0, 0, 0, *RED)))
    part = save(image, "GIF", transparency=0, optimize=False)
    at = part.index(b"\x2c", 13)
    return part[:6] + pack("<HH", 96, 64) + part[10:at] + b"\x2c" + pack("<HH", 0, 0) + part[at + 5 :]


ROTTEN_EXIF = b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01\x03\0\xff\xff\xff\xff\xff\xff\xff\xff" * 20
BIG_EXIF = craft.exif(6) + b"\0" * 60_000

RIGHT: dict[str, tuple[Callable[[], bytes], Corners]] = {
    "jpeg": (lambda: save(quadrants(), "JPEG"), COLOURS),
    "jpeg-progressive": (lambda: save(quadrants(), "JPEG", progressive=True), COLOURS),
    "jpeg-444": (lambda: save(quadrants(), "JPEG", subsampling=0), COLOURS),
    "jpeg-restarts": (lambda: save(quadrants(), "JPEG", restart_marker_blocks=2), COLOURS),
    "jpeg-grey": (lambda: save(greys(), "JPEG"), SHADES),
    "jpeg-cmyk": (lambda: save(quadrants().convert("CMYK"), "JPEG"), COLOURS),
    # Viewers take a CMYK JPEG as inverted whether or not Adobe's marker says so.
    "jpeg-cmyk-no-adobe": (lambda: save(quadrants().convert("CMYK"), "JPEG").replace(b"Adobe", b"Oboda"), COLOURS),
    "jpeg-cmyk-profile": (
        lambda: save(Image.new("CMYK", SIZE, (255, 0, 0, 0)), "JPEG", icc_profile=craft.cmyk_profile()),
        ((251, 0, 18),) * 4,
    ),
    "jpeg-profile": (
        lambda: save(quadrants(), "JPEG", icc_profile=craft.swapped_profile()),
        (BLUE, GREEN, RED, (30, 200, 200)),
    ),
    "jpeg-broken-profile": (lambda: save(quadrants(), "JPEG", icc_profile=b"not a profile"), COLOURS),
    "jpeg-short-profile": (lambda: save(quadrants(), "JPEG", icc_profile=craft.swapped_profile()[:300]), COLOURS),
    "jpeg-cmyk-profile-on-rgb": (lambda: save(quadrants(), "JPEG", icc_profile=craft.cmyk_profile()), COLOURS),
    "jpeg-giant-profile": (lambda: save(quadrants(), "JPEG", icc_profile=b"\xa5" * 5_000_000), COLOURS),
    **{
        f"jpeg-exif-{at}": (lambda at=at: save(quadrants(), "JPEG", exif=craft.exif(at)), TURNED[at])  # type: ignore[misc]
        for at in TURNED
    },
    "jpeg-exif-99": (lambda: save(quadrants(), "JPEG", exif=craft.exif(99)), COLOURS),
    "jpeg-exif-rotten": (lambda: save(quadrants(), "JPEG", exif=ROTTEN_EXIF), COLOURS),
    "jpeg-exif-big": (lambda: save(quadrants(), "JPEG", exif=BIG_EXIF), TURNED[6]),
    "jpeg-comments": (lambda: save(quadrants(), "JPEG", comment=b"c" * 60_000), COLOURS),
    "jpeg+zip": (lambda: save(quadrants(), "JPEG") + archive(), COLOURS),
    "jpeg+garbage": (lambda: save(quadrants(), "JPEG") + b"\0" * 5000, COLOURS),
    "mpo": (lambda: save(quadrants(), "MPO", save_all=True, append_images=frames(2)), COLOURS),
    "png": (lambda: save(quadrants(), "PNG"), COLOURS),
    "png-alpha": (lambda: save(with_alpha(), "PNG"), SEEN),
    "png-opaque-alpha": (lambda: save(quadrants().convert("RGBA"), "PNG"), COLOURS),
    "png-grey": (lambda: save(greys(), "PNG"), SHADES),
    "png-grey-alpha": (lambda: save(Image.merge("LA", [greys(), greys()]), "PNG"), tuple((g, g, g, g) for g in GREYS)),
    "png-1-bit": (lambda: save(greys().point(lambda v: v > 99 and 255, "1"), "PNG"), (0, 0, 255, 255)),
    "png-palette-2": (lambda: palette(2), COLOURS),
    "png-palette-4": (lambda: palette(4), COLOURS),
    "png-palette-8": (lambda: palette(8), COLOURS),
    "png-palette-clear": (lambda: clear_palette(7), ((*RED, 0), (*GREEN, 255), (*BLUE, 255), (*YELLOW, 255))),
    "png-palette-alpha": (lambda: clear_palette(b"\x80" * 4), tuple((*colour, 128) for colour in COLOURS)),
    "png-rgb-clear": (
        lambda: save(quadrants(), "PNG", transparency=GREEN),
        ((*RED, 255), (*GREEN, 0), (*BLUE, 255), (*YELLOW, 255)),
    ),
    "png-grey-clear": (
        lambda: save(greys(), "PNG", transparency=85),
        tuple((g, g, g, 0 if g == 85 else 255) for g in GREYS),
    ),
    "png-16-grey": (lambda: png(SIZE, 16, 0, wide(deep("L"))), SHADES),
    "png-16-grey-alpha": (lambda: png(SIZE, 16, 4, wide(deep("LA"))), tuple((g, g, g, g) for g in GREYS)),
    "png-16-rgb": (lambda: png(SIZE, 16, 2, wide(deep("RGB"))), COLOURS),
    "png-16-rgba": (lambda: png(SIZE, 16, 6, wide(deep("RGBA"))), SEEN),
    "png-interlaced": (lambda: craft.adam7(quadrants()), COLOURS),
    "png-many-pieces": (lambda: png(SIZE, 8, 2, png_rows(quadrants().tobytes(), 96 * 3), pieces=500), COLOURS),
    "png-exif": (lambda: save(quadrants(), "PNG", exif=craft.exif(8)), TURNED[8]),
    "png-profile": (
        lambda: save(quadrants(), "PNG", icc_profile=craft.swapped_profile()),
        (BLUE, GREEN, RED, (30, 200, 200)),
    ),
    "png-alpha-profile": (
        lambda: save(with_alpha(), "PNG", icc_profile=craft.swapped_profile()),
        ((*BLUE, 0), (*GREEN, 85), (*RED, 170), (30, 200, 200, 255)),
    ),
    "png-broken-profile": (lambda: save(quadrants(), "PNG", icc_profile=b"\0" * 4000), COLOURS),
    "png-text": (lambda: save(quadrants(), "PNG", pnginfo=texts(3_000_000)), COLOURS),
    "png-animated": (lambda: animated("PNG"), COLOURS),
    "png+html": (lambda: save(quadrants(), "PNG") + b"<html><script>alert(1)</script></html>", COLOURS),
    "gif": (lambda: save(quadrants(), "GIF"), COLOURS),
    "gif-grey": (lambda: save(greys(), "GIF"), SHADES),
    "gif-animated": (lambda: animated("GIF"), COLOURS),
    "gif-3000-frames": (lambda: animated("GIF", 3000, optimize=False), COLOURS),
    "gif-part-of-canvas": (canvas_gif, ((*RED, 255), (0, 0, 0, 0), (0, 0, 0, 0), (0, 0, 0, 0))),
    "gif+jar": (lambda: save(quadrants(), "GIF") + archive(), COLOURS),
    "webp": (lambda: save(quadrants(), "WEBP"), COLOURS),
    "webp-lossless-alpha": (lambda: save(with_alpha(), "WEBP", lossless=True, exact=True), SEEN),
    "webp-animated": (lambda: animated("WEBP"), COLOURS),
    "webp-exif": (lambda: save(quadrants(), "WEBP", exif=craft.exif(6)), TURNED[6]),
    "bmp-24": (lambda: save(quadrants(), "BMP"), COLOURS),
    "bmp-8": (lambda: save(quadrants().quantize(4), "BMP"), COLOURS),
    "bmp-1": (lambda: save(greys().point(lambda v: v > 99 and 255, "1"), "BMP"), (0, 0, 255, 255)),
    "bmp-32": (lambda: save(with_alpha(), "BMP"), COLOURS),
    "bmp-rle8": (rle8, COLOURS),
    "bmp-555": (lambda: bmp16(b"", (10, 5, 0), (5, 5, 5)), COLOURS),
    "bmp-565": (lambda: bmp16(pack("<III", 0xF800, 0x7E0, 0x1F), (11, 5, 0), (5, 6, 5)), COLOURS),
    "bmp-top-down": (lambda: craft.bmp(96, -64, 24, 0, quadrants().tobytes("raw", "BGR")), COLOURS),
    "tiff": (lambda: save(quadrants(), "TIFF"), COLOURS),
    **{
        f"tiff-{name}": (lambda name=name: save(quadrants(), "TIFF", compression=name), COLOURS)  # type: ignore[misc]
        for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "zstd", "lzma")
    },
    "tiff-fax": (
        lambda: save(greys().point(lambda v: v > 99 and 255, "1"), "TIFF", compression="group4"),
        (0, 0, 255, 255),
    ),
    "tiff-alpha": (lambda: save(with_alpha(), "TIFF"), SEEN),
    "tiff-palette": (lambda: save(quadrants().quantize(4), "TIFF"), COLOURS),
    "tiff-big": (lambda: save(quadrants(), "TIFF", big_tiff=True), COLOURS),
    "tiff-cmyk": (lambda: save(quadrants().convert("CMYK"), "TIFF"), COLOURS),
    "tiff-cmyk-profile": (
        lambda: save(Image.new("CMYK", SIZE, (255, 0, 0, 0)), "TIFF", icc_profile=craft.cmyk_profile()),
        ((251, 0, 18),) * 4,
    ),
    "tiff-lab": (lambda: save(lab(), "TIFF"), (RED, GREEN, (17, 29, 201), YELLOW)),
    "tiff-pages": (lambda: animated("TIFF"), COLOURS),
    "tiff-orientation": (
        lambda: craft.tiff(craft.tiff_tags(SIZE, [8] * 3, 2, orientation=[6]), [quadrants().tobytes()]),
        TURNED[6],
    ),
    "tiff-planar": (lambda: craft.tiff(craft.tiff_tags(SIZE, [8] * 3, 2, planar=[2]), planes()), COLOURS),
    "tiff-tiled": (
        lambda: craft.tiff(craft.tiff_tags(SIZE, [8] * 3, 2, tile_width=[32], tile_height=[32]), tiles(), tiled=True),
        COLOURS,
    ),
    "tiff-16": (lambda: grey_tiff("<u2", 257), SHADES),
    "tiff-16-big-endian": (lambda: grey_tiff(">u2", 257), SHADES),
    "tiff-16-white-is-zero": (lambda: grey_tiff("<u2", 257, photometric=0), (255, 170, 85, 0)),
    "tiff-8-white-is-zero": (lambda: grey_tiff("u1", 1, photometric=0), (255, 170, 85, 0)),
    "tiff-32": (lambda: grey_tiff("<i4", 257, sample_format=2), SHADES),
    "tiff-float-unit": (lambda: grey_tiff("<f4", 1 / 255, sample_format=3), SHADES),
    "tiff-float-byte": (lambda: grey_tiff("<f4", 1, sample_format=3), SHADES),
    "tiff-float-negative": (lambda: grey_tiff("<f4", -3, sample_format=3), (255, 170, 85, 0)),
    "avif": (lambda: save(quadrants(), "AVIF"), COLOURS),
    "avif-alpha": (lambda: save(with_alpha(), "AVIF", quality=100), SEEN),
    "avif-turned": (lambda: save(quadrants(), "AVIF", exif=craft.exif(6)), TURNED[6]),
    "avif-animated": (lambda: animated("AVIF"), COLOURS),
    "heic": (lambda: craft.HEIC, COLOURS),
    "heic-turned": (lambda: craft.HEIC_TURNED, TURNED[6]),
}


def lab() -> Image.Image:
    rgb = quadrants()
    return ImageCms.profileToProfile(  # type: ignore[return-value]
        rgb, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
