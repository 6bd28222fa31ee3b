"""The kill loop: SIGKILL of API, supervisor, workers, or a whole server, at random moments under load."""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import time
from collections import Counter

from chaos import report
from chaos.fleet import Fleet
from chaos.invariants import Findings
from chaos.load import Load
from chaos.storm import SUBMITS_PER_SECOND, brave, place

TARGETS = ("api", "supervisor", "worker", "server and workers")
SHORTEST_SECONDS = 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--longest-seconds", type=float, default=2.5, help="between two kills")


def run(arguments: argparse.Namespace) -> bool:
    with place(arguments.database) as (home, settings, _):
        found = kill_loop(Fleet(home, settings), arguments)
    name = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}[arguments.database]
    what = (
        f"API, supervisor and workers are killed (SIGKILL) at random moments, {SHORTEST_SECONDS} to "
        f"{arguments.longest_seconds} s apart, and started again at once, while callers try {SUBMITS_PER_SECOND:.0f} "
        "submits a second. The queue holds 60, so that most of these are refused with 429."
    )
    report.conclude(arguments, f"kills-{arguments.database}", f"Killed under load, on {name}", what, found)
    return not found.broken


def kill_loop(fleet: Fleet, arguments: argparse.Namespace) -> Findings:
    """So many kills, each of a process that ran."""
    chance = random.Random(arguments.seed)
    done: Counter[str] = Counter()

    def break_things(fleet: Fleet, _: Load) -> None:
        over_at = time.monotonic() + arguments.minutes * 60
        while done.total() < arguments.kills and time.monotonic() < over_at:
            fleet.tend_for(chance.uniform(SHORTEST_SECONDS, arguments.longest_seconds))
            target = chance.choice(TARGETS)
            if _kill(fleet, target, chance):
                done[target] += 1
                if done.total() % 50 == 0:
                    print(f"{done.total()} kills", flush=True)

    found = brave(fleet, break_things, arguments.seed)
    found.figures = {
        "kills": done.total(),
        **{f"… of {'an ' if target == 'api' else 'a '}{target}": done[target] for target in TARGETS},
        **found.figures,
    }
    return found


def _kill(fleet: Fleet, target: str, chance: random.Random) -> bool:
    """Whether there was one to kill."""
    match target:
        case "api":
            return fleet.kill("api")
        case "supervisor":  # alone: its workers are to notice
            return fleet.kill("server")
        case "server and workers":
            return fleet.kill_group("server")
    pids = fleet.worker_pids()
    if not pids:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(chance.choice(sorted(pids)), signal.SIGKILL)
        return True
    return False
