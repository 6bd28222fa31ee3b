"""The page at `/`, used the way a person uses it: in Debian's Chromium, against a running sandbox server."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import av
import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect, sync_playwright

from tests.installation import EXAMPLES, Installation

CHROMIUM = shutil.which("chromium")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")]

_QUIET = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
_QUIET += "disable-component-update disable-sync"
_RENDER_MS = 90_000
_HAS_NO_ACCOUNT = "wsk_" + "0" * 43


@dataclass
class Visit:
    """One person's tab, and what happened in it that nobody should see."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)  # of the console
    strangers: list[str] = field(default_factory=list)  # requests to anyone but this server

    @property
    def stage(self) -> Locator:
        return self.page.get_by_role("region", name="Stage")

    def choose(self, *files: Path, button: str = "Drop, paste or choose pictures") -> None:
        """Pick files in the file chooser and wait until they are uploaded."""
        with self.page.expect_file_chooser() as chooser:
            self.page.get_by_role("button", name=button, exact=True).click()
        chooser.value.set_files(files)
        expect(self.page.locator(".tile[data-state=ready]")).to_have_count(self.page.locator(".tile").count())
        expect(self.page.locator(".tile[data-state=ready]").first).to_be_visible()

    def run(self) -> None:
        self.page.get_by_role("button", name="Run", exact=True).click()

    def wait_for_video(self) -> Locator:
        video = self.page.locator("video")
        expect(video).to_be_visible(timeout=_RENDER_MS)
        expect(video).to_have_js_property("readyState", 4, timeout=20_000)
        return video


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        args = [f"--{name}" for name in _QUIET.split()]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=args)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Visit]]:
    """Opens the page of an installation, in a browser that was never here before."""
    contexts: list[BrowserContext] = []

    def open_page(installation: Installation, *, key: str | None = None) -> Visit:
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        contexts.append(context)
        page = context.new_page()
        found = Visit(page, installation.url)
        page.on("console", lambda line: line.type in ("error", "warning") and found.complaints.append(line.text))
        page.on("pageerror", lambda error: found.complaints.append(str(error)))
        page.on("request", lambda request: _is_foreign(request.url, found.url) and found.strangers.append(request.url))
        page.goto(f"{installation.url}/#key={key or installation.key}")
        return found

    yield open_page
    for context in contexts:
        context.close()


def _is_foreign(url: str, home: str) -> bool:
    return urlsplit(url).scheme not in ("blob", "data") and not url.startswith(home + "/")


def test_from_pictures_to_a_downloaded_video(
    running: Installation, visit: Callable[..., Visit], tmp_path: Path
) -> None:
    here = visit(running)
    page = here.page
    price = page.locator("#price")
    expect(price).to_have_text("$0.20")
    assert page.url == running.url + "/", "the key must leave the address bar"
    expect(page.get_by_text("Sandbox", exact=True)).to_be_visible()

    here.choose(EXAMPLES / "astronaut.jpg", EXAMPLES / "coffee.jpg")
    page.get_by_label("Prompt").fill("She lifts the cup; slow push in")
    page.get_by_role("radio", name=re.compile("9:16")).check()
    page.get_by_label("Duration").press("ArrowRight")
    expect(price).to_have_text("$0.24")
    page.get_by_role("radio", name=re.compile("Animatic")).check()
    expect(price).to_have_text("Free")
    page.get_by_role("radio", name=re.compile("SkyReels")).check()
    expect(price).to_have_text("$0.24")

    page.get_by_label("Prompt").press("Control+Enter")
    progress = here.stage.get_by_role("progressbar")
    expect(progress).to_have_attribute("value", re.compile(r"^0\.\d+$"), timeout=_RENDER_MS)
    expect(here.stage.get_by_role("button", name="Cancel")).to_be_visible()

    video = here.wait_for_video()
    assert video.evaluate("video => video.duration") == pytest.approx(145 / 24, abs=0.05)
    assert video.evaluate("video => [video.videoWidth, video.videoHeight]") == [720, 1280]
    expect(here.stage).to_contain_text("engine: animatic")
    expect(here.stage).to_contain_text("A storyboard in motion, not SkyReels output")

    with page.expect_download() as download:
        here.stage.get_by_role("link", name="Download").click()
    assert re.fullmatch(r"mutoscope-she-lifts-the-cup-slow-push-\d+\.mp4", download.value.suggested_filename)
    saved = tmp_path / "video.mp4"
    download.value.save_as(saved)
    with av.open(str(saved)) as film:
        stream = film.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height, stream.frames) == ("h264", 720, 1280, 145)

    expect(page.get_by_role("button", name="Take: She lifts the cup; slow push in")).to_be_visible()
    assert here.complaints == []
    assert here.strangers == []


