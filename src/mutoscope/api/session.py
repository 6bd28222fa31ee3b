"""Signing in by the link that `mutoscope serve` prints: a token that is exchanged for a key, once and soon.

The token stands behind the # of the link, so that no server, proxy or referrer ever sees it in an address, and it lives
in this process alone: a restart ends it.
"""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from typing import Annotated

from fastapi import APIRouter, Body
from starlette.requests import Request
from starlette.responses import Response

from mutoscope.api import answers, wavespeed
from mutoscope.api.callers import ApiError

router = APIRouter(tags=["system"])

LIVES_SECONDS = 15 * 60


class OneTimeToken:
    """256 random bits that open the door once, within a quarter of an hour."""

    def __init__(self) -> None:
        self.text = secrets.token_urlsafe(32)
        self._ends = time.monotonic() + LIVES_SECONDS
        self._lock = threading.Lock()
        self._is_spent = False

    def spend(self, text: str) -> bool:
        """Whether this is the token, still good; from then on it is not."""
        is_it = hmac.compare_digest(text.encode("utf-8", "surrogateescape"), self.text.encode())
        with self._lock:
            good = is_it and not self._is_spent and time.monotonic() < self._ends
            self._is_spent = self._is_spent or good
        return good


@router.post("/api/v3/session", response_model=answers.Success[answers.Session])
def sign_in(request: Request, token: Annotated[str, Body(embed=True, max_length=200)]) -> Response:
    """Exchange the token of the link that `serve` printed for a key. The key is shown this one time."""
    server = request.app.state.server
    if not server.door.spend(token):
        raise ApiError(
            401,
            "This link was used already, or is older than a quarter of an hour. Start the server again for another, "
            "or sign in with a key: `mutoscope keys create NAME` makes one.",
            "invalid_token",
        )
    name = time.strftime("signed in by link, %Y-%m-%d %H:%M")
    return wavespeed.success({"key": server.keys.create(name, scopes=("generate", "read", "admin"))})
