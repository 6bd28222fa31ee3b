"""Who is calling, and by which address they reach us. Knows no dialect; its error is told in whichever is spoken."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPBearer
from starlette.requests import Request

bearer = HTTPBearer(auto_error=False, description="An API key; `mutoscope keys create NAME` makes one.")
"""For the documentation: it refuses nothing, `caller` does."""

_CHALLENGE = {"WWW-Authenticate": "Bearer"}


class ApiError(Exception):
    """A refusal: an HTTP status, a sentence a person can act on, and a word that a program can."""

    def __init__(self, status: int, message: str, error_code: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.error_code = error_code
        self.headers = headers or {}


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
    message = "Invalid authentication: this API key is not known here, or was revoked."
    return ApiError(401, message, "invalid_api_key", _CHALLENGE)


def caller(request: Request, _: Annotated[object, Depends(bearer)]) -> str:
    """The id of the key that the request bears. Raises ApiError (401)."""
    key_id: str | None = request.app.state.server.store.caller(digest_of_key(request))
    if key_id is None:
        raise unknown_key()
    return key_id


def base_url(request: Request) -> str:
    """The public base of this server's URLs for this caller: the setting, or what the request itself was sent to."""
    configured: str = request.app.state.server.settings.public_url
    return configured or f"{request.url.scheme}://{request.headers.get('host', 'localhost')}"
