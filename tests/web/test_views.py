"""Every view: no fault for axe in both themes, fit for any window, light to load, ready soon, closed to
strangers."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files

import httpx
import pytest
from playwright.sync_api import expect

from tests.installation import EXAMPLES, Installation
from tests.web.conftest import RENDER_MS, Visit

pytestmark = pytest.mark.slow

_AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text()
_VIEWS = {"studio": "/", "history": "/#/history", "code": "/#/code", "model": "/#/model", "account": "/#/account"}
_SIZES = [(390, 844), (1280, 800), (1920, 1080)]
_FIRST_PAINT_BYTES = 150_000  # with the example pictures
_READY_MS = 1_000


def assert_accessible(here: Visit) -> None:
    here.page.evaluate(_AXE)
    found = here.page.evaluate("axe.run()")
    told = [(rule["id"], [node["target"] for node in rule["nodes"]]) for rule in found["violations"]]
    assert told == []


def test_axe_finds_nothing_in_either_theme_and_every_view_fits(
    running: Installation, completed: dict[str, object], visit: Callable[..., Visit]
) -> None:
    here = visit(running, calm=True)
    page = here.page

    def look_at(name: str, sizes: list[tuple[int, int]] = _SIZES) -> None:
        for theme in ("light", "dark"):
            page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
            for width, height in sizes:
                page.set_viewport_size({"width": width, "height": height})
                here.screenshot(f"{name}-{width}-{theme}")
            assert_accessible(here)
        for width, height in [(360, 640), (2560, 1440)]:
            page.set_viewport_size({"width": width, "height": height})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{name} is wider than {width}"
        page.set_viewport_size({"width": 1280, "height": 800})

    page.evaluate("id => localStorage.setItem('mutoscope.strip', JSON.stringify([id]))", completed["id"])
    page.reload()
    look_at("welcome")
    here.choose(EXAMPLES / "astronaut.jpg", EXAMPLES / "rocket.jpg")
    here.prompt.fill("@1 before @2 at night, slow push in")
    here.wait_for_state("sketch")
    page.get_by_text("What is seen in them").click()
    expect(page.locator(".findings")).to_contain_text("16:9 adds 44 % bars", timeout=RENDER_MS)
    for name in _VIEWS:
        page.evaluate("path => (location.hash = path)", _VIEWS[name].removeprefix("/") or "#/")
        expect(page.get_by_role("heading", level=1)).to_be_attached()
        expect(page.locator(".skeleton")).to_have_count(0)
        look_at(name)
    page.evaluate("location.hash = '#/'")
    page.get_by_role("button", name="Finished: a cat, slow push in").click(timeout=RENDER_MS)
    here.wait_for_state("done")
    look_at("take")


def test_the_form_is_ready_within_a_second(running: Installation, visit: Callable[..., Visit]) -> None:
    """From the navigation until the form can be filled, by the page's own mark: the best of a few first visits, for
    other work on the machine must not fail it."""
    taken: list[float] = []
    while not taken or (min(taken) >= _READY_MS and len(taken) < 6):
        page = visit(running).page
        expect(page.locator("#price")).to_have_text("$0.20")
        assert page.get_by_role("button", name="Render with SkyReels-V3").is_enabled()
        taken.append(page.evaluate("performance.getEntriesByName('ready')[0].startTime"))
    assert min(taken) < _READY_MS, taken


def test_the_first_paint_is_light_and_nothing_runs_but_what_is_served(
    running: Installation, visit: Callable[..., Visit]
) -> None:
    here = visit(running)
    expect(here.page.locator("#price")).to_have_text("$0.20")
    here.page.wait_for_load_state("networkidle")
    loaded = here.page.evaluate(
        """[...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
             .map(({ name, transferSize }) => [name, transferSize])"""
    )
    assert len(loaded) > 40
    assert 20_000 < sum(size for _, size in loaded) < _FIRST_PAINT_BYTES, loaded
    policy = httpx.get(running.url + "/", trust_env=False).headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy
    assert "unsafe" not in policy
    for path in ("/web/../api/page.py", "/web/%2e%2e/api/page.py", "/web/none.js", "/web/studio"):
        assert httpx.get(running.url + path, trust_env=False).status_code == 404, path
    first = httpx.get(running.url + "/web/page.js", trust_env=False)
    again = httpx.get(running.url + "/web/page.js", headers={"If-None-Match": first.headers["etag"]}, trust_env=False)
    assert (first.status_code, again.status_code, again.content) == (200, 304, b"")


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
