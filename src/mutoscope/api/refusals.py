"""Every refusal is told in the dialect of the address that was asked, those of the framework too."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DataError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from mutoscope.api import openai, wavespeed
from mutoscope.api.callers import AWAY, ApiError, unreachable, unstorable, unwritable
from mutoscope.models import ANIMATIC, MODELS, shown

_ERROR_CODES = {400: "invalid_request", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}


def tell_refusals(app: FastAPI) -> None:
    """Have all that goes wrong in `app` answered in words."""
    handlers: dict[type[Exception], Callable[[Request, Exception], Response]] = {
        ApiError: _on_refusal,
        HTTPException: _on_framework_refusal,
        RequestValidationError: _on_invalid,
        ClientDisconnect: _on_hang_up,
        DataError: _on_unstorable,
        **dict.fromkeys(AWAY, _on_unreachable),
        OSError: _on_disk,
        Exception: _on_fault,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


def _told(request: Request, error: ApiError) -> Response:
    is_openai = request.url.path.startswith("/v1/")
    return openai.refusal(error) if is_openai else wavespeed.refusal(error)


def _on_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return _told(request, error)


def _on_framework_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    # Any path under /api/v3 might be a model's, so the router says of an unknown one that it may be POSTed to.
    if error.status_code == 405 and request.path_params.get("model_id", ANIMATIC) not in MODELS:
        error = HTTPException(404)
    code = _ERROR_CODES.get(error.status_code, "error")
    return _told(request, ApiError(error.status_code, str(error.detail), code, dict(error.headers or {})))


def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body") or "the body"
    value = "" if first["type"] in ("missing", "json_invalid") else f" is {shown(first['input'])}"
    param = str(first["loc"][-1])
    return _told(request, ApiError(400, f"{where}{value}: {first['msg']}.", "invalid_request", param=param))


def _on_hang_up(_: Request, error: Exception) -> Response:
    return Response(status_code=499)  # nobody is left to be told


def _on_unreachable(request: Request, error: Exception) -> Response:
    return _told(request, unreachable(error))


def _on_disk(request: Request, error: Exception) -> Response:
    refusal = unwritable(error)
    if refusal is None:
        raise error  # a fault of ours
    return _told(request, refusal)


def _on_unstorable(request: Request, error: Exception) -> Response:
    return _told(request, unstorable())


def _on_fault(request: Request, error: Exception) -> Response:
    # This answer goes past the middleware that adds the header to all others; without it a browser hides the reason.
    headers = {"Access-Control-Allow-Origin": "*"}
    fault = ApiError(500, "The server failed to handle this request; it is logged.", "internal_error", headers)
    return _told(request, fault)
