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
    data = b"".join(chunks)
    try:
        body = json.loads(data) if size < _SLOW_TO_PARSE else await run_in_threadpool(json.loads, data)
    except (ValueError, RecursionError):
        raise ApiError(400, "The body is not valid JSON.", "invalid_json") from None
    if not isinstance(body, dict):
        raise ApiError(400, "The body must be a JSON object with prompt and images.", "invalid_request")
    return body
