"""What makes every client of WaveSpeed's API work, rule by rule; and the shape of each answer, in every state."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.installation import ANIMATIC, EXAMPLES, SKYREELS, Installation


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A sandbox server without workers: what is accepted stays queued."""
    installation = Installation(tmp_path_factory.mktemp("rules") / "home", workers=0, sync_seconds=0.3).start()
    yield installation
    installation.close()


States = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def states(idle: Installation, running: Installation, completed: dict[str, Any], data_uri: str) -> States:
    """A prediction in every state that a client may meet."""
    inputs = {"prompt": "a cat", "images": [data_uri]}
    created = idle.submit(ANIMATIC, **inputs)
    held = idle.submit(ANIMATIC, **inputs, enable_sync_mode=True)
    cancelled = idle.submit(ANIMATIC, **inputs)
    assert idle.http.delete(f"/api/v3/predictions/{cancelled['id']}").status_code == 200
    failed = running.wait(running.submit(ANIMATIC, prompt="a", images=[f"{running.url}/no.png"])["id"])
    return {
        "created": created,
        "processing": held,
        "completed": completed,
        "failed": failed,
        "cancelled": idle.result(cancelled["id"]),
    }


STATES = ("created", "processing", "completed", "failed", "cancelled")


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("route", ["result", "prediction", "v2", "list by POST", "list by GET"])
def test_every_answer_has_what_old_clients_validate(
    states: States, idle: Installation, running: Installation, state: str, route: str
) -> None:
    """Rules 4 to 9, 12 and 13 of every route that shows a prediction."""
    prediction = states[state]
    where = idle if prediction["urls"]["get"].startswith(idle.url) else running
    path = f"/api/v3/predictions/{prediction['id']}"
    answer = {
        "result": lambda: where.http.get(path + "/result"),
        "prediction": lambda: where.http.get(path),
        "v2": lambda: where.http.get(path.replace("v3", "v2") + "/result"),
        "list by POST": lambda: where.http.post("/api/v3/predictions", json={"page_size": 100}),
        "list by GET": lambda: where.http.get("/api/v3/predictions", params={"page_size": 100}),
    }[route]()
    assert answer.status_code == 200
    body = answer.json()
    assert set(body) == {"code", "message", "data"}  # and no top-level `error`
    assert (body["code"], type(body["code"]), body["message"]) == (200, int, "success")
    data = body["data"]
    found = next(item for item in data["items"] if item["id"] == prediction["id"]) if "list" in route else data
    check(found)
    if state != "processing":  # that is what a held request says of a task that waits
        assert found["status"] == state


@pytest.mark.parametrize("state", STATES)
def test_every_submit_and_result_is_whole_as_it_was_answered(states: States, state: str) -> None:
    check(states[state])
    assert states[state]["status"] == state


def check(found: dict[str, Any]) -> None:
    kinds = {
        "id": str, "model": str, "outputs": list, "urls": dict, "has_nsfw_contents": list, "status": str,
        "created_at": str, "error": str, "executionTime": int, "timings": dict,
    }  # fmt: skip
    for name, kind in kinds.items():
        assert type(found[name]) is kind, (name, found[name])
    assert None not in found.values()
    assert re.fullmatch(r"[0-9a-f]{32}", found["id"])
    assert found["status"] in STATES
    assert all(type(output) is str for output in found["outputs"])
    assert all(type(flag) is bool for flag in found["has_nsfw_contents"])
    assert all(type(number) is int for number in found["timings"].values())
    assert "inference" in found["timings"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found["created_at"])
    assert found["urls"]["get"].endswith(f"/api/v3/predictions/{found['id']}/result")
    assert type(found.get("code", 0)) is int


def test_2_v2_is_another_name_of_v3(idle: Installation, data_uri: str) -> None:
    task = idle.http.post(f"/api/v2/{ANIMATIC}", json={"prompt": "a", "images": [data_uri]}).json()["data"]
    for path in (f"/predictions/{task['id']}/result", "/models", "/balance", "/predictions"):
        assert idle.http.get(f"/api/v2{path}").status_code == 200
    answer = idle.http.post("/api/v2/predictions/delete", json={"ids": [task["id"]]})
    assert answer.json()["data"] == {"deleted_count": 1}
    assert idle.http.get("/api/v2/nothing").status_code == 404


