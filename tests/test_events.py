"""Live progress: what becomes of a task, told as it happens, once, whoever writes and whoever listens."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from mutoscope.api.events import step_of
from mutoscope.client import Client, ClientError
from mutoscope.estimates import Estimates
from mutoscope.files import read_secret
from mutoscope.keys import Keys
from mutoscope.schema import open_database, tasks
from mutoscope.store import Store
from mutoscope.tasks import Task, VideoRequest
from tests.installation import ANIMATIC, Installation
from tests.rows import make_caller

IMAGES = ["http://127.0.0.1:1/nothing.png"]  # never fetched: no worker runs


@dataclass(frozen=True)
class Told:
    """One server-sent event."""

    name: str
    id: str
    data: dict[str, Any]


@contextlib.contextmanager
def listening(installation: Installation, task_id: str, last: str = "") -> Iterator[Iterator[Told]]:
    """The events of a task as they come; each must come within 10 s."""
    headers = {"Last-Event-ID": last} if last else {}
    path = f"/api/v3/predictions/{task_id}/events"
    with installation.http.stream("GET", path, headers=headers, timeout=10) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield told_by(answer)


def told_by(answer: httpx.Response) -> Iterator[Told]:
    fields: dict[str, str] = {}
    for line in answer.iter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        else:
            if "data" in fields:
                yield Told(fields["event"], fields["id"], json.loads(fields["data"]))
            fields = {}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def idle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A sandbox server without workers: `hands` does the work."""
    url = "" if request.param == "sqlite" else request.getfixturevalue("postgres").fresh()
    installation = Installation(tmp_path_factory.mktemp("events") / "home", workers=0, database_url=url).start()
    yield installation
    installation.close()


@pytest.fixture
def hands(idle: Installation) -> Iterator[Store]:
    """What a worker in another process has of the server: its database."""
    url = idle.env["MUTOSCOPE_DATABASE_URL"] or f"sqlite:///{idle.home / 'mutoscope.db'}"
    store = Store(open_database(url))
    yield store
    while task := store.claim("rest", ["animatic"]):
        store.fail(task, "The test is over.", 1403)
    store.database.close()


def submit(idle: Installation) -> str:
    task_id: str = idle.submit(ANIMATIC, prompt="a cat", images=IMAGES)["id"]
    return task_id


def begin(hands: Store, task_id: str) -> Task:
    task = hands.claim("hands", ["animatic"])
    assert task is not None
    assert task.id == task_id
    return task


def test_a_whole_task_is_told_and_ends(running: Installation, image: str) -> None:
    task = running.submit(ANIMATIC, prompt="a cat", images=[image], aspect_ratio="1:1")
    with listening(running, task["id"]) as events:
        told = list(events)
    assert {event.name for event in told[:-1]} == {"state"}
    assert told[-1].name == "end"
    assert told[-1].data["outputs"] == running.result(task["id"])["outputs"] != []
    states = [event.data["status"] for event in told]
    assert states == sorted(states, key=["created", "processing", "completed"].index)
    progress = [event.data["progress"] for event in told]
    assert progress == sorted(progress)
    assert "rendering" in {event.data["stage"] for event in told}
    assert len({event.id for event in told}) == len(told)
    assert set(told[0].data) - set(task) == {"step", "steps", "eta_low_seconds", "eta_high_seconds"}


def test_each_change_is_told_as_another_process_writes_it(idle: Installation, hands: Store) -> None:
    task_id = submit(idle)
    with listening(idle, task_id) as events:
        first = next(events)
        assert (first.name, first.data["status"], first.data["queue_position"]) == ("state", "created", 1)
        assert 0 < first.data["eta_low_seconds"] < first.data["eta_high_seconds"]

        task = begin(hands, task_id)
        assert next(events).data["status"] == "processing"

        hands.advance(task, "denoising, step 3 of 8", 0.25)
        found = next(events).data
        assert (found["stage"], found["step"], found["steps"]) == ("denoising, step 3 of 8", 3, 8)
        assert found["progress"] == 0.25

        addresses = []
        for number in (1, 2):
            hands.advance(task, "denoising, step 3 of 8", 0.25, f"previews/{task_id}-1.jpg#{number}")
            shown = next(events)
            assert shown.name == "preview"
            assert shown.data["url"].startswith(f"{idle.url}/files/previews/{task_id}-1.jpg?expires=")
            addresses.append(shown.data["url"])
        assert addresses[0] != addresses[1]

        hands.fail(task, "Image 1 can't be read.", 1402)
        end = next(events)
        assert (end.name, end.data["status"], end.data["error"]) == ("end", "failed", "Image 1 can't be read.")
        assert next(events, None) is None


