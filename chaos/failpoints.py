"""Named moments before, in and after every write of the journey: at each, processes are killed, and all is checked."""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from chaos import invariants, report
from chaos.fleet import Fleet
from chaos.inject.points import POINTS, arm
from chaos.invariants import Findings
from chaos.load import Load
from chaos.storm import SETTLED_SECONDS, brave, place
from mutoscope.database import Database
from mutoscope.schema import make_engine

_PATIENCE_SECONDS = 45.0
_AGAIN_SECONDS = 4.0
_TOGETHER = 6
_SUBMITS_PER_SECOND = 10.0
_OLD_SECONDS = 30 * 86_400


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kills", type=int, default=10, help="at each moment")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--only", default="", help="moments whose name holds this")


def run(arguments: argparse.Namespace) -> bool:
    moments = [name for point in POINTS for name in point.names() if arguments.only in name]
    with place(arguments.database) as (home, settings, _):
        control = home.parent / "points"
        control.mkdir()
        settings |= {"lease_seconds": 2, "max_queued": 30}
        fleet = Fleet(home, settings, {"CHAOS_POINTS": str(control)})
        found = kill_at(fleet, control, moments, arguments)
    what = (
        "Each moment is a place in the code: before and after a write, and, where that is a transaction, the instant "
        f"before its commit. {_TOGETHER} of them at a time, whichever process gets there is killed (SIGKILL), "
        "again and again, under load; then all tasks have to end, and everything is checked."
    )
    report.conclude(arguments, "failpoints", "Killed at named moments of the journey", what, found)
    return not found.broken


def kill_at(fleet: Fleet, control: Path, moments: list[str], arguments: argparse.Namespace) -> Findings:
    """So many kills at each of the named moments, in an order drawn from the seed."""
    chance = random.Random(arguments.seed)
    kills = arguments.kills
    order = chance.sample(moments, len(moments))
    done: dict[str, int] = {}
    broken: list[str] = []

    def break_things(fleet: Fleet, load: Load) -> None:
        with Database(make_engine(fleet.database_url)) as database:
            strike_all(Provoker(fleet, load, chance, database), load)

    def strike_all(provoker: Provoker, load: Load) -> None:
        over_at = time.monotonic() + arguments.minutes * 60
        for begin in range(0, len(order), _TOGETHER):
            if time.monotonic() > over_at:
                return
            batch = order[begin : begin + _TOGETHER]
            done.update(_strike(fleet, control, {moment: provoker.of(moment) for moment in batch}, arguments.kills))
            found = _look(fleet, load)
            broken.extend(f"after {', '.join(batch)}: {each}" for each in found.broken)
            print({moment: done[moment] for moment in batch}, f"{len(found.broken)} broken", flush=True)
            for each in found.broken[:5]:
                print("   ", each, flush=True)

    found = brave(fleet, break_things, arguments.seed, rate=_SUBMITS_PER_SECOND)
    missed = [name for name, count in done.items() if count < kills]
    found.figures = {
        "moments": len(done),
        "moments left out, for want of time": len(moments) - len(done),
        "kills": sum(done.values()),
        "moments that did not come often enough": ", ".join(f"{name} ({done[name]})" for name in missed) or "none",
        **found.figures,
    }
    found.broken = broken + found.broken
    return found


def _look(fleet: Fleet, load: Load) -> Findings:
    """What is broken once all that was accepted has ended; the callers wait meanwhile."""
    with load.paused():
        fleet.tend()
        fleet.wait_ready()
        load.settle()
        until = time.monotonic() + SETTLED_SECONDS
        while invariants.unended(fleet.database_url) and time.monotonic() < until:
            fleet.tend()
            time.sleep(0.1)
        time.sleep(0.5)  # a worker tidies up after its last row
        return invariants.check(fleet.database_url, fleet.files(), fleet.scratch, load.promised, in_full=False)


def _strike(fleet: Fleet, control: Path, moments: dict[str, Callable[[], None]], kills: int) -> dict[str, int]:
    """How many were killed at each of these moments: so many as asked, unless none comes for too long."""
    done = dict.fromkeys(moments, 0)
    armed: set[str] = set()
    last, again_at = time.monotonic(), time.monotonic()
    while armed or not any(done.values()):
        fleet.tend()
        struck = {moment for moment in armed if not (control / moment).exists()}
        for moment in struck:
            done[moment] += 1
            last = time.monotonic()
        armed = {moment for moment in armed if moment not in struck}
        for moment in moments:
            if moment not in armed and done[moment] < kills:
                arm(control / moment, "SIGKILL")
                armed.add(moment)
        if time.monotonic() > last + _PATIENCE_SECONDS:
            break
        if armed and time.monotonic() > again_at:
            again_at = time.monotonic() + _AGAIN_SECONDS
            # One at a time: what brings one about may keep the others from coming.
            with contextlib.suppress(OSError, SQLAlchemyError):  # nobody answers right now; it is tried again
                moments[random.choice(sorted(armed))]()
        time.sleep(0.02)
    for moment in armed:
        (control / moment).unlink(missing_ok=True)
    return done


class Provoker:
    """Makes those moments come that the callers' own load seldom brings."""

    def __init__(self, fleet: Fleet, load: Load, chance: random.Random, database: Database) -> None:
        self._fleet = fleet
        self._load = load
        self._chance = chance
        self._database = database

    def of(self, moment: str) -> Callable[[], None]:
        """What makes this moment come."""
        match moment.rpartition(",")[0]:
            case "give back":
                return lambda: self._signal(signal.SIGTERM)
            case "release of a dead worker's" | "lapse":
                return lambda: self._signal(signal.SIGKILL)
            case "end of a canceled one":
                return lambda: self._delete("running")
            case "cancel":
                return lambda: self._delete("queued")
            case "ended tasks forgotten" | "file deleted":
                return lambda: self._delete("succeeded")
            case "duty taken" | "old uploads forgotten":
                return self._pass_time
            case "credit":
                return lambda: threading.Thread(target=self._fleet.credit, args=(1,), daemon=True).start()
        return lambda: None

    def _signal(self, number: signal.Signals) -> None:
        if invariants.running(self._fleet.database_url) == 0:
            return  # nobody is ready: who is told to stop while starting has nothing to give back
        if pids := self._fleet.worker_pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._chance.choice(pids), number)

    def _delete(self, status: str) -> None:
        with self._database.connect() as connection:
            query = text("SELECT id FROM tasks WHERE status = :status ORDER BY seq DESC LIMIT 5")
            for task_id in connection.execute(query, {"status": status}).scalars().all():
                self._load.delete(task_id)

    def _pass_time(self) -> None:
        """An upload's retention is over, and so is every duty's lease; a server that starts sees to both."""
        with self._database.write() as connection:
            query = text("SELECT id, file FROM uploads WHERE filename = 'own.png' ORDER BY created_at")
            answered = self._load.promised.uploads
            for upload_id, file in [row for row in connection.execute(query).all() if row[1] in answered][:1]:
                answered.discard(file)
                aged = text("UPDATE uploads SET created_at = :then WHERE id = :id")
                connection.execute(aged, {"then": time.time() - _OLD_SECONDS, "id": upload_id})
            connection.execute(text("UPDATE duties SET until = 0"))
        member = self._fleet.member("api")
        if member.process is not None:
            member.process.terminate()
