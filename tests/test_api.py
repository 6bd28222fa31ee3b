"""The API as a client meets it: a server process, spoken to over HTTP."""

from __future__ import annotations

import base64
import http.client
import io
import json
import re
import secrets
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from hashlib import blake2b
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest

from mutoscope.config import load_settings
from mutoscope.files import open_files
from mutoscope.models import MODELS
from mutoscope.opening import open_store
from mutoscope.worker import Previews
from tests.installation import ANIMATIC, EXAMPLES, SKYREELS, Installation

PREDICTION = {
    "id": str, "model": str, "outputs": list, "urls": dict, "has_nsfw_contents": list, "status": str,
    "created_at": str, "error": str, "executionTime": int, "timings": dict, "engine": str, "seed": int,
    "progress": float, "stage": str, "queue_position": int, "eta_seconds": float, "poster": str, "preview": str,
    "favourite": bool, "input": dict,
}  # fmt: skip


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A sandbox server without workers: what is accepted stays queued, and a held request runs out after a second."""
    home = tmp_path_factory.mktemp("idle") / "home"
    installation = Installation(home, workers=0, sync_seconds=1, max_body_bytes=64 * 2**10).start()
    yield installation
    installation.close()


@pytest.fixture(scope="module")
def stranger(running: Installation) -> Iterator[httpx.Client]:
    """Another key's caller on the shared server."""
    key = running.run("keys", "create", "stranger").stdout.strip()
    with httpx.Client(base_url=running.url, headers={"Authorization": f"Bearer {key}"}, trust_env=False) as client:
        yield client


@pytest.fixture(scope="module")
def failed(running: Installation) -> dict[str, Any]:
    """The prediction of a task whose second image is not there."""
    missing = f"{running.url}/web/nothing.png"
    task = running.submit(prompt="a cat", images=[f"{running.url}/web/none.png", missing])
    return running.wait(task["id"])


def check_shape(found: dict[str, Any], running: Installation) -> None:
    """What old clients validate: every field there, of its type, never null."""
    extra = {"code"} if found["status"] == "failed" or "Sync mode timed out" in found["error"] else set()
    assert set(found) == set(PREDICTION) | extra
    for name, kind in PREDICTION.items():
        assert type(found[name]) is kind, (name, found[name])
    assert re.fullmatch(r"[0-9a-f]{32}", found["id"])
    assert all(type(output) is str for output in found["outputs"])
    assert found["has_nsfw_contents"] == [False] * len(found["outputs"])
    assert found["urls"] == {"get": f"{running.url}/api/v3/predictions/{found['id']}/result"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found["created_at"])
    assert all(type(ms) is int and ms >= 0 for ms in found["timings"].values())
    assert found["timings"]["inference"] == found["executionTime"]
    assert 0 <= found["progress"] <= 1
    assert 0 <= found["seed"] < 2**63
    assert set(found["input"]) == set(MODELS[found["model"]].accepts.model_fields)
    assert None not in found["input"].values()


def post(installation: Installation, body: Any, model: str = ANIMATIC) -> httpx.Response:
    return installation.http.post(f"/api/v3/{model}", json=body)


