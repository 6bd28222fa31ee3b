"""`python -m chaos EXPERIMENT`: runs one experiment. Exit code 0 when nothing was lost, 1 when something was."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import time
from math import inf

# Name → module and what it shows. A module has `add_arguments(parser)` and `run(arguments) -> bool`, which writes its
# section of docs/reliability.md and tells whether every promise was kept.
EXPERIMENTS = {
    "kills": ("chaos.kills", "SIGKILL of API, supervisor and workers at random moments, under load"),
    "failpoints": ("chaos.failpoints", "SIGKILL at named moments before, in and after every write of the journey"),
    "pauses": ("chaos.pauses", "SIGSTOP of workers past their lease, and SIGCONT: late writes are refused"),
    "postgres": ("chaos.postgres", "PostgreSQL restarted, and its connections cut, under load"),
    "bucket": ("chaos.bucket", "a bucket that fails, is slow, and resets connections, under load"),
    "soak": ("chaos.soak", "an hour of mixed load, watching memory and open files"),
    "lost-writes": ("chaos.lostwrites", "power cuts that lose what was not flushed"),
    "mutations": ("chaos.mutate", "deliberate faults in the product, which the tests have to catch"),
    "queue": ("chaos.backlog", "100,000 tasks wait: a restart, and claims"),
    "listeners": ("chaos.listeners", "thousands follow a task's events"),
    "disk": ("chaos.full", "a disk that is full, or read-only, wherever something is written"),
}


def parse(command: list[str]) -> argparse.Namespace:
    """What a command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    chosen = parser.add_subparsers(dest="experiment", required=True)
    name = next((each for each in command if each in EXPERIMENTS), "")
    for each, (_, shows) in EXPERIMENTS.items():
        arguments = chosen.add_parser(each, help=shows, description=shows)
        arguments.add_argument("--seed", type=int, default=time.time_ns() % 2**32, help="repeats a run's choices")
        arguments.add_argument("--minutes", type=float, default=inf, help="break nothing more after so many")
        arguments.add_argument("--no-report", action="store_true", help="leave docs/reliability.md as it is")
        if each == name:  # the others need not even be importable here
            importlib.import_module(EXPERIMENTS[each][0]).add_arguments(arguments)
    return parser.parse_args(command)


def main() -> int:
    """Run what the command line asks for."""
    asked = parse(sys.argv[1:])
    # What was started is ended in any case, also where the run is told to stop.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))
    print(f"{asked.experiment}: seed {asked.seed}", flush=True)
    kept: bool = importlib.import_module(EXPERIMENTS[asked.experiment][0]).run(asked)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
