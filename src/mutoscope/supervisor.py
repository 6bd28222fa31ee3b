"""Workers as child processes: started, woken, watched, restarted with back-off, and stopped without losing a task.

A pipe to each worker's standard input is both bell and lifeline: a byte says there may be work, and its end says that
the server is gone, however it went.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from mutoscope.database import UNREACHABLE
from mutoscope.store import Store

log = structlog.get_logger()

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
_HEALTHY_SECONDS = 30.0  # a worker that lived this long starts over with the shortest pause
_LOOK_SECONDS = 0.1
_AFTER_FAULT_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Launch:
    """How a worker is started: its command line, and what its environment has besides ours."""

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


class Supervisor:
    """Keeps one worker process running for each of `launches`."""

    def __init__(self, store: Store, launches: Sequence[Launch], *, grace_seconds: float = 15) -> None:
        self._store = store
        self._grace_seconds = grace_seconds
        self._slots = [_Slot(number, launch) for number, launch in enumerate(launches)]
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def ring(self) -> None:
        """Wake the workers: there may be work. Never blocks; a bell that is ringing already need not ring louder."""
        for slot in self._slots:
            slot.ring()

    def stop(self) -> None:
        """Let every worker give its task back and end; kill those that don't within `grace_seconds`."""
        self._stopping.set()
        self._thread.join()
        for slot in self._slots:
            slot.hang_up()
        until = time.monotonic() + self._grace_seconds
        for slot in self._slots:
            if slot.process is None:
                continue
            try:
                slot.process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.warning("worker does not end: killing it", pid=slot.process.pid)
                slot.process.kill()
                slot.process.wait()
            try:
                self._bury(slot)
            except UNREACHABLE:  # its lease will run out
                log.warning("what a worker held could not be given back: the database can't be reached")

    def _watch(self) -> None:
        pause = 0.0
        while not self._stopping.wait(pause):
            pause = _LOOK_SECONDS
            for slot in self._slots:
                try:
                    self._tend(slot)
                except Exception:  # a busy database, or a machine out of memory, must not end the watch
                    log.exception("a worker could not be replaced; it is tried again")
                    pause = _AFTER_FAULT_SECONDS

    def _tend(self, slot: _Slot) -> None:
        if slot.process is not None and slot.process.poll() is not None:
            self._bury(slot)
        if slot.process is None and time.monotonic() >= slot.start_at:
            slot.start()

    def _bury(self, slot: _Slot) -> None:
        assert slot.process is not None
        code, lived = slot.process.returncode, time.monotonic() - slot.started
        slot.hang_up()
        # Whatever it held is free at once, without waiting for the lease: nobody is there to hold it. Killed from
        # outside is a loss; ending by itself, or by a fault of its own code, is a failed attempt.
        killed = code in (-9, -15, -2, 137, 143)
        freed = self._store.release(slot.worker_name, failed=not killed)
        slot.pause = _FIRST_PAUSE_SECONDS if lived > _HEALTHY_SECONDS else min(slot.pause * 2, _LONGEST_PAUSE_SECONDS)
        slot.start_at = time.monotonic() + (0 if killed else slot.pause)
        slot.process = None
        if code != 0 and not self._stopping.is_set():
            log.warning("worker ended: starting another", code=code, lived=round(lived, 1), tasks_given_back=freed)


class _Slot:
    """The place of one worker: the process that fills it now, and when the next one may."""

    def __init__(self, number: int, launch: Launch) -> None:
        self.number = number
        self._launch = launch
        self.process: subprocess.Popen[bytes] | None = None
        self.worker_name = ""
        self.started = 0.0
        self.start_at = 0.0
        self.pause = _FIRST_PAUSE_SECONDS / 2
        self._pipe = threading.Lock()

    def start(self) -> None:
        self.worker_name = f"{os.uname().nodename[:24]}-{os.getpid()}-{self.number}-{time.time_ns():x}"
        self.started = time.monotonic()
        with self._pipe:
            self.process = subprocess.Popen(  # noqa: S603 - our own command line, no shell
                [*self._launch.command, "--name", self.worker_name, "--supervised"],
                stdin=subprocess.PIPE,
                bufsize=0,
                env={**os.environ, **self._launch.environment},
            )
            assert self.process.stdin is not None
            os.set_blocking(self.process.stdin.fileno(), False)

    def ring(self) -> None:
        with self._pipe, contextlib.suppress(OSError, ValueError):
            if self.process is not None and self.process.stdin is not None:
                self.process.stdin.write(b".")

    def hang_up(self) -> None:
        with self._pipe, contextlib.suppress(OSError, ValueError):
            if self.process is not None and self.process.stdin is not None:
                self.process.stdin.close()


def worker_command(engines: Sequence[str]) -> list[str]:
    """The command line of a worker in this very installation, for these engines."""
    return [sys.executable, "-m", "mutoscope", "worker", *(part for name in engines for part in ("--engine", name))]
