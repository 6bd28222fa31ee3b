"""Three API processes and four workers on one PostgreSQL: a load through all of them, and the books agree.

The workers claim and end tasks as real ones do, and make no video: what is tested is what they share.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select

from mutoscope import ledger
from mutoscope.files import read_secret
from mutoscope.keys import Keys
from mutoscope.schema import accounts, entries, open_database, tasks
from tests.installation import ANIMATIC, Installation
from tests.postgres import Postgres

SERVERS, WORKERS, LOAD = 3, 4, 240

WORKER = """
import sys, threading
from mutoscope.bell import Listener
from mutoscope.schema import open_database
from mutoscope.store import Hold, Store
database = open_database(sys.argv[1], connections=2)
store, bell, ended = Store(database), threading.Event(), threading.Event()
Listener(database, bell.set).start()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set(), bell.set()), daemon=True).start()
while not ended.is_set():
    bell.clear()
    task = store.claim(sys.argv[2], ["animatic"])
    if task is None:
        bell.wait(1)
    elif store.advance(task, "half", 0.5) is Hold.KEPT and store.succeed(task, "o", "p", {}) is Hold.KEPT:
        print(task.id, flush=True)
"""

pytestmark = pytest.mark.slow


class Fleet:
    """Servers without workers that share a home and a database; `http` asks them in turn, with one key."""

    def __init__(self, url: str, servers: list[Installation]) -> None:
        self.url = url
        self.servers = servers
        self._turn = 0

    def post(self, key: str, number: int, **headers: str) -> httpx.Response:
        server = self.servers[number % len(self.servers)]
        wanted = {"prompt": f"take {number}", "images": ["https://example.com/a.png"]}
        return server.http.post(
            f"/api/v3/{ANIMATIC}", json=wanted, headers={"Authorization": f"Bearer {key}", **headers}
        )

    def payer(self, micros: int) -> tuple[str, str]:
        """The id of a new account with so much to spend, and a key of it."""
        with open_database(self.url) as database:
            keys = Keys(database, read_secret(self.servers[0].home, "keys"))
            account = keys.create_account("payer").id
            with database.write() as connection:
                ledger.credit(connection, account, micros, note="", now=time.time())
            return account, keys.create("load", account_id=account)

    def audit(self) -> list[str]:
        with open_database(self.url) as database, database.snapshot() as connection:
            return ledger.audit(connection)


@pytest.fixture(scope="module")
def fleet(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    url, home = postgres.fresh(), tmp_path_factory.mktemp("fleet") / "home"
    prices = f'{{"{ANIMATIC}": 1000}}'

    def make(_: int) -> Installation:
        return Installation(home, workers=0, database_url=url, database_connections=8, prices=prices)

    with ThreadPoolExecutor(SERVERS) as pool:  # the home is made by whoever is first
        servers = list(pool.map(make, range(SERVERS)))
    try:
        with ThreadPoolExecutor(SERVERS) as pool:
            list(pool.map(Installation.start, servers))
        yield Fleet(url, servers)
    finally:
        for server in servers:
            server.close()


def test_each_task_of_a_load_is_done_once_and_the_books_agree(fleet: Fleet) -> None:
    payer, key = fleet.payer(100_000_000)
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, fleet.url, f"worker-{number}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for number in range(WORKERS)
    ]  # fmt: skip
    done: list[list[str]] = [[] for _ in workers]

    def hear(number: int) -> None:
        for line in workers[number].stdout or ():
            done[number].append(line.strip())

    hearing = [threading.Thread(target=hear, args=(number,)) for number in range(WORKERS)]
    for thread in hearing:
        thread.start()
    try:
        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(lambda number: fleet.post(key, number), range(LOAD)))
        assert {answer.status_code for answer in answers} == {200}
        accepted = {answer.json()["data"]["id"] for answer in answers}
        assert len(accepted) == LOAD
        until = time.monotonic() + 60
        while sum(map(len, done)) < LOAD and time.monotonic() < until:
            time.sleep(0.1)
    finally:
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.close()
        for worker in workers:
            worker.wait(20)
        for thread in hearing:
            thread.join()
        for worker in workers:
            assert worker.stdout is not None
            worker.stdout.close()
    assert Counter(task_id for each in done for task_id in each) == Counter(accepted)
    assert sum(1 for each in done if each) >= 2, "one worker did it all"
    with open_database(fleet.url) as database, database.connect() as connection:
        mine = tasks.c.account_id == payer
        states = connection.execute(
            select(tasks.c.status, tasks.c.attempt, func.count()).where(mine).group_by(tasks.c.status, tasks.c.attempt)
        )
        assert [tuple(row) for row in states] == [("succeeded", 1, LOAD)]
        kinds = select(entries.c.kind, func.count()).where(entries.c.account_id == payer).group_by(entries.c.kind)
        assert dict(map(tuple, connection.execute(kinds))) == {"credit": 1, "hold": LOAD, "settle": LOAD}
        left = connection.execute(select(accounts.c.available_micros).where(accounts.c.id == payer)).scalar_one()
        assert left == 100_000_000 - LOAD * 5 * 1000
    assert fleet.audit() == []


def test_a_name_is_one_task_whichever_server_is_asked(fleet: Fleet) -> None:
    key = fleet.servers[0].key
    with ThreadPoolExecutor(9) as pool:
        answers = list(pool.map(lambda _: fleet.post(key, 0, **{"Idempotency-Key": "one"}), range(3)))
        same: list[Any] = [
            pool.submit(
                server.http.post,
                f"/api/v3/{ANIMATIC}",
                json={"prompt": "take 0", "images": ["https://example.com/a.png"]},
                headers={"Authorization": f"Bearer {key}", "Idempotency-Key": "one"},
            )
            for server in fleet.servers * 3
        ]
        answers += [future.result() for future in same]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["data"]["id"] for answer in answers}) == 1
    assert fleet.audit() == []


def test_a_rate_holds_whichever_server_is_asked(fleet: Fleet) -> None:
    key = fleet.servers[0].run("keys", "create", "slow", "--videos-per-minute", "6").stdout.strip()
    began = time.monotonic()
    with ThreadPoolExecutor(9) as pool:
        answers = list(pool.map(lambda number: fleet.post(key, number), range(30)))
    counted = Counter(answer.status_code for answer in answers)
    refilled = int((time.monotonic() - began) / 10) + 1
    assert 6 <= counted[200] <= 6 + refilled, counted
    assert counted[429] == 30 - counted[200]


def test_a_task_is_seen_and_ended_by_any_server(fleet: Fleet) -> None:
    key = fleet.servers[0].key
    task_id = fleet.post(key, 0).json()["data"]["id"]
    bearer = {"Authorization": f"Bearer {key}"}
    for server in fleet.servers:
        assert server.http.get(f"/api/v3/predictions/{task_id}/result", headers=bearer).status_code == 200
    ended = fleet.servers[1].http.delete(f"/api/v3/predictions/{task_id}", headers=bearer).json()["data"]
    assert ended["status"] == "cancelled"
    assert fleet.servers[2].http.get(f"/api/v3/predictions/{task_id}", headers=bearer).json()["data"] == {
        **ended,
        "queue_position": 0,
        "urls": {"get": f"{fleet.servers[2].url}/api/v3/predictions/{task_id}/result"},
    }


def test_a_nul_character_is_refused_or_found_and_never_a_fault(fleet: Fleet) -> None:
    server, bearer = fleet.servers[0], {"Authorization": f"Bearer {fleet.servers[0].key}"}
    wanted = {"prompt": "a\0b", "images": ["https://example.com/a.png"]}
    assert server.http.post(f"/api/v3/{ANIMATIC}", json=wanted, headers=bearer).status_code in (200, 400)
    for answer in (
        server.http.get("/api/v3/predictions/a%00b/result", headers=bearer),
        server.http.get("/api/v3/predictions/a%00b", headers=bearer),
        server.http.post("/api/v3/predictions", json={"search": "a\0b"}, headers=bearer),
        server.http.post("/api/v3/predictions", json={"search": "b"}, headers=bearer),
    ):
        assert answer.status_code in (200, 400, 404), answer.text


@pytest.mark.timeout(900)
@pytest.mark.skipif(not os.environ.get("MUTOSCOPE_TEST_FLEETS"), reason="takes a minute: make test-long")
def test_every_client_passes_on_a_fleet() -> None:
    """WaveSpeed's package and command line and OpenAI's package, on three API processes, four workers, and S3."""
    clients = ["tests/test_sdk.py", "tests/test_clients.py", "tests/test_videos.py"]
    chosen = "sdk or clients or package or exceptions or models"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *clients, "-k", chosen],
        env={**os.environ, "MUTOSCOPE_TEST_FLEET": "1"},
        capture_output=True,
        text=True,
        timeout=850,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout, done.stdout
