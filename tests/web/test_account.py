"""The account's view: what is left, what was spent, keys that work until they are revoked, webhooks sent again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest
from playwright.sync_api import expect

from tests.installation import SKYREELS, Installation
from tests.web.conftest import Visit
from tests.web.test_views import assert_accessible

pytestmark = pytest.mark.slow


@contextmanager
def _receiver() -> Iterator[tuple[str, list[bytes]]]:
    """The address of a receiver of webhooks, and what it was told."""
    heard: list[bytes] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/hook", heard
        server.shutdown()


def _wait_until(happened: Callable[[], bool], seconds: float = 90) -> None:
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_an_account_is_kept_in_its_view(running: Installation, image: str, visit: Callable[..., Visit]) -> None:
    running.run("accounts", "create", "Studio")
    running.run("credit", "Studio", "20")
    scopes = [word for scope in ("generate", "read", "admin") for word in ("--scope", scope)]
    key = running.run("keys", "create", "laptop", "--account", "Studio", "--daily-cap", "5", *scopes).stdout.strip()
    own = {"headers": {"Authorization": f"Bearer {key}"}, "trust_env": False}
    with _receiver() as (hook, heard):
        asked = {"prompt": "a cat", "images": [image], "resolution": "480p"}
        url = f"{running.url}/api/v3/{SKYREELS}"
        task = httpx.post(url, params={"webhook": hook}, json=asked, **own).json()["data"]  # type: ignore[arg-type]
        _wait_until(lambda: len(heard) == 1)
        here = visit(running, "/#/account", key=key, previews=False)
        page = here.page
        expect(page.get_by_text("Account Studio")).to_be_visible()
        expect(page.locator(".facts")).to_contain_text("$19.80")
        expect(page.locator(".facts")).to_contain_text("$0.20 of $5.00")
        expect(page.get_by_role("img", name="Spent by day since")).to_be_visible()
        page.get_by_text("As a table").click()
        expect(page.get_by_role("region", name="Table of days").get_by_role("row")).to_have_count(2)
        expect(page.get_by_role("region", name="Table of charges")).to_contain_text("$0.20")

        assert task["id"].encode() in heard[0]
        page.locator(".deliveries summary").click()
        page.get_by_role("button", name="Send again").click()
        expect(page.get_by_text("It is sent again.")).to_be_visible()
        _wait_until(lambda: len(heard) == 2)

        page.get_by_role("button", name="New key").click()
        page.get_by_role("button", name="Make the key").click()
        expect(page.get_by_role("alert").filter(has_text="Name it first")).to_be_visible()
        page.get_by_label("Name").fill("Build machine")
        page.get_by_label("Cap a day, in dollars").fill("2.50")
        assert_accessible(here)
        page.get_by_role("button", name="Make the key").click()
        made = page.get_by_label("The key", exact=True).text_content() or ""
        ask = {"headers": {"Authorization": f"Bearer {made}"}, "trust_env": False}
        answered = httpx.get(f"{running.url}/api/v3/account", **ask).json()["data"]["key"]  # type: ignore[arg-type]
        assert (answered["name"], answered["scopes"], answered["daily_cap"]) == (
            "Build machine",
            ["generate", "read"],
            2.5,
        )
        page.get_by_role("button", name="Done").click()
        page.once("dialog", lambda dialog: dialog.accept())
        page.get_by_role("button", name="Revoke Build machine").click()
        expect(page.get_by_role("region", name="Table of keys")).to_contain_text("revoked")
        assert httpx.get(f"{running.url}/api/v3/account", **ask).status_code == 401  # type: ignore[arg-type]
        assert_accessible(here)
