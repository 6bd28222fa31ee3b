"""Submit, result, cancel: the tasks of a caller.

The two busiest routes, submit and result, run on the event loop instead of a thread: with SQLite their reads cost less
than the hop to a thread would, and their write waits for a group commit without holding one.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends
from fastapi.routing import APIRoute
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from mutoscope.api import wavespeed
from mutoscope.api.callers import ApiError, base_url, bearer, caller, digest_of_key, unknown_key
from mutoscope.api.uploads import keep
from mutoscope.models import ANIMATIC, MODELS, InputError, Model, ReferenceToVideo, parse_input, shown
from mutoscope.references import FetchError, open_data_uri
from mutoscope.tasks import RESOLUTIONS, Status, Task, VideoRequest

Result = TypeVar("Result")

_SLOW_TO_PARSE = 256 * 2**10  # a larger body is parsed in a thread, so that others need not wait for it
_BETWEEN_LOOKS_SECONDS = 0.2  # at a task whose request is held open


class Submission(ReferenceToVideo):
    """What a model accepts, and how to answer."""

    enable_sync_mode: bool = Field(False, description="Hold the answer back until the video is made.")
    enable_base64_output: bool = Field(False, description="Give the video as a data URI instead of a URL.")


def _path_parameter(name: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", **schema}}


# Lean routes (see below) declare no parameters that could be read off them.
_RESULT_DOC = {"parameters": [_path_parameter("task_id")]}
_SUBMIT_DOC = {
    "parameters": [_path_parameter("model_id", enum=list(MODELS))],
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": Submission.model_json_schema()}},
    },
}


class LeanRoute(APIRoute):
    """A route that is documented like any other, but whose function is handed the request as it is.

    FastAPI's solving of parameters costs more than these two functions do.
    """

    def get_route_handler(self) -> Callable[[Request], Any]:
        handler: Callable[[Request], Any] = self.endpoint
        return handler


router = APIRouter(tags=["predictions"])
busy = APIRouter(tags=["predictions"], route_class=LeanRoute, dependencies=[Depends(bearer)])


async def submit(request: Request) -> Response:
    """Accept a task: HTTP 200, the full prediction, status `created`. Durable when it answers."""
    server = request.app.state.server
    key_id = await _read(server, server.store.caller, digest_of_key(request))
    if key_id is None:
        raise unknown_key()
    model = _model(server, request.path_params["model_id"])
    body = await _body(request, server.settings.max_body_bytes)
    try:
        asked = parse_input(model, body)
    except InputError as error:
        raise ApiError(400, str(error), "invalid_parameter") from None
    largest = server.settings.max_resolution
    if RESOLUTIONS.index(asked.resolution) > RESOLUTIONS.index(largest):
        raise ApiError(400, f"resolution is {asked.resolution!r}: here it is {largest} at most.", "invalid_parameter")
    is_held, as_base64 = _flag(body, "enable_sync_mode"), _flag(body, "enable_base64_output")
    if server.estimates.num_queued() >= server.settings.max_queued:
        raise ApiError(429, "The queue is full: try again in a minute.", "queue_full", {"Retry-After": "60"})
    if any(image[:5].lower() == "data:" for image in asked.images):
        asked = await run_in_threadpool(_keep_data_uris, server, key_id, asked)
    task_id = uuid.uuid4().hex
    engine = "animatic" if server.settings.sandbox else model.engine

    task = await server.commits.run(
        lambda connection: server.store.add(
            task_id,
            key_id,
            model.id,
            engine,
            asked,
            base64_output=as_base64,
            connection=connection,
        )
    )
    server.estimates.add(task)
    server.ring()
    if is_held:
        return wavespeed.success(await _hold(request, task))
    return wavespeed.success(await _show(request, task))


async def result(request: Request) -> Response:
    """A caller's task as it stands."""
    server = request.app.state.server
    key_id, task = await _read(server, server.store.poll, digest_of_key(request), request.path_params["task_id"])
    if key_id is None:
        raise unknown_key()
    if task is None:
        raise _unknown_task()
    return wavespeed.success(await _show(request, task))


for prefix in ("/api/v3", "/api/v2"):  # v2 is an alias: old clients poll and upload there
    in_schema = prefix == "/api/v3"
    for path in ("/predictions/{task_id}/result", "/predictions/{task_id}"):
        busy.add_api_route(
            prefix + path, result, methods=["GET"], include_in_schema=in_schema, openapi_extra=_RESULT_DOC
        )


def delete(request: Request, task_id: str, key_id: Annotated[str, Depends(caller)]) -> Response:
    """End a task: a queued one at once, a running one at its next step; forget an ended one and its files."""
    server = request.app.state.server
    before = server.store.get(key_id, task_id)
    if before is None:
        raise _unknown_task()
    if before.status.is_terminal:
        for key in filter(None, (before.output, before.poster, *_kept_images(before))):
            server.files.delete(key)
        server.store.remove([task_id])
        return wavespeed.success({"id": task_id, "status": "deleted"})
    task = server.store.cancel(key_id, task_id)
    if task is None:
        raise _unknown_task()
    return wavespeed.success(show(request, task))


@router.get("/api/v3/predictions/{task_id}/receipt")
def receipt(request: Request, task_id: str, key_id: Annotated[str, Depends(caller)]) -> Response:
    """How a finished video was made: engine, weights, libraries, seed, sizes, timings, digests."""
    task = request.app.state.server.store.get(key_id, task_id)
    if task is None:
        raise _unknown_task()
    if task.receipt is None:
        raise ApiError(404, "This task has no receipt: only a finished video has one.", "no_receipt")
    return wavespeed.success({**task.receipt, "timings": task.timings})


