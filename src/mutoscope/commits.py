"""Group commit: many small writes share one durable commit.

A commit waits for the disk; waiting once for everybody who came in the meantime is what lets one SQLite file accept
thousands of tasks a second without giving up durability. Knows nothing of what is written.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from mutoscope.database import Database

_MOST_AT_ONCE = 256


@dataclass(slots=True)
class _Write:
    body: Callable[[Connection], Any]
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[Any]


class GroupCommit:
    """One thread that runs bodies of transactions and commits them together.

    A body that raises leaves no trace and harms no other: all are then run again, each in a transaction of its own. So
    a body may run twice, and does nothing but read and write through the connection it is handed.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="group-commit", daemon=True)
        self._thread.start()

    async def run(self, body: Callable[[Connection], Any]) -> Any:
        """What `body` returns, once it is committed; or what it raised."""
        loop = asyncio.get_running_loop()
        write = _Write(body, loop, loop.create_future())
        self._waiting.put(write)
        return await write.done

    def close(self) -> None:
        """Commit what is waiting, and end the thread."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch: list[_Write] = [first]
            ending = False
            while len(batch) < _MOST_AT_ONCE and not self._waiting.empty():
                if (another := self._waiting.get()) is None:
                    ending = True
                    break
                batch.append(another)
            self._commit(batch)
            if ending:
                return

    def _commit(self, batch: list[_Write]) -> None:
        try:
            with self._database.write() as connection:
                outcomes: list[_Outcome] = [(write, write.body(connection), None) for write in batch]
        except Exception as error:
            if len(batch) == 1:
                outcomes = [(batch[0], None, error)]
            else:  # somebody's write failed, and with it the whole: find out whose, by committing each alone
                for write in batch:
                    self._commit([write])
                return
        by_loop: dict[asyncio.AbstractEventLoop, list[_Outcome]] = {}
        for outcome in outcomes:
            by_loop.setdefault(outcome[0].loop, []).append(outcome)
        for loop, theirs in by_loop.items():
            if not loop.is_closed():
                loop.call_soon_threadsafe(_settle, theirs)


_Outcome = tuple[_Write, Any, BaseException | None]


def _settle(outcomes: list[_Outcome]) -> None:
    for write, result, error in outcomes:
        if write.done.done():  # the caller went away
            continue
        if error is None:
            write.done.set_result(result)
        else:
            write.done.set_exception(error)
