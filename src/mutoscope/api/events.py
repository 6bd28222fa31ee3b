"""Live progress: what becomes of a task as server-sent events, resumable, until it has ended.

An event's id is a cursor, a digest of what its reader has been told, so any process can go on where another stopped: it
tells what has changed since, and nothing twice.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from mutoscope.api.callers import base_url, digest_of_key, reader, unreachable
from mutoscope.api.predictions import preview_link, read, show_async, unknown_task
from mutoscope.api.watching import Watched, moment_of
from mutoscope.database import UNREACHABLE
from mutoscope.tasks import Caller, Task

router = APIRouter(tags=["predictions"])

_HEARTBEAT_SECONDS = 15.0  # proxies close what is silent for a minute
_RETRY_MILLISECONDS = 1000
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_COUNTED = re.compile(r", (?:step )?(\d+) of (\d+)$")


@dataclass(slots=True)
class _Cursor:
    """What a reader has been told: digests of the last state and of the last preview, empty if none."""

    state: str = ""
    preview: str = ""

    @classmethod
    def parse(cls, text: str) -> _Cursor:
        """From an event's id; what is none of ours is the beginning."""
        found = re.fullmatch(r"([0-9a-f]{12})\.([0-9a-f]{12})?", text)
        return cls(found[1], found[2] or "") if found else cls()

    def __str__(self) -> str:
        return f"{self.state}.{self.preview}"


_DOC: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events `state` (the prediction, and `step`, `steps`, `eta_low_seconds`, `eta_high_seconds`), "
        '`preview` (`{"url"}`) and, last, `end` (as `state`).',
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    },
    204: {"description": "The task has ended, and the reader of this Last-Event-ID was told."},
}


@router.get("/api/v3/predictions/{task_id}/events", responses=_DOC, response_class=StreamingResponse)
async def events(
    request: Request,
    task_id: str,
    asking: Annotated[Caller, Depends(reader)],
    last_event_id: Annotated[str, Header(description="The id of the last event seen, to go on after it.")] = "",
) -> Response:
    """A task's progress as server-sent events: what it is now, and each change, until it has ended."""
    server = request.app.state.server
    task = await read(server, server.store.get, asking.key_id, task_id)
    if task is None:
        raise unknown_task()
    cursor = _Cursor.parse(last_event_id)
    if task.status.is_terminal and cursor.state == _digest(task, 0):
        return Response(status_code=204)
    return StreamingResponse(_told(request, task, cursor), headers=_HEADERS, media_type="text/event-stream")


async def _told(request: Request, task: Task, cursor: _Cursor) -> AsyncIterator[bytes]:
    server = request.app.state.server
    key = digest_of_key(request)
    yield f"retry: {_RETRY_MILLISECONDS}\n\n".encode()
    with server.watcher.watch(task) as watched:
        while not watched.is_left:
            news = watched.news
            try:
                if await read(server, server.keys.caller, key) is None:  # revoked or expired meanwhile
                    return
                told = await _news(request, watched, cursor)
            except UNREACHABLE as error:  # the reader comes back, and goes on where it was
                unreachable(error)
                return
            for event in told:
                yield event
            if watched.has_ended:
                return
            if not await watched.news_within(_HEARTBEAT_SECONDS, news):
                yield b": still here\n\n"


async def _news(request: Request, watched: Watched, cursor: _Cursor) -> list[bytes]:
    """The events that a reader at `cursor` has not seen; the cursor moves on with them."""
    task, told = watched.task, []
    if task.preview and (fresh := _hash(task.preview)) != cursor.preview:
        cursor.preview = fresh
        url = preview_link(request.app.state.server, task, base_url(request))
        told.append(_event("preview", cursor, {"url": url}))
    if watched.is_gone:
        found = await _shown(request, task)
        told.append(_event("end", cursor, {**found, "status": "deleted", "outputs": [], "has_nsfw_contents": []}))
    elif (state := _digest(task, watched.place)) != cursor.state:
        cursor.state = state
        told.append(_event("end" if task.status.is_terminal else "state", cursor, await _shown(request, task)))
    return told


async def _shown(request: Request, task: Task) -> dict[str, Any]:
    low, high = request.app.state.server.estimates.interval(task)
    step, steps = step_of(task.stage)
    eta = {"eta_low_seconds": low, "eta_high_seconds": high}
    return {**await show_async(request, task), "step": step, "steps": steps, **eta}


def step_of(stage: str) -> tuple[int, int]:
    """Which step of how many a stage's words name, as in `denoising, step 3 of 8`; (0, 0) if they name none."""
    found = _COUNTED.search(stage)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _digest(task: Task, place: int) -> str:
    *moment, _ = moment_of(task)  # previews are told for themselves
    return _hash(json.dumps([*moment, place]))


def _hash(text: str) -> str:
    return blake2b(text.encode(), digest_size=6).hexdigest()


def _event(name: str, cursor: _Cursor, data: dict[str, Any]) -> bytes:
    return f"event: {name}\nid: {cursor}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()
