"""Workers that freeze past their lease and wake when another has their task: whatever they write then is refused."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Engine, text

from chaos import report
from chaos.fleet import Fleet, Member
from chaos.inject.points import arm
from chaos.invariants import Findings
from chaos.load import Load
from chaos.storm import brave, place
from mutoscope.schema import make_engine

ANYWHERE = "a random moment"
MOMENTS = (
    ANYWHERE,
    "advance, after",
    "put preview, before",
    "video closed, after",
    "put poster, before",
    "put video, after",
    "succeed, before",
)
WORKERS = 3
LEASE_SECONDS = 1
_PATIENCE_SECONDS = 20.0
_SUBMITS_PER_SECOND = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pauses", type=int, default=200)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")


def run(arguments: argparse.Namespace) -> bool:
    with place(arguments.database) as (home, settings, _):
        control = home.parent / "points"
        control.mkdir()
        settings |= {"lease_seconds": LEASE_SECONDS, "max_queued": 20, "log_format": "json"}
        members = [Member.serving("api", 0), *(Member.working(f"worker {number}") for number in range(WORKERS))]
        fleet = Fleet(home, settings, {"CHAOS_POINTS": str(control)}, members)
        found = pause(fleet, control, arguments)
    what = (
        f"A worker that holds a task is stopped (SIGSTOP) before or after one of its writes, or at a random moment, "
        f"until its lease of {LEASE_SECONDS} s has run out and another worker has the task; then it goes "
        "on (SIGCONT), and each thing that it still wants to write has to be refused."
    )
    report.conclude(arguments, "pauses", "Frozen past the lease", what, found)
    return not found.broken


def pause(fleet: Fleet, control: Path, arguments: argparse.Namespace) -> Findings:
    """So many pauses of workers whose task another has when they go on."""
    chance = random.Random(arguments.seed)
    done: Counter[str] = Counter()
    broken: list[str] = []

    def break_things(fleet: Fleet, _: Load) -> None:
        rows = make_engine(fleet.database_url)
        try:
            freeze(rows)
        finally:
            rows.dispose()

    def freeze(rows: Engine) -> None:
        over_at = time.monotonic() + arguments.minutes * 60
        while done.total() < arguments.pauses and time.monotonic() < over_at:
            fleet.tend()
            moment = chance.choice(MOMENTS)
            with _stopped(fleet, control, moment, chance) as pid:
                held = _task_of(rows, pid)
                taken = held is not None and _until_taken(rows, *held)
            if held is None or not taken:
                continue  # it held nothing, or was woken while its task was still its own
            done[moment] += 1
            if not _was_refused(fleet, *held):
                broken.append(f"{moment}: task {held[0]}, attempt {held[1]}: nothing says that the write was refused")
            if done.total() % 20 == 0:
                print(f"{done.total()} pauses, {len(broken)} broken", flush=True)

    found = brave(fleet, break_things, arguments.seed, rate=_SUBMITS_PER_SECOND)
    found.figures = {
        "pauses past the lease": done.total(),
        **{f"… {moment}": done[moment] for moment in MOMENTS},
        "late writes refused": done.total() - len(broken),
        **found.figures,
    }
    found.broken = broken + found.broken
    return found


@contextlib.contextmanager
def _stopped(fleet: Fleet, control: Path, moment: str, chance: random.Random) -> Iterator[int]:
    """The process id of a worker that stands still while the block lasts."""
    if moment == ANYWHERE:
        time.sleep(chance.uniform(0, 1))
        pids = fleet.worker_pids()
        pid = chance.choice(pids) if pids else 0
        if pid:
            os.kill(pid, signal.SIGSTOP)
    else:
        armed = control / moment
        arm(armed, "SIGSTOP")
        until = time.monotonic() + _PATIENCE_SECONDS
        while not (notes := list(control.glob("*.stopped"))) and time.monotonic() < until:
            time.sleep(0.01)
        armed.unlink(missing_ok=True)
        notes = notes or list(control.glob("*.stopped"))
        pid = int(notes[0].stem) if notes else 0
        for note in notes:
            note.unlink()
    try:
        if pid:
            time.sleep(0.05)
        yield pid
    finally:
        if pid:
            os.kill(pid, signal.SIGCONT)


def _task_of(rows: Engine, pid: int) -> tuple[str, int] | None:
    """(id, attempt) of what a worker holds, whose name holds its process id."""
    query = text("SELECT id, attempt FROM tasks WHERE status = 'running' AND worker LIKE :name")
    with rows.connect() as connection:
        row = connection.execute(query, {"name": f"%-{pid}-%"}).first()
    return (row[0], row[1]) if row else None


def _until_taken(rows: Engine, task_id: str, attempt: int) -> bool:
    """Whether another worker gets the task within our patience."""
    query = text("SELECT status, attempt FROM tasks WHERE id = :id")
    until = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < until:
        with rows.connect() as connection:
            row = connection.execute(query, {"id": task_id}).first()
        if row is None or row[1] > attempt:
            return row is not None
        time.sleep(0.05)
    return False


def _was_refused(fleet: Fleet, task_id: str, attempt: int) -> bool:
    """Whether the worker says within our patience that it has lost this task in this attempt."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < until:
        for line in fleet.installation.log.read_text(errors="replace").splitlines():
            if task_id in line and "lease lost: nothing was written" in line and _attempt_of(line) == attempt:
                return True
        time.sleep(0.1)
    return False


def _attempt_of(line: str) -> object:
    try:
        return json.loads(line).get("attempt")
    except ValueError:
        return None
