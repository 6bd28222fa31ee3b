"""Who may do what, for every route there is: no key, a bad one, one that may not, and somebody else's things.

The table below names each route of the application. A route that is missing from it fails the tests.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.routing import BaseRoute

from mutoscope.api import create_app
from mutoscope.config import Settings
from tests.installation import ANIMATIC, Installation

ANY = {"read", "generate", "admin"}
READ = {"read", "generate"}
MAKE = {"generate"}
ADMIN = {"admin"}
PUBLIC: set[str] = set()  # no key is asked for
LINK: set[str] = set()  # a signed link instead of a key

SCOPES: dict[str, set[str]] = {
    "GET /": PUBLIC, "GET /web/{name:path}": PUBLIC, "GET /docs": PUBLIC, "GET /docs/oauth2-redirect": PUBLIC,
    "GET /openapi.json": PUBLIC, "HEAD /openapi.json": PUBLIC, "GET /healthz": PUBLIC, "GET /readyz": PUBLIC,
    "GET /metrics": PUBLIC, "POST /api/v3/session": PUBLIC,
    "GET /files/{key:path}": LINK, "HEAD /files/{key:path}": LINK, "PUT /files/{key:path}": LINK,
    "GET /api/v3/models": READ,
    "POST /api/v3/model/price": READ, "POST /api/v3/model/pricing": READ,
    "POST /api/v3/references/inspect": READ,
    "POST /api/v3/media/upload/binary": MAKE, "POST /api/v3/upload": MAKE, "POST /api/v3/uploads": MAKE,
    "POST /api/v3/media/uploads": MAKE,
    "GET /api/v3/account": ANY, "GET /api/v3/balance": ANY, "GET /api/v3/account/balance": ANY,
    "GET /api/v3/account/usage": ANY, "POST /api/v3/user/usage_stats": ANY,
    "GET /api/v3/account/billings": ANY, "POST /api/v3/billings/search": ANY,
    "GET /api/v3/keys": ANY, "POST /api/v3/keys": ADMIN, "DELETE /api/v3/keys/{key_id}": ADMIN,
    "GET /api/v3/admin/accounts": ADMIN, "POST /api/v3/admin/accounts": ADMIN,
    "POST /api/v3/admin/accounts/{account_id}/credit": ADMIN,
    "GET /api/v3/predictions": READ, "POST /api/v3/predictions": READ,
    "POST /api/v3/predictions/delete": MAKE,
    "PATCH /api/v3/predictions/{task_id}": MAKE, "DELETE /api/v3/predictions/{task_id}": MAKE,
    # These two look a task up together with its key, and a key that may not make any has none.
    "GET /api/v3/predictions/{task_id}": ANY, "GET /api/v3/predictions/{task_id}/result": ANY,
    "GET /api/v3/predictions/{task_id}/receipt": READ, "GET /api/v3/predictions/{task_id}/events": READ,
    "GET /api/v3/webhook/secret": MAKE, "POST /api/v3/webhook/secret/rotate": MAKE,
    "GET /api/v3/webhooks/deliveries": READ, "POST /api/v3/webhooks/deliveries/{delivery_id}/replay": MAKE,
    "POST /api/v3/{model_id:path}": MAKE,
    "POST /v1/videos": MAKE, "GET /v1/videos": READ, "GET /v1/videos/{video_id}": READ,
    "DELETE /v1/videos/{video_id}": MAKE, "GET /v1/videos/{video_id}/content": READ, "GET /v1/models": READ,
    "POST /v1/videos/{video_id}/remix": MAKE, "POST /v1/videos/edits": MAKE, "POST /v1/videos/extensions": MAKE,
    "POST /v1/videos/characters": MAKE,
}  # fmt: skip
"""What a key must have one of to be let in. Of a route whose set is empty, no key is asked for."""

GUARDED = [route for route, scopes in SCOPES.items() if scopes]
OWNED = ("task_id", "video_id", "delivery_id", "key_id", "account_id")
BODIES: dict[str, Any] = {
    "POST /api/v3/keys": {"name": "a"},
    "POST /api/v3/admin/accounts": {"name": "a"},
    "POST /api/v3/admin/accounts/{account_id}/credit": {"amount": 1},
    "POST /api/v3/predictions/delete": {"ids": ["{task_id}"]},
    "PATCH /api/v3/predictions/{task_id}": {"favourite": True},
    "POST /api/v3/media/uploads": {"filename": "a.png", "size": 1},
    "POST /api/v3/model/price": {"model_id": ANIMATIC},
    "POST /api/v3/model/pricing": {"model_id": ANIMATIC},
}
"""Bodies that are well formed, so that it is the key that is refused."""


def routes_of(routes: list[BaseRoute]) -> Iterator[str]:
    for route in routes:
        router = getattr(route, "original_router", None)
        if router is not None:
            yield from routes_of(router.routes)
        elif getattr(route, "methods", None):
            for method in route.methods:  # type: ignore[attr-defined]
                yield f"{method} {route.path}"  # type: ignore[attr-defined]


def test_every_route_is_in_the_table(tmp_path: Path) -> None:
    assert set(routes_of(create_app(Settings(home=tmp_path)).routes)) == set(SCOPES)


@dataclass
class Tenants:
    """A server, what one tenant has there, and the keys of another."""

    installation: Installation
    things: dict[str, str]  # the owner's: by the name of a path's parameter
    marks: list[str]  # what no answer to the other tenant may contain
    keys: dict[str, str]  # the other tenant's

    def ask(self, route: str, key: str | None, things: dict[str, str]) -> httpx.Response:
        method, path = route.split(" ")
        path = re.sub(r"{(\w+)(?::path)?}", lambda match: things.get(match[1], ANIMATIC), path)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        content: dict[str, Any] = {}
        if method in ("POST", "PATCH", "PUT"):
            body = BODIES.get(route, {})
            content = {"json": {name: fill(value, things) for name, value in body.items()}}
        return httpx.request(method, self.installation.url + path, headers=headers, trust_env=False, **content)


def fill(value: Any, things: dict[str, str]) -> Any:
    return [each.format(**things) for each in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def tenants(tmp_path_factory: pytest.TempPathFactory, data_uri: str) -> Iterator[Tenants]:
    installation = Installation(tmp_path_factory.mktemp("access") / "home", workers=0).start()

    def made(name: str, account: str, *scopes: str, more: tuple[str, ...] = ()) -> str:
        options = [part for scope in scopes for part in ("--scope", scope)]
        return installation.run("keys", "create", name, "--account", account, *options, *more).stdout.strip()

    accounts = {name: installation.run("accounts", "create", name).stdout.strip() for name in ("owner", "other")}
    owner = made("owners-key", "owner", *sorted(ANY))
    headers = {"Authorization": f"Bearer {owner}"}
    with httpx.Client(base_url=installation.url, headers=headers, trust_env=False) as http:
        inputs = {"prompt": "marked-prompt", "images": [data_uri], "webhook_url": "https://marked-host.example/"}
        task = http.post(f"/api/v3/{ANIMATIC}", json={**inputs, "max_queue_seconds": 0.001}).json()["data"]
        time.sleep(0.01)
        installation.run("webhooks", "list")
        key_id = http.get("/api/v3/account").json()["data"]["key"]["id"]
    keys = {
        **{scope: made(scope, "other", scope) for scope in ANY},
        "all": made("all", "other", *sorted(ANY)),
        "revoked": made("revoked", "other", *sorted(ANY)),
        "expired": made("expired", "other", *sorted(ANY), more=("--expires", "2020-01-01")),
        "unknown": "wsk_" + "x" * 43,
    }
    with httpx.Client(base_url=installation.url, headers={"Authorization": f"Bearer {keys['all']}"}) as http:
        revoked = next(key for key in http.get("/api/v3/keys").json()["data"] if key["name"] == "revoked")
        assert http.delete(f"/api/v3/keys/{revoked['id']}").status_code == 200
    things = {"task_id": task["id"], "video_id": f"video_{task['id']}", "key_id": key_id, "delivery_id": "0" * 32,
              "account_id": accounts["owner"]}  # fmt: skip
    marks = [task["id"], key_id, accounts["owner"], "marked-prompt", "marked-host", "owners-key"]
    yield Tenants(installation, things, marks, keys)
    installation.close()


@pytest.mark.parametrize("key", [None, "unknown", "revoked", "expired"])
def test_without_a_good_key_there_is_nothing(tenants: Tenants, key: str | None) -> None:
    for route in GUARDED:
        answer = tenants.ask(route, tenants.keys[key] if key else None, tenants.things)
        assert answer.status_code == 401, (route, answer.text)
        assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("scope", sorted(ANY))
def test_a_key_does_what_its_scope_says_and_nothing_else(tenants: Tenants, scope: str) -> None:
    for route in GUARDED:
        answer = tenants.ask(route, tenants.keys[scope], dict.fromkeys(OWNED, "0" * 32))
        is_for_operators = "/admin/" in route
        if scope in SCOPES[route] and not is_for_operators:
            assert answer.status_code not in (401, 403), (route, answer.text)
        else:
            assert answer.status_code == 403, (route, answer.text)


def test_what_is_somebody_elses_is_as_if_it_were_not_there(tenants: Tenants) -> None:
    nothing = {**dict.fromkeys(OWNED, "0" * 32), "video_id": f"video_{'0' * 32}"}
    for route in GUARDED:
        if route in ("DELETE /api/v3/keys/{key_id}", "POST /api/v3/keys"):
            continue  # tested below
        theirs = tenants.ask(route, tenants.keys["all"], tenants.things)
        found = [mark for mark in tenants.marks if mark in theirs.text.replace(tenants.things["video_id"], "")]
        if any(f"{{{name}}}" in route for name in OWNED):
            absent = tenants.ask(route, tenants.keys["all"], nothing)
            assert theirs.status_code == (403 if "/admin/" in route else 404), (route, theirs.text)
            assert (theirs.status_code, len(theirs.text)) == (absent.status_code, len(absent.text)), route
            found = [mark for mark in found if mark not in tenants.things.values()]  # their ids, said back
        assert not found, (route, found)
    assert tenants.ask("DELETE /api/v3/keys/{key_id}", tenants.keys["all"], tenants.things).status_code == 404
    with httpx.Client(base_url=tenants.installation.url, trust_env=False) as http:
        assert http.get("/metrics").status_code == 200
        assert not [mark for mark in tenants.marks if mark in http.get("/metrics").text]


def test_a_link_opens_what_it_was_made_for_until_it_expires(tenants: Tenants) -> None:
    with httpx.Client(base_url=tenants.installation.url, trust_env=False) as http:
        http.headers["Authorization"] = f"Bearer {tenants.keys['all']}"
        ticket = http.post("/api/v3/media/uploads", json={"filename": "a.png", "size": 3}).json()["data"]
        other = http.post("/api/v3/media/uploads", json={"filename": "a.png", "size": 3}).json()["data"]
        put, get = httpx.URL(ticket["upload"]["url"]), httpx.URL(ticket["download_url"])
        wrong = [
            put.copy_set_param("signature", "0" * 64),
            put.copy_set_param("expires", str(int(put.params["expires"]) + 1)),
            put.copy_set_param("expires", "1"),
            put.copy_remove_param("signature"),
            put.copy_with(path=httpx.URL(other["upload"]["url"]).path),
            get,  # made for reading
        ]
        for url in wrong:
            assert http.put(url, content=b"abc").status_code == 403, url
        assert http.put(put, content=b"abc").status_code == 200
        wrong = [
            get.copy_set_param("signature", "0" * 64),
            get.copy_set_param("expires", str(int(get.params["expires"]) + 1)),
            get.copy_set_param("expires", "1"),
            get.copy_remove_param("signature"),
            get.copy_with(path=httpx.URL(other["download_url"]).path),
            put,  # made for writing
        ]
        for url in wrong:
            assert http.get(url).status_code == 403, url
        assert http.get(get).content == b"abc"
