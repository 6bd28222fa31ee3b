"""`/v1/videos` and `/v1/models`: OpenAI's routes. Their words are `openai.py`'s, and the tasks are everybody's."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl

from fastapi import APIRouter, Depends, Query
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.responses import Response

from mutoscope import history
from mutoscope.api import openai
from mutoscope.api.bodies import json_object
from mutoscope.api.callers import ApiError, maker, reader
from mutoscope.api.files import send
from mutoscope.api.predictions import forget, read, unknown_task
from mutoscope.api.submit import Wishes, accept, find_model, idempotency_name
from mutoscope.api.uploads import bounded, too_large
from mutoscope.models import MAX_IMAGES, MODELS
from mutoscope.tasks import Caller, Status, Task

router = APIRouter(prefix="/v1", tags=["OpenAI's dialect"], responses=openai.REFUSED)

_AROUND_FILES = 2**20  # bytes of a form beside its files
_SHEET_SECONDS = 60.0
_one_sheet = asyncio.Semaphore(1)  # decoding a video takes a core

_TEXT = {"type": "string"}


def _form(reference: dict[str, Any]) -> dict[str, Any]:
    fields = {
        "prompt": _TEXT,
        "input_reference": reference,
        "model": {**_TEXT, "enum": [*openai.ALIASES, *MODELS]},
        "seconds": {"anyOf": [_TEXT, {"type": "integer"}], "description": "5 to 10."},
        "size": {**_TEXT, "description": "As 1280x720. One that there is not is taken for its shape."},
        "seed": {"type": "integer"},
    }
    return {"schema": {"type": "object", "required": ["prompt", "input_reference"], "properties": fields}}


_URL = {**_TEXT, "description": "An http(s) URL or a data URI."}
_ONE = {"anyOf": [_URL, {"type": "object", "required": ["image_url"], "properties": {"image_url": _URL}}]}
_MANY = {"type": "array", "minItems": 1, "maxItems": MAX_IMAGES}
_FILES = {**_MANY, "items": {**_TEXT, "format": "binary"}}
_CREATE_DOC = {
    "parameters": [{"name": "Idempotency-Key", "in": "header", "schema": {**_TEXT, "maxLength": 255}}],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": _form({"anyOf": [*_ONE["anyOf"], {**_MANY, "items": _ONE}]}),
            "multipart/form-data": _form({"anyOf": [_FILES, _URL]}),
            "application/x-www-form-urlencoded": _form({"anyOf": [{**_MANY, "items": _URL}, _URL]}),
        },
    },
}


@router.post("/videos", openapi_extra=_CREATE_DOC, response_model=openai.Video)
async def create(request: Request, asking: Annotated[Caller, Depends(maker)]) -> Response:
    """Make a video of references, as files or as URLs, of a prompt, and of `seconds` and `size`."""
    server = request.app.state.server
    name = idempotency_name(request)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        fields = await _read_form(request)
    elif kind == "application/x-www-form-urlencoded":
        fields = await _read_urlencoded(request)
    else:
        fields = await json_object(request, server.settings.max_body_bytes)
    model = find_model(server, openai.model_named(fields.get("model")))
    asked = openai.asked_of(model, fields)
    # A form's bytes differ each time it is sent; what it says does not.
    body = await run_in_threadpool(lambda: json.dumps(fields, sort_keys=True).encode()) if name else b""
    admitted = await accept(request, asking, model, asked, Wishes(name=name, body=body))
    return _answer(_shown(server, admitted.task))


@router.get("/videos", response_model=openai.Videos)
def listed(
    request: Request,
    asking: Annotated[Caller, Depends(reader)],
    after: Annotated[str, Query(max_length=200, description="The id of the last video of the page before.")] = "",
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
) -> Response:
    """The caller's videos, by the time they were asked for."""
    server = request.app.state.server
    found = history.following(server.store.database, asking.key_id, after, limit + 1, is_ascending=order == "asc")
    if found is None:
        raise ApiError(404, "after names no video of yours.", "task_not_found", param="after")
    data = [_shown(server, task) for task in found[:limit]]
    ends = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
    return _answer({"object": "list", "data": data, **ends, "has_more": len(found) > limit})


@router.get("/videos/{video_id}", response_model=openai.Video)
async def retrieve(request: Request, video_id: str, asking: Annotated[Caller, Depends(reader)]) -> Response:
    """A video as it stands, with `progress` from 0 to 100."""
    return _answer(_shown(request.app.state.server, await _own(request, asking, video_id)))


@router.delete("/videos/{video_id}", response_model=openai.DeletedVideo)
async def delete(request: Request, video_id: str, asking: Annotated[Caller, Depends(maker)]) -> Response:
    """Forget a video and its files. One that waits is cancelled first; one that is being made is told to end."""
    server = request.app.state.server
    task: Task | None = await _own(request, asking, video_id)
    if task is not None and not task.status.is_terminal:
        task = await run_in_threadpool(server.store.cancel, asking.key_id, video_id)
    if task is not None and task.status.is_terminal:
        await run_in_threadpool(forget, server, task)
    return _answer({"id": video_id, "object": "video.deleted", "deleted": True})


_CONTENT_DOC: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file.",
        "content": {kind: {"schema": {**_TEXT, "format": "binary"}} for kind in ("video/mp4", "image/jpeg")},
    },
    206: {"description": "The part of it that was asked for."},
    304: {"description": "The caller's ETag still holds."},
}


