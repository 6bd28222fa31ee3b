"""Many predictions at once: lists and their filters, deletion, favourites; on a server with a hundred of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from mutoscope.keys import Keys
from mutoscope.schema import open_database, tasks
from mutoscope.store import Store
from mutoscope.tasks import Caller, VideoRequest
from tests.installation import ANIMATIC, SKYREELS, Installation

DAY = 86_400.0
WORDS = {"created": "queued", "processing": "running", "completed": "succeeded", "failed": "failed",
         "cancelled": "canceled"}  # fmt: skip


@dataclass
class Library:
    """A server with tasks made long ago: `ids` from the newest, one an hour, in all states by turns."""

    installation: Installation
    ids: list[str]
    now: float

    def items(self, **asked: Any) -> list[dict[str, Any]]:
        answer = self.installation.http.post("/api/v3/predictions", json=asked)
        assert answer.status_code == 200, answer.text
        items: list[dict[str, Any]] = answer.json()["data"]["items"]
        return items

    def numbers(self, **asked: Any) -> list[int]:
        return [self.ids.index(item["id"]) for item in self.items(page_size=100, **asked)]


def fill(installation: Installation, key_id: str, num: int, now: float) -> list[str]:
    ids = []
    with open_database(installation.database_url) as database, database.write() as connection:
        caller = Caller(key_id, "default", frozenset())
        for number in range(num):
            prompt = "100% of a_cat" if number % 10 == 3 else f"A Dog's day {number}"
            request = VideoRequest(prompt, ("https://example.com/a.png",), seed=number)
            store = Store(database, clock=lambda number=number: now - 3600 * number)
            model = SKYREELS if number % 2 else ANIMATIC
            task = store.add(f"{number:032x}", caller, model, "nobody", request, connection=connection)
            state = list(WORDS.values())[number % 5]
            held = {"lease_until": now + 1e6} if state == "running" else {}
            connection.execute(update(tasks).where(tasks.c.id == task.id).values(status=state, **held))
            ids.append(task.id)
    return ids


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory, database_settings: dict[str, str]) -> Iterator[Library]:
    installation = Installation(
        tmp_path_factory.mktemp("library") / "home", workers=0, retention_days=30, **database_settings
    )
    with open_database(installation.database_url) as database:
        keys = Keys(database, (installation.home / "secrets" / "keys").read_bytes())
        key_id = next(key.id for key in keys.all() if key.name == "tests")
    now = time.time()
    ids = fill(installation, key_id, 200, now)  # 200 hours are more than 7 days
    yield Library(installation.start(), ids, now)
    installation.close()


def at(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def test_the_newest_come_first_and_pages_follow_each_other(library: Library) -> None:
    seen = []
    for page in range(1, 10):
        answer = library.installation.http.post("/api/v3/predictions", json={"page": page, "page_size": 30}).json()
        data = answer["data"]
        assert set(data) == {"page", "page_size", "total", "has_more", "items"}
        assert (data["page"], data["page_size"], data["total"]) == (page, 30, 168)  # those of 7 days
        assert data["has_more"] == (page < 6)
        seen += [item["id"] for item in data["items"]]
    assert seen == library.ids[:168]


def test_get_and_post_are_the_same(library: Library) -> None:
    http = library.installation.http
    for asked in ({}, {"page": 2, "page_size": 5, "status": "failed"}, {"include_inputs": True, "model": SKYREELS}):
        by_get = http.get("/api/v3/predictions", params={name: str(value) for name, value in asked.items()})
        by_post = http.post("/api/v3/predictions", json=asked)
        assert by_get.status_code == 200, by_get.text
        assert by_get.json() == by_post.json()
    assert http.post("/api/v3/predictions").json()["data"]["page_size"] == 20


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ({"model": SKYREELS}, lambda n: n % 2 == 1),
        ({"model": "nobody/nothing"}, lambda n: False),
        *[({"status": word}, lambda n, at=at: n % 5 == at) for at, word in enumerate(WORDS)],
        ({"status": "timeout"}, lambda n: False),
        ({"status": "deleted"}, lambda n: False),
        ({"search": "a_CAT"}, lambda n: n % 10 == 3),
        ({"search": "100%"}, lambda n: n % 10 == 3),
        ({"search": "dog's"}, lambda n: n % 10 != 3),
        ({"search": "dog", "status": "failed", "model": SKYREELS}, lambda n: n % 10 == 3 and n % 10 != 3),
        ({"search": None, "status": "", "model": None, "created_after": "", "page": None}, lambda n: True),
    ],
)
def test_filters(library: Library, asked: dict[str, Any], wanted: Any) -> None:
    assert library.numbers(**asked) == [number for number in range(168) if wanted(number)][:100]


def test_a_window_of_time(library: Library) -> None:
    half = library.now - 1800
    found = library.numbers(created_after=at(half - 3600 * 4), created_before=at(half))
    assert found == [1, 2, 3, 4]
    # as a client of JavaScript writes it, without a zone, and as milliseconds since the epoch
    for moment in (at(half - 3600 * 4).replace("+00:00", "Z"), at(half - 3600 * 4)[:-6], (half - 3600 * 4) * 1000):
        assert library.numbers(created_after=moment) == [0, 1, 2, 3, 4]
    assert len(library.items(created_after="2020-01-01", page=2, page_size=100)) == 100
    assert library.numbers(created_after=at(library.now + DAY)) == []


def test_inputs_are_told_when_asked_for(library: Library) -> None:
    (plain,) = library.items(page_size=1)
    (whole,) = library.items(page_size=1, include_inputs=True)
    assert "inputs" not in plain
    assert whole.pop("inputs")["prompt"] == "A Dog's day 0"
    assert whole == plain
    assert {"id", "model", "outputs", "urls", "has_nsfw_contents", "status", "created_at", "error", "executionTime",
            "timings", "favourite"} < set(plain)  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"page": 0}, "page is 0"),
        ({"page": 10**30}, "page is 1000"),
        ({"page_size": 101}, "page_size is 101"),
        ({"page_size": "x"}, 'page_size is "x"'),
        ({"status": "asleep"}, 'status is "asleep": it must be one of created, processing'),
        ({"created_after": "yesterday"}, 'created_after is "yesterday"'),
        ({"search": "a\0b"}, "search is"),
        ({"search": "a" * 201}, "search is"),
        ({"model": ["a"]}, 'model is ["a"]'),
    ],
)
def test_what_can_not_be_listed_is_named(library: Library, asked: dict[str, Any], named: str) -> None:
    answer = library.installation.http.post("/api/v3/predictions", json=asked)
    assert answer.status_code == 400
    assert named in answer.json()["message"]


def test_favourites(library: Library) -> None:
    http = library.installation.http
    path = f"/api/v3/predictions/{library.ids[7]}"
    assert http.get(path).json()["data"]["favourite"] is False
    for _ in range(2):
        assert http.patch(path, json={"favourite": True}).json()["data"]["favourite"] is True
    assert library.numbers(favourite=True) == [7]
    assert http.patch(path, json={"favourite": False}).json()["data"]["favourite"] is False
    assert library.numbers(favourite=True) == []
    assert http.patch(path, json={"favourite": "maybe"}).status_code == 400
    assert http.patch(path, json={}).status_code == 400
    assert http.patch("/api/v3/predictions/nothing", json={"favourite": True}).status_code == 404


def test_another_key_sees_none_of_it(library: Library) -> None:
    key = library.installation.run("keys", "create", "stranger").stdout.strip()
    other = httpx.Client(base_url=library.installation.url, headers={"Authorization": f"Bearer {key}"})
    with other:
        empty = {"page": 1, "page_size": 20, "total": 0, "has_more": False, "items": []}
        assert other.get("/api/v3/predictions").json()["data"] == empty
        assert other.patch(f"/api/v3/predictions/{library.ids[0]}", json={"favourite": True}).status_code == 404
        answer = other.post("/api/v3/predictions/delete", json={"ids": library.ids})
        assert answer.json()["data"] == {"deleted_count": 0}
    assert len(library.numbers()) == 100


def test_deletion(running: Installation, image: str) -> None:
    made = [running.submit(ANIMATIC, prompt="a cat", images=[image], aspect_ratio="1:1") for _ in range(4)]
    done = running.wait(made[0]["id"])
    assert httpx.head(done["outputs"][0]).status_code == 200
    ids = [task["id"] for task in made]
    # The first has ended, another runs or has ended, the last ones wait.
    answer = running.http.post("/api/v3/predictions/delete", json={"ids": [*ids, ids[0], "nothing", "0" * 32]})
    assert answer.json() == {"code": 200, "message": "success", "data": {"deleted_count": 4}}
    assert httpx.head(done["outputs"][0]).status_code == 404
    for task_id in (ids[0], ids[3]):
        assert running.http.get(f"/api/v3/predictions/{task_id}").status_code == 404
    for task_id in ids[1:3]:
        if running.http.get(f"/api/v3/predictions/{task_id}").status_code == 200:
            assert running.wait(task_id)["status"] == "cancelled"
    again = running.http.post("/api/v3/predictions/delete", json={"ids": [ids[0]]})
    assert again.json()["data"] == {"deleted_count": 0}
    assert running.http.post("/api/v3/predictions/delete", json={"ids": []}).json()["data"] == {"deleted_count": 0}
    assert running.http.post("/api/v3/predictions/delete", json={}).status_code == 400
    assert running.http.post("/api/v3/predictions/delete", json={"ids": ["a"] * 1001}).status_code == 400


def test_a_list_never_holds_a_video_itself(running: Installation, image: str) -> None:
    inputs = {"prompt": "a cat", "images": [image], "aspect_ratio": "1:1", "enable_base64_output": True}
    task = running.submit(ANIMATIC, **inputs)
    assert running.wait(task["id"])["outputs"][0].startswith("data:video/mp4;base64,")
    found = running.http.get("/api/v3/predictions").json()["data"]["items"][0]
    assert found["id"] == task["id"]
    assert httpx.URL(found["outputs"][0]).path.endswith(".mp4")
