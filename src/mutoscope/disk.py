"""When a disk can't be written: full, or not there to be written. Tells such errors from all others; knows no file.

SQLite, PostgreSQL, the encoder and the system each have words of their own for it.
"""

from __future__ import annotations

import errno
import sqlite3
from enum import Enum

from sqlalchemy.exc import DBAPIError

_FULL_ERRNOS = {errno.ENOSPC, errno.EDQUOT}
_AWAY_ERRNOS = {errno.EROFS, errno.EIO, errno.ENODEV, errno.ESTALE}
_FULL_SQLSTATE = "53100"  # PostgreSQL's disk_full
_AWAY_SQLITE = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}


class Trouble(Enum):
    """Why nothing can be written; either may be over in a moment."""

    FULL = "the disk is full"
    AWAY = "the disk can't be written"


def trouble(error: BaseException) -> Trouble | None:
    """What an error says of the disk; None where it says nothing of it."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    if isinstance(cause, sqlite3.Error):
        code = getattr(cause, "sqlite_errorcode", 0) & 0xFF  # the rest of it says more than we need
        return Trouble.FULL if code == sqlite3.SQLITE_FULL else Trouble.AWAY if code in _AWAY_SQLITE else None
    if getattr(cause, "sqlstate", None) == _FULL_SQLSTATE:
        return Trouble.FULL
    number = getattr(cause, "errno", None)  # of an OSError, or of the encoder's own kind
    return Trouble.FULL if number in _FULL_ERRNOS else Trouble.AWAY if number in _AWAY_ERRNOS else None
