"""Uploads, in the two protocols that clients speak: one multipart request, or a ticket and a PUT of the raw bytes.

Every upload lies under an id of its own, so two files of one name never meet. What a file contains is judged when a
task uses it, not here.
"""

from __future__ import annotations

import re
import secrets
import time
import uuid
from collections.abc import AsyncGenerator
from pathlib import PurePosixPath
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.responses import Response

from mutoscope.api import answers, wavespeed
from mutoscope.api.callers import ApiError, base_url, maker
from mutoscope.files import type_of
from mutoscope.tasks import Caller

router = APIRouter(tags=["uploads"])

_TICKET_SECONDS = 3600
_AROUND_A_FILE = 64 * 2**10  # bytes of multipart framing


class Ticket(BaseModel):
    """What a client announces before it sends a file."""

    filename: str = Field(min_length=1, max_length=1024)
    size: int = Field(gt=0)
    content_type: str = Field("", max_length=255, pattern=r"^[!-~ ]*$")


_FORM = {"type": "object", "required": ["file"], "properties": {"file": {"type": "string", "format": "binary"}}}
_UPLOAD_DOC = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}}


@router.post("/api/v3/media/upload/binary", openapi_extra=_UPLOAD_DOC, response_model=answers.Success[answers.Uploaded])
async def upload(request: Request, asking: Annotated[Caller, Depends(maker)]) -> Response:
    """Take one file as the multipart field `file`; answers with the URL to use in `images`."""
    return wavespeed.success(await _receive(request, asking))


@router.post("/api/v3/upload", openapi_extra=_UPLOAD_DOC, response_model=answers.Success[answers.UploadedBriefly])
@router.post("/api/v3/uploads", openapi_extra=_UPLOAD_DOC, response_model=answers.Success[answers.UploadedBriefly])
async def upload_briefly(request: Request, asking: Annotated[Caller, Depends(maker)]) -> Response:
    """Take one file as the multipart field `file`; answers with its `url` alone, as older clients expect."""
    return wavespeed.success({"url": (await _receive(request, asking))["download_url"]})


async def _receive(request: Request, asking: Caller) -> dict[str, Any]:
    server = request.app.state.server
    limit = server.settings.max_image_bytes
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit + _AROUND_A_FILE:
        raise too_large(limit)
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise ApiError(415, "Send the file as multipart/form-data, in a field `file`.", "unsupported_media_type")
    try:
        form = await MultiPartParser(request.headers, bounded(request, limit + _AROUND_A_FILE), max_files=1).parse()
    except MultiPartException as error:
        raise ApiError(400, f"The multipart body can't be read: {error.message}", "invalid_request") from None
    try:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise ApiError(400, "The multipart body has no file in a field `file`.", "invalid_parameter")
        data = await file.read()
        if len(data) > limit:
            raise too_large(limit)
        if not data:
            raise ApiError(400, "The file is empty.", "invalid_parameter")
        name = safe_name(file.filename or "file")
        key = await run_in_threadpool(keep, server, asking.key_id, data, name)
    finally:
        await form.close()
    return {
        "type": _kind(name),
        "download_url": base_url(request) + server.links.sign(key, _end(server)),
        "filename": name,
        "size": len(data),
    }


@router.post("/api/v3/media/uploads", response_model=answers.Success[answers.TicketFor])
def ticket(request: Request, asked: Ticket, asking: Annotated[Caller, Depends(maker)]) -> Response:
    """Announce a file; answers with the signed URL to PUT its bytes to, and the URL to use in `images` after that."""
    server = request.app.state.server
    if asked.size > server.settings.max_image_bytes:
        raise too_large(server.settings.max_image_bytes)
    upload_id, name = uuid.uuid4().hex, safe_name(asked.filename)
    key = f"uploads/{upload_id}/{name}"
    kind = asked.content_type or type_of(name)
    server.uploads.add(upload_id, asking.key_id, filename=name, content_type=kind, size=asked.size, file=key)
    base = base_url(request)
    until = time.time() + _TICKET_SECONDS
    return wavespeed.success(
        {
            "type": _kind(name),
            "filename": name,
            "size": asked.size,
            "download_url": base + server.links.sign(key, _end(server)),
            "upload": {
                "method": "PUT",
                "url": server.files.upload_link(key, until) or base + server.links.sign(key, until, "PUT"),
                "headers": {"Content-Type": kind, "If-None-Match": "*"},
            },
        }
    )


def keep(server: Any, key_id: str, data: bytes, name: str) -> str:
    """Store the bytes of a caller's file and note them; returns the file's key."""
    upload_id = uuid.uuid4().hex
    key = f"uploads/{upload_id}/{name}"
    part = server.settings.scratch / f"upload-{secrets.token_hex(8)}"
    part.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        part.write_bytes(data)
        # The row first: a crash between the two leaves a row that retention removes, not a file that nothing knows.
        server.uploads.add(upload_id, key_id, filename=name, content_type=type_of(name), size=len(data), file=key)
        try:
            server.files.put(key, part)
        except OSError:  # nothing was stored; what a bucket did before it was away is not known, so there the row stays
            server.uploads.remove([upload_id])
            raise
    finally:
        part.unlink(missing_ok=True)
    return key


def safe_name(filename: str) -> str:
    """A file's name without its folders and without what a URL or a file system may misread."""
    last = PurePosixPath(filename.replace("\\", "/")).name
    cleaned = re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip(".-")
    return cleaned[-80:].lstrip(".-") or "file"


def _kind(name: str) -> str:
    top = type_of(name).partition("/")[0]
    return top if top in ("image", "video", "audio") else "file"


def _end(server: Any) -> float:
    return time.time() + float(server.settings.retention_days) * 86_400


def too_large(limit: int) -> ApiError:
    """The error for a file of more than `limit` bytes."""
    return ApiError(413, f"The file is larger than {limit / 2**20:.3g} MB.", "too_large")


async def bounded(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    """The body in pieces. Raises ApiError (413) once there is more of it than allowed."""
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise too_large(limit - _AROUND_A_FILE)
        yield chunk
