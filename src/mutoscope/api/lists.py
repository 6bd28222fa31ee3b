"""Many tasks of a caller at once: lists, deletion, favourites."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Query
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from mutoscope import history
from mutoscope.api import answers, wavespeed
from mutoscope.api.callers import maker, reader
from mutoscope.api.fields import MAX_PAGE, Asked, Moment, Word
from mutoscope.api.predictions import forget, show, unknown_task
from mutoscope.tasks import Caller

router = APIRouter(tags=["predictions"])

_DEFAULT_SECONDS = 7 * 86_400
_MOST_DELETED = 1000


class Listing(Asked):
    """Which predictions, and which page of them."""

    page: int = Field(1, ge=1, le=MAX_PAGE)
    page_size: int = Field(20, ge=1, le=100)
    model: Word = Field("", description="Only of this model.")
    status: Word = Field("", description="Only those that are created, processing, completed, failed or cancelled.")
    created_after: Moment | None = Field(None, description="Without it, those of the last 7 days.")
    created_before: Moment | None = None
    include_inputs: bool = Field(False, description="Add what each was made of, as `inputs`.")
    search: Word = Field("", description="Only those whose prompt contains this.")
    favourite: bool = Field(False, description="Only favourites.")


def _page(request: Request, asked: Listing, asking: Caller) -> Response:
    server = request.app.state.server
    after = asked.created_after.timestamp() if asked.created_after else time.time() - _DEFAULT_SECONDS
    wanted = history.Wanted(
        asking.key_id,
        after,
        asked.created_before.timestamp() if asked.created_before else None,
        model=asked.model,
        statuses=wavespeed.statuses(asked.status) if asked.status else None,
        search=asked.search,
        is_favourite=asked.favourite,
    )
    page = history.page_of(server.store.database, wanted, asked.page, asked.page_size)
    items = []
    for task in page.tasks:
        found = show(request, task, embeds=False)
        inputs = found.pop("input")
        items.append({**found, "inputs": inputs} if asked.include_inputs else found)
    return wavespeed.success(
        {
            "page": asked.page,
            "page_size": asked.page_size,
            "total": page.total,
            "has_more": page.has_more,
            "items": items,
        }
    )


@router.get("/api/v3/predictions", response_model=answers.Success[answers.Page[answers.ListedPrediction]])
def get_page(
    request: Request, asked: Annotated[Listing, Query()], asking: Annotated[Caller, Depends(reader)]
) -> Response:
    """The caller's predictions, the newest first."""
    return _page(request, asked, asking)


@router.post("/api/v3/predictions", response_model=answers.Success[answers.Page[answers.ListedPrediction]])
def post_page(
    request: Request, asking: Annotated[Caller, Depends(reader)], asked: Annotated[Listing | None, Body()] = None
) -> Response:
    """The caller's predictions, the newest first."""
    return _page(request, asked or Listing.model_validate({}), asking)


class Doomed(BaseModel):
    """Which predictions to delete."""

    ids: list[Word] = Field(max_length=_MOST_DELETED)


@router.post("/api/v3/predictions/delete", response_model=answers.Success[answers.DeletedCount])
def delete(request: Request, asked: Doomed, asking: Annotated[Caller, Depends(maker)]) -> Response:
    """Delete predictions and their files. Waiting ones are cancelled first, running ones are told to end; ids that are
    unknown count for nothing."""
    server = request.app.state.server
    ended, num_running = [], 0
    for task in history.owned(server.store.database, asking.key_id, list(set(asked.ids))):
        left = task if task.status.is_terminal else server.store.cancel(asking.key_id, task.id)
        if left is None:  # somebody else deleted it meanwhile
            continue
        if left.status.is_terminal:
            ended.append(left)
        else:
            num_running += 1
    forget(server, *ended)
    return wavespeed.success({"deleted_count": len(ended) + num_running})


class Marks(BaseModel):
    """What is to be noted of a prediction."""

    favourite: bool


@router.patch("/api/v3/predictions/{task_id}", response_model=answers.Success[answers.Prediction])
def mark(request: Request, task_id: str, marks: Marks, asking: Annotated[Caller, Depends(maker)]) -> Response:
    """Make a prediction a favourite, or none."""
    server = request.app.state.server
    task = history.mark(server.store.database, asking.key_id, task_id, marks.favourite)
    if task is None:
        raise unknown_task()
    return wavespeed.success(show(request, task))
