"""`/files/…`: read an output or an upload, or send an upload, with a signed link and no key."""

from __future__ import annotations

import filecmp
import re
import secrets
import time
from pathlib import Path, PurePosixPath
from stat import S_ISREG
from typing import Any

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response

from mutoscope.api.callers import ApiError
from mutoscope.files import Files, type_of

router = APIRouter(tags=["files"])

_REDIRECT_SECONDS = 300  # how long the bucket's own link works that a caller is sent to

_RANGE = r"(?:\d{1,18}-\d{0,18}|-\d{1,18})"
_RANGES = re.compile(rf"bytes=\s*{_RANGE}(\s*,\s*{_RANGE})*\s*", re.IGNORECASE)


_LINK_DOC = {
    "parameters": [
        {"name": name, "in": "query", "required": True, "schema": {"type": "string"}}
        for name in ("expires", "signature")
    ]
}


_READ_DOC: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    },
    206: {"description": "The part of it that was asked for."},
    304: {"description": "The caller's ETag still holds."},
    307: {"description": "It lies in a bucket: there it is."},
}


@router.head("/files/{key:path}", include_in_schema=False)
@router.get("/files/{key:path}", openapi_extra=_LINK_DOC, response_class=Response, responses=_READ_DOC)
def read(request: Request, key: str) -> Response:
    """The bytes of a file: whole, or the ranges asked for. 304 where the caller's ETag still holds."""
    _allowed(request, key, "GET")
    return send(request, key)


def send(request: Request, key: str) -> Response:
    """A file, as `read` says, for a caller who may have it. Raises ApiError: 404 or 416."""
    server = request.app.state.server
    method = "HEAD" if request.method == "HEAD" else "GET"
    if url := server.files.link(
        key, time.time() + _REDIRECT_SECONDS, method
    ):  # the bucket itself speaks of ranges and ETags
        if not server.files.has(key):
            raise gone()
        return RedirectResponse(url, headers={"Cache-Control": "no-store"})
    path = server.files.path(key)
    try:
        found = path.stat()
    except OSError:
        found = None
    if found is None or not S_ISREG(found.st_mode):
        raise gone()
    headers = {
        "Cache-Control": f"private, max-age={round(server.settings.retention_days * 86_400)}, immutable",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Cross-Origin-Resource-Policy": "cross-origin",
    }
    response = FileResponse(path, headers=headers, media_type=type_of(key), stat_result=found)
    etag = response.headers["etag"]
    known = [part.strip().removeprefix("W/") for part in request.headers.get("if-none-match", "").split(",")]
    if etag in known or "*" in known:
        return Response(status_code=304, headers={**headers, "ETag": etag})
    ranges = request.headers.get("range")
    if_range = request.headers.get("if-range")
    is_asked = ranges is not None and (if_range is None or if_range in (etag, response.headers["last-modified"]))
    if ranges is not None and is_asked and not _can_satisfy(ranges, found.st_size):
        raise ApiError(
            416,
            f"The range {ranges[:80]!r} can't be read: this file has {found.st_size} bytes.",
            "range_not_satisfiable",
            {"Content-Range": f"bytes */{found.st_size}"},
        )
    return response


@router.put("/files/{key:path}", openapi_extra=_LINK_DOC, response_class=Response)
async def write(request: Request, key: str) -> Response:
    """Take the bytes that an upload ticket announced; the same bytes may be sent twice, others may not."""
    server = request.app.state.server
    _allowed(request, key, "PUT")
    parts = PurePosixPath(key).parts
    upload = await run_in_threadpool(server.uploads.get, parts[1] if len(parts) == 3 else "")
    if upload is None:
        raise ApiError(404, "This upload is gone: ask for a new ticket.", "file_gone")
    size = upload["size"]
    part = server.settings.scratch / f"upload-{secrets.token_hex(8)}"
    part.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        received = 0
        with part.open("wb") as data:
            async for chunk in request.stream():
                received += len(chunk)
                if received > size:
                    break
                await run_in_threadpool(data.write, chunk)
        if received != size:
            sent = "more" if received > size else str(received)
            raise ApiError(400, f"The ticket was for {size} bytes, and {sent} were sent.", "wrong_size")
        try:
            await run_in_threadpool(server.files.put, key, part, replace=False)
        except FileExistsError:
            if not await run_in_threadpool(_is_same, server.files, key, part):
                raise ApiError(412, "Another file was sent with this ticket already.", "already_sent") from None
    finally:
        part.unlink(missing_ok=True)
    return Response(status_code=200)


def _allowed(request: Request, key: str, method: str) -> None:
    server = request.app.state.server
    query = request.query_params
    try:
        server.files.where(key)  # even one that was signed must name a file
        allowed = server.links.allows(method, key, query.get("expires", ""), query.get("signature", ""))
    except ValueError:
        allowed = False
    if not allowed:
        raise ApiError(403, "This link is not valid, or has expired: ask for the result again.", "bad_link")


def _is_same(files: Files, key: str, part: Path) -> bool:
    with files.local(key) as path:
        return path is not None and filecmp.cmp(path, part, shallow=False)


def gone() -> ApiError:
    """The error for a file that is no longer kept."""
    return ApiError(404, "This file is gone: outputs and uploads are deleted after some days.", "file_gone")


def _can_satisfy(ranges: str, size: int) -> bool:
    if _RANGES.fullmatch(ranges) is None:
        return False
    for first, last in re.findall(r"(\d*)-(\d*)", ranges):
        start = int(first) if first else size - int(last)
        if start >= size or (first and last and int(last) < start):
            return False
    return True
