"""What an operator sees: figures that agree with what happened, readiness, and logs that give nothing away."""

from __future__ import annotations

import json
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError

from mutoscope.metrics import Metrics
from mutoscope.schema import accounts, open_database
from mutoscope.store import Store
from mutoscope.tasks import Task, VideoRequest
from tests.installation import ANIMATIC, Installation
from tests.receiver import receiving
from tests.rows import make_caller

Figures = dict[tuple[str, ...], float]


def parse(text: str) -> Figures:
    """(name, label values …) → value, in the order in which labels are declared."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def figures(installation: Installation) -> Figures:
    answer = installation.http.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return parse(answer.text)


# Figures of a server at work


def test_figures_tell_what_happened(running: Installation, image: str) -> None:
    before = figures(running)
    with receiving() as receiver:
        done = running.submit(
            ANIMATIC, prompt="a cat", images=[image], aspect_ratio="1:1", webhook_url=receiver.url("/ok")
        )
        failed = running.submit(ANIMATIC, prompt="a cat", images=["http://10.0.0.1/a.png"])
        assert running.wait(done["id"])["status"] == "completed"
        assert running.wait(failed["id"])["status"] == "failed"
        receiver.wait(1)
        time.sleep(0.5)  # for it to be noted
    running.http.get("/files/outputs/secret.mp4")
    running.http.get("/no/such/path")
    after = figures(running)

    def grown(*key: str) -> float:
        return after.get(key, 0) - before.get(key, 0)

    assert grown("mutoscope_tasks_ended_total", "animatic", "succeeded") >= 1
    assert grown("mutoscope_tasks_ended_total", "animatic", "failed") >= 1
    assert grown("mutoscope_claims_total", "animatic") >= 2
    assert grown("mutoscope_video_seconds_total", "animatic") >= 5
    assert grown("mutoscope_run_seconds_count", "animatic") >= 1
    assert grown("mutoscope_wait_seconds_count", "animatic") >= 2
    assert grown("mutoscope_stage_seconds_total", "animatic", "encoding") > 0
    assert grown("mutoscope_webhook_attempts_total", "2xx") >= 1
    assert grown("mutoscope_requests_total", "POST", "/api/v3/{model_id}", "200") == 2
    assert grown("mutoscope_requests_total", "GET", "/api/v3/predictions/{task_id}/result", "200") >= 2
    assert grown("mutoscope_requests_total", "GET", "/files/{key:path}", "403") == 1
    assert grown("mutoscope_requests_total", "GET", "other", "404") == 1
    assert grown("mutoscope_request_seconds_count", "/api/v3/{model_id}") == 2
    assert 0 < after["mutoscope_disk_free_bytes",] <= after["mutoscope_disk_size_bytes",]
    assert after["process_resident_memory_bytes",] > 0
    assert after["mutoscope_webhooks_due",] == 0
    labels = {value for key in after for value in key[1:]}
    routes = {value for value in labels if value.startswith("/")}
    assert not [value for value in labels - routes if "secret" in value or "such" in value]
    assert not [value for value in labels if done["id"] in value]


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A server without workers, whose figures need a token."""
    installation = Installation(tmp_path_factory.mktemp("idle") / "home", workers=0, metrics_token="see").start()
    yield installation
    installation.close()


def test_the_queue_is_seen(idle: Installation, data_uri: str) -> None:
    for _ in range(2):
        idle.submit(ANIMATIC, prompt="a cat", images=[data_uri])
    time.sleep(1.1)
    url = f"{idle.url}/metrics"
    for headers in ({}, {"Authorization": f"Bearer {idle.key}"}, {"Authorization": "Basic see"}):
        assert httpx.get(url, headers=headers, trust_env=False).status_code == 401
    found = parse(httpx.get(url, headers={"Authorization": "Bearer see"}, trust_env=False).text)
    assert found["mutoscope_queue_length", "animatic"] == 2
    assert 1 < found["mutoscope_queue_age_seconds", "animatic"] < 30
    top = idle.run("top", "--once").stdout
    assert "animatic" in top
    assert "2 waiting" in top


def test_without_a_token_figures_stay_on_this_machine(running: Installation) -> None:
    for name in ("X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"):
        refused = running.http.get("/metrics", headers={name: "127.0.0.1"})
        assert (refused.status_code, refused.json()["error_code"]) == (403, "forbidden")


# Rows are counted once, whenever they are committed


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    store = Store(open_database(database_url))
    yield store
    store.database.close()