for prefix in ("/api/v3", "/api/v2"):
    router.add_api_route(
        prefix + "/predictions/{task_id}", delete, methods=["DELETE"], include_in_schema=prefix == "/api/v3"
    )

submits = APIRouter(tags=["predictions"], route_class=LeanRoute, dependencies=[Depends(bearer)])
for prefix in ("/api/v3", "/api/v2"):
    submits.add_api_route(
        prefix + "/{model_id:path}",
        submit,
        methods=["POST"],
        include_in_schema=prefix == "/api/v3",
        openapi_extra=_SUBMIT_DOC,
    )


class BusyRoutes:
    """ASGI middleware that takes the two busiest requests straight to their functions.

    The routes above say the same and are what the documentation shows; walking through the router to them costs more
    than the functions themselves.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = _busy_route(scope) if scope["type"] == "http" else None
        if found is None:
            await self._app(scope, receive, send)
            return
        function, scope["path_params"] = found
        request = Request(scope, receive, send)
        try:
            response = await function(request)
        except ApiError as error:
            response = wavespeed.refusal(error)
        except ClientDisconnect:  # nobody is left to be told
            return
        await response(scope, receive, send)


def _busy_route(scope: Scope) -> tuple[Callable[[Request], Awaitable[Response]], dict[str, str]] | None:
    path: str = scope["path"]
    if not path.startswith("/api/v3/"):
        return None
    rest = path[8:]
    if scope["method"] == "POST" and rest in MODELS:
        return submit, {"model_id": rest}
    if scope["method"] == "GET" and rest.startswith("predictions/") and rest.endswith("/result"):
        return result, {"task_id": rest[12:-7]}
    return None


def show(request: Request, task: Task) -> dict[str, Any]:
    """The prediction object of a task, its files as signed links for as long as they are kept."""
    server = request.app.state.server
    base = base_url(request)
    expires = (task.finished_at or task.created_at) + server.settings.retention_days * 86_400

    def link(key: str) -> str:
        return base + str(server.links.sign(key, expires))

    outputs: list[str] = []
    if task.status is Status.SUCCEEDED and task.output:
        if task.base64_output:
            data = server.files.read(task.output)
            outputs = ["data:video/mp4;base64," + base64.b64encode(data).decode()] if data else []
        else:
            outputs = [link(task.output)]
    place, seconds = server.estimates.of(task)
    return wavespeed.prediction(
        task,
        base=base,
        outputs=outputs,
        poster=link(task.poster) if task.poster else "",
        images=[link(image[5:]) if image.startswith("file:") else image for image in task.request.images],
        queue_position=place,
        eta_seconds=seconds,
    )


async def _show(request: Request, task: Task) -> dict[str, Any]:
    if task.base64_output and task.status is Status.SUCCEEDED:  # reads a file of megabytes
        return await run_in_threadpool(show, request, task)
    return show(request, task)


async def _hold(request: Request, task: Task) -> dict[str, Any]:
    """Wait for the task to end; answer what has become of it, or that it goes on."""
    server = request.app.state.server
    until = time.monotonic() + server.settings.sync_seconds
    while not task.status.is_terminal and time.monotonic() < until:
        if await request.is_disconnected():
            break
        await asyncio.sleep(_BETWEEN_LOOKS_SECONDS)
        found = await _read(server, server.store.get, task.key_id, task.id)
        if found is None:  # deleted while we waited
            raise _unknown_task()
        task = found
    shown = await _show(request, task)
    return shown if task.status.is_terminal else wavespeed.sync_timed_out(shown, server.settings.sync_seconds)


async def _read(server: Any, read: Callable[..., Result], *arguments: Any) -> Result:
    # A SQLite read takes tens of microseconds and never waits for a writer; any other database is a network away.
    if server.store.reads_are_local:
        return read(*arguments)
    return await run_in_threadpool(read, *arguments)


async def _body(request: Request, max_bytes: int) -> dict[str, Any]:
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


def _flag(body: dict[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise ApiError(400, f"{name} is {shown(value)}: it must be true or false.", "invalid_parameter")
    return bool(value)


def _model(server: Any, model_id: str) -> Model:
    model = MODELS.get(model_id)
    if model is None:
        raise ApiError(404, f"Unknown model {model_id[:200]!r}. Models here: {', '.join(MODELS)}.", "unknown_model")
    if model.engine not in server.engines and not server.settings.sandbox:
        raise ApiError(
            503,
            f"{model.id} can't be rendered here: this server runs no SkyReels-V3. Use {ANIMATIC} for a free animatic "
            "of the same shot. The operator can add the model (`mutoscope doctor` says what is missing, `mutoscope "
            "pull` fetches the weights), or start the server with --sandbox to have animatics in its place.",
            "engine_unavailable",
        )
    return model


def _unknown_task() -> ApiError:
    return ApiError(404, "Task not found.", "task_not_found")


def _kept_images(task: Task) -> list[str]:
    return [image[5:] for image in task.request.images if image.startswith("file:")]


def _keep_data_uris(server: Any, key_id: str, asked: VideoRequest) -> VideoRequest:
    """The request with its data URIs stored as files of the caller, so that the row stays small."""
    images: list[str] = []
    for index, image in enumerate(asked.images):
        if image[:5].lower() != "data:":
            images.append(image)
            continue
        try:
            data = open_data_uri(image, server.limits)
        except FetchError as error:
            raise ApiError(400, f"images[{index}] can't be read: {error}.", "invalid_parameter") from None
        images.append("file:" + keep(server, key_id, data, f"image-{index + 1}"))
    return replace(asked, images=tuple(images))
