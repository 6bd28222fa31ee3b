"""A bucket that fails: answers 500 and 503, slow answers, connections reset before and after the work was done."""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import time
from collections import Counter

from tests.bucket import S3Server

from chaos import report
from chaos.fleet import Fleet
from chaos.invariants import Findings
from chaos.load import Load
from chaos.proxy import FAULTS, Proxy, before
from chaos.storm import brave, place

_SUBMITS_PER_SECOND = 15.0
_SHORTEST_SECONDS, _LONGEST_SECONDS = 3.0, 15.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.set_defaults(minutes=5.0)


def run(arguments: argparse.Namespace) -> bool:
    store = S3Server()
    with (
        place(arguments.database) as (home, settings, _),
        before(store.endpoint) as proxy,
        contextlib.ExitStack() as end,
    ):
        end.callback(store.close)
        os.environ.update(store.env)  # what is checked at the end is asked of the store itself
        settings |= {"files_url": store.make_bucket("storm"), "max_queued": 30}
        fleet = Fleet(home, settings, {**store.env, "AWS_ENDPOINT_URL": proxy.endpoint})
        found = trouble(fleet, proxy, arguments)
    what = (
        f"Between the processes and their bucket stands a proxy that fails for {_SHORTEST_SECONDS:.0f} to "
        f"{_LONGEST_SECONDS:.0f} s at a time, in one of {len(FAULTS)} ways, for each request or for every other one; "
        f"then all is well for as long. Callers try {_SUBMITS_PER_SECOND:.0f} submits a second, to a queue of 30."
    )
    report.conclude(arguments, "bucket", "A bucket that fails", what, found)
    return not found.broken


def trouble(fleet: Fleet, proxy: Proxy, arguments: argparse.Namespace) -> Findings:
    """Fail and be well by turns for so many minutes."""
    chance = random.Random(arguments.seed)
    done: Counter[str] = Counter()

    def break_things(fleet: Fleet, _: Load) -> None:
        over_at = time.monotonic() + arguments.minutes * 60
        while time.monotonic() < over_at:
            for fault in ("", chance.choice(FAULTS)):
                proxy.share = chance.choice([0.5, 1.0])
                proxy.fault = fault
                fleet.tend_for(chance.uniform(_SHORTEST_SECONDS, _LONGEST_SECONDS))
                done["times of trouble"] += bool(fault)
            proxy.fault = ""
        print(dict(proxy.met), flush=True)

    found = brave(fleet, break_things, arguments.seed, rate=_SUBMITS_PER_SECOND)
    met = {f"… {name}": count for name, count in sorted(proxy.met.items())}
    found.figures = {**done, "requests to the bucket that failed": proxy.met.total(), **met, **found.figures}
    return found