@router.get("/videos/{video_id}/content", responses=_CONTENT_DOC, response_class=Response)
async def content(
    request: Request,
    video_id: str,
    asking: Annotated[Caller, Depends(reader)],
    variant: Annotated[
        Literal["video", "thumbnail", "spritesheet"],
        Query(description="The mp4, one frame of it, or a grid of frames; both as JPEG."),
    ] = "video",
) -> Response:
    """What was made: the video itself, or pictures of it."""
    server = request.app.state.server
    task = await _own(request, asking, video_id)
    if task.status is not Status.SUCCEEDED or not task.output:
        raise ApiError(404, f"This video is {_shown(server, task)['status']}: it has no content.", "video_not_ready")
    if variant == "thumbnail":
        return await run_in_threadpool(send, request, task.poster or task.output)
    if variant == "spritesheet":
        await _make_spritesheet(server, task)
        return await run_in_threadpool(send, request, task.spritesheet)
    return await run_in_threadpool(send, request, task.output)


@router.post("/videos/characters", include_in_schema=False)
@router.post("/videos/edits", include_in_schema=False)
@router.post("/videos/extensions", include_in_schema=False)
def change(_: Annotated[Caller, Depends(maker)]) -> Response:
    """What OpenAI's package can ask for besides, and no model here can do."""
    message = "Videos here are made of references alone: create another, of the same input_reference and your prompt."
    raise ApiError(400, message, "unsupported_operation")


@router.post("/videos/{video_id}/remix", include_in_schema=False)
async def remix(request: Request, video_id: str, asking: Annotated[Caller, Depends(maker)]) -> Response:
    """The same, of one's own video."""
    await _own(request, asking, video_id)
    return change(asking)


@router.get("/models", response_model=openai.NamedModels)
def models(request: Request, _: Annotated[Caller, Depends(reader)]) -> Response:
    """The models that can be rendered here."""
    server = request.app.state.server
    here = [model.id for model in MODELS.values() if model.engine in server.engines or server.settings.sandbox]
    names = [*here, *(alias for alias, name in openai.ALIASES.items() if name in here)]
    return _answer({"object": "list", "data": [openai.model(name) for name in names]})


async def _own(request: Request, asking: Caller, video_id: str) -> Task:
    server = request.app.state.server
    task: Task | None = await read(server, server.store.get, asking.key_id, video_id)
    if task is None:
        raise unknown_task()
    return task


def _shown(server: Any, task: Task) -> dict[str, Any]:
    return openai.video(task, server.settings.retention_days)


def _answer(body: dict[str, Any]) -> Response:
    return Response(json.dumps(body), media_type="application/json")


async def _read_form(request: Request) -> dict[str, Any]:
    """A form's fields, its files as data URIs; a list where a name is repeated. Raises ApiError."""
    limit = request.app.state.server.settings.max_image_bytes
    most = limit * MAX_IMAGES + _AROUND_FILES
    parser = MultiPartParser(
        request.headers, bounded(request, most), max_files=MAX_IMAGES, max_fields=100, max_part_size=limit * 2
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise ApiError(400, f"The multipart body can't be read: {error.message}", "invalid_request") from None
    sent: list[tuple[str, Any]] = []
    try:
        for name, part in form.multi_items():
            value: str | UploadFile | None = part
            if isinstance(part, UploadFile):
                data = await part.read()
                if len(data) > limit:
                    raise too_large(limit)
                value = await run_in_threadpool(_data_uri, data) if data else None
            sent.append((name, value))
    finally:
        await form.close()
    return _gathered(sent)


async def _read_urlencoded(request: Request) -> dict[str, Any]:
    """The same of a form without files. Raises ApiError."""
    most = request.app.state.server.settings.max_body_bytes
    body = b"".join([chunk async for chunk in bounded(request, most)])
    try:
        return _gathered(
            await run_in_threadpool(lambda: parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=100))
        )
    except ValueError:
        raise ApiError(
            400, "The body is not a form: names and values in UTF-8, 100 at most.", "invalid_request"
        ) from None


def _gathered(sent: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in sent:
        fields[name] = [*_listed(fields[name]), value] if name in fields else value
    return fields


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _data_uri(data: bytes) -> str:
    return "data:application/octet-stream;base64," + base64.b64encode(data).decode()


async def _make_spritesheet(server: Any, task: Task) -> None:
    """Have a finished video's grid of frames lie beside it. Raises ApiError where the video is gone."""
    async with _one_sheet:
        with ExitStack() as stack:
            if await run_in_threadpool(server.files.has, task.spritesheet):
                return
            video = await run_in_threadpool(stack.enter_context, server.files.local(task.output))
            if video is not None:  # otherwise sending says so
                await _grid_of(server, task, video)


async def _grid_of(server: Any, task: Task, video: Path) -> None:
    """Have the grid of frames of `video` lie beside it."""
    part = server.settings.scratch / f"{task.id}-{task.attempt}.jpg.{secrets.token_hex(4)}"
    part.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # A process of its own: the codecs, and a video's frames, would stay in this one's memory.
    command = [sys.executable, "-m", "mutoscope.spritesheet", str(video), str(part)]
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL)
    try:
        async with asyncio.timeout(_SHEET_SECONDS):
            code = await process.wait()
        if code != 0:
            raise OSError(code, f"the spritesheet of {task.id} could not be made")
        await run_in_threadpool(server.files.put, task.spritesheet, part)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        part.unlink(missing_ok=True)
