"""A file over HTTP, gone on with where it broke off: after a cut connection, and after a process that ended.

Knows no hub: it is told the address, the size and how to wait. Whether the bytes are the right ones is for digests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx

from mutoscope.weights.errors import WeightsError

_TRIES = 5  # in a row that brought nothing; a try that brought something starts the count again
_TOLD_BYTES = 2**20  # progress is told this often
_PASSING = {408, 425, 429, 500, 502, 503, 504}


def download(
    http: httpx.Client,
    url: str,
    headers: Mapping[str, str],
    part: Path,
    path: str,
    num_bytes: int,
    pause: Callable[[float], None],
) -> Iterator[int]:
    """Bring `url` to `part`, yielding how many bytes are there; what is there already is not asked for again.

    `path` names the file in sentences; `pause` waits some seconds between tries. Raises WeightsError when the server
    refuses, or when five tries in a row bring nothing; `part` then keeps what came.
    """
    there = part.stat().st_size if part.exists() else 0
    if there > num_bytes:
        part.unlink()
        there = 0
    part.touch()
    fruitless = 0
    while there < num_bytes:
        before, why = there, "the connection ended early"
        try:
            yield from _once(http, url, headers, part, path, before)
        except httpx.TransportError as error:
            why = str(error) or type(error).__name__
        except _PassingError as error:
            why = str(error)
        there = part.stat().st_size
        if there > num_bytes:
            part.unlink()
            raise WeightsError(f"{path} is longer than the {num_bytes:,} bytes that were announced.")
        if there < num_bytes:
            fruitless = 0 if there > before else fruitless + 1
            if fruitless == _TRIES:
                raise WeightsError(
                    f"{path} stopped at {there / 1e9:.2f} of {num_bytes / 1e9:.2f} GB: {why}. "
                    "Run the same command again: it goes on from there."
                )
            pause(2.0**fruitless)


class _PassingError(Exception):
    """The server can't answer now, but may soon."""


def _once(http: httpx.Client, url: str, headers: Mapping[str, str], part: Path, path: str, there: int) -> Iterator[int]:
    asked = {**headers, "Accept-Encoding": "identity"}
    if there:
        asked["Range"] = f"bytes={there}-"
    with http.stream("GET", url, headers=asked) as answer:
        if answer.status_code in _PASSING:
            raise _PassingError(f"the server answered {answer.status_code}")
        if answer.status_code in (401, 403):
            raise WeightsError(f"{path} is not given to you ({answer.status_code}): log in where it is published.")
        if answer.status_code not in (200, 206):
            raise WeightsError(f"{path} can't be downloaded: the server answered {answer.status_code}.")
        goes_on = answer.status_code == 206
        if goes_on and not answer.headers.get("Content-Range", "").startswith(f"bytes {there}-"):
            raise WeightsError(f"{path} can't be gone on with: the server sent another range than was asked for.")
        if not goes_on:
            there = 0  # it sends the whole file, whatever was asked
        with part.open("ab" if goes_on else "wb") as file:
            told = there
            for chunk in answer.iter_raw():  # as it comes: what a larger chunk had gathered would be lost with the line
                file.write(chunk)
                there += len(chunk)
                if there - told >= _TOLD_BYTES:
                    told = there
                    yield there