def test_10_urls_get_can_be_followed(completed: dict[str, Any], running: Installation) -> None:
    assert running.http.get(completed["urls"]["get"]).json()["data"] == completed


def test_11_outputs_are_fetched_without_a_key_and_end_in_mp4(completed: dict[str, Any]) -> None:
    answer = httpx.get(completed["outputs"][0])
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "video/mp4"
    assert httpx.URL(completed["outputs"][0]).path.endswith(".mp4")


def test_14_unknown_fields_and_nulls_are_ignored(idle: Installation, data_uri: str) -> None:
    extra = {
        "loras": [], "negative_prompt": "", "size": "832*480", "num_inference_steps": 30, "guidance_scale": 5,
        "flow_shift": 3, "enable_safety_checker": True, "seed": -1, "duration": None, "aspect_ratio": None,
    }  # fmt: skip
    found = idle.submit(SKYREELS, prompt="a cat", image=data_uri, images=None, **extra)
    assert found["input"]["duration"] == 5
    assert len(found["input"]["images"]) == 1


@pytest.mark.parametrize("path", ["/api/v3/upload", "/api/v3/uploads", "/api/v3/media/upload/binary"])
def test_16_each_address_of_an_upload_answers_with_a_url_that_works(idle: Installation, path: str) -> None:
    with (EXAMPLES / "chelsea.jpg").open("rb") as file:
        answer = idle.http.post(path, files={"file": ("ref.jpg", file, "application/octet-stream")})
    data = answer.json()["data"]
    url = data.get("url") or data["download_url"]
    assert set(data) == ({"url"} if "media" not in path else {"type", "download_url", "filename", "size"})
    assert httpx.get(url).content == (EXAMPLES / "chelsea.jpg").read_bytes()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v3/nothing", 404),
        ("PUT", "/api/v3/no/such/model", 404),
        ("DELETE", "/api/v3/predictions", 405),
        ("GET", f"/api/v3/{ANIMATIC}", 405),
        ("PUT", "/api/v3/models", 405),
        ("GET", "/api/v4/models", 404),
        ("GET", "/api", 404),
        ("POST", "/api/v3/nothing", 404),
    ],
)
def test_19_literal_routes_come_first_and_unknown_ones_are_refused_in_the_envelope(
    idle: Installation, method: str, path: str, status: int
) -> None:
    answer = idle.http.request(method, path, **({"json": {}} if method == "POST" else {}))
    assert answer.status_code == status
    body = answer.json()
    assert set(body) == {"code", "message", "error_code"}
    assert body["code"] == status


CLIENT_HEADERS = "authorization,content-type,x-client-name,x-client-version,x-client-os"


@pytest.mark.parametrize("path", [f"/api/v3/{SKYREELS}", "/api/v3/predictions/x/result", "/api/v3/balance"])
def test_20_a_browser_may_ask_from_anywhere(idle: Installation, path: str) -> None:
    origin = {"Origin": "https://elsewhere.example"}
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": CLIENT_HEADERS}
    preflight = httpx.options(idle.url + path, headers=origin | asked)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == "*"
    assert set(CLIENT_HEADERS.split(",")) <= set(
        re.split(r",\s*", preflight.headers["access-control-allow-headers"].lower())
    )
    for headers in (origin, origin | {"Authorization": f"Bearer {idle.key}"}):  # refusals too
        answer = httpx.get(idle.url + path, headers=headers)
        assert answer.headers["access-control-allow-origin"] == "*"


def test_20_so_may_it_when_the_server_fails(install: Callable[..., Installation], data_uri: str) -> None:
    installation = install(workers=0).start()
    task = installation.submit(prompt="a", images=[data_uri])
    with contextlib.closing(sqlite3.connect(installation.home / "mutoscope.db")) as database:
        database.execute("UPDATE tasks SET request = '{'")
        database.commit()
    for path in (task["urls"]["get"], "/api/v3/predictions"):
        headers = {**installation.http.headers, "Origin": "https://elsewhere.example"}
        answer = httpx.get(httpx.URL(installation.url).join(path), headers=headers)  # a fault ends its connection
        assert answer.status_code == 500
        assert answer.headers["access-control-allow-origin"] == "*"
        assert (answer.json()["code"], answer.json()["error_code"]) == (500, "internal_error")
