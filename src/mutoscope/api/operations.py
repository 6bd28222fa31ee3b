"""For whoever runs the service: figures for Prometheus, readiness, and the middleware that counts requests."""

from __future__ import annotations

import hmac
import time
from ipaddress import ip_address
from pathlib import Path
from shutil import disk_usage
from tempfile import TemporaryFile
from typing import Any

from fastapi import APIRouter
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mutoscope.api import answers, wavespeed
from mutoscope.api.callers import ApiError
from mutoscope.files import FilesError
from mutoscope.metrics import CONTENT_TYPE, Metrics

router = APIRouter(tags=["system"])

_LEAST_FREE_BYTES = 256 * 2**20  # a few videos; with less, what is accepted might not be kept
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


@router.get("/readyz", response_model=answers.Success[answers.Readiness])
def ready(request: Request) -> Response:
    """200 while this server can do its work: the database answers, files can be written, and the disk has room."""
    server = request.app.state.server
    try:
        with server.store.database.connect() as connection:
            connection.execute(text("SELECT 1"))
    except SQLAlchemyError:
        raise _not_ready("the database does not answer") from None
    folders: list[Path] = [*filter(None, [server.files.disk]), server.settings.scratch]
    free = []
    try:
        server.files.check()
    except FilesError as error:
        raise _not_ready(str(error).rstrip(".")) from None
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with TemporaryFile(dir=folder) as file:
                file.write(b"ready?")
            free.append(disk_usage(folder).free)
        except OSError as error:
            raise _not_ready(f"files can't be written: {error.strerror}") from None
    if min(free) < _LEAST_FREE_BYTES:
        raise _not_ready(f"the disk has only {min(free) // 2**20} MiB left")
    return wavespeed.success({"database": "ok", "files": "ok", "disk_free_bytes": min(free)})


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def metrics(request: Request) -> Response:
    """Figures in Prometheus' text format, for those who bear MUTOSCOPE_METRICS_TOKEN; without one, for this machine."""
    server = request.app.state.server
    token = server.settings.metrics_token
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if token:
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token.encode()):
            challenge = {"WWW-Authenticate": "Bearer"}
            message = "Metrics need `Authorization: Bearer` and the token that MUTOSCOPE_METRICS_TOKEN holds."
            raise ApiError(401, message, "invalid_token", challenge)
    elif not _is_from_here(request):
        message = "Metrics are for this machine alone, unless MUTOSCOPE_METRICS_TOKEN is set."
        raise ApiError(403, message, "forbidden")
    return Response(server.metrics.exposition(), headers={"Content-Type": CONTENT_TYPE})


def _not_ready(why: str) -> ApiError:
    return ApiError(503, f"Not ready: {why}.", "not_ready", {"Retry-After": "10"})


def _is_from_here(request: Request) -> bool:
    # A proxy on this machine speaks for others, whether or not it says for whom.
    proxied = any(name in request.headers for name in ("forwarded", "x-forwarded-for", "via", "x-real-ip"))
    try:
        return not proxied and request.client is not None and ip_address(request.client.host).is_loopback
    except ValueError:
        return False


class CountRequests:
    """ASGI middleware around all others: each request by its route, never by its path, which may hold secrets."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        status = 499  # it went away before it was answered

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note_status)
        finally:
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.count_request(method, _route_of(scope), status, time.monotonic() - began)


def _route_of(scope: Scope) -> str:
    found: Any = scope.get("route")
    return getattr(found, "path", found) or "other"
