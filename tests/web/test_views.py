"""Every view: no fault for axe in both themes, fit for any window, light to load, closed to strangers; signing in."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.resources import files

import httpx
import pytest
from playwright.sync_api import expect

from tests.installation import EXAMPLES, Installation
from tests.web.conftest import Visit

pytestmark = pytest.mark.slow

_AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text()
_VIEWS = {"studio": "/", "history": "/#/history", "code": "/#/code", "model": "/#/model", "account": "/#/account"}
_SIZES = [(390, 844), (1280, 800), (1920, 1080)]
_FIRST_PAINT_BYTES = 150_000


def assert_accessible(here: Visit) -> None:
    here.page.evaluate(_AXE)
    found = here.page.evaluate("axe.run()")
    told = [(rule["id"], [node["target"] for node in rule["nodes"]]) for rule in found["violations"]]
    assert told == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_and_every_view_fits(
    theme: str, running: Installation, completed: dict[str, object], visit: Callable[..., Visit]
) -> None:
    here = visit(running, theme=theme, calm=True)
    page = here.page
    page.evaluate("id => localStorage.setItem('mutoscope.strip', JSON.stringify([id]))", completed["id"])
    page.reload()
    here.screenshot(f"welcome-{theme}")
    assert_accessible(here)
    here.choose(EXAMPLES / "astronaut.jpg", EXAMPLES / "rocket.jpg")
    here.prompt.fill("@1 before @2 at night, slow push in")
    here.wait_for_state("sketch")
    for name in _VIEWS:
        page.evaluate("path => (location.hash = path)", _VIEWS[name].removeprefix("/") or "#/")
        expect(page.get_by_role("heading", level=1)).to_be_attached()
        expect(page.locator(".skeleton")).to_have_count(0)
        for width, height in _SIZES:
            page.set_viewport_size({"width": width, "height": height})
            here.screenshot(f"{name}-{width}-{theme}")
        assert_accessible(here)
        for width, height in [(360, 640), (2560, 1440)]:
            page.set_viewport_size({"width": width, "height": height})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{name} is wider than {width}"
        page.set_viewport_size({"width": 1280, "height": 800})
    page.evaluate("location.hash = '#/'")
    page.get_by_role("button", name="Finished: a cat, slow push in").click(timeout=120_000)
    here.wait_for_state("done")
    for width, height in _SIZES:
        page.set_viewport_size({"width": width, "height": height})
        here.screenshot(f"take-{width}-{theme}")
    assert_accessible(here)
    assert here.strangers == []


def test_the_first_paint_is_light_and_nothing_runs_but_what_is_served(
    running: Installation, visit: Callable[..., Visit]
) -> None:
    here = visit(running)
    expect(here.page.locator("#price")).to_have_text("$0.20")
    loaded = here.page.evaluate(
        """[...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
             .map(({ name, transferSize }) => [name, transferSize])"""
    )
    size = sum(bytes_ for _, bytes_ in loaded)
    assert 20_000 < size < _FIRST_PAINT_BYTES + sum(b for name, b in loaded if "/examples/" in name), loaded
    policy = httpx.get(running.url + "/", trust_env=False).headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy
    assert "unsafe" not in policy
    for path in ("/web/../api/page.py", "/web/%2e%2e/api/page.py", "/web/none.js", "/web/studio"):
        assert httpx.get(running.url + path, trust_env=False).status_code == 404, path
    first = httpx.get(running.url + "/web/page.js", trust_env=False)
    again = httpx.get(running.url + "/web/page.js", headers={"If-None-Match": first.headers["etag"]}, trust_env=False)
    assert (first.status_code, again.status_code, again.content) == (200, 304, b"")


def test_a_key_that_is_not_known_is_asked_for_again(running: Installation, visit: Callable[..., Visit]) -> None:
    here = visit(running, key="wsk_" + "0" * 43)
    panel = here.page.get_by_role("dialog", name="Sign in with a key")
    expect(panel.get_by_role("alert")).to_have_text("This key is not known here, or was revoked.")
    assert_accessible(here)
    here.page.keyboard.press("Escape")
    here.page.keyboard.press("Escape")
    panel.get_by_label("API key").fill("a key with spaces")
    panel.get_by_role("button", name="Sign in").click()
    expect(panel.get_by_role("alert")).to_contain_text("This is not a key")
    panel.get_by_label("API key").fill(running.key)
    panel.get_by_label("API key").press("Enter")
    expect(panel).to_be_hidden()
    expect(here.page.locator("#price")).to_have_text("$0.20")
    here.page.reload()
    expect(here.page.locator("#price")).to_have_text("$0.20")


def test_the_link_that_serve_prints_signs_in_once(
    install: Callable[..., Installation], visit: Callable[..., Visit]
) -> None:
    server = install(workers=0)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "mutoscope", "serve", "--sandbox", "--workers", "0", "--port", str(server.port)]
    process = subprocess.Popen(command, env=server.env, stderr=theirs, start_new_session=True)
    try:
        printed = ""
        while not (link := re.search(r"(http\S+/#sign-in=\S+)", printed)):
            printed += os.read(ours, 4096).decode()
        known = visit(server, link[1].removeprefix(server.url), key=server.key)  # keeps its key, and its history
        expect(known.page.locator("#price")).to_have_text("$0.20")
        here = visit(server, link[1].removeprefix(server.url), key="")
        expect(here.page.locator("#price")).to_have_text("$0.20")
        assert here.page.url == server.url + "/", "the token must leave the address"
        assert here.complaints == []
        second = visit(server, link[1].removeprefix(server.url), key="")
        expect(second.page.get_by_role("alert").filter(has_text="This link was used already")).to_be_visible()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        os.close(ours)
        os.close(theirs)
    assert server.run("keys", "list").stdout.count("link") == 1


def test_keys_move_between_views_and_the_theme_is_kept(running: Installation, visit: Callable[..., Visit]) -> None:
    here = visit(running, previews=False)
    page = here.page
    expect(page.locator("#price")).to_have_text("$0.20")
    page.keyboard.press("/")
    expect(here.prompt).to_be_focused()
    page.keyboard.type("2?")
    expect(here.prompt).to_have_value("2?")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("4")
    expect(page.get_by_role("heading", name="SkyReels-V3", level=1)).to_be_visible()
    expect(page.get_by_role("region", name="Table of prices")).to_contain_text("$0.40")
    expect(page.get_by_role("rowheader", name="aspect_ratio")).to_be_visible()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_role("button", name="Theme: As the system").click()
    page.reload()
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "light"
