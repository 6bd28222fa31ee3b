"""The caller's account and its keys. A key without the scope `admin` sees itself alone; what is made of an account's
keys never exceeds what the key that made it may do."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from mutoscope import ledger
from mutoscope.api import answers, wavespeed
from mutoscope.api.callers import ApiError, admin, caller
from mutoscope.api.fields import Asked, Dollars, Moment, Name, Word
from mutoscope.keys import TIERS, Key, KeysError
from mutoscope.pricing import micros, usd
from mutoscope.tasks import SCOPES, Caller, Scope

router = APIRouter(tags=["account"])

_DAY_SECONDS = 86_400
_MOST = 1_000_000


@router.get("/api/v3/account", response_model=answers.Success[answers.OwnAccount])
def account(request: Request, asking: Annotated[Caller, Depends(caller)]) -> Response:
    """The caller's account, its balance and what is set aside for tasks under way in dollars, and the key that asks."""
    server = request.app.state.server
    owner, key = server.keys.account(asking.account_id), server.keys.get(asking.key_id)
    now = server.store.database.now()
    with server.store.database.connect() as connection:
        spent = ledger.spent_since(connection, key.id, now - now % _DAY_SECONDS)
    return wavespeed.success(
        {
            "id": owner.id,
            "name": owner.name,
            "unlimited": owner.is_unlimited,
            "balance": usd(owner.available_micros),
            "held": usd(owner.held_micros),
            "currency": "USD",
            "key": {**_shown(key, asking), "spent_today": usd(spent)},
        }
    )


@router.get("/api/v3/balance", response_model=answers.Success[answers.Balance])
@router.get("/api/v3/account/balance", response_model=answers.Success[answers.Balance])
def balance(request: Request, asking: Annotated[Caller, Depends(caller)]) -> Response:
    """What the account has left to spend, in dollars: 1,000,000 for one whose balance refuses nothing."""
    owner = request.app.state.server.keys.account(asking.account_id)
    left = wavespeed.UNLIMITED_BALANCE if owner.is_unlimited else usd(owner.available_micros)
    return wavespeed.success({"balance": left, "currency": "USD"})


@router.get("/api/v3/keys", response_model=answers.Success[list[answers.Key]])
def keys(
    request: Request,
    asking: Annotated[Caller, Depends(caller)],
    account: Annotated[Word, Query(description="For the operator: another account's keys.")] = "",
) -> Response:
    """The keys of the account, the oldest first; to a key without the scope `admin`, itself alone."""
    server = request.app.state.server
    found = server.keys.all(_account_of(server, asking, account))
    may_see_all = "admin" in asking.scopes
    return wavespeed.success([_shown(key, asking) for key in found if may_see_all or key.id == asking.key_id])


class NewKey(Asked):
    """What a new key may do. Its limits are those of the key that makes it unless they are lower."""

    name: Name = Field(description="Whose key it is, or what for.")
    scopes: list[Scope] = Field(["generate", "read"], min_length=1, max_length=len(SCOPES))
    tier: Word = Field("", description=f"One of {', '.join(TIERS)}.")
    videos_per_minute: int | None = Field(None, ge=1, le=_MOST, description="Instead of the tier's.")
    concurrency: int | None = Field(None, ge=1, le=_MOST, description="Videos at once, instead of the tier's.")
    daily_cap: Dollars | None = Field(None, description="The most it may spend in a day (UTC), in dollars.")
    expires_at: Moment | None = None
    account: Word = Field("", description="For the operator: the account it is for.")


@router.post("/api/v3/keys", response_model=answers.Success[answers.MadeKey])
def create(request: Request, asked: NewKey, asking: Annotated[Caller, Depends(admin)]) -> Response:
    """Make a key of the account. `key` is shown this one time."""
    server = request.app.state.server
    own = server.keys.get(asking.key_id)
    wanted: dict[str, Any] = {
        "scopes": asked.scopes,
        "tier": asked.tier or own.tier,
        "daily_cap_micros": None if asked.daily_cap is None else micros(asked.daily_cap),
        "expires_at": None if asked.expires_at is None else asked.expires_at.timestamp(),
    }
    limits = TIERS.get(asked.tier, own)
    wanted["videos_per_minute"] = asked.videos_per_minute or limits.videos_per_minute
    wanted["concurrency"] = asked.concurrency or limits.concurrency
    if wanted["expires_at"] is not None and wanted["expires_at"] <= server.store.database.now():
        raise ApiError(400, "expires_at is over: it must be a time to come.", "invalid_parameter")
    if not asking.is_operator:
        _limit(wanted, own)
    try:
        made = server.keys.create(asked.name, account_id=_account_of(server, asking, asked.account), **wanted)
    except KeysError as error:
        raise ApiError(400, f"{error}.", "invalid_parameter") from None
    bearer = server.keys.caller(server.keys.digest(made))
    return wavespeed.success({**_shown(server.keys.get(bearer.key_id), asking), "key": made})


@router.delete("/api/v3/keys/{key_id}", response_model=answers.Success[answers.RevokedKey])
def revoke(request: Request, key_id: str, asking: Annotated[Caller, Depends(admin)]) -> Response:
    """End a key of the account at once."""
    if not request.app.state.server.keys.revoke(key_id, None if asking.is_operator else asking.account_id):
        raise ApiError(404, "There is no such key, or it was revoked before.", "key_not_found")
    return wavespeed.success({"id": key_id, "status": "revoked"})


def _account_of(server: Any, asking: Caller, named: str) -> str:
    """The id of the account that is meant: one's own, or whichever the operator names. Raises ApiError (404)."""
    if named in ("", asking.account_id):
        return asking.account_id
    may_name_any = asking.is_operator and "admin" in asking.scopes
    if not may_name_any or (found := server.keys.account(named)) is None:
        raise ApiError(404, "There is no such account.", "account_not_found")
    return str(found.id)


def _limit(wanted: dict[str, Any], own: Key) -> None:
    """Hold a new key's cap and end down to those of the key that makes it. Raises ApiError (403) for higher limits."""
    for name in ("videos_per_minute", "concurrency"):
        if wanted[name] > (most := getattr(own, name)):
            message = f"{name} would be {wanted[name]:,}: a key can't give another more than it has itself, {most:,}."
            raise ApiError(403, message, "insufficient_scope")
    for name in ("daily_cap_micros", "expires_at"):
        limits = [limit for limit in (wanted[name], getattr(own, name)) if limit is not None]
        wanted[name] = min(limits, default=None)


def _shown(key: Key, asking: Caller) -> dict[str, Any]:
    def moment(seconds: float | None) -> str | None:
        return None if seconds is None else wavespeed.rfc3339(seconds)

    return {
        "id": key.id,
        "name": key.name,
        "hint": key.hint,
        "scopes": key.scopes,
        "tier": key.tier,
        "videos_per_minute": key.videos_per_minute,
        "concurrency": key.concurrency,
        "daily_cap": None if key.daily_cap_micros is None else usd(key.daily_cap_micros),
        "created_at": moment(key.created_at),
        "expires_at": moment(key.expires_at),
        "revoked_at": moment(key.revoked_at),
        "current": key.id == asking.key_id,
    }
