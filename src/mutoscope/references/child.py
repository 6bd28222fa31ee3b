"""The program that decodes one image: `python -I child.py MAX_PIXELS MIN_SIDE LONGEST_SIDE SECONDS`.

The file comes on standard input; a verdict and, where it is "image", the pixels go to standard output. It runs by
itself, because image decoders are where a hostile file does its harm: it imports nothing of ours, has no secrets in its
environment, and may take only so much memory and time. Whatever kills it, kills nothing else.

    answer: verdict (8 bytes, NUL-padded) · width · height · channels (uint32, little-endian) ·
            format (8 bytes, NUL-padded) · the file's own width · height · EXIF orientation (1 to 8) · pixels (uint8)

Verdicts: image; small, large (width and height are the file's); memory; broken; unknown (not a format read here).
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import struct
import sys
from types import ModuleType

from PIL import Image, ImageChops, ImageCms, ImageFile, PngImagePlugin

resource: ModuleType | None
try:
    import resource
except ImportError:  # Windows has none: there, only the parent's clock bounds this process
    resource = None

ANSWER = struct.Struct("<8sIII8sIII")
_BAND_ROWS = 256
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation → what makes the picture upright."""


class SizeRefused(Exception):
    """The verdict "small" or "large", with the file's width and height."""


class FormatRefused(Exception):
    """Not a format that is read here."""


def main(max_pixels: int, min_side: int, longest_side: int, seconds: int) -> None:
    """Read, judge, answer. `longest_side` 0 leaves the picture's size as it is."""
    # A picture is held at 4 bytes a pixel, and decoder, conversion and result hold a few of them at once.
    _confine(AS=2**28 + max_pixels * 40, CPU=seconds, CORE=0, NOFILE=32)
    answer = sys.stdout.buffer
    try:
        image, *origin = _upright_rgb(sys.stdin.buffer.read(), max_pixels, min_side, longest_side)
    except Exception as error:
        answer.write(_verdict(error))
    else:
        answer.write(ANSWER.pack(b"image", *image.size, len(image.getbands()), *origin))
        for top in range(0, image.height, _BAND_ROWS):  # in bands, so that no second whole copy is made
            answer.write(image.crop((0, top, image.width, min(top + _BAND_ROWS, image.height))).tobytes())
    answer.flush()


def _verdict(error: Exception) -> bytes:
    name, width, height = b"broken", 0, 0
    if isinstance(error, SizeRefused):
        name, width, height = error.args
    elif isinstance(error, Image.DecompressionBombError):
        name = b"large"
    elif isinstance(error, MemoryError):
        name = b"memory"
    elif isinstance(error, FormatRefused):
        name = b"unknown"
    # Pillow's errors for a file it can't read are of every kind; none of the others is worth telling apart.
    return ANSWER.pack(name, width, height, 0, b"", 0, 0, 0)


def _confine(**bounds: int) -> None:
    """Give up what is beyond `bounds` (names as in resource.RLIMIT_*) for good."""
    for name, bound in bounds.items():
        limit = getattr(resource, f"RLIMIT_{name}", None)
        if resource is not None and limit is not None:
            # Some systems refuse some of these (macOS, AS): the others still hold.
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(limit, (bound, bound))


