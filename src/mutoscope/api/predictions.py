"""The tasks of a caller: result, cancel, receipt; and how a task is shown.

The two busiest routes, submit and result, run on the event loop instead of a thread: with SQLite their reads cost less
than the hop to a thread would.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from mutoscope.api import answers, wavespeed
from mutoscope.api.callers import ApiError, base_url, bearer, digest_of_key, maker, reader, unknown_key
from mutoscope.files import discard
from mutoscope.tasks import Caller, Status, Task

Result = TypeVar("Result")


def path_parameter(name: str, **schema: Any) -> dict[str, Any]:
    """For the documentation of lean routes, which declare no parameters that could be read off them."""
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", **schema}}


class LeanRoute(APIRoute):
    """A route that is documented like any other, but whose function is handed the request as it is.

    FastAPI's solving of parameters costs more than these two functions do.
    """

    def get_route_handler(self) -> Callable[[Request], Any]:
        handler: Callable[[Request], Any] = self.endpoint
        return handler


router = APIRouter(tags=["predictions"])
busy = APIRouter(tags=["predictions"], route_class=LeanRoute, dependencies=[Depends(bearer)])


async def result(request: Request) -> Response:
    """A caller's task as it stands. A task belongs to the key that made it, so no scope is asked for besides."""
    server = request.app.state.server
    known, task = await read(server, server.store.poll, digest_of_key(request), request.path_params["task_id"])
    if not known:
        raise unknown_key()
    if task is None:
        raise unknown_task()
    return wavespeed.success(await show_async(request, task))


for path in ("/api/v3/predictions/{task_id}/result", "/api/v3/predictions/{task_id}"):
    busy.add_api_route(
        path,
        result,
        methods=["GET"],
        response_model=answers.Success[answers.Prediction],
        openapi_extra={"parameters": [path_parameter("task_id")]},
    )


@router.delete("/api/v3/predictions/{task_id}", response_model=answers.Success[answers.Deleted | answers.Prediction])
def delete(request: Request, task_id: str, asking: Annotated[Caller, Depends(maker)]) -> Response:
    """End a task: a queued one at once, a running one at its next step; forget an ended one and its files."""
    server = request.app.state.server
    before = server.store.get(asking.key_id, task_id)
    if before is None:
        raise unknown_task()
    if before.status.is_terminal:
        forget(server, before)
        return wavespeed.success({"id": task_id, "status": "deleted"})
    task = server.store.cancel(asking.key_id, task_id)
    if task is None:
        raise unknown_task()
    return wavespeed.success(show(request, task))


@router.get("/api/v3/predictions/{task_id}/receipt", response_model=answers.Success[dict[str, Any]])
def receipt(request: Request, task_id: str, asking: Annotated[Caller, Depends(reader)]) -> Response:
    """How a finished video was made: engine, weights, libraries, seed, sizes, timings, digests."""
    task = request.app.state.server.store.get(asking.key_id, task_id)
    if task is None:
        raise unknown_task()
    if task.receipt is None:
        raise ApiError(404, "This task has no receipt: only a finished video has one.", "no_receipt")
    return wavespeed.success({**task.receipt, "timings": task.timings})


def show(request: Request, task: Task, *, embeds: bool = True) -> dict[str, Any]:
    """The prediction object of a task, its files as signed links for as long as they are kept.

    `embeds`: a task that wants its video as base64 is shown with the video itself, megabytes of it.
    """
    return shown_at(request.app.state.server, task, base_url(request), embeds=embeds)


def preview_link(server: Any, task: Task, base: str) -> str:
    """The address of the newest preview, another for each, so that none is taken from a cache; empty without one."""
    key, _, version = (task.preview or "").partition("#")
    return f"{link(server, task, base, key)}&version={version}" if key else ""


def shown_at(server: Any, task: Task, base: str, *, embeds: bool) -> dict[str, Any]:
    """The same, for whoever reaches us at `base`."""
    outputs: list[str] = []
    if task.status is Status.SUCCEEDED and task.output:
        if task.base64_output and embeds:
            data = server.files.read(task.output)
            outputs = ["data:video/mp4;base64," + base64.b64encode(data).decode()] if data else []
        else:
            outputs = [link(server, task, base, task.output)]
    place, seconds = server.estimates.of(task)
    return wavespeed.prediction(
        task,
        base=base,
        outputs=outputs,
        poster=link(server, task, base, task.poster) if task.poster else "",
        preview=preview_link(server, task, base),
        images=[
            link(server, task, base, image[5:]) if image.startswith("file:") else image for image in task.request.images
        ],
        queue_position=place,
        eta_seconds=seconds,
    )


def link(server: Any, task: Task, base: str, key: str) -> str:
    """The signed URL of a task's file, for as long as it is kept."""
    expires = (task.finished_at or task.created_at) + server.settings.retention_days * 86_400
    # An upload keeps our own link, wherever it lies: it comes back among `images`, and is known by it. So does a
    # preview, whose link carries a version, which a presigned URL can't.
    elsewhere = None if key.startswith(("uploads/", "previews/")) else server.files.link(key, expires)
    return elsewhere or base + str(server.links.sign(key, expires))


async def show_async(request: Request, task: Task) -> dict[str, Any]:
    """`show`, in a thread where it would hold up the event loop: base64 output is read from a file of megabytes."""
    if task.base64_output and task.status is Status.SUCCEEDED:
        return await run_in_threadpool(show, request, task)
    return show(request, task)


async def read(server: Any, read: Callable[..., Result], *arguments: Any) -> Result:
    """Call a reading function of the database from the event loop."""
    # A SQLite read takes tens of microseconds and never waits for a writer; any other database is a network away.
    if server.store.database.is_local:
        return read(*arguments)
    return await run_in_threadpool(read, *arguments)


def forget(server: Any, *ended: Task) -> None:
    """Delete ended tasks and their files."""
    # The rows first: a crash between the two leaves files that housekeeping removes, not a video that can't be had.
    server.store.remove([task.id for task in ended])
    for task in ended:
        kept = [image[5:] for image in task.request.images if image.startswith("file:")]
        discard(server.files, (*task.files, *kept))


def unknown_task() -> ApiError:
    """The error for a task that does not exist, or is somebody else's."""
    return ApiError(404, "Task not found.", "task_not_found")