def test_rows_are_counted_once_even_when_they_come_late(store: Store, tmp_path: Path) -> None:
    caller = make_caller(store.database)

    def claim() -> Task:
        request = VideoRequest("a cat", ("https://example.com/a.png",), duration=7)
        with store.database.write() as connection:
            store.add(uuid.uuid4().hex, caller, ANIMATIC, "animatic", request, connection=connection, price_micros=280)
        task = store.claim("worker", ["animatic"])
        assert task is not None
        return task

    def finish(task: Task) -> None:
        store.succeed(task, "a.mp4", "a.jpg", {"seeing": 1500, "first_frame": 900}, {"steps": 8})

    finish(claim())  # before the metrics begin
    metrics = Metrics(store.database, tmp_path)

    def counted() -> tuple[float, ...]:
        found = parse(metrics.exposition().decode())
        return tuple(
            found.get(key, 0)
            for key in (
                ("mutoscope_tasks_ended_total", "animatic", "succeeded"),
                ("mutoscope_claims_total", "animatic"),
                ("mutoscope_retries_total", "animatic", "failure"),
                ("mutoscope_steps_total", "animatic"),
                ("mutoscope_video_seconds_total", "animatic"),
                ("mutoscope_stage_seconds_total", "animatic", "seeing"),
                ("mutoscope_ledger_dollars_total", "settle"),
            )
        )

    assert counted() == (0,) * 7
    first, late = claim(), claim()
    assert counted() == (0, 2, 0, 0, 0, 0, 0)
    store.give_back(first, failed=True)
    assert counted() == (0, 2, 0, 0, 0, 0, 0)
    again = store.claim("worker", ["animatic"])
    assert again is not None
    finish(again)
    assert counted() == (1, 3, 1, 8, 7, 1.5, 0.00028)  # the third claim is under way
    assert counted() == (1, 3, 1, 8, 7, 1.5, 0.00028)
    # A worker whose clock is behind, or whose commit took long, ends one "before" what was counted already.
    behind = Store(store.database, clock=lambda: time.time() - 20)
    behind.succeed(late, "b.mp4", "b.jpg", {"seeing": 500}, {"steps": 8})
    assert counted() == (2, 3, 1, 16, 14, 2, 0.00056)
    assert counted() == (2, 3, 1, 16, 14, 2, 0.00056)


# Readiness


def test_readiness(idle: Installation) -> None:
    ready = idle.http.get("/readyz")
    assert ready.status_code == 200
    assert ready.json()["data"]["disk_free_bytes"] > 0
    scratch = idle.home / "scratch"
    scratch.rename(idle.home / "away")
    scratch.write_bytes(b"in the way")
    refused = idle.http.get("/readyz")
    assert (refused.status_code, refused.json()["error_code"]) == (503, "not_ready")
    assert "files can't be written" in refused.json()["message"]
    assert idle.http.get("/healthz").status_code == 200
    scratch.unlink()
    assert idle.http.get("/readyz").status_code == 200


# Nothing is given away


@pytest.mark.slow
def test_no_secret_is_in_any_log_or_figure(install: Callable[..., Installation], database_url: str) -> None:
    server = install(log_format="json", database_url=database_url).start()
    with receiving() as receiver:
        hook = receiver.url("/status/500") + "?token=canary-hook"
        secret = server.http.get("/api/v3/webhook/secret").json()["data"]["secret"]
        upload = server.upload(Path(__file__).parent.parent / "examples" / "astronaut.jpg")
        prompt = "canary-prompt, slow push in"
        fine = server.submit(ANIMATIC, prompt=prompt, images=[upload], aspect_ratio="1:1", webhook_url=hook)
        lost = receiver.url("/a.png") + "?key=canary-image"
        bad = server.submit(ANIMATIC, prompt=prompt, images=[lost], webhook_url=hook)
        server.http.post(f"/api/v3/{ANIMATIC}", json={"prompt": prompt, "images": 5})
        server.http.get("/api/v3/balance", headers={"Authorization": "Bearer wsk_canary-key"})
        outputs = server.wait(fine["id"])["outputs"]
        assert server.wait(bad["id"])["status"] == "failed"
        server.http.get(outputs[0], headers={"Authorization": ""})
        receiver.wait(2)
        time.sleep(0.5)
        shown = server.http.get("/metrics").text
    server.stop()
    said = server.log.read_text()
    lines = [json.loads(line) for line in said.splitlines()]
    assert {fine["id"], bad["id"]} <= {line.get("task") for line in lines}
    assert {line["event"] for line in lines} >= {"serving", "task claimed", "task succeeded", "task failed", "webhook"}
    assert all(line["timestamp"].endswith("Z") and line["level"] for line in lines)
    signature = outputs[0].rpartition("signature=")[2]
    assert len(signature) == 64
    for canary in (server.key, secret, secret.removeprefix("whsec_"), signature, "canary", upload.partition("?")[2]):
        assert canary not in said
        assert canary not in shown


@pytest.mark.parametrize("wrong", [{"id": "b", "created_at": 0.0}, {"id": "b", "name": "canary-2", "created_at": None}])
def test_errors_of_the_database_come_without_values(store: Store, wrong: dict[str, object]) -> None:
    rows = [{"id": "a", "name": "canary", "created_at": 0.0}, {"name": "canary", **wrong}]
    with store.database.write() as connection:
        connection.execute(insert(accounts), rows[0])
    with pytest.raises(IntegrityError) as caught, store.database.write() as connection:
        connection.execute(insert(accounts), rows[1])
    assert "canary" not in "".join(traceback.format_exception(caught.value))
    assert "constraint" in str(caught.value)
