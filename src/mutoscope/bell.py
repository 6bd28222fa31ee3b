"""The bell between machines: a worker that waits for work wakes at once, on whatever machine a task was accepted.

PostgreSQL's NOTIFY carries it. It only saves a moment of sleep: the row is the truth, and a worker that hears nothing
looks every second. With SQLite there is one machine, and the supervisor's pipes are its bell.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import structlog

from mutoscope.database import UNREACHABLE, Database

log = structlog.get_logger()

_CHANNEL = "mutoscope_tasks"
_LOOK_SECONDS = 1.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.2, 5.0


class Ringer:
    """Rings for the workers of every machine, on a thread of its own: however often it is asked, never in the way."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._wanted = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="ringer", daemon=True)

    def start(self) -> None:
        if not self._database.is_local:
            self._thread.start()

    def ring(self) -> None:
        self._wanted.set()

    def stop(self) -> None:
        self._stopping = True
        self._wanted.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            if self._stopping:
                return
            self._wanted.clear()
            try:
                with self._database.connect() as connection:
                    connection.exec_driver_sql(f"NOTIFY {_CHANNEL}")
            except UNREACHABLE:  # then nobody can claim anything either
                log.warning("the workers could not be rung for")


class Listener:
    """Calls `heard` whenever somebody rang, and whenever it may have missed that."""

    def __init__(self, database: Database, heard: Callable[[], None]) -> None:
        self._database = database
        self._heard = heard
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="listener", daemon=True)

    def start(self) -> None:
        if not self._database.is_local:
            self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while not self._stopping.wait(pause):
            try:
                self._listen()
                pause = 0.0
            except Exception:  # whatever it is, the worker goes on by looking
                log.warning("the bell can't be heard: this worker looks for itself meanwhile")
                pause = min(2 * pause or _FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)

    def _listen(self) -> None:
        taken = self._database.engine.raw_connection()
        driver: Any = taken.driver_connection
        taken.detach()  # a connection of its own, for it is never given back
        try:
            driver.autocommit = True
            driver.execute(f"LISTEN {_CHANNEL}")
            self._heard()
            while not self._stopping.is_set():
                for _ in driver.notifies(timeout=_LOOK_SECONDS, stop_after=1):
                    self._heard()
        finally:
            driver.close()
