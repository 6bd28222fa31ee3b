"""What the server is: health, the models and their prices."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends
from sqlalchemy import text
from starlette.requests import Request
from starlette.responses import Response

from mutoscope import __version__, pricing
from mutoscope.api import wavespeed
from mutoscope.api.callers import ApiError, base_url, reader
from mutoscope.models import MODELS, InputError, quoted_duration, schema_of
from mutoscope.tasks import Caller

router = APIRouter(tags=["system"])


@router.get("/healthz")
def health(request: Request) -> Response:
    """200 when tasks can be accepted: the database answers."""
    server = request.app.state.server
    with server.store.database.connect() as connection:
        connection.execute(text("SELECT 1"))
    return wavespeed.success({"version": __version__, "sandbox": server.settings.sandbox})


@router.get("/api/v3/models")
def models(request: Request, _: Annotated[Caller, Depends(reader)]) -> Response:
    """The models on offer, each with the JSON Schema of its input and its price."""
    return wavespeed.success(
        [
            {
                "model_id": model.id,
                "name": model.id,
                "title": model.title,
                "engine": model.engine,
                "description": model.description,
                "tips": model.tips,
                "type": "image-to-video",
                "base_price": pricing.usd(request.app.state.server.prices.quote(model.id, 5).list_micros),
                "sort_order": order,
                "formula": '{"total_price": base_price * duration / 5}',
                "api_schema": {
                    "api_schemas": [
                        {
                            "type": "model_run",
                            "method": "POST",
                            "server": base_url(request),
                            "api_path": f"/api/v3/{model.id}",
                            "request_schema": schema_of(model),
                        }
                    ]
                },
            }
            for order, model in enumerate(MODELS.values(), start=1)
        ]
    )


@router.post("/api/v3/model/price")
def price(
    request: Request, asked: Annotated[dict[str, Any], Body()], _: Annotated[Caller, Depends(reader)]
) -> Response:
    """What a request would cost, in dollars; `assumed` names the inputs that were not given and took their default."""
    model = MODELS.get(str(asked.get("model_id", "")))
    if model is None:
        raise ApiError(404, f"Unknown model. Models here: {', '.join(MODELS)}.", "unknown_model")
    inputs = asked.get("inputs")
    given = inputs.get("duration") if isinstance(inputs, dict) else None
    try:
        duration = quoted_duration(model, given)
    except InputError as error:
        raise ApiError(400, str(error), "invalid_parameter") from None
    prices = request.app.state.server.prices
    quote = prices.quote(model.id, duration)
    return wavespeed.success(
        {
            "model_id": model.id,
            "price": pricing.usd(quote.list_micros),
            "discounted_price": pricing.usd(quote.micros),
            "discount_rate": prices.discount_rate,
            "currency": "USD",
            "assumed": [] if given is not None else ["duration"],
        }
    )