def test_a_reader_goes_on_where_it_stopped(idle: Installation, hands: Store) -> None:
    task_id = submit(idle)
    with listening(idle, task_id) as events:
        first = next(events)
        task = begin(hands, task_id)
        started = next(events)
    with listening(idle, task_id, first.id) as events:  # what came after it, and only that
        assert next(events) == started
        hands.advance(task, "rendering", 0.5)
        assert next(events).data["progress"] == 0.5
    with listening(idle, task_id, started.id) as events:  # what was missed meanwhile
        half = next(events)
        assert half.data["progress"] == 0.5
    with listening(idle, task_id, half.id) as events:  # nothing was
        hands.fail(task, "No.", 1403)
        end = next(events)
        assert end.name == "end"
    again = idle.http.get(f"/api/v3/predictions/{task_id}/events", headers={"Last-Event-ID": end.id})
    assert (again.status_code, again.content) == (204, b"")  # which tells browsers not to come back
    with listening(idle, task_id, "none of ours") as events:
        assert [event.name for event in events] == ["end"]


def test_moving_up_in_the_queue_is_told(idle: Installation, hands: Store) -> None:
    ahead, task_id = submit(idle), submit(idle)
    with listening(idle, task_id) as events:
        while next(events).data["queue_position"] != 2:  # places are up to a second old
            pass
        hands.cancel(None, ahead)
        assert next(events).data["queue_position"] == 1


def test_deleting_a_task_ends_its_streams(idle: Installation, hands: Store) -> None:
    task_id = submit(idle)
    with listening(idle, task_id) as events:
        next(events)
        hands.cancel(None, task_id)
        hands.remove([task_id])  # both within one look
        end = [event for event in events if event.name == "end"][-1]
        assert end.data["status"] in ("deleted", "cancelled")
    assert idle.http.get(f"/api/v3/predictions/{task_id}/events").status_code == 404


@pytest.fixture
def another(idle: Installation, hands: Store) -> Iterator[tuple[httpx.Client, Callable[[], bool]]]:
    """Another key of the same account, and what revokes it."""
    keys = Keys(hands.database, read_secret(idle.home, "keys"))
    key = keys.create("another")
    caller = keys.caller(keys.digest(key))
    assert caller is not None
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=idle.url, headers=headers, timeout=10, trust_env=False) as client:
        yield client, lambda: keys.revoke(caller.key_id)


def test_a_revoked_key_is_told_nothing_more(hands: Store, another: tuple[httpx.Client, Callable[[], bool]]) -> None:
    client, revoke = another
    task_id = client.post(f"/api/v3/{ANIMATIC}", json={"prompt": "a cat", "images": IMAGES}).json()["data"]["id"]
    with client.stream("GET", f"/api/v3/predictions/{task_id}/events") as answer:
        events = told_by(answer)
        next(events)
        assert revoke()
        begin(hands, task_id)
        assert [event.data["status"] for event in events if event.data["status"] != "created"] == []


def test_only_its_owner_may_listen(idle: Installation, another: tuple[httpx.Client, Callable[[], bool]]) -> None:
    task_id = submit(idle)
    path = f"/api/v3/predictions/{task_id}/events"
    assert another[0].get(path).status_code == 404
    assert httpx.get(idle.url + path, trust_env=False).status_code == 401
    assert idle.http.get(f"/api/v3/predictions/{'0' * 32}/events").status_code == 404


@pytest.mark.slow
def test_a_server_that_ends_lets_its_listeners_go(install: Callable[..., Installation]) -> None:
    installation = install(workers=0).start()
    task_id = submit(installation)
    with listening(installation, task_id) as events:
        last = next(events)
        started = time.monotonic()
        threading.Thread(target=installation.stop).start()
        assert list(events) == []
        assert time.monotonic() - started < 3  # of the 5 s that it gives to answers under way
    while installation.process is not None:
        time.sleep(0.05)
    installation.start()
    store = Store(open_database(f"sqlite:///{installation.home / 'mutoscope.db'}"))
    with listening(installation, task_id, last.id) as events:
        task = begin(store, task_id)
        assert next(events).data["status"] == "processing"

    with Client(installation.url, installation.key) as client:  # which waits for a server that is gone for a while
        waited = client.wait(task_id)
        assert next(waited)["progress"] == 0
        installation.kill_group()
        threading.Timer(1, installation.start).start()
        store.advance(task, "rendering", 0.5)
        assert next(waited)["progress"] == 0.5
        store.fail(task, "The reference is no picture.", 1402)
        with pytest.raises(ClientError, match="The reference is no picture"):
            list(waited)
    store.database.close()


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ("denoising, step 3 of 8", (3, 8)),
        ("looking at the references, 2 of 4", (2, 4)),
        ("rendering", (0, 0)),
        ("", (0, 0)),
    ],
)
def test_steps_are_read_off_the_stage(stage: str, expected: tuple[int, int]) -> None:
    assert step_of(stage) == expected