def check_refusal(answer: httpx.Response, status: int, error_code: str) -> str:
    """The refusal's envelope; returns its message."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"code", "message", "error_code"}
    assert (body["code"], body["error_code"]) == (status, error_code), body
    message: str = body["message"]
    assert message
    return message


# Submit


def test_submit_answers_200_with_the_full_prediction(idle: Installation, data_uri: str) -> None:
    answer = post(idle, {"prompt": " a cat ", "images": [data_uri]})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    envelope = answer.json()
    assert (envelope["code"], envelope["message"]) == (200, "success")
    assert set(envelope) == {"code", "message", "data"}  # one client fails on any top-level `error`
    found = envelope["data"]
    check_shape(found, idle)
    assert (found["status"], found["outputs"], found["model"]) == ("created", [], ANIMATIC)
    assert (found["engine"], found["error"], found["poster"], found["progress"]) == ("animatic", "", "", 0.0)
    assert found["eta_seconds"] > 0
    asked = found["input"]
    assert (asked["prompt"], asked["aspect_ratio"], asked["duration"]) == ("a cat", "16:9", 5)
    assert asked["seed"] == found["seed"]


def test_both_models_are_offered(idle: Installation, data_uri: str) -> None:
    for model in (ANIMATIC, SKYREELS):
        answer = post(idle, {"prompt": "a", "images": [data_uri]}, model)
        assert (answer.status_code, answer.json()["data"]["model"]) == (200, model)
        assert answer.json()["data"]["engine"] == "animatic"  # a sandbox says so


@pytest.mark.parametrize(("seed", "drawn"), [(0, False), (2**63 - 1, False), (-1, True), (None, True)])
def test_the_seed_is_reported(idle: Installation, data_uri: str, seed: int | None, drawn: bool) -> None:
    seeds = {post(idle, {"prompt": "a", "images": [data_uri], "seed": seed}).json()["data"]["seed"] for _ in range(3)}
    assert len(seeds) == 3 if drawn else seeds == {seed}


def test_unknown_fields_are_ignored_and_null_means_absent(idle: Installation, data_uri: str) -> None:
    noise = {"image": "x", "negative_prompt": "", "loras": [], "size": "832*480", "num_inference_steps": 30}
    nothing = dict.fromkeys(("aspect_ratio", "duration", "seed", "enable_sync_mode", "enable_base64_output"))
    answer = post(idle, {"prompt": "a", "images": [data_uri], **noise, **nothing})
    assert answer.status_code == 200, answer.text
    assert answer.json()["data"]["status"] == "created"
    assert (answer.json()["data"]["input"]["aspect_ratio"], answer.json()["data"]["input"]["duration"]) == ("16:9", 5)


BAD_FIELDS = [
    ({"prompt": "  "}, 'prompt is ""', "1 to 5,000 characters"),
    ({"prompt": "a" * 5001}, "prompt is 5,001 characters long", "1 to 5,000 characters"),
    ({"prompt": 3}, "prompt is 3", "1 to 5,000 characters"),
    ({"images": []}, "images is []", "1 to 4"),
    ({"images": ["https://h/a"] * 5}, "images is 5 items long", "1 to 4"),
    ({"images": "https://h/a"}, 'images is "https://h/a"', "a list of 1 to 4"),
    ({"images": ["https://h/a", "ftp://h/a"]}, 'images[1] is "ftp://h/a"', "http(s) URLs"),
    ({"images": ["data:image/png;base64,AAAA", "data:image/png,x"]}, "images[1]", "base64"),
    ({"images": ["data:image/png;base64,A?"]}, "images[0]", "base64"),
    ({"aspect_ratio": "4:3"}, 'aspect_ratio is "4:3"', "16:9, 9:16, 1:1"),
    ({"duration": 4}, "duration is 4", "5 to 10"),
    ({"duration": 11}, "duration is 11", "5 to 10"),
    ({"duration": "5"}, 'duration is "5"', "5 to 10"),
    ({"duration": 5.5}, "duration is 5.5", "5 to 10"),
    ({"seed": -2}, "seed is -2", "0 to 9223372036854775807"),
    ({"seed": 2**63}, "seed is 9223372036854775808", "0 to 9223372036854775807"),
    ({"enable_sync_mode": "yes"}, 'enable_sync_mode is "yes"', "true or false"),
    ({"enable_base64_output": 1}, "enable_base64_output is 1", "true or false"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "what", "allowed"), BAD_FIELDS, ids=[what[:40] for _, what, _ in BAD_FIELDS])
def test_a_bad_field_is_named_with_its_value_and_what_is_allowed(
    idle: Installation, data_uri: str, fields: dict[str, Any], what: str, allowed: str
) -> None:
    before = len(tasks_in(idle))
    message = check_refusal(post(idle, {"prompt": "a", "images": [data_uri], **fields}), 400, "invalid_parameter")
    assert message.startswith(what)
    assert allowed in message
    assert len(tasks_in(idle)) == before


@pytest.mark.parametrize("field", ["prompt", "images"])
def test_a_missing_field_is_named(idle: Installation, data_uri: str, field: str) -> None:
    body = {"prompt": "a", "images": [data_uri]}
    del body[field]
    assert check_refusal(post(idle, body), 400, "invalid_parameter").startswith(f"{field} is missing: it must be ")


@pytest.mark.parametrize(
    ("content", "error_code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"\xff\xfe\x00", "invalid_json"),
        (b'{"prompt": "\xff"}', "invalid_json"),
        (b"[" * 60_000, "invalid_json"),
        (b'{"duration": ' + b"9" * 5000 + b"}", "invalid_json"),
        (b"[]", "invalid_request"),
        (b"null", "invalid_request"),
        (b'"prompt"', "invalid_request"),
        (b'{"prompt": "\\ud800", "images": ["https://h/a"]}', "invalid_parameter"),
        (b'{"prompt": ' + b"[" * 900 + b"]" * 900 + b', "images": ["https://h/a"]}', "invalid_parameter"),
    ],
)
def test_a_body_that_is_no_json_object(idle: Installation, content: bytes, error_code: str) -> None:
    headers = {"Content-Type": "application/json"}
    check_refusal(idle.http.post(f"/api/v3/{ANIMATIC}", content=content, headers=headers), 400, error_code)


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "text/json", "application/vnd.x+json", None])
def test_json_by_any_name(idle: Installation, data_uri: str, kind: str | None) -> None:
    content = json.dumps({"prompt": "a", "images": [data_uri]}).encode()
    headers = {} if kind is None else {"Content-Type": kind}
    assert idle.http.post(f"/api/v3/{ANIMATIC}", content=content, headers=headers).status_code == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_a_body_of_another_type_is_415(idle: Installation, kind: str) -> None:
    answer = idle.http.post(f"/api/v3/{ANIMATIC}", content=b"prompt=a", headers={"Content-Type": kind})
    assert kind in check_refusal(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize("is_declared", [True, False], ids=["content-length", "chunked"])
def test_a_body_that_is_too_large_is_413(idle: Installation, is_declared: bool) -> None:
    content = json.dumps({"prompt": "a", "images": ["data:;base64," + "A" * 64 * 2**10]}).encode()
    sent: Any = content if is_declared else iter([content[:100], content[100:]])
    answer = idle.http.post(f"/api/v3/{ANIMATIC}", content=sent, headers={"Content-Type": "application/json"})
    assert "upload the images first" in check_refusal(answer, 413, "too_large")


@pytest.mark.parametrize(
    "inputs",
    [
        {"images": ["http://a.com/\ud800"]},
        {"images": ["data:image/png;base64,\ud800"]},
        {"webhook_url": "http://a.com/\ud800"},
        {"prompt": "\ud800"},
        {"max_queue_seconds": 10**400, "duration": 3},
    ],
)
def test_what_no_text_can_hold_is_refused(idle: Installation, data_uri: str, inputs: dict[str, Any]) -> None:
    body = json.dumps({"prompt": "a cat", "images": [data_uri], **inputs})
    answer = idle.http.post(f"/api/v3/{ANIMATIC}", content=body, headers={"Content-Type": "application/json"})
    check_refusal(answer, 400, "invalid_parameter")


@pytest.mark.parametrize("model", ["nobody/nothing", "model", "media/nothing", "skywork-ai", ANIMATIC + "/"])
def test_an_unknown_model_is_404_and_names_the_models(idle: Installation, data_uri: str, model: str) -> None:
    message = check_refusal(post(idle, {"prompt": "a", "images": [data_uri]}, model), 404, "unknown_model")
    assert repr(model) in message
    assert ANIMATIC in message
    assert SKYREELS in message


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"/api/v3/{ANIMATIC}"),
        ("PUT", f"/api/v3/{ANIMATIC}"),
        ("POST", "/healthz"),
        ("PATCH", "/api/v3/predictions/x/result"),
        ("DELETE", "/api/v3/media/uploads"),
        ("DELETE", "/files/x"),
    ],
)
def test_another_method_is_405(idle: Installation, method: str, path: str) -> None:
    check_refusal(idle.http.request(method, path), 405, "method_not_allowed")


def test_an_unknown_path_is_404(idle: Installation) -> None:
    check_refusal(idle.http.get("/nothing"), 404, "not_found")


def test_a_full_queue_is_429_with_retry_after(install: Callable[..., Installation], data_uri: str) -> None:
    installation = install(workers=0, max_queued=3).start()
    body = {"prompt": "a", "images": [data_uri]}
    ids = [post(installation, body).json()["data"]["id"] for _ in range(3)]
    answer = post(installation, body)
    check_refusal(answer, 429, "queue_full")
    assert int(answer.headers["retry-after"]) > 0
    assert len(tasks_in(installation)) == 3
    installation.http.delete(f"/api/v3/predictions/{ids[0]}")
    time.sleep(1.1)  # the queue is looked at once a second
    assert post(installation, body).status_code == 200


def test_without_a_sandbox_skyreels_names_the_fix(install: Callable[..., Installation], data_uri: str) -> None:
    installation = install(workers=0, sandbox=False).start()
    body = {"prompt": "a", "images": [data_uri]}
    message = check_refusal(post(installation, body, SKYREELS), 503, "engine_unavailable")
    assert ANIMATIC in message
    assert "--sandbox" in message
    assert post(installation, body).json()["data"]["engine"] == "animatic"
    assert len(tasks_in(installation)) == 1


def test_queue_places_are_counted_from_one(install: Callable[..., Installation], data_uri: str) -> None:
    installation = install(workers=0).start()
    body = {"prompt": "a", "images": [data_uri]}
    tasks = [post(installation, body).json()["data"] for _ in range(4)]
    assert [task["queue_position"] for task in tasks] == [1, 2, 3, 4]
    assert tasks[0]["eta_seconds"] < tasks[3]["eta_seconds"]
    installation.http.delete(f"/api/v3/predictions/{tasks[0]['id']}")
    time.sleep(1.1)
    assert installation.result(tasks[3]["id"])["queue_position"] == 3


# Result


def test_the_prediction_has_its_shape_in_every_state(
    running: Installation, idle: Installation, completed: dict[str, Any], failed: dict[str, Any], data_uri: str
) -> None:
    canceled = idle.submit(prompt="a", images=[data_uri])
    idle.http.delete(f"/api/v3/predictions/{canceled['id']}")
    task = running.submit(prompt="a", images=[data_uri], aspect_ratio="1:1", duration=10)
    while not (processing := running.result(task["id"]))["progress"]:
        assert not processing["error"]
        time.sleep(0.02)
    running.http.delete(f"/api/v3/predictions/{task['id']}")
    ended = running.wait(task["id"])
    states = [
        (idle, idle.submit(prompt="a", images=[data_uri]), "created"),
        (running, processing, "processing"),
        (running, completed, "completed"),
        (running, failed, "failed"),
        (running, ended, "cancelled"),
        (idle, idle.result(canceled["id"]), "cancelled"),
    ]
    for installation, found, status in states:
        assert found["status"] == status
        check_shape(found, installation)
        assert bool(found["outputs"]) == bool(found["poster"]) == (status == "completed")
        assert bool(found["error"]) == (status == "failed")
        assert bool(found["queue_position"]) == (status == "created")
        assert (found["eta_seconds"] > 0) == (status in ("created", "processing"))
        assert (found["executionTime"] > 0) == (found in (completed, failed, ended))


def test_a_completed_prediction(running: Installation, completed: dict[str, Any], image: str) -> None:
    assert (completed["model"], completed["engine"], completed["seed"]) == (ANIMATIC, "animatic", 7)
    assert (completed["progress"], completed["stage"], completed["error"]) == (1.0, "", "")
    assert completed["input"] == {
        "prompt": "a cat, slow push in", "images": [image], "aspect_ratio": "1:1", "duration": 5, "seed": 7,
        "resolution": "720p",
    }  # fmt: skip
    assert len(completed["outputs"]) == 1
    assert {"inference", "references", "first_frame", "rendering", "storing"} <= set(completed["timings"])


@pytest.mark.parametrize("version", ["v2", "v3"])
@pytest.mark.parametrize("end", ["", "/result"])
def test_the_result_has_four_addresses(
    running: Installation, completed: dict[str, Any], version: str, end: str
) -> None:
    answer = running.http.get(f"/api/{version}/predictions/{completed['id']}{end}")
    assert answer.status_code == 200
    assert answer.json() == {"code": 200, "message": "success", "data": completed}


def test_a_client_may_follow_urls_get(running: Installation, completed: dict[str, Any]) -> None:
    assert running.http.get(completed["urls"]["get"]).json()["data"] == completed


def test_v2_submits_too(idle: Installation, data_uri: str) -> None:
    answer = idle.http.post(f"/api/v2/{ANIMATIC}", json={"prompt": "a", "images": [data_uri]})
    assert answer.json()["data"]["status"] == "created"


def test_an_unknown_task_is_404(running: Installation, idle: Installation) -> None:
    for task_id in ("0" * 32, "x", "%00", "..%2f..", "é", "a" * 5000):
        for method, path in (("GET", "/result"), ("GET", ""), ("DELETE", "")):
            answer = running.http.request(method, f"/api/v3/predictions/{task_id}{path}")
            if "%2f" in task_id and not path:
                assert answer.status_code in (404, 405)
            else:
                assert check_refusal(answer, 404, "task_not_found") == "Task not found."


def test_the_poster_is_a_picture(completed: dict[str, Any]) -> None:
    answer = httpx.get(completed["poster"])
    assert httpx.URL(completed["poster"]).path.endswith(".jpg")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    with av.open(io.BytesIO(answer.content)) as container:
        (frame,) = container.decode(video=0)
        assert (frame.width, frame.height) == (960, 960)


def test_a_preview_is_a_picture_whose_address_changes_with_it(idle: Installation, data_uri: str) -> None:
    idle.submit(prompt="a cat", images=[data_uri])
    settings = load_settings(home=idle.home)
    store, files = open_store(settings), open_files(settings.files)
    task = store.claim("a worker of the test", ["animatic"])
    assert task is not None
    assert idle.result(task.id)["preview"] == ""
    settings.scratch.mkdir(exist_ok=True)
    previews = Previews(files, settings.scratch, f"{task.id}-1")
    addresses = []
    for grey in (60, 200):
        store.advance(task, "denoising", 0.5, previews.put(np.full((16, 48, 3), grey, np.uint8)))
        addresses.append(idle.result(task.id)["preview"])
        answer = httpx.get(addresses[-1])
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
        with av.open(io.BytesIO(answer.content)) as container:
            (frame,) = container.decode(video=0)
            assert frame.to_ndarray(format="rgb24").mean() == pytest.approx(grey, abs=3)
    assert addresses[0] != addresses[1]
    store.database.close()
    store.fail(task, "no", 1403)
    assert idle.result(task.id)["preview"] == ""


def test_late_failures_name_image_host_and_reason(running: Installation, failed: dict[str, Any]) -> None:
    assert (failed["status"], failed["code"]) == ("failed", 1402)
    assert re.fullmatch(r"Image 1 \(127\.0\.0\.1\): the server answered 404.*\.", failed["error"]), failed["error"]
    not_a_picture = "data:image/png;base64," + base64.b64encode(b"not a picture" * 9).decode()
    image = running.upload(EXAMPLES / "chelsea.jpg")
    found = running.wait(running.submit(prompt="a", images=[image, not_a_picture])["id"])
    assert (found["status"], found["code"]) == ("failed", 1402)
    assert found["error"].startswith("Image 2 ")


def test_public_url_is_in_every_link(install: Callable[..., Installation], data_uri: str) -> None:
    installation = install(workers=0, public_url="https://video.example/studio/").start()
    base = "https://video.example/studio"
    found = installation.submit(prompt="a", images=[data_uri])
    assert found["urls"]["get"] == f"{base}/api/v3/predictions/{found['id']}/result"
    assert found["input"]["images"][0].startswith(f"{base}/files/uploads/")
    assert installation.upload(EXAMPLES / "chelsea.jpg").startswith(f"{base}/files/uploads/")
    asked = {"filename": "a.png", "size": 5}
    ticket = installation.http.post("/api/v3/media/uploads", json=asked).json()["data"]
    assert ticket["upload"]["url"].startswith(f"{base}/files/uploads/")
    served = installation.http.get("/api/v3/models").json()["data"][0]["api_schema"]["api_schemas"][0]["server"]
    assert served == base


def test_links_follow_the_host_that_was_asked(idle: Installation, data_uri: str) -> None:
    body = {"prompt": "a", "images": [data_uri]}
    answer = idle.http.post(f"/api/v3/{ANIMATIC}", json=body, headers={"Host": "studio.example:8080"})
    assert answer.json()["data"]["urls"]["get"].startswith("http://studio.example:8080/api/v3/predictions/")


# Cancel and delete


def test_a_queued_task_is_canceled_at_once_and_stays_so(idle: Installation, data_uri: str) -> None:
    task = idle.submit(prompt="a", images=[data_uri])
    answer = idle.http.delete(f"/api/v3/predictions/{task['id']}")
    assert (answer.status_code, answer.json()["data"]["status"]) == (200, "cancelled")
    assert idle.result(task["id"])["status"] == "cancelled"


def test_deleting_an_ended_task_forgets_it_and_its_files(running: Installation, data_uri: str) -> None:
    bad = "data:image/png;base64," + base64.b64encode(secrets.token_bytes(99)).decode()
    task = running.submit(prompt="a", images=[bad])
    found = running.wait(task["id"])
    kept = found["input"]["images"][0]
    assert httpx.get(kept).status_code == 200
    answer = running.http.delete(f"/api/v2/predictions/{task['id']}")
    assert answer.json() == {"code": 200, "message": "success", "data": {"id": task["id"], "status": "deleted"}}
    check_refusal(running.http.get(f"/api/v3/predictions/{task['id']}/result"), 404, "task_not_found")
    check_refusal(running.http.delete(f"/api/v3/predictions/{task['id']}"), 404, "task_not_found")
    assert httpx.get(kept).status_code == 404


# Keys


@pytest.mark.parametrize(
    ("header", "error_code"),
    [
        (None, "missing_api_key"),
        ("", "missing_api_key"),
        ("Bearer", "missing_api_key"),
        ("Basic dTpw", "missing_api_key"),
        ("wsk_" + "a" * 43, "missing_api_key"),
        ("Bearer wsk_" + "a" * 43, "invalid_api_key"),
        ("Bearer é", "invalid_api_key"),
        ("Bearer ' OR 1=1 --", "invalid_api_key"),
    ],
)
def test_no_route_answers_without_a_key(idle: Installation, header: str | None, error_code: str) -> None:
    headers = {} if header is None else {"Authorization": header.encode()}
    routes = [
        ("POST", f"/api/v3/{ANIMATIC}"), ("POST", f"/api/v2/{ANIMATIC}"), ("POST", "/api/v3/no/model"),
        ("GET", "/api/v3/predictions/x/result"), ("GET", "/api/v2/predictions/x/result"),
        ("GET", "/api/v3/predictions/x"), ("DELETE", "/api/v3/predictions/x"), ("GET", "/api/v3/models"),
        ("POST", "/api/v3/media/upload/binary"), ("POST", "/api/v3/media/uploads"), ("POST", "/api/v3/model/price"),
    ]  # fmt: skip
    with httpx.Client(base_url=idle.url, headers=headers, trust_env=False) as client:
        for method, path in routes:
            answer = client.request(method, path, json={} if method == "POST" else None)
            check_refusal(answer, 401, error_code)
            assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("header", ["bearer {}", "Bearer  {} ", "BEARER {}"])
def test_the_scheme_and_blanks_are_read_generously(idle: Installation, header: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", idle.port)  # it sends blanks as they are
    with closing(connection):
        connection.request("GET", "/api/v3/models", headers={"Authorization": header.format(idle.key)})
        assert connection.getresponse().status == 200


def test_a_revoked_key_is_refused_at_once(idle: Installation) -> None:
    created = idle.run("keys", "create", "short lived")
    key = created.stdout.strip()
    assert re.fullmatch(r"wsk_[A-Za-z0-9_-]{43}", key)
    assert created.stdout == key + "\n"
    headers = {"Authorization": f"Bearer {key}"}
    assert httpx.get(f"{idle.url}/api/v3/models", headers=headers).status_code == 200
    listed = next(line for line in idle.run("keys", "list").stdout.splitlines() if "short lived" in line)
    idle.run("keys", "revoke", listed.split()[0])
    check_refusal(httpx.get(f"{idle.url}/api/v3/models", headers=headers), 401, "invalid_api_key")
    path = f"{idle.url}/api/v3/predictions/x/result"
    check_refusal(httpx.get(path, headers=headers), 401, "invalid_api_key")


def test_a_key_is_stored_only_as_a_keyed_digest(running: Installation, completed: dict[str, Any]) -> None:
    with closing(sqlite3.connect(running.home / "mutoscope.db")) as database:
        database.execute("PRAGMA wal_checkpoint")
        digests = [digest for (digest,) in database.execute("SELECT digest FROM keys")]
    secret = (running.home / "secrets" / "keys").read_bytes()
    assert len(secret) == 32
    assert blake2b(running.key.encode(), key=secret, digest_size=32).hexdigest() in digests
    assert blake2b(running.key.encode(), digest_size=32).hexdigest() not in digests
    random_part = running.key.removeprefix("wsk_")[8:].encode()
    for path in [running.log, *running.home.rglob("*")]:
        if path.is_file():
            assert random_part not in path.read_bytes(), path


def test_only_the_owner_can_read_the_secrets(running: Installation) -> None:
    for path in (running.home / "secrets", *(running.home / "secrets").iterdir()):
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_key_sees_only_its_own_predictions(
    running: Installation, stranger: httpx.Client, completed: dict[str, Any], data_uri: str
) -> None:
    queued = running.submit(prompt="a", images=[data_uri], aspect_ratio="1:1", duration=10)
    for task in (completed, queued):
        for path in (f"/api/v3/predictions/{task['id']}/result", f"/api/v2/predictions/{task['id']}"):
            check_refusal(stranger.get(path), 404, "task_not_found")
        check_refusal(stranger.delete(f"/api/v3/predictions/{task['id']}"), 404, "task_not_found")
        assert running.result(task["id"])["status"] not in ("cancelled", "failed")
    running.http.delete(f"/api/v3/predictions/{queued['id']}")
    assert httpx.get(completed["outputs"][0]).status_code == 200


# Sync mode and base64


def test_sync_mode_and_base64_output_in_one_post(running: Installation, image: str) -> None:
    answer = running.http.post(
        f"/api/v3/{SKYREELS}",
        json={
            "prompt": "a cat", "images": [image], "aspect_ratio": "1:1",
            "enable_sync_mode": True, "enable_base64_output": True,
        },
        timeout=120,
    )  # fmt: skip
    assert answer.status_code == 200
    found = answer.json()["data"]
    check_shape(found, running)
    assert (found["status"], found["model"], found["engine"]) == ("completed", SKYREELS, "animatic")
    kind, _, data = found["outputs"][0].partition(",")
    assert kind == "data:video/mp4;base64"
    with av.open(io.BytesIO(base64.b64decode(data, validate=True))) as container:
        assert sum(1 for _ in container.decode(video=0)) == 24 * 5 + 1
    assert running.result(found["id"]) == found


def test_sync_mode_answers_a_failure_like_any_result(running: Installation) -> None:
    body = {"prompt": "a", "images": [f"{running.url}/nothing"], "enable_sync_mode": True}
    answer = running.http.post(f"/api/v3/{ANIMATIC}", json=body, timeout=60)
    assert answer.status_code == 200
    assert (answer.json()["data"]["status"], answer.json()["data"]["code"]) == ("failed", 1402)


def test_sync_mode_times_out_as_clients_expect(idle: Installation, data_uri: str) -> None:
    started = time.monotonic()
    answer = post(idle, {"prompt": "a", "images": [data_uri], "enable_sync_mode": True})
    assert 0.9 < time.monotonic() - started < 5
    assert answer.status_code == 200
    found = answer.json()["data"]
    check_shape(found, idle)
    assert (found["status"], found["code"], found["outputs"]) == ("processing", 5004, [])
    text = "Sync mode timed out after 1 seconds. The prediction is still processing asynchronously. "
    assert found["error"].startswith(text)
    assert found["urls"]["get"] in found["error"]
    later = idle.result(found["id"])
    assert (later["status"], later["error"]) == ("created", "")


# What stands around it


def test_a_browser_may_call_from_anywhere(idle: Installation, data_uri: str) -> None:
    for method, names in [
        ("POST", "authorization,content-type,x-client-name,x-client-os,x-client-version"),
        ("PUT", "content-type,if-none-match"),
        ("DELETE", "authorization"),
        ("GET", "authorization,range"),
    ]:
        headers = {
            "Origin": "https://app.example",
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": names,
        }
        answer = httpx.options(f"{idle.url}/api/v3/{ANIMATIC}", headers=headers)
        assert answer.status_code == 200, answer.text
        assert answer.headers["access-control-allow-origin"] == "*"
        allowed = {name.strip() for name in answer.headers["access-control-allow-headers"].lower().split(",")}
        assert set(names.split(",")) <= allowed
        assert method in answer.headers["access-control-allow-methods"]
    for answer in (
        idle.http.get("/api/v3/models", headers={"Origin": "https://app.example"}),
        httpx.get(f"{idle.url}/api/v3/models", headers={"Origin": "https://app.example"}),
        idle.http.post(f"/api/v3/{ANIMATIC}", json={}, headers={"Origin": "https://app.example"}),
        idle.http.get("/api/v3/predictions/x/result", headers={"Origin": "https://app.example"}),
    ):
        assert answer.headers["access-control-allow-origin"] == "*"


def test_the_models_are_listed_with_their_schema(idle: Installation) -> None:
    items = idle.http.get("/api/v3/models").json()["data"]
    assert [item["model_id"] for item in items] == [SKYREELS, ANIMATIC]
    assert items[0]["base_price"] == 0.2
    for item in items:
        described = item["api_schema"]["api_schemas"][0]
        assert (described["method"], described["api_path"]) == ("POST", f"/api/v3/{item['model_id']}")
        assert described["request_schema"]["required"] == ["prompt", "images"]


@pytest.mark.parametrize(("inputs", "price"), [({}, 0.2), ({"duration": 6}, 0.24), ({"duration": 10}, 0.4)])
def test_a_price_is_quoted(idle: Installation, inputs: dict[str, Any], price: float) -> None:
    answer = idle.http.post("/api/v3/model/price", json={"model_id": SKYREELS, "inputs": inputs})
    assert (answer.json()["data"]["price"], answer.json()["data"]["currency"]) == (price, "USD")


@pytest.mark.parametrize(
    ("body", "status"),
    [({}, 400), ([], 400), ({"model_id": ANIMATIC, "inputs": {"duration": "5"}}, 400), ({"model_id": [1]}, 400)],
)
def test_a_price_can_be_asked_wrongly(idle: Installation, body: Any, status: int) -> None:
    answer = idle.http.post("/api/v3/model/price", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, status)


def test_health_needs_no_key(idle: Installation) -> None:
    answer = httpx.get(f"{idle.url}/healthz")
    assert (answer.status_code, answer.json()["data"]["sandbox"]) == (200, True)


def test_a_caller_who_hangs_up_leaves_no_trace_in_the_log(idle: Installation, data_uri: str) -> None:
    head = f"Host: x\r\nAuthorization: Bearer {idle.key}\r\nContent-Type: application/json\r\n"
    body = json.dumps({"prompt": "a", "images": [data_uri], "enable_sync_mode": True})
    for request in (
        f"POST /api/v3/{ANIMATIC} HTTP/1.1\r\n{head}Content-Length: 999\r\n\r\n{{",
        f"POST /api/v3/{ANIMATIC} HTTP/1.1\r\n{head}Content-Length: {len(body)}\r\n\r\n{body}",
        f"POST /api/v2/{ANIMATIC} HTTP/1.1\r\n{head}Content-Length: 999\r\n\r\n{{",
        f"POST /api/v3/media/uploads HTTP/1.1\r\n{head}Content-Length: 999\r\n\r\n{{",
    ):
        with socket.create_connection(("127.0.0.1", idle.port)) as connection:
            connection.sendall(request.encode())
            time.sleep(0.2)
    time.sleep(0.5)
    assert "Traceback" not in idle.log.read_text()


def tasks_in(installation: Installation) -> list[str]:
    with closing(sqlite3.connect(Path(installation.home) / "mutoscope.db")) as database:
        return [task_id for (task_id,) in database.execute("SELECT id FROM tasks")]
