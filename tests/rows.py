"""Rows that many tests need before they can begin."""

from __future__ import annotations

from mutoscope.database import Database
from mutoscope.keys import DEFAULT_ACCOUNT, Keys
from mutoscope.tasks import Caller


def make_caller(database: Database, account_id: str = DEFAULT_ACCOUNT) -> Caller:
    """The bearer of a fresh key."""
    keys = Keys(database, b"k" * 32)
    caller = keys.caller(keys.digest(keys.create("tests", account_id=account_id)))
    assert caller is not None
    return caller
