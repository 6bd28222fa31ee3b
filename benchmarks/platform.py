"""How fast the platform is around the model: one table, ratios first, everything measured in one run.

    python benchmarks/platform.py [--seconds 3] [--rounds 3] [--connections 32]
                                  [--only submit,poll,start,events,webhooks]

Submits and polls are held against the raw limit of this machine (`bare.py`: a bare ASGI app on the same database, with
group commit) and against what else queues tasks behind HTTP, where that is installed (`rivals.py`). Servers take turns,
so that a noisy neighbour disturbs all alike. PostgreSQL is one of its own, as durable as it comes (fsync).
"""

from __future__ import annotations

import sys

sys.path[0] = sys.path[0].removesuffix("benchmarks")  # where a `platform` lies that is not the standard library's

import argparse
import asyncio
import contextlib
import json
import statistics
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from benchmarks import rivals
from benchmarks.api import INPUTS, Load, http, install, put_under_load
from sqlalchemy import insert, update
from tests.installation import ANIMATIC, EXAMPLES, Installation
from tests.ports import free_port
from tests.postgres import Postgres, find_binaries

from mutoscope.files import read_secret
from mutoscope.keys import Keys
from mutoscope.schema import deliveries, open_database, tasks
from mutoscope.store import Store
from mutoscope.tasks import Caller, Task, VideoRequest

ROOT = Path(__file__).parent.parent
NUM_STARTS, NUM_LISTENERS, NUM_NEWS, NUM_WEBHOOKS = 20, 500, 20, 3000


class Contender:
    """A server that takes the same load as the others: `submit` and `poll` are whole requests to its `port`."""

    def __init__(self, name: str, port: int, submit: bytes, poll: bytes) -> None:
        self.name = name
        self.port = port
        self.requests = {"submit": submit, "poll": poll}
        self.loads: dict[str, list[Load]] = {"submit": [], "poll": []}

    def rate(self, what: str) -> float:
        """Answers a second: the median of its rounds."""
        return statistics.median(load.rate for load in self.loads[what])

    def percentile(self, what: str, percent: int) -> float:
        """Milliseconds, over all rounds."""
        every = [latency for load in self.loads[what] for latency in load.latencies]
        return statistics.quantiles(every, n=100)[percent - 1]


def compare(title: str, contenders: list[Contender], asked: argparse.Namespace, *, limit: int = 0) -> None:
    """Rounds of load on each in turn, then a line for each and its ratio to `contenders[limit]`."""
    for what in ("submit", "poll"):
        if what not in asked.only:
            continue
        for _ in range(asked.rounds):
            for each in contenders:
                each.loads[what].append(
                    put_under_load(each.port, each.requests[what], asked.seconds, asked.connections)
                )
        raw = contenders[limit].rate(what)
        for each in contenders:
            errors = sum(load.errors for load in each.loads[what])
            print(
                f"{each.rate(what) / raw:6.2f}  {each.rate(what):8,.0f}/s  p50 {each.percentile(what, 50):6.1f} ms  "
                f"p99 {each.percentile(what, 99):6.1f} ms  {what:<7} {title:<11} {each.name}"
                + (f"  ERRORS {errors}" if errors else ""),
                flush=True,
            )


@contextlib.contextmanager
def bare(url: str) -> Iterator[Contender]:
    """The raw limit on this database."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.bare", str(port), url], cwd=ROOT)
    try:
        body = json.dumps(INPUTS).encode()
        row_id = rivals.first_answer(port, http("POST", "/", "", body))["id"]
        yield Contender("raw limit", port, http("POST", "/", "", body), http("GET", f"/{row_id}", ""))
    finally:
        process.kill()
        process.wait()


def platform(asked: argparse.Namespace, folder: Path, name: str, url: str) -> None:
    """Submits and polls of our server on one database, beside a bare one's on the same kind."""
    installation, key = install(folder / name, database_url=url)
    try:
        task_id = installation.submit(**INPUTS)["id"]
        submit = http("POST", f"/api/v3/{ANIMATIC}", key, json.dumps(INPUTS).encode())
        poll = http("GET", f"/api/v3/predictions/{task_id}/result", installation.key)
        raw_url = url if name != "SQLite FULL" else f"sqlite:///{folder}/bare.db"
        with bare(raw_url) as raw:
            compare(name, [raw, Contender("mutoscope", installation.port, submit, poll)], asked)
    finally:
        installation.close()


def starts(folder: Path) -> None:
    """From the moment a task is accepted to the moment a worker that waits has it."""
    installation = Installation(folder / "starts", workers=1).start()
    try:
        image = installation.upload(EXAMPLES / "chelsea.jpg")
        installation.wait(installation.submit(prompt="static", images=[image], aspect_ratio="1:1")["id"])
        waits = []
        for _ in range(NUM_STARTS):
            task_id = installation.submit(prompt="static", images=[image], aspect_ratio="1:1")["id"]
            while (times := installation.row(task_id, "started_at, created_at"))[0] is None:
                time.sleep(0.01)
            waits.append((times[0] - times[1]) * 1000)
            installation.http.delete(f"/api/v3/predictions/{task_id}")
            installation.wait(task_id)
        print(f"claim to start: p50 {statistics.median(waits):.1f} ms, longest of {NUM_STARTS} {max(waits):.1f} ms")
    finally:
        installation.close()


