"""A long queue: 100,000 tasks wait, the server starts again, and workers claim."""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import text
from tests.installation import ANIMATIC, Installation

from chaos import report
from chaos.invariants import Findings
from mutoscope.admission import Admission, Submission
from mutoscope.keys import Keys
from mutoscope.schema import open_database
from mutoscope.store import Store
from mutoscope.tasks import VideoRequest

READY_SECONDS = 2.0
CLAIM_MS = 20.0
_ACCOUNTS = 10
_AT_ONCE = 2000  # tasks accepted in one transaction
_STARTS = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--claims", type=int, default=1000)


def run(arguments: argparse.Namespace) -> bool:
    with tempfile.TemporaryDirectory(prefix="mutoscope-chaos-") as folder:
        found = queue(Path(folder), arguments.tasks, arguments.claims)
    what = (
        f"{arguments.tasks:,} tasks of {_ACCOUNTS} accounts wait. The server is started {_STARTS} times on them and on "
        "an empty queue, by turns, until it answers /readyz (the median; most of it is Python starting). Then "
        f"{arguments.claims:,} tasks are claimed; between two claims a row of another SQLite file is written and "
        "committed, which is what the disk itself takes. A bar counts as kept on a busy machine where the time is no "
        "more than twice that of the yardstick."
    )
    report.conclude(arguments, "queue", "A long queue", what, found)
    return not found.broken


def queue(folder: Path, num_tasks: int, num_claims: int) -> Findings:
    found = Findings()
    empty, full = (Installation(folder / name, workers=0) for name in ("empty", "full"))
    with open_database(full.database_url) as database:
        _fill(Store(database), num_tasks)
    ready = {"with it": full, "with an empty queue": empty}
    seconds = {name: statistics.median(times) for name, times in _starts(ready).items()}
    allowed = max(READY_SECONDS, 2 * seconds["with an empty queue"])
    found.expect(seconds["with it"] < allowed, f"the server takes {seconds['with it']:.1f} s to be ready")
    claims, commits = _claim(full.database_url, folder / "yardstick.db", num_claims, found)
    allowed = max(CLAIM_MS, 2 * _p99(commits))
    found.expect(_p99(claims) < allowed, f"99 of 100 claims take up to {_p99(claims):.1f} ms")
    found.figures = {
        "tasks waiting": num_tasks,
        **{f"seconds until ready, {name}": value for name, value in seconds.items()},
        "claims": len(claims),
        "a claim, ms: median": statistics.median(claims),
        "a claim, ms: 99 of 100 take no more than": _p99(claims),
        "a bare commit, ms: median": statistics.median(commits),
        "a bare commit, ms: 99 of 100 take no more than": _p99(commits),
        "a claim, of a bare commit, median": statistics.median(claims) / statistics.median(commits),
    }
    return found


def _fill(store: Store, num_tasks: int) -> None:
    admission = Admission(store)
    keys = Keys(store.database, b"k" * 32)
    callers = []
    for number in range(_ACCOUNTS):
        account = keys.create_account(f"account {number}").id
        key = keys.create("key", account_id=account, videos_per_minute=10**7)
        callers.append(keys.caller(keys.digest(key)))
    asked = VideoRequest("push in", ("https://example.com/a.png",))
    for first in range(0, num_tasks, _AT_ONCE):
        with store.database.write() as connection:
            for number in range(first, min(first + _AT_ONCE, num_tasks)):
                caller = callers[number % _ACCOUNTS]
                assert caller is not None
                task = Submission(uuid.uuid4().hex, caller, ANIMATIC, "animatic", asked, cost=5.0)
                admission.admit(task, connection)


def _starts(installations: dict[str, Installation]) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in installations}
    for _ in range(_STARTS):
        for name, installation in installations.items():
            began = time.monotonic()
            installation.start()
            while installation.http.get("/readyz").status_code != 200:
                time.sleep(0.01)
            times[name].append(time.monotonic() - began)
            installation.stop()
    for installation in installations.values():
        installation.close()
    return times


def _claim(url: str, yardstick: Path, count: int, found: Findings) -> tuple[list[float], list[float]]:
    """Milliseconds of each claim, and of each bare commit between them."""
    claims, commits, claimed = [], [], []
    bare = sqlite3.connect(yardstick, isolation_level=None)
    for statement in (
        "PRAGMA journal_mode=WAL",
        "PRAGMA synchronous=FULL",
        "CREATE TABLE t (n)",
        "INSERT INTO t VALUES (0)",
    ):
        bare.execute(statement)
    with open_database(url) as database:
        store = Store(database)
        with database.connect() as connection:
            query = text("SELECT id FROM tasks ORDER BY turn, seq LIMIT :count")
            expected = connection.execute(query, {"count": count}).scalars().all()
        for _ in expected:
            began = time.perf_counter()
            task = store.claim("worker", ["animatic"])
            between = time.perf_counter()
            bare.execute("UPDATE t SET n = n + 1")
            claims.append((between - began) * 1000)
            commits.append((time.perf_counter() - between) * 1000)
            claimed.append(task.id if task is not None else "")
    bare.close()
    found.expect(claimed == expected, "tasks are not claimed in the order of their turns")
    return claims, commits


def _p99(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=100)[98]
