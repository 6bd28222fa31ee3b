"""What the documentation says of answers is what is answered: each field, of its type, and none besides."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from starlette.routing import BaseRoute
from starlette.testclient import TestClient

from mutoscope.api import create_app
from mutoscope.config import Settings
from tests.installation import ANIMATIC, EXAMPLES, SKYREELS, Installation
from tests.receiver import receiving

FILE = EXAMPLES / "chelsea.jpg"


def documented(routes: list[BaseRoute]) -> Iterator[tuple[str, Any]]:
    """Each route whose answer is JSON, and the shape that is documented for it."""
    for route in routes:
        if (router := getattr(route, "original_router", None)) is not None:
            yield from documented(router.routes)
        elif isinstance(route, APIRoute) and route.include_in_schema:
            kind = getattr(route.response_class, "value", route.response_class)
            for method in route.methods if kind.media_type == "application/json" else ():
                yield f"{method} {route.path}", route.response_model


@pytest.fixture(scope="module")
def answered(running: Installation, completed: dict[str, Any], image: str, data_uri: str) -> dict[str, list[Any]]:
    """Real answers, by the route that gave them."""
    found: dict[str, list[Any]] = {}
    scopes = [part for scope in ("generate", "read", "admin") for part in ("--scope", scope)]
    operator = running.run("keys", "create", "operator", *scopes).stdout.strip()

    def ask(route: str, body: Any = None, *, key: str = running.key, **more: Any) -> Any:
        method, path = route.split(" ")
        for name in ("task_id", "video_id"):
            path = path.replace(f"{{{name}}}", more.pop(name, completed["id"]))
        for name in ("key_id", "account_id", "delivery_id"):
            path = path.replace(f"{{{name}}}", more.pop(name, ""))
        path = path.replace("{model_id:path}", SKYREELS)
        headers = {"Authorization": f"Bearer {key}"}
        content = {} if body is None else {"json": body}
        answer = httpx.request(
            method, running.url + path, headers=headers, trust_env=False, timeout=30, **content, **more
        )
        assert answer.status_code == 200, (route, answer.text)
        found.setdefault(route, []).append(answer.json())
        return answer.json().get("data") if route.partition(" ")[2].startswith("/api/") else answer.json()

    for route in ("GET /healthz", "GET /readyz", "GET /api/v3/models", "GET /v1/models", "GET /v1/videos",
                  "GET /api/v3/balance", "GET /api/v3/account/balance", "GET /api/v3/webhook/secret",
                  "POST /api/v3/webhook/secret/rotate", "GET /v1/videos/{video_id}", "GET /api/v3/predictions",
                  "GET /api/v3/predictions/{task_id}", "GET /api/v3/predictions/{task_id}/result",
                  "GET /api/v3/predictions/{task_id}/receipt"):  # fmt: skip
        ask(route)
    for path in ("/api/v3/media/upload/binary", "/api/v3/upload", "/api/v3/uploads"):
        ask(f"POST {path}", files={"file": ("a.jpg", FILE.read_bytes())})
    ask("POST /api/v3/media/uploads", {"filename": "a.png", "size": 9})
    ask("POST /api/v3/references/inspect", {"images": [image, data_uri, "http://10.0.0.1/"], "prompt": "@1 waves"})
    ask("POST /api/v3/model/price", {"model_id": ANIMATIC, "inputs": {}})
    ask("POST /api/v3/model/pricing", {"model_id": ANIMATIC, "inputs": {"duration": 6}})
    ask("PATCH /api/v3/predictions/{task_id}", {"favourite": False})

    with receiving() as receiver:
        hook = receiver.url("/status/500")
        inputs = {"prompt": "a cat", "images": ["http://10.0.0.1/a.png"], "webhook_url": hook}
        failed = ask("POST /api/v3/{model_id:path}", inputs)
        assert running.wait(failed["id"])["code"] == 1402
        receiver.wait(1)
        until = time.monotonic() + 20  # for it to be noted
        while not (deliveries := ask("GET /api/v3/webhooks/deliveries")["items"])[0]["log"]:
            assert time.monotonic() < until
            time.sleep(0.1)
        ask("POST /api/v3/webhooks/deliveries/{delivery_id}/replay", delivery_id=deliveries[0]["id"])
        ask("GET /api/v3/webhooks/deliveries")
    ask("GET /api/v3/predictions/{task_id}/result", task_id=failed["id"])
    ask("GET /v1/videos/{video_id}", video_id=failed["id"])
    ask("POST /api/v3/predictions", {"include_inputs": True})
    ask("DELETE /api/v3/predictions/{task_id}", task_id=failed["id"])
    waiting = [ask("POST /api/v3/{model_id:path}", {"prompt": "a cat", "images": [image]})["id"] for _ in range(3)]
    ask("DELETE /api/v3/predictions/{task_id}", task_id=waiting.pop())
    ask("POST /api/v3/predictions/delete", {"ids": waiting})
    video = ask("POST /v1/videos", {"prompt": "a cat", "input_reference": image, "model": ANIMATIC})
    ask("DELETE /v1/videos/{video_id}", video_id=video["id"])

    def manage(route: str, body: Any = None, **more: Any) -> Any:
        return ask(route, body, key=operator, **more)

    manage("GET /api/v3/account")
    made = manage("POST /api/v3/keys", {"name": "short", "daily_cap": 1, "expires_at": "2090-01-01"})
    manage("GET /api/v3/keys")
    manage("DELETE /api/v3/keys/{key_id}", key_id=made["id"])
    account = manage("POST /api/v3/admin/accounts", {"name": "answers"})["id"]
    manage("POST /api/v3/admin/accounts/{account_id}/credit", {"amount": 1}, account_id=account)
    manage("GET /api/v3/admin/accounts")
    for method, path in (("POST", "/api/v3/user/usage_stats"), ("GET", "/api/v3/account/usage"),
                         ("POST", "/api/v3/billings/search"), ("GET", "/api/v3/account/billings")):  # fmt: skip
        manage(f"{method} {path}")
    return found


def test_each_answer_is_as_documented(answered: dict[str, list[Any]], tmp_path: Any) -> None:
    app = create_app(Settings(home=tmp_path))
    shapes = dict(documented(app.routes))
    with TestClient(app) as client:
        signed_in = client.post("/api/v3/session", json={"token": app.state.server.door.text})
        assert signed_in.status_code == 200, signed_in.text
    given = {**answered, "POST /api/v3/session": [signed_in.json()]}
    assert set(given) == set(shapes)
    for route, bodies in given.items():
        assert shapes[route] is not None, f"{route} says nothing of its answer"
        for body in bodies:
            TypeAdapter(shapes[route]).validate_python(body, strict=True, extra="forbid")


def test_the_answers_told_something(answered: dict[str, list[Any]]) -> None:
    """An empty list is as documented whatever its items are said to be."""
    for route, bodies in answered.items():
        data = bodies[-1].get("data")
        items = data.get("items", [None]) if isinstance(data, dict) else data
        assert items or not isinstance(items, list), route
    assert answered["GET /api/v3/webhooks/deliveries"][-1]["data"]["items"][0]["log"]
    assert "inputs" in answered["POST /api/v3/predictions"][0]["data"]["items"][0]
