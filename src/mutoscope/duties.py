"""What only one process at a time does, of all that share a database: each duty is a row, held under a lease.

A lease only spares work: a duty has to be harmless where two do it at once, as they may when one outlasts its lease.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable

from sqlalchemy import insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from mutoscope.database import Database
from mutoscope.schema import duties


class Duties:
    """The duties of one process."""

    def __init__(self, database: Database, *, clock: Callable[[], float] | None = None) -> None:
        self._database = database
        self._clock = clock or database.now
        self._holder = f"{os.uname().nodename[:32]}-{os.getpid()}-{secrets.token_hex(4)}"

    def take(self, name: str, seconds: float) -> bool:
        """Whether this process has the duty, for so many seconds from now: nobody else had it, or it had it before."""
        now = self._clock()
        held = {"holder": self._holder, "until": now + seconds}
        free = or_(duties.c.until <= now, duties.c.holder == self._holder)
        try:
            with self._database.write() as connection:
                if connection.execute(update(duties).where(duties.c.name == name, free).values(held)).rowcount:
                    return True
                if connection.execute(select(duties.c.name).where(duties.c.name == name)).first():
                    return False
                connection.execute(insert(duties), {"name": name, **held})
                return True
        except IntegrityError:  # another process wrote the row first
            return False

    def lay_down(self, name: str) -> None:
        """Let another process have the duty at once, if this one has it."""
        mine = (duties.c.name == name, duties.c.holder == self._holder)
        with self._database.write() as connection:
            connection.execute(update(duties).where(*mine).values(until=0.0))
