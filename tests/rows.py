"""Rows that many tests need before they can begin."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, Integer

from mutoscope.database import Database
from mutoscope.keys import DEFAULT_ACCOUNT, Keys
from mutoscope.tasks import Caller


def make_caller(database: Database, account_id: str = DEFAULT_ACCOUNT) -> Caller:
    """The bearer of a fresh key."""
    keys = Keys(database, b"k" * 32)
    caller = keys.caller(keys.digest(keys.create("tests", account_id=account_id)))
    assert caller is not None
    return caller


def value_of(column: Column[Any], number: int) -> Any:
    """Something that is hard to keep, for the `number`-th row."""
    if column.foreign_keys or column.name == "id":
        return f"{number}"
    if column.nullable and number % 3 == 0:
        return None
    match column.type:
        case JSON():
            return {"text": 'é"\\u0000', "numbers": [number, 0.1 + 0.2, 2**63 - 1], "nothing": None}
        case Boolean():
            return number % 2 == 0
        case BigInteger():
            return 2**53 + number
        case Integer():
            return 7 * number
        case Float():
            return number / 3 + 1e9
    text = f"{number} é\n{column.name}"
    length = getattr(column.type, "length", None)
    return text[:length]
