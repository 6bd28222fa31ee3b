"""What was used and what it cost, over HTTP: the figures are those of the books, also of tasks that are gone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mutoscope.schema import open_database
from mutoscope.store import Store
from tests.installation import ANIMATIC, SKYREELS, Installation
from tests.test_account import Client


@dataclass
class Month:
    """An account with two keys: what they asked for was made, failed, was cancelled, waits, or is forgotten."""

    admin: Client
    script: Client
    ids: dict[str, str]


def iso(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


@pytest.fixture(scope="module")
def month(
    tmp_path_factory: pytest.TempPathFactory, data_uri: str, database_settings: dict[str, str]
) -> Iterator[Month]:
    installation = Installation(tmp_path_factory.mktemp("month") / "home", workers=0, **database_settings).start()
    installation.run("accounts", "create", "team")
    installation.run("credit", "team", "10", "--note", "paid")
    scopes = ["--scope", "generate", "--scope", "admin"]
    admin = Client(
        installation, installation.run("keys", "create", "boss", "--account", "team", *scopes).stdout.strip()
    )
    script = Client(installation, installation.run("keys", "create", "script", "--account", "team").stdout.strip())
    ids: dict[str, str] = {}

    def submit(client: Client, name: str, model: str = SKYREELS, duration: int = 5) -> None:
        found = client.ask("POST", f"/{model}", prompt=name, images=[data_uri], duration=duration)
        ids[name] = found["id"]

    with open_database(installation.database_url) as database:
        store = Store(database)

        def finish(name: str, how: str) -> None:
            task = store.claim("worker", ["animatic"])
            assert task is not None
            assert task.id == ids[name]
            if how == "made":
                store.succeed(task, output="", poster="", timings={}, receipt={})
            else:
                store.fail(task, "no", 1402)

        submit(script, "made", duration=10)
        finish("made", "made")
        submit(script, "failed")
        finish("failed", "failed")
        submit(admin, "free", ANIMATIC)
        finish("free", "made")
        submit(admin, "free, failed", ANIMATIC)
        finish("free, failed", "failed")
        submit(admin, "gone", duration=6)
        finish("gone", "made")
    submit(admin, "cancelled")
    admin.ask("DELETE", f"/predictions/{ids['cancelled']}")
    submit(script, "waits")
    assert admin.ask("POST", "/predictions/delete", ids=[ids["gone"], ids["free"]]) == {"deleted_count": 2}
    yield Month(admin, script, ids)
    admin.close()
    script.close()
    installation.close()


def test_usage_counts_what_was_asked_for_made_and_paid_even_when_it_is_gone(month: Month) -> None:
    found = month.admin.ask("POST", "/user/usage_stats")
    today = iso(datetime.now(UTC))[:10]
    assert found == {
        "per_model_usage": [
            {"model_uuid": ANIMATIC, "model_type": "image-to-video", "unit_price": 0.0, "total_cost": 0.0,
             "total_count": 2, "last_used_date": today},
            {"model_uuid": SKYREELS, "model_type": "image-to-video", "unit_price": 0.168, "total_cost": 0.84,
             "total_count": 5, "last_used_date": today},
        ],
        "daily_usage": [
            {"date": today, "amount": 0.84, "count": 7, "models": [
                {"model_uuid": ANIMATIC, "amount": 0.0, "count": 2},
                {"model_uuid": SKYREELS, "amount": 0.84, "count": 5},
            ]}
        ],
        "summary": {"total_cost": 0.84, "total_requests": 7, "success_requests": 3},
    }  # fmt: skip
    account = month.admin.ask("GET", "/account")
    assert round(account["balance"] + found["summary"]["total_cost"], 6) == 10


def test_a_key_without_admin_sees_what_it_used_itself(month: Month) -> None:
    found = month.script.ask("POST", "/user/usage_stats")
    assert found["summary"] == {"total_cost": 0.6, "total_requests": 3, "success_requests": 1}
    lines = month.script.ask("POST", "/billings/search")
    assert {line["access_key_name"] for line in lines["items"]} == {"script"}
    boss = month.admin.ask("GET", "/account")["key"]["id"]
    assert month.script.ask("POST", "/billings/search", access_key_uuid=boss)["total"] == 0
    assert month.admin.ask("POST", "/billings/search", access_key_uuid=boss)["total"] == 3


def test_usage_of_a_model_and_of_a_time(month: Month) -> None:
    now = datetime.now(UTC)
    assert month.admin.ask("POST", "/user/usage_stats", model_uuid=SKYREELS)["summary"]["total_requests"] == 5
    before = {"start_time": iso(now - timedelta(days=31)), "end_time": iso(now - timedelta(days=1))}
    nothing = {"total_cost": 0.0, "total_requests": 0, "success_requests": 0}
    assert month.admin.ask("POST", "/user/usage_stats", **before)["summary"] == nothing
    by_get = month.admin.get("/api/v3/account/usage", params={"model_uuid": ANIMATIC}).json()["data"]
    assert by_get["summary"]["total_requests"] == 2
    refused = month.admin.ask("POST", "/user/usage_stats", 400, **{**before, "end_time": iso(now + timedelta(hours=1))})
    assert "cannot exceed 31 days" in refused["message"]
    refused = month.admin.ask("POST", "/user/usage_stats", 400, start_time=iso(now), end_time="2020-01-01")
    assert "end_time is before start_time" in refused["message"]


def test_every_cent_is_a_line_of_the_bill(month: Month) -> None:
    found = month.admin.ask("POST", "/billings/search", page_size=100)
    assert (found["page"], found["total"], found["has_more"]) == (1, 7, False)
    lines = found["items"]
    assert [line["created_at"] for line in lines] == sorted((line["created_at"] for line in lines), reverse=True)
    sums = {kind: round(sum(line["price"] for line in lines if line["billing_type"] == kind), 6)
            for kind in ("deduct", "refund")}  # fmt: skip
    assert sums == {"deduct": 1.24, "refund": 0.4}
    names = {task_id: name for name, task_id in month.ids.items()}
    told = {
        (names[line["prediction"]["uuid"]], line["billing_type"], line["price"], line["order"]["state"],
         line["prediction"]["status"], line["access_key_name"])
        for line in lines
    }  # fmt: skip
    assert told == {
        ("made", "deduct", 0.4, "done", "completed", "script"),
        ("failed", "deduct", 0.2, "done", "failed", "script"),
        ("failed", "refund", 0.2, "done", "failed", "script"),
        ("gone", "deduct", 0.24, "done", "deleted", "boss"),
        ("cancelled", "deduct", 0.2, "done", "cancelled", "boss"),
        ("cancelled", "refund", 0.2, "done", "cancelled", "boss"),
        ("waits", "deduct", 0.2, "pre", "created", "script"),
    }
    assert len({line["uuid"] for line in lines}) == 7
    assert {line["prediction"]["model_uuid"] for line in lines} == {SKYREELS}


def test_the_bill_is_searched(month: Month) -> None:
    def search(**asked: Any) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = month.admin.ask("POST", "/billings/search", **asked)["items"]
        return items

    newest = search()
    assert search(sort="created_at asc") == newest[::-1]
    assert search(sort="desc") == newest
    assert [*search(page_size=3), *search(page_size=3, page=2), *search(page_size=3, page=3)] == newest
    assert month.admin.ask("POST", "/billings/search", page_size=3, page=2)["has_more"] is True
    assert len(search(billing_type="refund")) == 2
    assert len(search(prediction_uuids=[month.ids["failed"], month.ids["waits"], "nothing"])) == 3
    assert search(prediction_uuids=[]) == []
    assert search(model_uuid=ANIMATIC) == []
    (credit,) = search(billing_type="credit")
    assert (credit["price"], credit["prediction"]["uuid"]) == (10.0, "")
    now = time.time()
    for start, end in ((now - 3600, now + 3600), (now + 3600, now + 7200)):
        expected = newest if start < now else []
        # milliseconds since the epoch as text, as number, and ISO
        assert search(start_time=str(int(start * 1000)), end_time=str(int(end * 1000))) == expected
        assert search(start_time=int(start * 1000), end_time=int(end * 1000)) == expected
        assert search(start_time=iso(datetime.fromtimestamp(start, UTC)), end_time=None) == expected
    by_get = month.admin.get("/api/v3/account/billings", params={"billing_type": "refund"}).json()["data"]["items"]
    assert by_get == search(billing_type="refund")
    assert "must be one of deduct" in month.admin.ask("POST", "/billings/search", 400, billing_type="x")["message"]


@pytest.mark.parametrize(("duration", "cost"), [(None, 0.2), (5, 0.2), (10, 0.4), (7.0, 0.28)])
def test_a_quote_is_what_is_charged(month: Month, data_uri: str, duration: float | None, cost: float) -> None:
    asked = {"model_id": SKYREELS, "inputs": {"duration": duration, "prompt": "a cat", "aspect_ratio": "1:1"}}
    found = month.admin.ask("POST", "/model/price", **asked)
    assert found == {"model_id": SKYREELS, "price": cost, "discounted_price": cost, "discount_rate": 1.0,
                     "currency": "USD", "assumed": ["duration"] if duration is None else []}  # fmt: skip
    legacy = month.admin.ask("POST", "/model/pricing", **asked)
    assert legacy == {"model_id": SKYREELS, "unit_price": cost, "currency": "USD"}
    before = month.admin.ask("GET", "/account")["held"]
    task = month.admin.ask("POST", f"/{SKYREELS}", images=[data_uri], **asked["inputs"])  # type: ignore[arg-type]
    assert round(month.admin.ask("GET", "/account")["held"] - before, 6) == cost
    month.admin.ask("DELETE", f"/predictions/{task['id']}")


def test_prices_and_discounts_of_the_operator(tmp_path_factory: pytest.TempPathFactory) -> None:
    prices = f'{{"{SKYREELS}": 100000}}'
    home = tmp_path_factory.mktemp("prices") / "home"
    installation = Installation(home, workers=0, prices=prices, discount_rate=0.9).start()
    with Client(installation, installation.key) as client:
        found = client.ask("POST", "/model/price", model_id=SKYREELS, inputs={"duration": 6})
        assert (found["price"], found["discounted_price"], found["discount_rate"]) == (0.6, 0.54, 0.9)
        assert client.ask("POST", "/model/pricing", model_id=SKYREELS, inputs={"duration": 6})["unit_price"] == 0.54
        assert client.ask("GET", "/models")[0]["base_price"] == 0.5
    installation.close()


@pytest.mark.parametrize("path", ["/model/price", "/model/pricing"])
def test_what_has_no_price_is_named(month: Month, path: str) -> None:
    assert "Models here" in month.admin.ask("POST", path, 404, model_id="nobody/nothing")["message"]
    refused = month.admin.ask("POST", path, 400, model_id=SKYREELS, inputs={"duration": 11})
    assert refused["message"] == "duration is 11: duration must be a whole number from 5 to 10."
    assert "inputs is [1]" in month.admin.ask("POST", path, 400, model_id=SKYREELS, inputs=[1])["message"]
    assert "model_id" in month.admin.ask("POST", path, 400, inputs={})["message"]
