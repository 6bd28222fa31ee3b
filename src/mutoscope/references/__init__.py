"""References → images: what a caller sent (a URL, a data URI, an uploaded file) becomes upright sRGB pixels.

Knows no task, row, engine or setting's name. Nothing is kept under a name, and pixels (`recent.py`) for one account at
a time, so two users' files can't meet. `fetch.py` speaks HTTP, `decode.py` makes pixels; here is who is asked what,
and whose fault it is.
"""

from __future__ import annotations

import binascii
import re
import time
from base64 import b64decode
from collections.abc import Callable, Iterator, Sequence
from urllib.parse import unquote_to_bytes

from mutoscope.engines import Image
from mutoscope.references.decode import DecodeError, Picture, decode
from mutoscope.references.fetch import Resolver, get
from mutoscope.references.limits import Limits
from mutoscope.references.recent import Decode, Recent
from mutoscope.references.targets import FetchError, parse
from mutoscope.tasks import ReferenceUnusableError

__all__ = ["FetchError", "Limits", "Picture", "Recent", "fetch_images", "fetch_picture", "open_data_uri"]


def fetch_images(
    references: Sequence[str],
    limits: Limits,
    *,
    open_upload: Callable[[str], bytes | None],
    longest_side: int | None,
    resolve: Resolver | None = None,
    decode: Decode = decode,
) -> Iterator[Image]:
    """Yield the image of each reference, in order, as each is ready; what is asked and raised is as below."""
    for number, reference in enumerate(references, 1):
        picture = fetch_picture(
            number,
            reference,
            limits,
            open_upload=open_upload,
            longest_side=longest_side,
            resolve=resolve,
            decode=decode,
        )
        yield Image(picture.pixels)


def fetch_picture(
    number: int,
    reference: str,
    limits: Limits,
    *,
    open_upload: Callable[[str], bytes | None],
    longest_side: int | None,
    resolve: Resolver | None = None,
    decode: Decode = decode,
) -> Picture:
    """The picture of one reference, which an error calls by its `number`, and what its file said of it.

    `open_upload(reference)` is asked first about all but data URIs: it returns a file's bytes where the reference, of
    whatever form, is one of our own, else None. Pixels are no longer than `longest_side` a side (None: as they are).
    `resolve` stands in for the system's name resolution, `decode` for a child process for each. Raises
    ReferenceUnusableError, which names the reference and the reason.
    """
    origin = ""
    try:
        # Our own place for files takes the time it takes; what a stranger may take begins after it.
        is_data = reference[:5].lower() == "data:"
        upload = None if is_data else open_upload(reference)
        deadline = time.monotonic() + limits.timeout_seconds
        if is_data:
            origin = "data URI"
            data = open_data_uri(reference, limits)
        else:
            origin = parse(reference).host if upload is None else "upload"
            data = _fetch(reference, limits, deadline, resolve) if upload is None else upload
        if len(data) > limits.max_bytes:
            raise FetchError(_too_large(limits))
        return decode(data, limits, longest_side=longest_side, deadline=deadline)
    except (FetchError, DecodeError) as error:
        subject = f"Image {number} ({origin})" if origin else f"Image {number}"
        raise ReferenceUnusableError(f"{subject}: {error}.") from error


def _fetch(url: str, limits: Limits, deadline: float, resolve: Resolver | None) -> bytes:
    return get(
        url,
        max_bytes=limits.max_bytes,
        max_redirects=limits.max_redirects,
        deadline=deadline,
        allow_networks=limits.allow_networks,
        resolve=resolve,
    )


def open_data_uri(uri: str, limits: Limits) -> bytes:
    """The bytes in a base64 `data:` URI, its media type ignored (often wrong or missing). Raises FetchError."""
    header, comma, payload = uri[5:].partition(",")
    if not comma or "base64" not in re.split(r"[;\s]+", header.lower()):
        raise FetchError("it is not base64; a data URI must begin like data:image/png;base64")
    # Four characters hold three bytes; a third more allows for line breaks and escapes.
    if len(payload) > limits.max_bytes * 2:
        raise FetchError(_too_large(limits))
    encoded = unquote_to_bytes(payload).translate(_FROM_URL_SAFE, delete=b" \t\r\n\f\v").rstrip(b"=")
    try:
        return b64decode(encoded + b"=" * (-len(encoded) % 4), validate=True)
    except binascii.Error:
        raise FetchError("its base64 is broken or cut short") from None


def _too_large(limits: Limits) -> str:
    return f"the file is larger than {limits.max_bytes / 2**20:.3g} MB"


_FROM_URL_SAFE = bytes.maketrans(b"-_", b"+/")
