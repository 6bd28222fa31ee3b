"""OpenAI's Videos API over the same tasks: the only module that knows its words.

It is what SGLang, vLLM-Omni, FastVideo and LiteLLM speak. A task that was made here is seen in the other dialect under
the same id, and the other way round.
"""

from __future__ import annotations

import json
import re
from typing import Any, Literal

from pydantic import BaseModel
from starlette.responses import Response

from mutoscope.api.callers import ApiError
from mutoscope.models import MAX_IMAGES, MODELS, SKYREELS, InputError, Model, parse_input, shown
from mutoscope.tasks import RESOLUTIONS, SIZES, Resolution, Shape, Status, Task, VideoRequest

ALIASES = {"skyreels-v3": SKYREELS}

_WORDS = {
    Status.QUEUED: "queued",
    Status.RUNNING: "in_progress",
    Status.SUCCEEDED: "completed",
    Status.FAILED: "failed",
    Status.CANCELED: "failed",  # the dialect has no word for it; the error says so
}
_FAILURES = {1401: "invalid_request", 1402: "invalid_reference", 1406: "server_error", 5004: "deadline_exceeded"}
_ERROR_TYPES = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    429: "rate_limit_error",
}
_CODES = {"unknown_model": "model_not_found", "task_not_found": "video_not_found", "queue_full": "rate_limit_exceeded"}
_NEAR = 0.05  # how far a size's shape may be off one that there is
_REFERENCES = re.compile(r"(input_reference|image_reference)(\[(\d*|image_url|file_id)\])?|reference_url")


class Fault(BaseModel):
    """Why a request was refused."""

    message: str
    type: str
    param: str | None
    code: str | None


class Refused(BaseModel):
    """What a refused request is answered with, beside its HTTP status."""

    error: Fault


class Failure(BaseModel):
    """Why a video failed."""

    code: str
    message: str


class Video(BaseModel):
    """A video, made or not."""

    id: str
    object: Literal["video"]
    model: str
    status: Literal["queued", "in_progress", "completed", "failed"]
    progress: int
    created_at: int
    completed_at: int | None
    expires_at: int | None
    prompt: str
    seconds: str
    size: str
    remixed_from_video_id: None
    error: Failure | None


class DeletedVideo(BaseModel):
    """A video is no more."""

    id: str
    object: Literal["video.deleted"]
    deleted: Literal[True]


class NamedModel(BaseModel):
    """A model, or another name of one."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class Videos(BaseModel):
    """One page of videos."""

    object: Literal["list"]
    data: list[Video]
    first_id: str | None
    last_id: str | None
    has_more: bool


class NamedModels(BaseModel):
    """All models."""

    object: Literal["list"]
    data: list[NamedModel]


REFUSED: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Refused, "description": "Refused; `error.message` says why."},
    503: {"model": Refused, "description": "The model can't be rendered here."},
}
"""For the documentation of routes."""


def refusal(error: ApiError) -> Response:
    """The error's HTTP status and its body."""
    kind = "server_error" if error.status >= 500 else _ERROR_TYPES.get(error.status, "invalid_request_error")
    code = _CODES.get(error.error_code, error.error_code)
    body = {"error": {"message": error.message, "type": kind, "param": error.param, "code": code}}
    return Response(json.dumps(body), error.status, error.headers, media_type="application/json")


def video(task: Task, retention_days: float) -> dict[str, Any]:
    """A task as the dialect's video object."""
    request, ended = task.request, task.finished_at
    error = None
    if task.status is Status.FAILED:
        error = {"code": _FAILURES.get(task.error_code, "generation_failed"), "message": task.error}
    elif task.status is Status.CANCELED:
        error = {"code": "cancelled", "message": "The video was cancelled."}
    width, height = request.size
    is_made = task.status is Status.SUCCEEDED
    return {
        "id": task.id,
        "object": "video",
        "model": task.model,
        "status": _WORDS[task.status],
        "progress": 100 if is_made else min(99, int(task.progress * 100)),
        "created_at": int(task.created_at),
        "completed_at": int(ended) if ended is not None and is_made else None,
        "expires_at": int(ended + retention_days * 86_400) if ended is not None else None,
        "prompt": request.prompt,
        "seconds": str(request.duration),
        "size": f"{width}x{height}",
        "remixed_from_video_id": None,
        "error": error,
    }


