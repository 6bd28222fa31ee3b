"""A JSON body, read no further than allowed. Knows nothing of what it is to say."""

from __future__ import annotations

import json
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from mutoscope.api.callers import ApiError

_SLOW_TO_PARSE = 256 * 2**10  # a larger body is parsed in a thread, so that others need not wait for it


async def json_object(request: Request, max_bytes: int) -> dict[str, Any]:
    """The object that the body is. Raises ApiError: 413, 415 or 400."""
    return await parse_object(await read_json(request, max_bytes))


async def read_json(request: Request, max_bytes: int) -> bytes:
    """The bytes of a body that says it is JSON. Raises ApiError: 413 or 415."""
    too_large = ApiError(
        413,
        f"The body is larger than {max_bytes / 2**20:.3g} MB: upload the images first (POST /api/v3/media/uploads).",
        "too_large",
    )
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > max_bytes:
        raise too_large
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind not in ("application/json", "text/json") and not kind.endswith("+json"):
        raise ApiError(415, f"The body must be application/json, not {kind}.", "unsupported_media_type")
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_bytes:
            raise too_large
        chunks.append(chunk)
    return b"".join(chunks)


async def parse_object(data: bytes) -> dict[str, Any]:
    """The JSON object that `data` is. Raises ApiError: 400."""
    try:
        body = json.loads(data) if len(data) < _SLOW_TO_PARSE else await run_in_threadpool(json.loads, data)
    except (ValueError, RecursionError):
        raise ApiError(400, "The body is not valid JSON.", "invalid_json") from None
    if not isinstance(body, dict):
        raise ApiError(400, "The body must be a JSON object with prompt and images.", "invalid_request")
    return body