def _upright_rgb(
    data: bytes, max_pixels: int, min_side: int, longest_side: int
) -> tuple[Image.Image, bytes, int, int, int]:
    """The picture in RGB or RGBA, sRGB, upright, no side longer than `longest_side`; and, of the file: its format, its
    width and height as they are stored, and its EXIF orientation."""
    # Its own bounds on compressed metadata, 1 MB, would refuse honest files with large profiles or edit histories.
    PngImagePlugin.MAX_TEXT_CHUNK = 2**23
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    plugin = _plugin(data)
    # From here on the file has its say: no file may be written any more (until now, the plugin's compiled module may),
    # and no process or thread started, except by HEIF's decoder, which can't do without a thread.
    _confine(FSIZE=0, **({} if plugin == "HEIF" else {"NPROC": 0}))
    Image.MAX_IMAGE_PIXELS = None  # the size is judged below, where it can be told
    image: Image.Image = Image.open(io.BytesIO(data), formats=[plugin])
    width, height = image.size
    if width * height > max_pixels:
        raise SizeRefused(b"large", width, height)
    if min(width, height) < min_side:
        raise SizeRefused(b"small", width, height)
    if longest_side and image.format in ("JPEG", "MPO"):
        image.draft(None, (longest_side * 2, longest_side * 2))  # decode at 1/2, 1/4 or 1/8 where that is enough
    # For frames and tiles larger than the header says; Pillow raises at twice this number.
    Image.MAX_IMAGE_PIXELS = max(1, max_pixels // 2)
    image.load()
    orientation, profile = _orientation(image), image.info.get("icc_profile")
    image = _eight_bit(image)
    if longest_side and max(image.size) > longest_side:
        scale = longest_side / max(image.size)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    image = _to_srgb(image, profile)
    if image.mode == "RGBA" and image.getchannel("A").getextrema() == (255, 255):
        image = image.convert("RGB")
    if orientation in _TURNS:
        image = image.transpose(_TURNS[orientation])
    return image, plugin.encode(), width, height, orientation


def _plugin(data: bytes) -> str:
    """The Pillow plugin for what `data` begins with, imported. Only that one is ever tried."""
    start = data[:32]
    if start.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if start.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if start.startswith(b"BM"):
        return "BMP"
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        from PIL import WebPImagePlugin  # noqa: F401 — registers itself

        return "WEBP"
    if start.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        from PIL import TiffImagePlugin  # noqa: F401 — registers itself

        return "TIFF"
    if start[4:8] == b"ftyp":
        brands = {data[at : at + 4] for at in (8, *range(16, min(int.from_bytes(start[:4], "big"), 256), 4))}
        if brands & {b"avif", b"avis"}:
            from PIL import AvifImagePlugin

            AvifImagePlugin.DEFAULT_MAX_THREADS = 1
            return "AVIF"
        if brands & {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}:
            import pi_heif

            pi_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=4)
            return "HEIF"
    raise FormatRefused


def _orientation(image: Image.Image) -> int:
    try:
        found = image.getexif().get(0x0112)
    except Exception:  # metadata in any state of disrepair must not cost the picture
        return 1
    return found if isinstance(found, int) and found in _TURNS else 1


def _eight_bit(image: Image.Image) -> Image.Image:
    """`image` as L, LA, RGB, RGBA, CMYK or LAB with 8 bits a channel, transparency as a channel."""
    if image.mode.startswith("I;16"):
        # Pillow's own conversion clips at 255; the high byte is the value to show.
        high = 0 if image.mode == "I;16B" else 1
        is_white_zero = getattr(image, "tag_v2", {}).get(262) == 0  # a TIFF whose 0 is white
        image = Image.frombytes("L", image.size, image.tobytes()[high::2])
        return ImageChops.invert(image) if is_white_zero else image
    if image.mode in ("I", "F"):
        return _scaled(image)
    if image.has_transparency_data:
        return image if image.mode in ("RGBA", "LA") else image.convert("RGBA")
    if image.mode in ("L", "RGB", "CMYK", "LAB"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _scaled(image: Image.Image) -> Image.Image:
    """32-bit samples, which carry no range of their own: 0 to 1, a byte, 16 bits, or failing those what is there."""
    low, high = (float(extreme) for extreme in image.getextrema())  # type: ignore[arg-type]
    if not (math.isfinite(low) and math.isfinite(high)):
        raise OSError("no finite range")
    bottom, top = 0.0, high
    if image.mode == "F" and low >= 0 and high <= 1:
        top = 1.0
    elif low >= 0 and high <= 65535:
        top = 255.0 if high <= 255 else 65535.0
    else:
        bottom = low
    scale = 255 / ((top - bottom) or 1)
    return image.convert("F").point(lambda value: value * scale + (0.5 - bottom * scale)).convert("L")


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """RGB or RGBA in sRGB; a profile that can't be used is as good as none."""
    alpha = image.getchannel("A") if image.mode in ("RGBA", "LA") else None
    colour = image if alpha is None else image.convert(image.mode[:-1])
    rgb = None
    if profile or colour.mode == "LAB":
        with contextlib.suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile)) if profile else ImageCms.createProfile("LAB")
            rgb = ImageCms.profileToProfile(
                colour,
                source,
                ImageCms.createProfile("sRGB"),
                renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
                outputMode="RGB",
                flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
            )
    if rgb is None:
        rgb = colour if colour.mode == "RGB" else colour.convert("RGB")
    if alpha is not None:
        rgb.putalpha(alpha)
    return rgb


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:5]))
    # Ends here and now: freeing what a damaged file left behind is one more chance to crash.
    os._exit(0)