def test_a_reload_and_a_server_that_goes_away_lose_nothing(
    install: Callable[..., Installation], visit: Callable[..., Visit]
) -> None:
    server = install().start()
    here = visit(server)
    here.choose(EXAMPLES / "coffee.jpg")
    here.page.get_by_label("Prompt").fill("Steam rises; orbit")
    here.run()
    expect(here.stage.get_by_role("button", name="Cancel")).to_be_visible()

    here.page.reload()
    expect(here.stage.get_by_role("button", name="Cancel")).to_be_visible()
    expect(here.page.get_by_label("Prompt")).to_have_value("Steam rises; orbit")
    expect(here.page.locator(".tile img")).to_have_js_property("complete", True)

    server.stop()
    notice = here.page.get_by_text("The server can’t be reached. Trying again…")
    expect(notice).to_be_in_viewport()
    server.start()
    here.wait_for_video()
    expect(notice).to_have_count(0)


def test_a_running_task_can_be_canceled(running: Installation, visit: Callable[..., Visit]) -> None:
    here = visit(running)
    here.choose(EXAMPLES / "rocket.jpg")
    here.page.get_by_label("Prompt").fill("Lift-off; tilt up")
    here.run()
    here.stage.get_by_role("button", name="Cancel").click()
    expect(here.stage).to_have_attribute("data-state", "compose", timeout=_RENDER_MS)
    expect(here.page.locator("#said")).to_have_text("Canceled.")
    expect(here.page.get_by_role("button", name="Run", exact=True)).to_have_attribute("aria-disabled", "false")


def test_what_is_wrong_is_said_in_a_sentence(
    running: Installation, visit: Callable[..., Visit], tmp_path: Path
) -> None:
    here = visit(running)
    page = here.page
    here.run()
    expect(page.get_by_role("alert").filter(has_text="Add a picture first")).to_be_visible()

    broken = tmp_path / "broken.jpg"
    broken.write_bytes((EXAMPLES / "coffee.jpg").read_bytes()[:3000])
    here.choose(EXAMPLES / "astronaut.jpg", broken)
    here.run()
    expect(page.get_by_role("alert").filter(has_text="Write a prompt")).to_be_visible()
    expect(page.get_by_label("Prompt")).to_be_focused()

    page.get_by_label("Prompt").fill("She drinks")
    page.get_by_label("Seed").fill("-3")
    here.run()
    expect(page.get_by_role("alert").filter(has_text="The seed has to be a whole number")).to_be_visible()

    page.get_by_label("Seed").fill("7")
    here.run()
    expect(here.stage.get_by_role("alert")).to_have_text(re.compile(r"^Image 2 \(upload\): .+\.$"), timeout=_RENDER_MS)
    expect(page.locator(".tile.is-faulty")).to_have_attribute("aria-label", "picture 2, broken.jpg")

    page.locator(".tile").nth(1).hover()
    page.get_by_role("button", name="Remove: picture 2").click()
    expect(page.locator(".tile")).to_have_count(1)
    note = tmp_path / "notes.txt"
    note.write_text("words")
    here.choose(note, button="Add")
    expect(page.get_by_role("alert").filter(has_text="notes.txt is not a picture.")).to_be_visible()


