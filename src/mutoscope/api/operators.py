"""Every account, for whoever runs the service: opened, listed, credited. Keys of an account are made at `/keys`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from mutoscope import ledger
from mutoscope.api import answers, wavespeed
from mutoscope.api.callers import ApiError, operator
from mutoscope.api.fields import Asked, Dollars, Name, Word
from mutoscope.api.submit import idempotency_key
from mutoscope.keys import Account, KeysError
from mutoscope.pricing import micros, usd
from mutoscope.tasks import Caller

router = APIRouter(tags=["operator"])


@router.get("/api/v3/admin/accounts", response_model=answers.Success[list[answers.Account]])
def accounts(request: Request, _: Annotated[Caller, Depends(operator)]) -> Response:
    """All accounts with their balances, the oldest first."""
    return wavespeed.success([_shown(found) for found in request.app.state.server.keys.accounts()])


class NewAccount(Asked):
    """An account to open."""

    name: Name
    unlimited: bool = Field(False, description="Its balance refuses nothing.")
    overdraft: Dollars = Field(0.0, description="How far below zero its balance may fall, in dollars.")


@router.post("/api/v3/admin/accounts", response_model=answers.Success[answers.Account])
def create(request: Request, asked: NewAccount, _: Annotated[Caller, Depends(operator)]) -> Response:
    """Open an account with an empty balance."""
    floor = -micros(asked.overdraft)
    try:
        made = request.app.state.server.keys.create_account(
            asked.name, is_unlimited=asked.unlimited, floor_micros=floor
        )
    except KeysError as error:
        raise ApiError(409, f"{str(error)[0].upper()}{str(error)[1:]}.", "name_taken") from None
    return wavespeed.success(_shown(made))


class Credit(Asked):
    """What is given to an account, or taken back."""

    amount: float = Field(
        allow_inf_nan=False, ge=-1e9, le=1e9, description="In dollars; a negative amount takes some back."
    )
    note: Word = Field("", description="What for; it is kept in the books.")


@router.post("/api/v3/admin/accounts/{account_id}/credit", response_model=answers.Success[answers.Account])
def credit(
    request: Request,
    account_id: str,
    asked: Credit,
    _: Annotated[Caller, Depends(operator)],
    __: Annotated[str | None, Header(alias="Idempotency-Key", max_length=255)] = None,
) -> Response:
    """Give an account credit, or take some back, never more than is there; under an Idempotency-Key, once."""
    server = request.app.state.server
    name = idempotency_key(request)
    amount = micros(asked.amount)
    if amount == 0:
        raise ApiError(
            400, f"amount is {asked.amount:g}: it must be a millionth of a dollar or more.", "invalid_parameter"
        )
    found = server.keys.account(account_id)
    if found is None:
        raise ApiError(404, "There is no such account.", "account_not_found")
    now = server.store.database.now()
    with server.store.database.write() as connection:
        outcome = ledger.credit(connection, found.id, amount, note=asked.note, now=now, name=name)
    if isinstance(outcome, ledger.Missing):
        message = f"The balance is too small to take that back: {usd(outcome.micros):g} USD are missing."
        raise ApiError(402, message, "insufficient_credits")
    if outcome is not None and outcome.micros != amount:
        message = f"This Idempotency-Key was used to credit {usd(outcome.micros):g} USD: use another key for this one."
        raise ApiError(409, message, "idempotency_conflict")
    answer = wavespeed.success(_shown(server.keys.account(found.id)))
    if outcome is not None:
        answer.headers["Idempotent-Replayed"] = "true"
    return answer


def _shown(found: Account) -> dict[str, Any]:
    return {
        "id": found.id,
        "name": found.name,
        "unlimited": found.is_unlimited,
        "balance": usd(found.available_micros),
        "held": usd(found.held_micros),
        "overdraft": usd(-found.floor_micros),
        "currency": "USD",
        "created_at": wavespeed.rfc3339(found.created_at),
    }
