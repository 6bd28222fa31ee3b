"""What was used and what it cost. A key with the scope `admin` sees its whole account, any other key itself alone."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from mutoscope import usage
from mutoscope.api import answers, wavespeed
from mutoscope.api.callers import ApiError, caller
from mutoscope.api.fields import MAX_PAGE, Asked, Moment, Word
from mutoscope.tasks import Caller

router = APIRouter(tags=["billing"])

_MOST_DAYS = 31


class Span(Asked):
    """Of when usage is asked: 31 days at most, and the last 31 if not said."""

    start_time: Moment | None = None
    end_time: Moment | None = None
    model_uuid: Word = Field("", description="Only this model, by its id.")


@router.post("/api/v3/user/usage_stats", response_model=answers.Success[answers.Usage])
def post_usage(
    request: Request, asking: Annotated[Caller, Depends(caller)], asked: Annotated[Span | None, Body()] = None
) -> Response:
    """How much was asked for, made and spent, by model and by day (UTC). A task counts when it was accepted."""
    return _usage(request, asked or Span.model_validate({}), asking)


@router.get("/api/v3/account/usage", response_model=answers.Success[answers.Usage])
def get_usage(
    request: Request, asked: Annotated[Span, Query()], asking: Annotated[Caller, Depends(caller)]
) -> Response:
    """How much was asked for, made and spent, by model and by day (UTC). A task counts when it was accepted."""
    return _usage(request, asked, asking)


def _usage(request: Request, asked: Span, asking: Caller) -> Response:
    end = asked.end_time.timestamp() if asked.end_time else time.time()
    most = _MOST_DAYS * usage.DAY_SECONDS
    start = asked.start_time.timestamp() if asked.start_time else end - most
    if end < start:
        raise ApiError(400, "end_time is before start_time.", "invalid_parameter")
    if end - start > most:
        message = f"The time from start_time to end_time cannot exceed {_MOST_DAYS} days."
        raise ApiError(400, message, "invalid_parameter")
    database = request.app.state.server.store.database
    found = usage.used(database, asking.account_id, start, end, key_id=_key_of(asking), model=asked.model_uuid)
    return wavespeed.success(wavespeed.usage_stats(list(found)))


class Search(Asked):
    """Which lines of the bill, and which page of them."""

    page: int = Field(1, ge=1, le=MAX_PAGE)
    page_size: int = Field(20, ge=1, le=100)
    billing_type: Word = Field("", description="Only deduct, refund or credit; deduct and refund if not said.")
    prediction_uuids: list[Word] | None = Field(None, max_length=1000, description="Only of these predictions.")
    sort: Word = Field("", description="`asc` has the oldest come first.")
    start_time: Moment | None = None
    end_time: Moment | None = None
    model_uuid: Word = Field("", description="Only this model, by its id.")
    access_key_uuid: Word = Field("", description="Only this key, by its id.")


@router.post("/api/v3/billings/search", response_model=answers.Success[answers.Page[answers.Billing]])
def post_billings(
    request: Request, asking: Annotated[Caller, Depends(caller)], asked: Annotated[Search | None, Body()] = None
) -> Response:
    """The lines of the bill, the newest first: what was deducted when tasks were accepted, and refunded when they came
    to less."""
    return _billings(request, asked or Search.model_validate({}), asking)


@router.get("/api/v3/account/billings", response_model=answers.Success[answers.Page[answers.Billing]])
def get_billings(
    request: Request, asked: Annotated[Search, Query()], asking: Annotated[Caller, Depends(caller)]
) -> Response:
    """The lines of the bill, the newest first: what was deducted when tasks were accepted, and refunded when they came
    to less."""
    return _billings(request, asked, asking)


def _billings(request: Request, asked: Search, asking: Caller) -> Response:
    key_id = _key_of(asking)
    if key_id and asked.access_key_uuid not in ("", key_id):
        found: list[usage.Charge] = []
        total = 0
    else:
        wanted = usage.Billed(
            asking.account_id,
            key_id or asked.access_key_uuid,
            wavespeed.charge_kinds(asked.billing_type),
            asked.start_time.timestamp() if asked.start_time else None,
            asked.end_time.timestamp() if asked.end_time else None,
            asked.model_uuid,
            asked.prediction_uuids,
            is_oldest_first="asc" in asked.sort.lower().replace("desc", ""),
        )
        found, total = usage.bill(request.app.state.server.store.database, wanted, asked.page, asked.page_size)
    return wavespeed.success(
        {
            "page": asked.page,
            "page_size": asked.page_size,
            "total": total,
            "has_more": asked.page * asked.page_size < total,
            "items": [wavespeed.billing(charge) for charge in found],
        }
    )


def _key_of(asking: Caller) -> str:
    return "" if "admin" in asking.scopes else asking.key_id
