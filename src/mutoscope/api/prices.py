"""What a request would cost, before it is made: the quote is what will be charged."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from mutoscope.api import answers, wavespeed
from mutoscope.api.callers import ApiError, reader
from mutoscope.api.fields import Asked, Word
from mutoscope.models import MODELS, InputError, quoted_duration
from mutoscope.pricing import Quote, usd
from mutoscope.tasks import Caller

router = APIRouter(tags=["models"])


class Question(Asked):
    """What a price is asked for."""

    model_id: Word
    inputs: dict[str, Any] = Field({}, description="As they would be submitted; only `duration` makes a difference.")


@router.post("/api/v3/model/price", response_model=answers.Success[answers.Price])
def price(request: Request, asked: Question, _: Annotated[Caller, Depends(reader)]) -> Response:
    """What a request would cost, in dollars, and what will be charged after the discount; `assumed` names the inputs
    that make a difference, were not given, and took their default."""
    quote = _quote(request, asked)
    return wavespeed.success(
        {
            "model_id": asked.model_id,
            "price": usd(quote.list_micros),
            "discounted_price": usd(quote.micros),
            "discount_rate": request.app.state.server.prices.discount_rate,
            "currency": "USD",
            "assumed": ["duration"] if asked.inputs.get("duration") is None else [],
        }
    )


@router.post("/api/v3/model/pricing", response_model=answers.Success[answers.UnitPrice])
def legacy_price(request: Request, asked: Question, _: Annotated[Caller, Depends(reader)]) -> Response:
    """What will be charged for a request, in dollars, as older clients ask for it."""
    unit_price = usd(_quote(request, asked).micros)
    return wavespeed.success({"model_id": asked.model_id, "unit_price": unit_price, "currency": "USD"})


def _quote(request: Request, asked: Question) -> Quote:
    model = MODELS.get(asked.model_id)
    if model is None:
        raise ApiError(404, f"Unknown model. Models here: {', '.join(MODELS)}.", "unknown_model")
    try:
        duration = quoted_duration(model, asked.inputs.get("duration"))
    except InputError as error:
        raise ApiError(400, str(error), "invalid_parameter") from None
    quote: Quote = request.app.state.server.prices.quote(model.id, duration)
    return quote
