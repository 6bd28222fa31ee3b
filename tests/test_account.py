"""Accounts, keys and credit over HTTP: who may see and do what."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.installation import SKYREELS, Installation


class Client(httpx.Client):
    """What bears one key."""

    def __init__(self, installation: Installation, key: str) -> None:
        super().__init__(base_url=installation.url, headers={"Authorization": f"Bearer {key}"}, trust_env=False)

    def ask(self, method: str, path: str, status: int = 200, **body: Any) -> Any:
        answer = self.request(method, f"/api/v3{path}", json=body) if body else self.request(method, f"/api/v3{path}")
        assert answer.status_code == status, answer.text
        return answer.json()["data"] if status == 200 else answer.json()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, database_settings: dict[str, str]) -> Iterator[Installation]:
    """A server without workers: what is accepted is held and not settled."""
    installation = Installation(tmp_path_factory.mktemp("service") / "home", workers=0, **database_settings).start()
    yield installation
    installation.close()


@pytest.fixture(scope="module")
def operator(service: Installation) -> Iterator[Client]:
    scopes = [part for scope in ("generate", "read", "admin") for part in ("--scope", scope)]
    with Client(service, service.run("keys", "create", "operator", *scopes).stdout.strip()) as client:
        yield client


@pytest.fixture
def tenant(service: Installation, operator: Client) -> Iterator[tuple[str, Client]]:
    """A fresh account and the bearer of its admin key, of the silver tier."""
    account = operator.ask("POST", "/admin/accounts", name=f"tenant {time.time_ns()}")
    made = operator.ask(
        "POST", "/keys", name="theirs", account=account["id"], scopes=["generate", "read", "admin"], tier="silver"
    )
    with Client(service, made["key"]) as client:
        yield account["id"], client


def test_an_account_shows_itself_and_the_key_that_asks(tenant: tuple[str, Client]) -> None:
    account_id, client = tenant
    found = client.ask("GET", "/account")
    key = found.pop("key")
    name = found.pop("name")
    assert name.startswith("tenant ")
    expected = {"id": account_id, "unlimited": False, "balance": 0.0, "held": 0.0, "currency": "USD"}
    assert found == expected
    limits = {"tier": "silver", "videos_per_minute": 500, "concurrency": 300, "daily_cap": None, "expires_at": None}
    told = {"name": "theirs", "scopes": ["generate", "read", "admin"], "spent_today": 0.0, "current": True, **limits}
    assert {name: key[name] for name in told} == told


def test_credit_is_held_by_a_task_and_missing_is_402(
    service: Installation, operator: Client, tenant: tuple[str, Client], data_uri: str
) -> None:
    account_id, client = tenant
    inputs = {"prompt": "a cat", "images": [data_uri]}
    sandboxed = {"prompt": "a cat", "images": [data_uri], "duration": 6}
    kept = service.home / "files" / "uploads"
    before = set(kept.glob("*/*"))
    refused = client.ask("POST", f"/{SKYREELS}", 402, **inputs)
    assert set(kept.glob("*/*")) == before  # nor is its picture
    assert refused["error_code"] == "insufficient_credits"
    assert "0.2 USD are missing" in refused["message"]

    assert operator.ask("POST", f"/admin/accounts/{account_id}/credit", amount=1.05, note="paid")["balance"] == 1.05
    assert client.ask("GET", "/balance") == {"balance": 1.05, "currency": "USD"}
    client.ask("POST", f"/{SKYREELS}", **inputs)
    waiting = client.ask("POST", f"/{SKYREELS}", **sandboxed)
    found = client.ask("GET", "/account")
    assert (found["balance"], found["held"], found["key"]["spent_today"]) == (0.61, 0.44, 0.44)
    assert client.ask("GET", "/account/balance") == client.ask("GET", "/balance")

    client.ask("DELETE", f"/predictions/{waiting['id']}")
    found = client.ask("GET", "/account")
    assert (found["balance"], found["held"], found["key"]["spent_today"]) == (0.85, 0.2, 0.2)

    refused = operator.ask("POST", f"/admin/accounts/{account_id}/credit", 402, amount=-1)
    assert "0.15 USD are missing" in refused["message"]
    assert operator.ask("POST", f"/admin/accounts/{account_id}/credit", amount=-0.85)["balance"] == 0.0
    listed = {account["id"]: account for account in operator.ask("GET", "/admin/accounts")}
    assert (listed[account_id]["balance"], listed[account_id]["held"]) == (0.0, 0.2)
    assert listed["default"]["unlimited"] is True


def test_credit_under_an_idempotency_key_is_given_once(
    service: Installation, operator: Client, tenant: tuple[str, Client]
) -> None:
    account_id, client = tenant
    name = client.ask("GET", "/account")["name"]

    def credit(amount: float, key: str) -> httpx.Response:
        headers = {"Idempotency-Key": key}
        path = f"/api/v3/admin/accounts/{account_id}/credit"
        return operator.post(path, json={"amount": amount}, headers=headers)

    first, again, other = credit(5, "invoice 7"), credit(5, "invoice 7"), credit(5, "invoice 8")
    assert [answer.json()["data"]["balance"] for answer in (first, again, other)] == [5.0, 5.0, 10.0]
    assert [answer.headers.get("idempotent-replayed") for answer in (first, again, other)] == [None, "true", None]
    refused = credit(6, "invoice 7")
    assert (refused.status_code, refused.json()["error_code"]) == (409, "idempotency_conflict")
    assert "was used to credit 5 USD" in refused.json()["message"]
    assert credit(-5, "invoice 7").status_code == 409
    assert credit(-4, "refund").json()["data"]["balance"] == credit(-4, "refund").json()["data"]["balance"] == 6.0
    assert credit(1, "").status_code == 400
    # The command line speaks of the same credit by the same name.
    repeated = service.run("credit", name, "5", "--once", "invoice 7").stderr
    assert repeated.replace("\n", " ").strip() == f"{name}: 6.00 USD. It was credited before."
    assert "with 5.00 USD" in service.run("credit", name, "7", "--once", "invoice 7", check=False).stderr
    assert client.ask("GET", "/balance")["balance"] == 6.0
    lines = client.ask("POST", "/billings/search", billing_type="credit")["items"]
    assert [line["price"] for line in lines] == [-4.0, 5.0, 5.0]
    assert {line["prediction"]["uuid"] for line in lines} == {""}


def test_the_balance_of_an_unlimited_account_is_a_number_that_suffices(service: Installation) -> None:
    with Client(service, service.key) as client:
        assert client.ask("GET", "/balance") == {"balance": 1_000_000.0, "currency": "USD"}


def test_keys_are_made_shown_once_listed_and_revoked(service: Installation, tenant: tuple[str, Client]) -> None:
    _, client = tenant
    made = client.ask("POST", "/keys", name=" a script ", scopes=["read"], daily_cap=2.5, expires_at="2090-01-01")
    secret = made.pop("key")
    assert secret.startswith(made["hint"])
    assert (made["name"], made["scopes"], made["daily_cap"], made["tier"]) == ("a script", ["read"], 2.5, "silver")
    assert (made["expires_at"], made["revoked_at"], made["current"]) == ("2090-01-01T00:00:00.000Z", None, False)
    listed = client.ask("GET", "/keys")
    assert [key["name"] for key in listed] == ["theirs", "a script"]
    assert [key["current"] for key in listed] == [True, False]
    assert listed[1] == made
    assert secret not in str(listed)
    with Client(service, secret) as script:
        found = script.ask("GET", "/account")["key"]
        assert (found["videos_per_minute"], found["concurrency"]) == (500, 300)
        assert [key["id"] for key in script.ask("GET", "/keys")] == [made["id"]]  # itself alone
        assert script.ask("POST", "/keys", 403, name="another")["error_code"] == "insufficient_scope"
        assert script.ask("DELETE", f"/keys/{made['id']}", 403)["error_code"] == "insufficient_scope"
        assert client.ask("DELETE", f"/keys/{made['id']}") == {"id": made["id"], "status": "revoked"}
        script.ask("GET", "/account", 401)
    client.ask("DELETE", f"/keys/{made['id']}", 404)
    assert client.ask("GET", "/keys")[1]["revoked_at"]


def test_a_key_gives_no_other_more_than_it_has(service: Installation, operator: Client) -> None:
    account = operator.ask("POST", "/admin/accounts", name="limited", overdraft=1)
    until = time.time() + 3600
    made = operator.ask(
        "POST", "/keys", name="a", account=account["id"], scopes=["admin"], tier="bronze", daily_cap=1, expires_at=until
    )
    with Client(service, made["key"]) as client:
        assert client.ask("POST", "/keys", 403, name="b", tier="ultra")["error_code"] == "insufficient_scope"
        assert client.ask("POST", "/keys", 404, name="b", account="default")["error_code"] == "account_not_found"
        refused = client.ask("POST", "/keys", 403, name="b", concurrency=3)
        assert refused["message"].startswith("concurrency would be 3: a key can't give another more than it has itself")
        slow = client.ask("POST", "/keys", name="slow", videos_per_minute=1)
        assert (slow["videos_per_minute"], slow["concurrency"]) == (1, 2)
        for asked in ({}, {"tier": "bronze", "daily_cap": 5, "expires_at": "2090-01-01"}):
            found = client.ask("POST", "/keys", name="b", **asked)
            assert (found["tier"], found["daily_cap"], found["expires_at"]) == ("bronze", 1.0, made["expires_at"])
        assert client.ask("POST", "/keys", name="c", daily_cap=0.5)["daily_cap"] == 0.5


def test_operators_see_the_keys_of_others_and_nobody_else_does(operator: Client, tenant: tuple[str, Client]) -> None:
    account_id, client = tenant
    assert [key["name"] for key in operator.ask("GET", f"/keys?account={account_id}")] == ["theirs"]
    own = operator.ask("GET", "/keys")
    assert {"tests", "operator"} <= {key["name"] for key in own}
    client.ask("GET", "/keys?account=default", 404)
    client.ask("DELETE", f"/keys/{own[0]['id']}", 404)
    for method, path in (("GET", ""), ("POST", ""), ("POST", "/default/credit")):
        body = {"name": "mine", "amount": 1} if method == "POST" else {}
        refused = client.ask(method, f"/admin/accounts{path}", 403, **body)
        assert refused["error_code"] == "insufficient_scope"


@pytest.mark.parametrize(
    ("path", "body", "status", "named"),
    [
        ("/keys", {"name": " "}, 400, "name is"),
        ("/keys", {"name": "a" * 201}, 400, "name is"),
        ("/keys", {"scopes": ["read"]}, 400, "name"),
        ("/keys", {"name": "a", "scopes": ["write"]}, 400, 'scopes.0 is "write"'),
        ("/keys", {"name": "a", "scopes": []}, 400, "scopes is []"),
        ("/keys", {"name": "a", "tier": "tin"}, 400, "tier is 'tin': it must be one of bronze"),
        ("/keys", {"name": "a", "daily_cap": -1}, 400, "daily_cap is -1"),
        ("/keys", {"name": "a", "concurrency": 0}, 400, "concurrency is 0"),
        ("/keys", {"name": "a", "expires_at": "2020-01-01"}, 400, "expires_at is over"),
        ("/keys", {"name": "a", "account": "nobody"}, 404, "There is no such account"),
        ("/admin/accounts", {"name": "default"}, 409, "There is an account called 'default' already"),
        ("/admin/accounts", {"name": "x", "overdraft": -1}, 400, "overdraft is -1"),
        ("/admin/accounts/default/credit", {"amount": 0}, 400, "amount is 0"),
        ("/admin/accounts/default/credit", {"amount": 1e300}, 400, "amount is 1e+300"),
        ("/admin/accounts/default/credit", {}, 400, "amount"),
        ("/admin/accounts/nobody/credit", {"amount": 1}, 404, "There is no such account"),
    ],
)
def test_what_can_not_be_done_is_named(operator: Client, path: str, body: Any, status: int, named: str) -> None:
    answer = operator.post(f"/api/v3{path}", json=body)
    assert answer.status_code == status, answer.text
    assert named in answer.json()["message"]
