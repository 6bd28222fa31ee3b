"""Who is calling, and by which address they reach us. Knows no dialect; its error is told in whichever is spoken."""

from __future__ import annotations

from typing import Annotated

import structlog
from fastapi import Depends
from fastapi.security import HTTPBearer
from starlette.requests import Request

from mutoscope.database import UNREACHABLE
from mutoscope.disk import Trouble, trouble
from mutoscope.files import FilesAwayError
from mutoscope.tasks import Caller, Scope

log = structlog.get_logger()

bearer = HTTPBearer(auto_error=False, description="An API key; `mutoscope keys create NAME` makes one.")
"""For the documentation: it refuses nothing, `caller` does."""

_CHALLENGE = {"WWW-Authenticate": "Bearer"}


class ApiError(Exception):
    """A refusal: an HTTP status, a sentence a person can act on, and a word that a program can.

    `param` names the field that is to blame, for a dialect that tells it apart.
    """

    def __init__(
        self,
        status: int,
        message: str,
        error_code: str,
        headers: dict[str, str] | None = None,
        *,
        param: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.error_code = error_code
        self.headers = headers or {}
        self.param = param


def digest_of_key(request: Request) -> str:
    """The digest of the key that the request bears. Raises ApiError (401) when it bears none."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    key = key.strip()
    if scheme.lower() != "bearer" or not key:
        raise ApiError(
            401,
            "No API key: send the header `Authorization: Bearer <key>`; `mutoscope keys create NAME` makes a key.",
            "missing_api_key",
            _CHALLENGE,
        )
    digest: str = request.app.state.server.keys.digest(key)
    return digest


def unknown_key() -> ApiError:
    """The error for a key that was never made here, or was revoked."""
    message = "Invalid authentication: this API key is not known here, has expired, or was revoked."
    return ApiError(401, message, "invalid_api_key", _CHALLENGE)


AWAY = (*UNREACHABLE, FilesAwayError)
"""What is raised while the database or the place for files can't be used: the same may be well in a moment."""


def unreachable(error: Exception) -> ApiError:
    """The error for a database, or a place for files, that can't be reached, is too busy or has no room."""
    if (refusal := unwritable(error)) is not None:
        return refusal
    if isinstance(error, FilesAwayError):
        log.warning("files can't be used", error=str(error))
        message = "Files can't be read or kept right now: try again in a few seconds."
        return ApiError(503, message, "files_unavailable", {"Retry-After": "5"})
    log.warning("the database can't be used", error=str(error).splitlines()[0])
    message = "The database can't be reached right now: try again in a few seconds."
    return ApiError(503, message, "database_unavailable", {"Retry-After": "2"})


def unwritable(error: Exception) -> ApiError | None:
    """The error for a disk that is full, or can't be written now; None where an error says nothing of the disk."""
    found = trouble(error)
    if found is None:
        return None
    log.error(found.value, error=str(error).splitlines()[0])
    if found is Trouble.FULL:
        message = "The server's disk is full: nothing was kept or charged. Try again later."
        return ApiError(507, message, "disk_full", {"Retry-After": "60"})
    message = "The server can't write to its disk right now: nothing was kept or charged. Try again in a minute."
    return ApiError(503, message, "disk_unavailable", {"Retry-After": "60"})


def unstorable() -> ApiError:
    """The error for a value that the database can't hold, or look for."""
    message = "The request holds what can't be kept: a NUL character, or a number that is too large."
    return ApiError(400, message, "invalid_request")


def caller(request: Request, _: Annotated[object, Depends(bearer)]) -> Caller:
    """Who bears the request's key. Raises ApiError (401)."""
    found: Caller | None = request.app.state.server.keys.caller(digest_of_key(request))
    if found is None:
        raise unknown_key()
    return found


def require(asking: Caller, *scopes: Scope) -> Caller:
    """The caller, if its key has one of `scopes`. Raises ApiError (403)."""
    if asking.scopes.isdisjoint(scopes):
        has, needed = ", ".join(sorted(asking.scopes)), " or ".join(scopes)
        message = f"This key may not do this: it has the scopes {has}, and {needed} is needed."
        raise ApiError(403, message, "insufficient_scope")
    return asking


def reader(asking: Annotated[Caller, Depends(caller)]) -> Caller:
    """A caller that may see what there is."""
    return require(asking, "read", "generate")


def maker(asking: Annotated[Caller, Depends(caller)]) -> Caller:
    """A caller that may make and end videos."""
    return require(asking, "generate")


def admin(asking: Annotated[Caller, Depends(caller)]) -> Caller:
    """A caller that may manage the keys of its account."""
    return require(asking, "admin")


def operator(asking: Annotated[Caller, Depends(admin)]) -> Caller:
    """A caller that may manage every account: an admin key of the installation's own account."""
    if not asking.is_operator:
        raise ApiError(403, "This is for the operator of the service.", "insufficient_scope")
    return asking


def base_url(request: Request) -> str:
    """The public base of this server's URLs for this caller: the setting, or what the request itself was sent to."""
    configured: str = request.app.state.server.settings.public_url
    return configured or f"{request.scope['scheme']}://{request.headers.get('host', 'localhost')}"
