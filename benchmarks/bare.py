"""The raw limit that the platform is held against: a bare ASGI app that stores a row and reads it again.

    python -m benchmarks.bare PORT DATABASE_URL

It has what any such server needs and nothing else: one process under uvicorn, one connection that writes, commits
shared by all who wait (SQLite with synchronous=FULL, or PostgreSQL), one connection that reads. No keys, no checks, no
money. POST stores a body and answers {"id"}; GET /ID answers what is stored.
"""

from __future__ import annotations

import asyncio
import json
import queue
import sqlite3
import sys
import threading
import uuid
from collections.abc import Callable
from typing import Any

import psycopg
import uvicorn


class Rows:
    """Rows of (id, body) in one table; `cursor_of` opens a connection."""

    def __init__(self, url: str) -> None:
        if url.startswith("sqlite:///"):
            path = url.removeprefix("sqlite:///")
            self._write, self._read = (sqlite3.connect(path, check_same_thread=False) for _ in range(2))
            self._write.execute("PRAGMA journal_mode=WAL")
            self._write.execute("PRAGMA synchronous=FULL")
            self._mark = "?"
        else:
            self._write = psycopg.connect(url.replace("+psycopg", ""))  # type: ignore[assignment]
            self._read = psycopg.connect(url.replace("+psycopg", ""), autocommit=True)  # type: ignore[assignment]
            self._mark = "%s"
        self._write.execute("CREATE TABLE IF NOT EXISTS bare (id TEXT PRIMARY KEY, body TEXT NOT NULL)")
        self._write.commit()
        self._waiting: queue.SimpleQueue[tuple[str, str, Callable[[], Any]]] = queue.SimpleQueue()
        threading.Thread(target=self._commit, daemon=True).start()

    async def add(self, body: str) -> str:
        """Store a body; it is committed when this returns its id."""
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        row_id = uuid.uuid4().hex
        self._waiting.put((row_id, body, lambda: loop.call_soon_threadsafe(done.set)))
        await done.wait()
        return row_id

    def get(self, row_id: str) -> str:
        """The body of a row; LookupError if there is none."""
        found = self._read.execute(f"SELECT body FROM bare WHERE id = {self._mark}", (row_id,)).fetchone()
        if found is None:
            raise LookupError(row_id)
        body: str = found[0]
        return body

    def _commit(self) -> None:
        insert = f"INSERT INTO bare VALUES ({self._mark}, {self._mark})"
        while True:
            batch = [self._waiting.get()]
            while not self._waiting.empty():
                batch.append(self._waiting.get())
            cursor = self._write.cursor()
            cursor.executemany(insert, [(row_id, body) for row_id, body, _ in batch])
            self._write.commit()
            for _, _, tell in batch:
                tell()


def app_on(rows: Rows) -> Callable[..., Any]:
    """The ASGI app."""

    async def app(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        if scope["type"] != "http":
            return
        if scope["method"] == "POST":
            body, more = b"", True
            while more:
                message = await receive()
                body, more = body + message.get("body", b""), message.get("more_body", False)
            answer = {"id": await rows.add(json.dumps(json.loads(body)))}
        else:
            answer = json.loads(rows.get(scope["path"].rpartition("/")[2]))
        data = json.dumps(answer).encode()
        length = (b"content-length", b"%d" % len(data))
        headers = [(b"content-type", b"application/json"), length]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": data})

    return app


if __name__ == "__main__":
    uvicorn.run(app_on(Rows(sys.argv[2])), port=int(sys.argv[1]), log_level="warning", access_log=False, lifespan="off")
