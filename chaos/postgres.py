"""PostgreSQL restarted every few seconds, in order or as by a crash, and its connections cut every two, under load."""

from __future__ import annotations

import argparse
import random
import signal
import time
from collections import Counter

import psycopg
from tests.postgres import Postgres

from chaos import report
from chaos.fleet import Fleet
from chaos.invariants import Findings
from chaos.load import Load
from chaos.storm import SUBMITS_PER_SECOND, brave, place

_SHORTEST_SECONDS, _LONGEST_SECONDS = 5.0, 40.0  # from one restart to the next
_CUT_SECONDS = 2.0
_LONGEST_AWAY_SECONDS = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(minutes=10.0)


def run(arguments: argparse.Namespace) -> bool:
    with place("postgresql") as (home, settings, server):
        assert server is not None
        found = restart(Fleet(home, settings), server, arguments)
    what = (
        f"PostgreSQL is stopped every {_SHORTEST_SECONDS:.0f} to {_LONGEST_SECONDS:.0f} s, half of the times as by a "
        f"crash (SIGQUIT) and half in order (SIGINT), and started again up to {_LONGEST_AWAY_SECONDS:.0f} s later; in "
        f"between every connection is cut each {_CUT_SECONDS:.0f} s (pg_terminate_backend). Callers try "
        f"{SUBMITS_PER_SECOND:.0f} submits a second, to a queue of 60. It flushes what it commits (fsync)."
    )
    report.conclude(arguments, "postgres", "PostgreSQL restarted and its connections cut", what, found)
    return not found.broken


def restart(fleet: Fleet, server: Postgres, arguments: argparse.Namespace) -> Findings:
    """Take the server away and bring it back for so many minutes."""
    chance = random.Random(arguments.seed)
    done: Counter[str] = Counter()

    def break_things(fleet: Fleet, _: Load) -> None:
        over_at = time.monotonic() + arguments.minutes * 60
        while time.monotonic() < over_at:
            until = time.monotonic() + chance.uniform(_SHORTEST_SECONDS, _LONGEST_SECONDS)
            while time.monotonic() < until:
                fleet.tend_for(_CUT_SECONDS)
                try:
                    server.cut("mutoscope")
                except psycopg.Error:  # our own connection was among those it ended
                    continue
                done["connections cut, times"] += 1
            number = chance.choice([signal.SIGQUIT, signal.SIGINT])
            server.stop(number)
            fleet.tend_for(chance.uniform(0, _LONGEST_AWAY_SECONDS))
            server.start()
            done["restarts"] += 1
            done[f"… by {number.name}"] += 1
            print(dict(done), flush=True)

    found = brave(fleet, break_things, arguments.seed)
    found.figures = {**done, **found.figures}
    return found