def test_the_interval_is_that_of_the_latest_videos(tmp_path: Path) -> None:
    store = Store(open_database(f"sqlite:///{tmp_path / 'mutoscope.db'}"))
    caller = make_caller(store.database)
    request = VideoRequest("a cat", ("https://example.com/a.png",), duration=10)

    def add(name: str, **columns: Any) -> None:
        with store.database.write() as connection:
            store.add(name, caller, ANIMATIC, "animatic", request, connection=connection)
            connection.execute(update(tasks).where(tasks.c.id == name).values(**columns))

    for number in range(20):  # nine of ten took 20 s, the median is 10 s
        seconds = 10 if number < 15 else 20
        add(f"{number:032}", status="succeeded", started_at=1000.0, finished_at=1000.0 + seconds)
    add("a" * 32, status="running", started_at=time.time() - 6, progress=0.6)
    for name in "bcd":
        add(name * 32, turn=float(ord(name)))
    estimates = Estimates(store)
    running, *waiting = (store.find(name * 32) for name in "abcd")
    assert running is not None
    low, high = estimates.interval(running)
    assert low == pytest.approx(4, abs=0.2)
    assert high == pytest.approx(8, abs=0.4)
    intervals = [estimates.interval(task) for task in waiting if task is not None]
    assert [low for low, _ in intervals] == [20, 30, 40]
    ratios = [high / low for low, high in intervals]
    assert ratios[0] == pytest.approx(1 + 1 / 2**0.5, abs=0.01)
    assert ratios == sorted(ratios, reverse=True)  # of many, some are slow and some are not
    store.database.close()


@pytest.mark.slow
def test_a_thousand_listeners_cost_little(install: Callable[..., Installation]) -> None:
    idle = install(workers=0).start()
    count, watched_seconds = 1000, 17.0
    ids = [uuid.uuid4().hex for _ in range(count)]
    with open_database(f"sqlite:///{idle.home / 'mutoscope.db'}") as database:
        keys = Keys(database, read_secret(idle.home, "keys"))
        caller = keys.caller(keys.digest(idle.key))
        assert caller is not None
        request = VideoRequest("a cat", tuple(IMAGES))
        with database.write() as connection:
            for turn, task_id in enumerate(ids):
                Store(database).add(task_id, caller, ANIMATIC, "animatic", request, connection=connection, turn=turn)

    async def listen(task_id: str, connected: asyncio.Semaphore) -> tuple[bytes, asyncio.StreamWriter]:
        async with connected:  # the kernel's backlog is finite
            reader, writer = await asyncio.open_connection("127.0.0.1", idle.port)
            request = f"GET /api/v3/predictions/{task_id}/events HTTP/1.1\r\nHost: x\r\n"
            writer.write(f"{request}Authorization: Bearer {idle.key}\r\n\r\n".encode())
            head = await reader.readuntil(b"event: state")
        return head, await drain(reader, writer)

    rest: dict[asyncio.StreamWriter, bytearray] = {}
    readers: set[asyncio.Task[None]] = set()

    async def drain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> asyncio.StreamWriter:
        rest[writer] = bytearray()

        async def read() -> None:
            while data := await reader.read(4096):
                rest[writer].extend(data)

        readers.add(asyncio.create_task(read()))
        return writer

    async def all_of_them() -> tuple[float, float, list[bytes]]:
        limit = asyncio.Semaphore(50)
        opened = await asyncio.gather(*(listen(task_id, limit) for task_id in ids))
        assert all(head.startswith(b"HTTP/1.1 200 ") for head, _ in opened)
        await asyncio.sleep(1)
        before = cpu_seconds(idle)
        await asyncio.sleep(watched_seconds)
        share = (cpu_seconds(idle) - before) / watched_seconds
        memory = resident_megabytes(idle)
        heard = [bytes(data) for data in rest.values()]
        for _, writer in opened:
            writer.close()
        return memory, share, heard

    memory, share, heard = asyncio.run(all_of_them())
    print(f"{count} idle listeners: {memory:.0f} MB resident, {100 * share:.1f} % of a core")
    assert all(b": still here\n\n" in data for data in heard)
    assert memory < 300
    assert share < 0.3
    assert threads(idle) < 60  # not one per listener


def resident_megabytes(installation: Installation) -> float:
    return int(_status(installation)["VmRSS"].split()[0]) / 1024


def threads(installation: Installation) -> int:
    return int(_status(installation)["Threads"])


def _status(installation: Installation) -> dict[str, str]:
    assert installation.process is not None
    lines = Path(f"/proc/{installation.process.pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def cpu_seconds(installation: Installation) -> float:
    assert installation.process is not None
    fields = Path(f"/proc/{installation.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
