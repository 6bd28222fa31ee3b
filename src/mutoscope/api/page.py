"""The page at `/` and its scripts, styles and pictures: files of the wheel, compressed once. Knows nothing of tasks."""

from __future__ import annotations

import gzip
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from mutoscope.api.callers import ApiError

router = APIRouter(include_in_schema=False)

_WEB = Path(__file__).parent.parent / "web"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".webp": "image/webp",
}
_HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
# Pictures and videos may lie anywhere: a reference is shown from its own address, and files may have a host of theirs.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob: http: https:; "
    "media-src 'self' data: blob: http: https:; connect-src 'self'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'"
)


@router.get("/")
def page(request: Request) -> Response:
    """The page itself."""
    answer = _answer(request, _WEB / "index.html")
    answer.headers["Content-Security-Policy"] = _POLICY
    answer.headers["Referrer-Policy"] = "no-referrer"
    return answer


@router.get("/web/{name:path}")
def asset(request: Request, name: str) -> Response:
    """What the page is made of."""
    path = (_WEB / name).resolve()
    if not path.is_relative_to(_WEB.resolve()) or path.suffix not in _TYPES or not path.is_file():
        raise ApiError(404, "Not found.", "not_found")
    return _answer(request, path)


def _answer(request: Request, path: Path) -> Response:
    plain, small, tag = _read(path, path.stat().st_mtime_ns)
    headers = {**_HEADERS, "ETag": f'"{tag}"'}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if small and "gzip" in request.headers.get("accept-encoding", ""):
        return Response(small, media_type=_TYPES[path.suffix], headers={**headers, "Content-Encoding": "gzip"})
    return Response(plain, media_type=_TYPES[path.suffix], headers=headers)


@lru_cache(maxsize=128)
def _read(path: Path, _changed: int) -> tuple[bytes, bytes, str]:
    """A file's bytes, the same compressed (nothing for what is compressed already), and a tag that changes with them.

    Read anew when the file changed, so that whoever works on the page only has to load it again.
    """
    plain = path.read_bytes()
    small = b"" if path.suffix == ".webp" else gzip.compress(plain, mtime=0)
    return plain, small, blake2b(plain, digest_size=12).hexdigest()
