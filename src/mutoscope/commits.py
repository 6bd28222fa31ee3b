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

from mutoscope.database import UNREACHABLE, Database

_MOST_AT_ONCE = 256


@dataclass(slots=True)
class _Write:
    body: Callable[[Connection], Any]
    order: str
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

    async def run(self, body: Callable[[Connection], Any], order: str = "") -> Any:
        """What `body` returns, once it is committed; or what it raised.

        `order`: bodies that lock rows name them here, and run in that order, as those of other processes do: so that no
        two processes wait for each other.
        """
        loop = asyncio.get_running_loop()
        write = _Write(body, order, loop, loop.create_future())
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
            batch.sort(key=lambda write: write.order)
            self._commit(batch)
            if ending:
                return

    def _commit(self, batch: list[_Write], *, is_second: bool = False) -> None:
        try:
            with self._database.write() as connection:
                outcomes: list[_Outcome] = [(write, write.body(connection), None) for write in batch]
        except Exception as error:
            is_unreachable = isinstance(error, UNREACHABLE)
            if is_unreachable and not is_second:  # a connection that broke may be well as a new one
                self._commit(batch, is_second=True)
                return
            if len(batch) == 1 or is_unreachable:
                outcomes = [(write, None, error) for write in batch]
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
