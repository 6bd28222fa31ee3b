"""What the server is: health, the models and their prices."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from sqlalchemy import text
from starlette.requests import Request
from starlette.responses import Response

from mutoscope import __version__, pricing
from mutoscope.api import answers, wavespeed
from mutoscope.api.callers import base_url, reader
from mutoscope.models import MODELS, schema_of
from mutoscope.tasks import Caller

router = APIRouter(tags=["system"])


@router.get("/healthz", response_model=answers.Success[answers.Health])
def health(request: Request) -> Response:
    """200 when tasks can be accepted: the database answers."""
    server = request.app.state.server
    with server.store.database.connect() as connection:
        connection.execute(text("SELECT 1"))
    return wavespeed.success({"version": __version__, "sandbox": server.settings.sandbox})


@router.get("/api/v3/models", response_model=answers.Success[list[answers.OfferedModel]])
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
                "type": wavespeed.MODEL_TYPE,
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
