"""Webhooks arrive, signed so that receivers can tell, at least once, whatever receivers and crashes do."""

from __future__ import annotations

import json
import os
import random
import signal
import ssl
import statistics
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from ipaddress import ip_network
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import insert, select
from sqlalchemy.exc import OperationalError
from svix.webhooks import Webhook

from mutoscope.deliveries import Deliveries, Delivery, Listed, Outcome
from mutoscope.schema import deliveries, open_database, tasks
from mutoscope.store import Store
from mutoscope.tasks import Caller, Task, VideoRequest
from mutoscope.webhooks import Deliverer, pause_after, sign
from tests.installation import ANIMATIC, Installation
from tests.receiver import Received, Receiver, receiving
from tests.rows import make_caller

SECRET = "whsec_e9EE3BdyXSxcB4ZyZUKjQUEoQX4sF9P1+eMpb/KluCM="
LOOPBACK = (ip_network("127.0.0.0/8"),)


def body_of(task: Task) -> bytes:
    return json.dumps({"id": task.id, "status": "completed"}).encode()


class Clock:
    """The time, and what was added to it."""

    ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


class Outbox:
    """A database with deliveries, and what delivers them."""

    def __init__(self, url: str) -> None:
        self.clock = Clock()
        self.store = Store(open_database(url), clock=self.clock)
        self.deliveries = Deliveries(self.store.database, clock=self.clock)
        self.caller = make_caller(self.store.database)

    def put(self, url: str, caller: Caller | None = None) -> str:
        """A task that has ended, its webhook due; returns its id."""
        task_id, request = uuid.uuid4().hex, VideoRequest("a cat", ("https://example.com/a.png",))
        with self.store.database.write() as connection:
            self.store.add(
                task_id, caller or self.caller, ANIMATIC, "animatic", request, connection=connection, webhook_url=url
            )
        task = self.store.claim("worker", ["animatic"])
        assert task is not None
        self.store.succeed(task, "outputs/a.mp4", "outputs/a.jpg", {})
        return task_id

    def put_many(self, url: str, count: int) -> None:
        """The same, so many times, but sooner."""
        of = self.put(url)
        with self.store.database.write() as connection:
            task = dict(connection.execute(select(tasks).where(tasks.c.id == of)).mappings().one())
            delivery = dict(connection.execute(select(deliveries).where(deliveries.c.task_id == of)).mappings().one())
            del task["seq"]
            ids = [uuid.uuid4().hex for _ in range(count - 1)]
            connection.execute(insert(tasks), [{**task, "id": each} for each in ids])
            connection.execute(insert(deliveries), [{**delivery, "id": each, "task_id": each} for each in ids])

    @contextmanager
    def delivering(self, **options: Any) -> Iterator[Deliverer]:
        options = {"allow_networks": LOOPBACK, "attempt_seconds": 2, **options}
        deliverer = Deliverer(self.deliveries, body_of, lambda _: SECRET, **options)
        deliverer.start()
        try:
            yield deliverer
        finally:
            deliverer.stop()

    def all(self) -> list[Listed]:
        return self.deliveries.page(1, 1000)[1]

    def wait(self, until: Callable[[list[Listed]], bool], seconds: float = 30) -> list[Listed]:
        """The deliveries, once they are as wanted."""
        end = time.monotonic() + seconds
        while not until(found := self.all()):
            assert time.monotonic() < end, [(one.row["status"], one.log) for one in found]
            time.sleep(0.02)
        return found


def over(found: list[Listed]) -> bool:
    return all(one.row["status"] != "due" for one in found)


def attempted(times: int) -> Callable[[list[Listed]], bool]:
    return lambda found: all(len(one.log) >= times for one in found)


@pytest.fixture
def outbox(database_url: str) -> Iterator[Outbox]:
    outbox = Outbox(database_url)
    with closing(outbox.store.database):
        yield outbox


