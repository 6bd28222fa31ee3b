"""What a file looks like, by its first bytes, for a sentence that helps. Decides nothing and opens nothing."""

from __future__ import annotations

READ = "JPEG, PNG, WebP, GIF, BMP, TIFF, HEIC or AVIF"
"""The formats that are read, as a sentence names them."""

_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"%PDF-", "PDF"),
    (b"8BPS", "PSD (Photoshop)"),
    (b"%!PS", "EPS (PostScript)"),
    (b"\xc5\xd0\xd3\xc6", "EPS (PostScript)"),
    (b"\0\0\1\0", "ICO"),
    (b"\0\0\2\0", "CUR"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"PK\3\4", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x1aE\xdf\xa3", "a WebM or Matroska video"),
    (b"gimp xcf", "XCF (GIMP)"),
    (b"SIMPLE  =", "FITS"),
    (b"DDS ", "DDS"),
    (b"v/1\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"icns", "ICNS"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
)
_TEXTS: tuple[tuple[bytes, str], ...] = (
    (b"<svg", "SVG"),
    (b"<!doctype html", "a web page (HTML), so link to the picture itself"),
    (b"<html", "a web page (HTML), so link to the picture itself"),
    (b"<?xml", "XML"),
)
_HEIF = (b"mif1", b"msf1", b"mif2", b"avci", b"j2ki", b"jpeg")


def likeness(data: bytes) -> str | None:
    """The name of what `data` begins like ("SVG", "a ZIP archive"), or None where that is anyone's guess."""
    if data[4:8] == b"ftyp":
        return "another kind of HEIF" if data[8:12] in _HEIF else "a video (MP4 or MOV)"
    if data[:4] == b"RIFF":
        return {b"AVI ": "a video (AVI)", b"WAVE": "a sound (WAV)"}.get(data[8:12])
    for start, name in _STARTS:
        if data.startswith(start):
            return name
    text = data[:1024].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(b"<"):
        return next((name for mark, name in _TEXTS if mark in text), "XML")
    if text.startswith((b"{", b"[")):
        return "JSON"
    return "text" if data and data[:1024].isascii() and b"\0" not in data[:1024] else None