def test_where_skyreels_is_not_installed_the_animatic_is_offered(
    install: Callable[..., Installation], visit: Callable[..., Visit]
) -> None:
    here = visit(install(sandbox=False).start())
    here.choose(EXAMPLES / "coffee.jpg")
    here.page.get_by_label("Prompt").fill("Steam rises")
    expect(here.page.get_by_text("Sandbox", exact=True)).to_be_hidden()
    here.run()
    expect(here.stage.get_by_role("alert")).to_contain_text("runs no SkyReels-V3")
    here.stage.get_by_role("button", name="Use the animatic").click()
    expect(here.page.locator("#price")).to_have_text("Free")
    here.stage.get_by_role("button", name="Cancel").click()
    expect(here.stage).to_have_attribute("data-state", "compose", timeout=_RENDER_MS)


def test_a_key_that_is_not_known_is_asked_for_again(running: Installation, visit: Callable[..., Visit]) -> None:
    here = visit(running, key=_HAS_NO_ACCOUNT)
    panel = here.page.get_by_role("dialog", name="Sign in with a key")
    expect(panel.get_by_role("alert")).to_have_text("This key is not known here, or was revoked.")
    panel.get_by_label("API key").fill("a key with spaces")
    panel.get_by_role("button", name="Sign in").click()
    expect(panel.get_by_role("alert")).to_contain_text("This is not a key")
    panel.get_by_label("API key").fill(running.key)
    panel.get_by_label("API key").press("Enter")
    expect(panel).to_be_hidden()
    expect(here.page.locator("#price")).to_have_text("$0.20")
    here.page.reload()
    expect(here.page.locator("#price")).to_have_text("$0.20")
    assert len(here.complaints) == 1, here.complaints  # the browser's own line about the first 401


def test_pictures_are_put_in_order_and_kept_to_four(running: Installation, visit: Callable[..., Visit]) -> None:
    here = visit(running)
    page = here.page
    page.get_by_role("button", name="Use a picture’s web address").click()
    page.get_by_label("A picture’s web address").fill("not an address")
    page.get_by_label("A picture’s web address").press("Enter")
    expect(page.get_by_role("alert").filter(has_text="not a web address")).to_be_visible()
    page.get_by_label("A picture’s web address").fill(running.upload(EXAMPLES / "chelsea.jpg"))
    page.get_by_label("A picture’s web address").press("Enter")

    here.choose(EXAMPLES / "astronaut.jpg", EXAMPLES / "coffee.jpg", EXAMPLES / "rocket.jpg", button="Add")
    page.get_by_role("button", name="Move earlier: picture 2, astronaut.jpg").press("Enter")
    expect(page.get_by_role("button", name="Move later: picture 1, astronaut.jpg")).to_be_focused()
    names = page.locator(".tile-name")
    expect(names).to_have_text(["astronaut.jpg", "chelsea.jpg", "coffee.jpg", "rocket.jpg"])
    page.locator(".tile").nth(3).drag_to(page.locator(".tile").nth(1))
    expect(names).to_have_text(["astronaut.jpg", "rocket.jpg", "chelsea.jpg", "coffee.jpg"])
    page.get_by_text("The same with curl").click()
    expect(page.get_by_label("curl command")).to_contain_text(re.compile("astronaut.*rocket.*chelsea.*coffee", re.S))
    expect(page.get_by_role("button", name="Add", exact=True)).to_be_hidden()
    assert here.complaints == []


def test_it_fits_any_window(running: Installation, visit: Callable[..., Visit]) -> None:
    here = visit(running)
    here.choose(EXAMPLES / "astronaut.jpg", EXAMPLES / "coffee.jpg", EXAMPLES / "rocket.jpg")
    here.page.get_by_label("Prompt").fill("unbroken" * 40)
    here.page.get_by_text("The same with curl").click()
    for width, height in [(360, 640), (390, 844), (768, 1024), (1024, 768), (1440, 900), (2560, 1440)]:
        here.page.set_viewport_size({"width": width, "height": height})
        assert here.page.evaluate("document.documentElement.scrollWidth") <= width
        expect(here.page.get_by_role("button", name="Run", exact=True)).to_be_in_viewport(ratio=1)