@pytest.fixture
def local_outbox(tmp_path: Path) -> Iterator[Outbox]:
    """For what is not about the rows: once is enough."""
    outbox = Outbox(f"sqlite:///{tmp_path / 'mutoscope.db'}")
    with closing(outbox.store.database):
        yield outbox


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


# The signature


def test_the_signature_is_wavespeed_s() -> None:
    task_id, at = "45b392b22c3b449fa935bd4dc2219dfe", 1758798328
    body = (
        b'{"id":"45b392b22c3b449fa935bd4dc2219dfe","model":"skywork-ai/skyreels-v3/reference-to-video","input":'
        b'{"prompt":"a cat","images":["https://example.com/a.png"],"aspect_ratio":"16:9","duration":5},"outputs":'
        b'["https://example.com/out.mp4"],"urls":{"get":"https://api.example.com/api/v3/predictions/'
        b'45b392b22c3b449fa935bd4dc2219dfe/result"},"has_nsfw_contents":[false],"status":"completed","created_at":'
        b'"2025-09-25T09:12:48.239112031Z","error":"","executionTime":6710,"timings":{"inference":6710}}'
    )
    assert len(body) == 492
    headers = sign(SECRET, task_id, at, body)
    assert headers["webhook-signature"] == "v3,81bb777fc6b54d15029b1fb136a2ff0e8abbbc5f9299d58b0db20430401fc12c"
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == (task_id, str(at))
    version, _ = headers["webhook-signature"].split(",")  # as receivers do, who know of no second one
    assert version == "v3"


def test_the_libraries_of_standard_webhooks_verify_it_and_nothing_else() -> None:
    body = b'{"id": "\xc3\xa9"}'
    headers = sign(SECRET, "a1", int(time.time()), body)
    Webhook(SECRET).verify(body, headers)
    for other in (body + b" ", body.replace(b"id", b"di")):
        with pytest.raises(Exception, match="No matching signature found"):
            Webhook(SECRET).verify(other, headers)
    with pytest.raises(Exception, match="No matching signature found"):
        Webhook("whsec_" + "A" * 43 + "=").verify(body, headers)
    with pytest.raises(Exception, match="timestamp too old"):
        Webhook(SECRET).verify(body, sign(SECRET, "a1", int(time.time()) - 301, body))


# Receivers that fail

SECONDS_ASKED = 3
FAULTS = {
    "/ok": ("delivered", 200, ""),
    "/status/204": ("delivered", 204, ""),
    "/status/500": ("due", 500, "the receiver answered 500 Internal Server Error"),
    "/status/404": ("due", 404, "the receiver answered 404 Not Found"),
    "/later/60": ("due", 429, "the receiver answered 429 Too Many Requests"),
    "/redirect": ("due", 302, "the receiver answered 302 Found"),
    "/status/410": ("refused", 410, "the receiver answered 410 Gone"),
    "/reset": ("due", None, "the connection ended before the server had answered in HTTP"),
    "/hang": ("due", None, "it took too long to answer"),
    "/slow-headers": ("due", None, "it took too long to answer"),
    "/slow-body": ("delivered", 200, ""),
    "/gigabyte": ("delivered", 200, ""),
    "/garbage": ("due", None, "the connection ended before the server had answered in HTTP"),
}


def test_every_fault_is_told_apart_and_logged(local_outbox: Outbox, receiver: Receiver) -> None:
    ids = {local_outbox.put(receiver.url(path)): path for path in FAULTS}
    with local_outbox.delivering():
        found = local_outbox.wait(attempted(1))
    seen = {
        ids[one.row["task_id"]]: (one.row["status"], one.log[0]["status_code"], one.log[0]["error"]) for one in found
    }
    assert seen == FAULTS
    assert {arrived.path for arrived in receiver.received} == set(FAULTS)  # a redirect is not followed
    assert receiver.sent < 2**26
    assert all(one.log[0]["milliseconds"] < 5_000 for one in found)
    for one in found:
        pause = one.row["due_at"] - one.log[0]["made_at"]
        if ids[one.row["task_id"]] == "/later/60":
            assert 60 <= pause < 70
        elif one.row["status"] == "due":
            assert 4.5 <= pause < 8


