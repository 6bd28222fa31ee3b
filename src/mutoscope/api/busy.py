"""ASGI middleware that takes the two busiest requests, submit and result, straight to their functions; and knows
`/api/v2` as another name of `/api/v3`, because old clients poll and upload there.

Their routes say the same and are what the documentation shows; walking through the router to them costs more than the
functions themselves.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from sqlalchemy.exc import DataError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from mutoscope.api import wavespeed
from mutoscope.api.callers import AWAY, ApiError, unreachable, unstorable, unwritable
from mutoscope.api.predictions import result
from mutoscope.api.submit import submit
from mutoscope.models import MODELS


class BusyRoutes:
    """The middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/api/v2/"):
            scope = {**scope, "path": "/api/v3/" + scope["path"][8:]}
        found = _busy_route(scope) if scope["type"] == "http" else None
        if found is None:
            await self._app(scope, receive, send)
            return
        function, scope["route"], scope["path_params"] = found
        request = Request(scope, receive, send)
        try:
            response = await function(request)
        except ApiError as error:
            response = wavespeed.refusal(error)
        except AWAY as error:
            response = wavespeed.refusal(unreachable(error))
        except DataError:
            response = wavespeed.refusal(unstorable())
        except OSError as error:
            refusal = unwritable(error)
            if refusal is None:
                raise
            response = wavespeed.refusal(refusal)
        except ClientDisconnect:  # nobody is left to be told
            return
        await response(scope, receive, send)


def _busy_route(scope: Scope) -> tuple[Callable[[Request], Awaitable[Response]], str, dict[str, str]] | None:
    path: str = scope["path"]
    if not path.startswith("/api/v3/"):
        return None
    rest = path[8:]
    if scope["method"] == "POST" and rest in MODELS:
        return submit, "/api/v3/{model_id}", {"model_id": rest}
    if scope["method"] == "GET" and rest.startswith("predictions/") and rest.endswith("/result"):
        return result, "/api/v3/predictions/{task_id}/result", {"task_id": rest[12:-7]}
    return None
