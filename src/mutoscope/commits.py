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

from mutoscope.store import Store

_MOST_AT_ONCE = 256


@dataclass(slots=True)
class _Write:
    body: Callable[[Connection], Any]
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[Any]


class GroupCommit:
    """One thread that runs bodies of transactions and commits them together.

    Each body runs in a savepoint of its own: one that raises leaves no trace and harms no other.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
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
        outcomes: list[tuple[_Write, Any, BaseException | None]] = []
        try:
            with self._store.write() as connection:
                for write in batch:
                    try:
                        with connection.begin_nested():
                            outcomes.append((write, write.body(connection), None))
                    except Exception as error:
                        outcomes.append((write, None, error))
        except Exception as error:  # the commit itself failed: nobody's write happened
            outcomes = [(write, None, error) for write in batch]
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Write, Any, BaseException | None]]] = {}
        for outcome in outcomes:
            by_loop.setdefault(outcome[0].loop, []).append(outcome)
        for loop, theirs in by_loop.items():
            if not loop.is_closed():
                loop.call_soon_threadsafe(_settle, theirs)


def _settle(outcomes: list[tuple[_Write, Any, BaseException | None]]) -> None:
    for write, result, error in outcomes:
        if write.done.done():  # the caller went away
            continue
        if error is None:
            write.done.set_result(result)
        else:
            write.done.set_exception(error)
