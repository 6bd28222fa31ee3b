"""A person's tab on the page: Debian's Chromium, and what happened in it that nobody should see."""

from __future__ import annotations

import base64
import json
import mimetypes
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, expect, sync_playwright

from tests.installation import Installation

RENDER_MS = 90_000
ROOT = Path(__file__).parents[2]
SCREENS = ROOT / "out" / "screens"  # ignored by git: to be looked at

_CHROMIUM = shutil.which("chromium")
_QUIET = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
_QUIET += "disable-component-update disable-sync use-fake-device-for-media-stream use-fake-ui-for-media-stream"

_DROP = """async ([names, types, contents]) => {
  const data = new DataTransfer();
  for (let index = 0; index < names.length; index += 1) {
    const bytes = Uint8Array.from(atob(contents[index]), (letter) => letter.charCodeAt(0));
    data.items.add(new File([bytes], names[index], { type: types[index] }));
  }
  return data;
}"""


@dataclass
class Visit:
    """One person's tab."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)  # of the console
    expected: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)  # requests to anyone but this server

    def expect_complaint(self, pattern: str) -> None:
        """What the console says of the next steps, and has to say: any other line fails the test."""
        self.expected.append(pattern)

    def assert_quiet(self) -> None:
        """Nothing was complained of but what was expected, and no other host was asked."""
        kept = [line for line in self.complaints if not any(re.search(each, line) for each in self.expected)]
        assert kept == []
        for each in self.expected:
            assert any(re.search(each, line) for line in self.complaints), f"nobody complained of {each}"
        assert self.strangers == []

    @property
    def stage(self) -> Locator:
        return self.page.get_by_role("region", name="Stage")

    @property
    def prompt(self) -> Locator:
        return self.page.get_by_label("Prompt", exact=True)

    @property
    def tiles(self) -> Locator:
        return self.page.locator(".tile")

    def choose(self, *files: Path) -> None:
        """Pick files in the file chooser and wait until they are uploaded."""
        with self.page.expect_file_chooser() as chooser:
            self.page.locator("button.add").click()
        chooser.value.set_files(files)
        self.wait_for_uploads()

    def transfer(self, kind: str, *files: Path) -> None:
        """Drop files onto the page, or paste them, as a `drop` or a `paste`."""
        contents = [base64.b64encode(path.read_bytes()).decode() for path in files]
        types = [mimetypes.guess_type(path.name)[0] or "" for path in files]
        data = self.page.evaluate_handle(_DROP, [[path.name for path in files], types, contents])
        if kind == "drop":
            for step in ("dragenter", "dragover", "drop"):
                self.page.locator("body").dispatch_event(step, {"dataTransfer": data})
        else:
            self.page.evaluate(
                "clipboardData => document.body.dispatchEvent("
                "new ClipboardEvent('paste', { clipboardData, bubbles: true }))",
                data,
            )
        self.wait_for_uploads()

    def wait_for_uploads(self) -> None:
        expect(self.page.locator(".tile[data-state=sending]")).to_have_count(0)
        expect(self.page.locator(".tile[data-state=ready]").first).to_be_visible()

    def run(self) -> None:
        self.page.get_by_role("button", name=re.compile("^Render")).click()

    def wait_for_state(self, state: str) -> None:
        expect(self.stage).to_have_attribute("data-state", state, timeout=RENDER_MS)

    def assert_plays(self, index: int = 0) -> None:
        """The video really plays: its time moves, and what is drawn of it changes."""
        video = self.page.locator("video").nth(index)
        expect(video).to_be_visible(timeout=RENDER_MS)
        expect(video).to_have_js_property("readyState", 4, timeout=20_000)
        before = _look(video)
        until = time.monotonic() + 15
        while (after := _look(video))[0] == before[0] or after[1] == before[1]:
            assert time.monotonic() < until, "the video stands still"
            self.page.wait_for_timeout(100)

    def screenshot(self, name: str) -> None:
        SCREENS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENS / f"{name}.png")


def _look(video: Locator) -> tuple[float, str]:
    seen: list[object] = video.evaluate(
        """video => {
          const canvas = Object.assign(document.createElement("canvas"), { width: 64, height: 36 });
          canvas.getContext("2d").drawImage(video, 0, 0, 64, 36);
          return [video.currentTime, canvas.toDataURL()];
        }"""
    )
    return float(str(seen[0])), str(seen[1])


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if _CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright:
        args = [f"--{name}" for name in _QUIET.split()]
        browser = playwright.chromium.launch(executable_path=_CHROMIUM, args=args)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Visit]]:
    """Opens the page of an installation, in a browser that was never here before but for its key.

    At the end, each visit must have been quiet: see `Visit.assert_quiet`.
    """
    contexts: list[BrowserContext] = []
    visits: list[Visit] = []

    def open_page(
        installation: Installation,
        path: str = "/",
        *,
        key: str | None = None,
        size: tuple[int, int] = (1280, 800),
        theme: str = "dark",
        previews: bool = True,
        calm: bool = False,
        complaint: str = "",
    ) -> Visit:
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme=theme,  # type: ignore[arg-type]
            reduced_motion="reduce" if calm else "no-preference",
            accept_downloads=True,
        )
        contexts.append(context)
        kept = {"key": installation.key if key is None else key, "previewing": previews}
        remembered = {f"mutoscope.{name}": json.dumps(value) for name, value in kept.items() if value != ""}
        context.add_init_script(
            "if (!localStorage.length) for (const [name, value] of "
            f"Object.entries({json.dumps(remembered)})) localStorage.setItem(name, value);"
        )
        page = context.new_page()
        found = Visit(page, installation.url)
        if complaint:
            found.expect_complaint(complaint)
        visits.append(found)
        page.on("console", lambda line: line.type in ("error", "warning") and found.complaints.append(_told(line)))
        page.on("pageerror", lambda error: found.complaints.append(str(error)))
        page.on("request", lambda request: _is_foreign(request.url, found.url) and found.strangers.append(request.url))
        page.goto(installation.url + path)
        return found

    yield open_page
    for context in contexts:
        context.close()
    for found in visits:
        found.assert_quiet()


def _told(line: ConsoleMessage) -> str:
    """A line of the console, and the path that it is about."""
    return f"{line.text} {urlsplit(line.location['url']).path}"


def _is_foreign(url: str, home: str) -> bool:
    return urlsplit(url).scheme not in ("blob", "data") and not url.startswith(home + "/")
