"""Preflight over HTTP: what the service sees in references, and what it advises. Nothing is kept, nothing charged."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from mutoscope.api import wavespeed
from mutoscope.api.answers import Success
from mutoscope.api.bodies import json_object
from mutoscope.api.callers import ApiError, reader
from mutoscope.inspection import BusyError
from mutoscope.models import ANIMATIC, MODELS, InputError, parse_input, schema_of
from mutoscope.tasks import Caller, VideoRequest

router = APIRouter(tags=["references"])

_ASKED = {name: schema_of(MODELS[ANIMATIC])["properties"][name] for name in ("images", "prompt", "aspect_ratio")}
_ASKED["prompt"] = {**_ASKED["prompt"], "minLength": 0, "default": ""}
_SCHEMA = {"type": "object", "required": ["images"], "properties": _ASKED}
_DOC: dict[str, Any] = {"requestBody": {"required": True, "content": {"application/json": {"schema": _SCHEMA}}}}


class AdviceOnOne(BaseModel):
    """What might be mended in a reference."""

    code: str
    message: str


class AdviceOnAll(AdviceOnOne):
    """What might be mended in references together, counted from 1."""

    images: list[int]


class Inspected(BaseModel):
    """What is seen in a reference. Boxes are x, y, width and height in fractions."""

    index: int
    width: int
    height: int
    format: str
    bytes: int
    has_alpha: bool
    orientation: int
    sharpness: float
    kind: str
    faces: list[list[float]]
    subject: list[float] | None
    coverage: float
    crop: list[float] | None
    pad: list[float] | None
    advice: list[AdviceOnOne]
    error: str


class Inspection(BaseModel):
    """What is seen in references."""

    images: list[Inspected]
    advice: list[AdviceOnAll]


@router.post("/api/v3/references/inspect", openapi_extra=_DOC, response_model=Success[Inspection])
async def inspect(request: Request, asking: Annotated[Caller, Depends(reader)]) -> Response:
    """What the service sees in 1 to 4 references, by themselves and together, and what might be mended. Advice only: a
    reference that can't be read has an `error` of its own, and the others their answers."""
    server = request.app.state.server
    asked = _asked(await json_object(request, server.settings.max_body_bytes))
    try:
        begun = server.inspector.start(asking.key_id, asked.images, asked.prompt, asked.aspect_ratio)
    except BusyError as error:
        if error.is_caller:
            message = "Other references of this key are being inspected: try again when that is over."
            raise ApiError(429, message, "too_many_inspections", {"Retry-After": "1"}) from None
        message = "This server is inspecting as many references as it can: try again in a moment."
        raise ApiError(503, message, "busy", {"Retry-After": "2"}) from None
    report = await asyncio.wrap_future(begun)
    return wavespeed.success(report.show())


def _asked(body: dict[str, Any]) -> VideoRequest:
    """The references, prompt and shape, by the rules of a submit, except that there may be no prompt yet."""
    prompt = body.get("prompt")
    is_absent = prompt is None or (isinstance(prompt, str) and not prompt.strip())
    fields = {name: body.get(name) for name in ("images", "aspect_ratio")} | {"prompt": "-" if is_absent else prompt}
    try:
        asked = parse_input(MODELS[ANIMATIC], fields)
    except InputError as error:
        raise ApiError(400, str(error), "invalid_parameter") from None
    return replace(asked, prompt="") if is_absent else asked
