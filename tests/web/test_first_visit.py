"""Whoever comes for the first time: signing in, the journey by the keyboard alone, and what can't be done here."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import av
import pytest
from playwright.sync_api import Locator, expect

from tests.installation import EXAMPLES, Installation
from tests.web.conftest import Visit
from tests.web.test_views import assert_accessible

pytestmark = pytest.mark.slow

_LINK = re.compile(r"(http\S+/#sign-in=\S+)")


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Installation, str]]:
    """A server without SkyReels-V3 and without workers, and the path of the link that it printed in a terminal."""
    server = Installation(tmp_path_factory.mktemp("printed") / "home", workers=0, sandbox=False)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "mutoscope", "serve", "--workers", "0", "--port", str(server.port)]
    process = subprocess.Popen(command, env=server.env, stderr=theirs, start_new_session=True)
    text = ""
    while not (link := _LINK.search(text)):
        text += os.read(ours, 4096).decode()
    Thread(target=_drain, args=[ours], daemon=True).start()  # or a full terminal would stop it
    yield server, link[1].removeprefix(server.url)
    process.send_signal(signal.SIGTERM)
    process.wait(30)
    os.close(theirs)
    server.close()


def _drain(terminal: int) -> None:
    try:
        while os.read(terminal, 4096):
            pass
    except OSError:  # its other end is closed
        os.close(terminal)


def test_the_link_that_serve_prints_signs_in_once(
    printed: tuple[Installation, str], visit: Callable[..., Visit]
) -> None:
    server, link = printed
    known = visit(server, link, key=server.key)  # keeps its key, and its history
    expect(known.page.locator("#price")).to_have_text("$0.20")
    here = visit(server, link, key="")
    expect(here.page.locator("#price")).to_have_text("$0.20")
    assert here.page.url == server.url + "/", "the token must leave the address"
    second = visit(server, link, key="", complaint=r"status of 401 .+ /api/v3/session$")
    expect(second.page.get_by_role("alert").filter(has_text="This link was used already")).to_be_visible()
    assert server.run("keys", "list").stdout.count("link") == 1


def test_where_skyreels_is_not_installed_the_animatic_is_offered(
    printed: tuple[Installation, str], visit: Callable[..., Visit]
) -> None:
    here = visit(printed[0], previews=False)
    here.choose(EXAMPLES / "coffee.jpg")
    here.prompt.fill("Steam rises")
    expect(here.page.get_by_text("Sandbox", exact=True)).to_be_hidden()
    here.expect_complaint(r"status of 503 .+ /api/v3/skywork-ai/")
    here.run()
    expect(here.stage.get_by_role("alert")).to_contain_text("runs no SkyReels-V3")
    assert_accessible(here)
    here.stage.get_by_role("button", name="Use Animatic instead").click()
    expect(here.page.locator("#price")).to_have_text("Free")
    expect(here.stage.get_by_text("Waiting, first in the queue")).to_be_visible()
    assert_accessible(here)


def test_a_key_that_is_not_known_is_asked_for_again(running: Installation, visit: Callable[..., Visit]) -> None:
    here = visit(running, key="wsk_" + "0" * 43, complaint=r"status of 401 .+ /api/v3/models$")
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


_FOCUS = """() => {
  const { activeElement: it } = document;
  const face = it.matches(".option input") ? it.nextElementSibling : it;
  const { outlineStyle, outlineWidth } = getComputedStyle(face);
  const { left, top, right, bottom } = face.getBoundingClientRect();
  const above = document.elementFromPoint((left + right) / 2, (top + bottom) / 2);
  return {
    isRinged: it.matches(":focus-visible") && outlineStyle !== "none" && parseFloat(outlineWidth) >= 2,
    isInSight: Boolean(above) && (face.contains(above) || it.contains(above) || above.contains(it)),
  };
}"""


def _tab_to(here: Visit, target: Locator) -> None:
    """Press Tab until `target` has the focus; wherever that is on the way, it has to be seen."""
    for _ in range(80):
        here.page.keyboard.press("Tab")
        if here.page.evaluate("document.activeElement === document.body"):
            continue  # once around
        until = time.monotonic() + 5
        while (seen := here.page.evaluate(_FOCUS)) != {"isRinged": True, "isInSight": True}:
            what = here.page.evaluate("document.activeElement.outerHTML.slice(0, 200)")
            assert time.monotonic() < until, (seen, what)
        if target.evaluate("node => node === document.activeElement"):
            return
    raise AssertionError(f"no Tab leads to {target}")


def test_the_whole_journey_by_the_keyboard_alone(
    running: Installation, image: str, visit: Callable[..., Visit], tmp_path: Path
) -> None:
    here = visit(running, key="", previews=False, size=(390, 844))  # where bars could lie over what has the focus
    page, keys = here.page, here.page.keyboard
    page.on("filechooser", lambda _: None)  # a chooser that opens at a key is heard only by who listens already
    expect(page.get_by_label("API key")).to_be_focused()
    keys.type(running.key)
    keys.press("Enter")
    expect(page.locator("#price")).to_have_text("$0.20")

    _tab_to(here, page.get_by_role("button", name="From a web address"))
    keys.press("Enter")
    expect(page.get_by_label("A picture’s web address")).to_be_focused()
    keys.type(image)
    keys.press("Enter")
    expect(here.tiles).to_have_count(1)
    expect(page.locator("button.add")).to_be_focused()
    with page.expect_file_chooser() as chooser:
        keys.press("Enter")
    chooser.value.set_files(EXAMPLES / "coffee.jpg")
    here.wait_for_uploads()
    _tab_to(here, here.prompt)
    keys.type("@1 looks at @2; slow push in")
    _tab_to(here, page.get_by_role("radio", name="16:9"))
    keys.press("ArrowRight")
    keys.press("ArrowRight")
    expect(page.get_by_role("radio", name="1:1")).to_be_checked()
    _tab_to(here, page.get_by_label("Duration"))
    keys.press("ArrowRight")
    expect(page.locator("#price")).to_have_text("$0.24")
    _tab_to(here, page.get_by_role("radio", name="720p"))
    keys.press("ArrowLeft")
    keys.press("ArrowLeft")
    expect(page.get_by_role("radio", name="480p")).to_be_checked()
    _tab_to(here, page.get_by_role("button", name=re.compile("^Render")))
    keys.press("Enter")

    here.wait_for_state("running")
    _tab_to(here, here.stage.get_by_role("button", name="Cancel"))
    here.wait_for_state("done")
    _tab_to(here, page.get_by_role("button", name=re.compile("^(Play|Pause)$")))
    here.assert_plays()
    keys.press("Space")
    expect(page.locator("video")).to_have_js_property("paused", True)
    keys.press("Space")
    here.assert_plays()
    _tab_to(here, page.get_by_role("link", name="Download"))
    with page.expect_download() as download:
        keys.press("Enter")
    download.value.save_as(tmp_path / "video.mp4")
    with av.open(str(tmp_path / "video.mp4")) as video:
        stream = video.streams.video[0]
        assert (stream.width, stream.height, stream.frames) == (640, 640, 145)