def events(folder: Path) -> None:
    """From the write of a worker's progress to the last of those who watch the task."""
    installation = Installation(folder / "events", workers=0).start()
    try:
        task_id = installation.submit(**INPUTS)["id"]
        with open_database(installation.database_url) as database:
            store = Store(database)
            task = store.claim("benchmark", ["animatic"])
            assert task is not None
            delays = asyncio.run(_fan_out(installation, task_id, store, task))
        quantiles = statistics.quantiles(delays, n=100)
        print(
            f"events: {NUM_NEWS} changes told to {NUM_LISTENERS} listeners each: p50 {quantiles[49]:.0f} ms, "
            f"p99 {quantiles[98]:.0f} ms after the write"
        )
    finally:
        installation.close()


async def _fan_out(installation: Installation, task_id: str, store: Store, task: Task) -> list[float]:
    written: dict[str, float] = {}
    delays: list[float] = []
    ready = asyncio.Semaphore(0)

    async def listen() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", installation.port, limit=2**20)
        writer.write(http("GET", f"/api/v3/predictions/{task_id}/events", installation.key))
        heard = 0
        while heard < NUM_NEWS:
            line = (await reader.readline()).decode()
            if line.startswith("event: state") and not heard:
                ready.release()
            if line.startswith("data: ") and (stage := json.loads(line[6:]).get("stage", "")) in written:
                delays.append((time.monotonic() - written[stage]) * 1000)
                heard += 1
        writer.close()

    listeners = [asyncio.create_task(listen()) for _ in range(NUM_LISTENERS)]
    for _ in listeners:
        await ready.acquire()
    for number in range(NUM_NEWS):
        await asyncio.sleep(0.7)
        stage = f"frame {number + 1} of {NUM_NEWS}"
        written[stage] = time.monotonic()
        await asyncio.to_thread(store.advance, task, stage, number / NUM_NEWS)
    await asyncio.wait_for(asyncio.gather(*listeners), 60)
    return delays


def webhooks(folder: Path) -> None:
    """Webhooks that are due at once, to eight receivers that take them, until the last has arrived."""
    home = folder / "webhooks"
    installation = Installation(home, workers=0)
    receivers = [rivals.Receiver() for _ in range(8)]
    try:
        with open_database(installation.database_url) as database:
            known = Keys(database, read_secret(home, "keys"))
            caller = known.caller(known.digest(installation.key))
            assert caller is not None
            _make_due(Store(database), caller, [f"http://127.0.0.1:{each.port}/" for each in receivers])
        installation.start()

        def arrived() -> int:
            return sum(each.count() for each in receivers)

        while arrived() < 100:  # it has begun
            time.sleep(0.001)
        began, before = time.monotonic(), arrived()
        while arrived() < NUM_WEBHOOKS:
            time.sleep(0.005)
        took = time.monotonic() - began
        print(f"webhooks: {(NUM_WEBHOOKS - before) / took:,.0f} deliveries/s, signed, logged, to 8 receivers")
    finally:
        installation.close()
        for each in receivers:
            each.close()


def _make_due(store: Store, caller: Caller, urls: list[str]) -> None:
    with store.database.write() as connection:
        now = time.time()
        due = []
        for number in range(NUM_WEBHOOKS):
            url = urls[number % len(urls)]
            task_id = uuid.uuid4().hex
            wanted = VideoRequest("a cat", ("https://example.com/a.png",))
            store.add(task_id, caller, ANIMATIC, "animatic", wanted, connection=connection, webhook_url=url)
            of = {"task_id": task_id, "key_id": caller.key_id, "url": url, "receiver": url.split("/")[2]}
            due.append({"id": uuid.uuid4().hex, **of, "status": "due", "attempts": 0, "due_at": now, "created_at": now})
        ended = {"status": "failed", "finished_at": now, "error": "Nothing was rendered.", "error_code": 1403}
        connection.execute(update(tasks).values(**ended, charged_micros=0))
        connection.execute(insert(deliveries), due)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seconds", type=float, default=3)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--connections", type=int, default=32)
    arguments.add_argument("--only", default="submit,poll,start,events,webhooks", type=lambda text: text.split(","))
    asked = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if {"submit", "poll"} & set(asked.only):
            print(" ratio       rate                                  what    on          server")
            platform(asked, folder, "SQLite FULL", f"sqlite:///{folder}/ours.db")
            if (binaries := find_binaries()) is not None:
                server = Postgres(binaries, is_durable=True)
                try:
                    server.start()
                    platform(asked, folder, "PostgreSQL", server.fresh())
                finally:
                    server.close()
            for rival in rivals.installed():
                with rival(folder) as (label, port, submit, poll):
                    compare("as it comes", [Contender(label, port, submit, poll)], asked)
        if "start" in asked.only:
            starts(folder)
        if "events" in asked.only:
            events(folder)
        if "webhooks" in asked.only:
            webhooks(folder)


if __name__ == "__main__":
    main()