def model(name: str) -> dict[str, Any]:
    """A model as the dialect lists it."""
    return {"id": name, "object": "model", "created": 0, "owned_by": ALIASES.get(name, name).partition("/")[0]}


def model_named(name: Any) -> str:
    """The id of a model by what a client calls it; nothing is SkyReels-V3. Raises ApiError."""
    if name is None or name == "":
        return SKYREELS
    if not isinstance(name, str):
        raise _invalid("model", f"model is {shown(name)}: it must be one of {', '.join([*ALIASES, *MODELS])}.")
    return ALIASES.get(name, name)


def asked_of(model: Model, fields: dict[str, Any]) -> VideoRequest:
    """What `fields` ask for, a JSON body or a form; its images are URLs and data URIs. Raises ApiError."""
    shape, resolution = _frame(fields.get("size"))
    images = references_in(fields)
    if not 1 <= len(images) <= MAX_IMAGES:
        sent = "none was" if not images else f"{len(images)} were"
        message = f"input_reference must be 1 to {MAX_IMAGES} images, as files or as URLs: {sent} sent."
        raise _invalid("input_reference", message)
    try:
        return parse_input(
            model,
            {
                "prompt": fields.get("prompt"),
                "images": images,
                "aspect_ratio": shape,
                "resolution": resolution,
                "duration": _seconds(fields.get("seconds")),
                "seed": _whole(fields.get("seed")),
            },
        )
    except InputError as error:
        message = str(error).replace("images", "input_reference")
        raise _invalid(message.split(maxsplit=1)[0].partition("[")[0], message) from None


def references_in(fields: dict[str, Any]) -> list[str]:
    """The references among the fields, under all the names that clients give them. Raises ApiError."""
    found: list[str] = []
    for name, value in fields.items():
        if _REFERENCES.fullmatch(name):
            _gather({"file_id": value} if name.endswith("[file_id]") else value, found)
    return found


def _gather(value: Any, found: list[str]) -> None:
    match value:
        case None | "":
            return
        case list():
            for item in value:
                _gather(item, found)
        case {"image_url": {"url": str(url)}} | {"image_url": str(url)} | {"url": str(url)}:
            found.append(url)
        case {"file_id": _}:
            message = "input_reference names a file_id, and no files are kept here: send the file, or its URL."
            raise _invalid("input_reference", message)
        case str() if value.lstrip()[:1] in ("{", "["):  # an object or a list in a field of a form
            try:
                _gather(json.loads(value), found)
            except (ValueError, RecursionError):
                raise _invalid("input_reference", f"input_reference is {shown(value)}: not valid JSON.") from None
        case str():
            found.append(value)
        case _:
            raise _invalid("input_reference", f"input_reference is {shown(value)}: it must be a file or a URL.")


def _frame(size: Any) -> tuple[Shape, Resolution | None]:
    """Shape and resolution of a size such as `1280x720`; the resolution is left open where there is no such size."""
    if size is None or size in ("", "auto"):
        return "16:9", None
    found = re.fullmatch(r"\s*([1-9]\d{0,4})\s*[x*×]\s*([1-9]\d{0,4})\s*", size) if isinstance(size, str) else None
    if found:
        width, height = int(found[1]), int(found[2])
        for resolution in RESOLUTIONS:
            for shape, exact in SIZES[resolution].items():
                if exact == (width, height):
                    return shape, resolution
        for shape in SIZES["720p"]:
            across, down = map(int, shape.split(":"))
            if abs(width * down / (height * across) - 1) <= _NEAR:
                return shape, None
    sizes = ", ".join(f"{width}x{height}" for of in reversed(RESOLUTIONS) for width, height in SIZES[of].values())
    raise _invalid("size", f"size is {shown(size)}: it must be one of {sizes}, or of the shape of one of these.")


def _seconds(value: Any) -> int | None:
    number = _whole(value)
    if number is None or (isinstance(number, int) and not isinstance(number, bool) and 5 <= number <= 10):
        return number
    raise _invalid("seconds", f"seconds is {shown(value)}: it must be a whole number from 5 to 10.")


def _whole(value: Any) -> Any:
    """A number, where a form or a client sent its digits; what is none is left for the model to refuse."""
    if value == "":
        return None
    if isinstance(value, str) and re.fullmatch(r"\s*-?[0-9]{1,19}\s*", value):
        return int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _invalid(name: str, message: str) -> ApiError:
    return ApiError(400, message, "invalid_value", param=name)
