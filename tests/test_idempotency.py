"""A submit that is sent again and again, in parallel and through crashes of the server, is one task and one hold."""

from __future__ import annotations

import os
import random
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing

import httpx
import pytest

from tests.installation import ANIMATIC, SKYREELS, Installation

BODY = {"prompt": "a cat", "images": ["https://example.com/cat.jpg"]}
ROUTE = f"/api/v3/{SKYREELS}"


@pytest.fixture(scope="module")
def headers(running: Installation) -> dict[str, str]:
    return {"Idempotency-Key": f"test {time.time_ns()}"}


def test_the_same_key_and_body_are_the_same_task(running: Installation, headers: dict[str, str]) -> None:
    first, again = (running.http.post(ROUTE, json=BODY, headers=headers) for _ in range(2))
    assert first.json()["data"]["id"] == again.json()["data"]["id"]
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    running.http.delete(f"/api/v3/predictions/{first.json()['data']['id']}")


def test_another_body_is_a_conflict(running: Installation, headers: dict[str, str]) -> None:
    answer = running.http.post(ROUTE, json={**BODY, "duration": 6}, headers=headers)
    assert (answer.status_code, answer.json()["error_code"]) == (409, "idempotency_conflict")
    assert "was used for another request" in answer.json()["message"]


@pytest.mark.parametrize("key", ["", "x" * 256, "é"])
def test_a_key_that_is_none_is_refused(running: Installation, key: str) -> None:
    answer = running.http.post(ROUTE, json=BODY, headers={"Idempotency-Key": key.encode()})
    assert answer.status_code == 400
    assert answer.json()["message"].endswith("it must be 1 to 255 characters of ASCII.")


def test_a_held_submit_that_is_sent_again_is_the_same_task(install: Callable[..., Installation]) -> None:
    installation = install(workers=0, sync_seconds=0.5).start()
    body = {**BODY, "enable_sync_mode": True}
    answers = [installation.http.post(ROUTE, json=body).json()["data"] for _ in range(2)]
    assert [answer["code"] for answer in answers] == [5004, 5004]
    assert answers[0]["id"] == answers[1]["id"]
    other = installation.http.post(ROUTE, json={**body, "duration": 6}).json()["data"]
    assert other["id"] != answers[0]["id"]
    animatic = installation.http.post(f"/api/v3/{ANIMATIC}", json=body).json()["data"]
    assert animatic["model"] == ANIMATIC
    unheld = [installation.submit(SKYREELS, **BODY)["id"] for _ in range(2)]
    assert len({*unheld, answers[0]["id"], other["id"], animatic["id"]}) == 5


@pytest.mark.slow
def test_parallel_repetitions_through_kills_are_one_task_each(install: Callable[..., Installation]) -> None:
    # MUTOSCOPE_TEST_IDEMPOTENCY_KEYS=1000 makes 10,000 submits and 20 kills.
    num_keys = int(os.environ.get("MUTOSCOPE_TEST_IDEMPOTENCY_KEYS", "120"))
    num_kills = max(3, num_keys // 50)
    installation = install(workers=0).start()
    ids: dict[int, Counter[str]] = {number: Counter() for number in range(num_keys)}
    noting = threading.Lock()
    todo = [number for number in range(num_keys) for _ in range(10)]  # ten of one key come together

    def submit(client: httpx.Client, number: int) -> None:
        until = time.monotonic() + 120
        while time.monotonic() < until:
            try:
                answer = client.post(ROUTE, json={**BODY, "seed": number}, headers={"Idempotency-Key": f"k{number}"})
            except httpx.TransportError:  # the server was just killed
                time.sleep(0.05)
                continue
            assert answer.status_code == 200, answer.text
            with noting:
                ids[number][answer.json()["data"]["id"]] += 1
            return
        raise AssertionError("the server did not come back")

    def work() -> None:
        with httpx.Client(
            base_url=installation.url, headers=dict(installation.http.headers), trust_env=False, timeout=30
        ) as client:
            while True:
                with noting:
                    if not todo:
                        return
                    number = todo.pop(0)
                submit(client, number)

    threads = [threading.Thread(target=work) for _ in range(10)]
    for thread in threads:
        thread.start()
    draw = random.Random(11)
    for kill in range(num_kills):
        goal = len(ids) * 10 * (kill + 1) / (num_kills + 1)
        until = time.monotonic() + 120
        while sum(sum(each.values()) for each in ids.values()) < goal and time.monotonic() < until:
            time.sleep(0.005)
        time.sleep(draw.random() * 0.02)
        installation.kill_group()
        installation.start()
    for thread in threads:
        thread.join()

    assert all(len(each) == 1 and sum(each.values()) == 10 for each in ids.values())
    with closing(sqlite3.connect(installation.home / "mutoscope.db")) as database:
        (num_tasks,) = database.execute("SELECT count(*) FROM tasks").fetchone()
        (num_holds, held) = database.execute("SELECT count(*), sum(amount_micros) FROM entries").fetchone()
    assert (num_tasks, num_holds, held) == (num_keys, num_keys, num_keys * 200_000)
    assert "The books agree" in installation.run("accounts", "check").stderr