def test_addresses_of_the_inside_are_never_reached(local_outbox: Outbox, receiver: Receiver) -> None:
    local_outbox.put(receiver.url("/ok"))
    local_outbox.put("http://169.254.169.254/latest/meta-data")
    local_outbox.put("http://localhost:1/")
    with local_outbox.delivering(allow_networks=()):
        found = local_outbox.wait(attempted(1))
    assert all("which this server does not fetch from" in one.log[0]["error"] for one in found), found
    assert receiver.received == []


def test_tls_is_verified(local_outbox: Outbox, certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with receiving(tls=context) as receiver, receiving() as plain:
        local_outbox.put(receiver.url("/ok").replace("http:", "https:"))
        local_outbox.put(plain.url("/ok").replace("http:", "https:"))
        with local_outbox.delivering():
            found = local_outbox.wait(attempted(1))
        assert {one.log[0]["error"] for one in found} == {
            "the server's TLS certificate is not valid for this host",
            "no TLS connection could be made with the server",
        }
        assert receiver.received == plain.received == []


# When it is tried again


def test_pauses_double_with_jitter_and_receivers_may_ask_for_longer() -> None:
    for attempt in range(1, 30):
        usual = min(5 * 2 ** (attempt - 1), 14_400)
        pauses = {pause_after(attempt, "", 0) for _ in range(50)}
        assert 0.9 * usual <= min(pauses) < usual < max(pauses) <= 1.1 * usual
    assert pause_after(1, "120", 0) == 120
    assert pause_after(1, "Thu, 01 Jan 1970 00:02:00 GMT", 20) == 100
    for nonsense in ("soon", "-5", "1e9", "Thu, 99 Jan 1970 00:00:00 GMT", "٣٣"):
        assert pause_after(1, nonsense, 0) <= 5.5


def test_it_is_tried_for_a_day_signed_anew_each_time(local_outbox: Outbox, receiver: Receiver) -> None:
    local_outbox.put(receiver.url("/status/503"))
    began = local_outbox.clock()
    with local_outbox.delivering():
        for attempt in range(1, 40):
            (one,) = local_outbox.wait(attempted(attempt))
            if one.row["status"] != "due":
                break
            local_outbox.clock.ahead += one.row["due_at"] - local_outbox.clock()
    assert one.row["status"] == "given_up"
    made = [attempt["made_at"] for attempt in one.log]
    for number, (before, after) in enumerate(pairwise(made)):
        usual = min(5 * 2**number, 14_400)
        assert 0.9 * usual <= after - before <= 1.1 * usual + 5  # of a busy machine
    assert 24 * 3600 - 1.1 * 14_400 <= made[-1] - began <= 24 * 3600
    assert {arrived.id for arrived in receiver.received} == {one.row["task_id"]}
    for arrived, at in zip(receiver.received, made, strict=True):
        assert arrived.headers["webhook-timestamp"] == str(int(at))
        again = sign(SECRET, arrived.id, int(at), arrived.body)
        assert {name: arrived.headers[name] for name in again} == again


def test_a_replay_sends_again_what_had_ended(outbox: Outbox, receiver: Receiver) -> None:
    outbox.put(receiver.url("/status/410"))
    with outbox.delivering():
        (one,) = outbox.wait(over)
        assert outbox.deliveries.replay(one.row["id"])
        (again,) = outbox.wait(lambda found: over(found) and attempted(2)(found))
    assert again.row["status"] == "refused"
    assert len({arrived.id for arrived in receiver.received}) == 1
    assert not outbox.deliveries.replay("0" * 32)
    assert not outbox.deliveries.replay(one.row["id"], "another key")


def test_a_forgotten_task_takes_its_webhook_along(outbox: Outbox, receiver: Receiver) -> None:
    outbox.store.remove([outbox.put(receiver.url("/ok"))])
    task_id = outbox.put(receiver.url("/hang"))
    with outbox.delivering():
        receiver.wait(1)
        outbox.store.remove([task_id])  # while it is on its way
        time.sleep(0.8)
    assert outbox.all() == []
    assert [arrived.path for arrived in receiver.received] == ["/hang"]


# Crashes, several processes, and the dead

PROCESS = """
import sys
from ipaddress import ip_network
from mutoscope.deliveries import Deliveries
from mutoscope.schema import open_database
from mutoscope.webhooks import Deliverer
deliveries = Deliveries(open_database(sys.argv[1]))
secret = sys.argv[2]
body_of = lambda task: b'{"from": "' + sys.argv[3].encode() + b'"}'
deliverer = Deliverer(deliveries, body_of, lambda key: secret, allow_networks=[ip_network("127.0.0.0/8")])
deliverer.start()
sys.stdin.read()
deliverer.stop()
"""


@contextmanager
def another_process(outbox: Outbox, name: str) -> Iterator[subprocess.Popen[bytes]]:
    url = outbox.store.database.engine.url.render_as_string(hide_password=False)
    process = subprocess.Popen([sys.executable, "-c", PROCESS, url, SECRET, name], stdin=subprocess.PIPE)
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(30)


def test_a_crash_between_attempt_and_note_delivers_again_with_the_same_id(outbox: Outbox) -> None:
    def crash(_: Received) -> None:
        if not processes[0].poll():
            processes[0].send_signal(signal.SIGKILL)

    processes: list[subprocess.Popen[bytes]] = []
    with receiving(crash) as receiver:
        task_id = outbox.put(receiver.url("/ok"))
        with another_process(outbox, "first") as process:
            processes.append(process)
            receiver.wait(1)
            process.wait(10)
        (one,) = outbox.all()
        assert (one.row["status"], one.row["attempts"], one.log) == ("due", 1, [])
        with outbox.delivering():
            time.sleep(0.6)
            assert len(receiver.received) == 1  # whoever has it may still be at it
            outbox.clock.ahead = 31
            (one,) = outbox.wait(over)
    assert [arrived.id for arrived in receiver.received] == [task_id, task_id]
    assert (one.row["status"], one.row["attempts"], len(one.log)) == ("delivered", 2, 1)


def test_who_was_too_slow_decides_nothing(outbox: Outbox) -> None:
    outbox.put("http://127.0.0.1:1/")

    def claim() -> list[Delivery]:
        return outbox.deliveries.claim(lambda *_: True, 30)

    (slow,) = claim()
    assert claim() == []
    outbox.clock.ahead = 31
    (quick,) = claim()
    assert (quick.id, quick.attempt) == (slow.id, 2)
    outbox.deliveries.note([Outcome(quick, 1.0, 5, 200, "", "delivered")])
    outbox.deliveries.note([Outcome(slow, 2.0, 5, 410, "the receiver answered 410 Gone", "refused")])
    (one,) = outbox.all()
    assert (one.row["status"], one.row["ended_at"]) == ("delivered", 1.0)
    assert [made["status_code"] for made in one.log] == [200, 410]  # both were made
    assert outbox.deliveries.replay(one.row["id"])
    (again,) = claim()
    outbox.deliveries.note([Outcome(slow, 3.0, 5, 410, "the receiver answered 410 Gone", "refused")])
    assert outbox.all()[0].row["status"] == "due"
    assert again.attempt == 3


def test_processes_share_the_work_and_send_nothing_twice(outbox: Outbox, receiver: Receiver) -> None:
    ids = [outbox.put(receiver.url("/ok")) for _ in range(40)]
    with another_process(outbox, "a"), another_process(outbox, "b"):
        outbox.wait(over)
    assert Counter(arrived.id for arrived in receiver.received) == Counter(ids)
    found = outbox.all()
    assert {(one.row["status"], one.row["attempts"], len(one.log)) for one in found} == {("delivered", 1, 1)}


def test_an_attempt_that_comes_to_nothing_frees_its_place(local_outbox: Outbox, receiver: Receiver) -> None:
    clock, faults = local_outbox.clock, iter(range(2))

    def failing_clock() -> float:
        """The database's, which can't be reached at the beginning of some attempts."""
        if threading.current_thread().name == "webhook" and next(faults, None) is not None:
            raise OperationalError("SELECT clock_timestamp()", {}, Exception("the server closed the connection"))
        return clock()

    local_outbox.deliveries.clock = failing_clock
    local_outbox.put(receiver.url("/ok"))  # of a receiver that is not known yet: it has one place
    with local_outbox.delivering():
        for attempt in (1, 2):
            (one,) = local_outbox.wait(attempted(attempt))
            assert (one.row["status"], one.log[-1]["error"]) == ("due", "the server failed to send it")
            clock.ahead += one.row["due_at"] - clock()
        (one,) = local_outbox.wait(over)
    assert (one.row["status"], len(receiver.received)) == ("delivered", 1)


@pytest.mark.slow
def test_a_dead_receiver_delays_nobody(local_outbox: Outbox, receiver: Receiver) -> None:
    # MUTOSCOPE_TEST_DEAD_WEBHOOKS=10000 has so many of them due at a time; -s shows the delays.
    num_dead = int(os.environ.get("MUTOSCOPE_TEST_DEAD_WEBHOOKS", "300"))
    num_live = 100
    with receiving() as dead:

        def delays() -> list[float]:
            """Seconds from due to arrived, of webhooks that become due one after another."""
            seen = len(receiver.received)
            due = {}
            for _ in range(num_live):
                due[local_outbox.put(receiver.url("/ok"))] = time.time()
                time.sleep(random.uniform(0, 0.02))
            return [one.at - due[one.id] for one in receiver.wait(seen + num_live)[seen:]]

        with local_outbox.delivering(attempt_seconds=15):
            alone = delays()
            local_outbox.put_many(dead.url("/hang"), num_dead)
            beside = delays()
            num_held = len(dead.received)
        p50, p99 = ([statistics.quantiles(each, n=100)[rank] * 1000 for each in (alone, beside)] for rank in (49, 98))
        print(f"\nmilliseconds, alone and beside {num_dead} to a dead receiver: p50 {p50}, p99 {p99}")
        assert 1 <= num_held <= 3
        assert p99[1] < p99[0] + 300  # of a busy machine


# With a server


@pytest.fixture
def http(running: Installation) -> Iterator[httpx.Client]:
    """A caller whose webhooks nobody else asks for."""
    key = running.run("keys", "create", "webhooks").stdout.strip()
    with httpx.Client(base_url=running.url, headers={"Authorization": f"Bearer {key}"}, trust_env=False) as http:
        yield http


def test_a_prediction_arrives_as_its_result_reads(
    running: Installation, http: httpx.Client, image: str, receiver: Receiver
) -> None:
    own = http.headers["Authorization"].removeprefix("Bearer ")
    other = running.run("keys", "create", "another").stdout.strip()

    def result(task_id: str) -> Any:
        return http.get(f"/api/v3/predictions/{task_id}/result").json()["data"]

    hook = receiver.url("/ok?to=me&and=you")  # old clients append it as it is
    task = http.post(f"/api/v3/{ANIMATIC}?webhook={hook}", json={"prompt": "a cat", "images": [image]})
    inputs = {"prompt": "a cat", "images": ["http://10.0.0.1/a.png"], "webhook_url": receiver.url("/f")}
    failing = http.post(f"/api/v3/{ANIMATIC}", json=inputs).json()["data"]
    task_id = task.json()["data"]["id"]
    by_id = {arrived.id: arrived for arrived in receiver.wait(2, 60)}

    arrived = by_id[task_id]
    secret = http.get("/api/v3/webhook/secret").json()["data"]["secret"]
    proof = sign(secret, task_id, int(arrived.headers["webhook-timestamp"]), arrived.body)
    assert {name: arrived.headers[name] for name in proof} == proof
    Webhook(secret).verify(arrived.body, arrived.headers)
    assert arrived.headers["content-type"] == "application/json"
    assert arrived.path == "/ok?to=me&and=you"
    assert arrived.json == result(task_id)
    assert arrived.json["status"] == "completed"
    assert http.get(arrived.json["outputs"][0], headers={"Authorization": ""}).status_code == 200
    failed = by_id[failing["id"]].json
    assert (failed["status"], failed["outputs"]) == ("failed", [])
    assert failed == result(failing["id"])

    def listed(key: str = own, **query: int) -> Any:
        answer = http.get("/api/v3/webhooks/deliveries", params=query, headers={"Authorization": f"Bearer {key}"})
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    until = time.monotonic() + 10
    while any(item["status"] == "due" for item in listed()["items"]):
        assert time.monotonic() < until
        time.sleep(0.05)
    items = {item["prediction_id"]: item for item in listed()["items"]}
    mine = items[task_id]
    assert (mine["status"], mine["attempts"], mine["url"]) == ("delivered", 1, hook)
    assert [(made["status_code"], made["error"]) for made in mine["log"]] == [(200, "")]
    first = listed(page=1, page_size=1)
    assert (first["total"], first["has_more"], len(first["items"])) == (2, True, 1)
    assert listed(other) == {"page": 1, "page_size": 20, "total": 0, "has_more": False, "items": []}

    def replay(key: str) -> int:
        url = f"/api/v3/webhooks/deliveries/{mine['id']}/replay"
        return http.post(url, headers={"Authorization": f"Bearer {key}"}).status_code

    assert replay(other) == 404
    assert replay(own) == 200
    assert receiver.wait(3)[2].body == arrived.body
    # A new secret signs from now on; a key knows its own only.
    assert http.post("/api/v3/webhook/secret/rotate").json()["data"]["secret"] != secret
    theirs = http.get("/api/v3/webhook/secret", headers={"Authorization": f"Bearer {other}"})
    assert theirs.json()["data"]["secret"] not in (secret, "")
    rows = running.run("webhooks", "list").stdout
    assert mine["id"] in rows
    assert "me&and" not in rows  # what a URL's query says is its owner's
    assert "is sent again" in running.run("webhooks", "replay", mine["id"]).stderr
    again = receiver.wait(4)[3]
    with pytest.raises(Exception, match="No matching signature found"):
        Webhook(secret).verify(again.body, again.headers)
    assert "There is no delivery" in running.run("webhooks", "replay", "0" * 32, check=False).stderr


@pytest.mark.parametrize(
    "url", ["ftp://h/", "hook", "http://", "https://user:pass@h/", "http://127.1/", "http://h:99999/", "http://h\\x", 5]
)
def test_a_url_that_can_never_be_reached_is_refused_at_once(running: Installation, url: Any) -> None:
    body = {"prompt": "a cat", "images": ["https://example.com/a.png"]}
    refused = running.http.post(f"/api/v3/{ANIMATIC}", json={**body, "webhook_url": url})
    assert (refused.status_code, refused.json()["error_code"]) == (400, "invalid_parameter")
    assert refused.json()["message"].startswith(f"webhook_url is {json.dumps(url)}")
    if isinstance(url, str):
        by_query = running.http.post(f"/api/v3/{ANIMATIC}", params={"webhook": url}, json=body)
        assert by_query.status_code == 400, by_query.text
