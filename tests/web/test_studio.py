"""The studio, used the way a person uses it: compose, preview, run, watch."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import av
import httpx
import pytest
from PIL import Image
from playwright.sync_api import Route, expect

from tests.installation import EXAMPLES, Installation
from tests.web.conftest import RENDER_MS, Visit

pytestmark = pytest.mark.slow

_SHIFTS = """() => {
  window.shifts = [];
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
      if (entry.hadRecentInput || !entry.value) continue;
      for (const { node } of entry.sources) window.shifts.push(`${entry.value} ${node?.className ?? node?.nodeName}`);
    }
  }).observe({ type: "layout-shift" });
}"""


def test_a_newcomer_drops_types_sees_runs_and_downloads(
    running: Installation, visit: Callable[..., Visit], tmp_path: Path
) -> None:
    begun = time.monotonic()
    here = visit(running)
    page = here.page
    expect(page.get_by_text("Sandbox", exact=True)).to_be_visible()
    expect(page.locator("#price")).to_have_text("$0.20")
    here.transfer("drop", EXAMPLES / "astronaut.jpg", EXAMPLES / "rocket.jpg")
    here.prompt.fill("She stands before the rocket, ")
    page.get_by_role("button", name="Mention picture 2, rocket.jpg").click()
    here.prompt.press_sequentially("; slow push in")
    expect(here.prompt).to_have_value("She stands before the rocket, @2; slow push in")
    expect(page.locator("mark")).to_have_text("@2")

    here.wait_for_state("sketch")
    here.assert_plays()
    assert time.monotonic() - begun < 60, "a minute to the first moving picture"
    expect(page.get_by_text("A free animatic of this shot")).to_be_visible(timeout=RENDER_MS)

    page.evaluate(_SHIFTS)
    here.prompt.press("Control+Enter")
    here.wait_for_state("running")
    expect(here.stage.get_by_role("progressbar")).to_have_attribute("value", re.compile(r"^0\.\d+$"), timeout=RENDER_MS)
    expect(here.stage.get_by_role("button", name="Cancel")).to_be_visible()
    expect(here.stage.locator(".work-line .note")).to_contain_text("left")
    here.wait_for_state("done")
    assert page.evaluate("window.shifts") == [], "nothing moves while a run progresses, or when it is there"

    # The render beside its preview, in step.
    expect(page.locator("video")).to_have_count(2)
    here.assert_plays(0)
    here.assert_plays(1)
    times = page.locator("video").evaluate_all("videos => videos.map((video) => video.currentTime)")
    assert times[0] == pytest.approx(times[1], abs=0.25)
    slider = page.get_by_role("slider", name="Slide between Rendered and Preview")
    slider.focus()
    slider.press("End")
    expect(slider).to_have_value("100")
    page.get_by_role("button", name="Beside its preview").click()
    expect(page.locator("video")).to_have_count(1)

    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert re.fullmatch(r"mutoscope-she-stands-before-the-rocket-2-\d+\.mp4", download.value.suggested_filename)
    download.value.save_as(tmp_path / "video.mp4")
    with av.open(str(tmp_path / "video.mp4")) as video:
        assert (video.streams.video[0].width, video.streams.video[0].frames) == (1280, 121)


def test_on_a_telephone_a_run_brings_the_stage_into_view_once(
    running: Installation, visit: Callable[..., Visit]
) -> None:
    here = visit(running, previews=False, size=(390, 844), calm=True)
    page = here.page
    here.choose(EXAMPLES / "coffee.jpg")
    here.prompt.fill("a cup, static camera")

    held: list[Route] = []
    page.route("**/reference-to-video", lambda route: held.append(route))
    here.run()
    here.wait_for_state("running")
    expect(here.stage).to_be_in_viewport(ratio=0.5)
    page.evaluate("scrollTo(0, 0)")  # somebody reads the form again before the server has answered
    held[0].continue_()
    here.wait_for_state("done")
    assert page.evaluate("scrollY") == 0


def test_a_video_is_stepped_slowed_and_looped_by_hand_and_keys(running: Installation, completed: dict, visit) -> None:  # type: ignore[type-arg, no-untyped-def]
    here = visit(running, "/#/recipe/broken")
    page = here.page
    expect(page.get_by_text("This recipe can’t be read")).to_be_visible()
    page.evaluate("id => localStorage.setItem('mutoscope.strip', JSON.stringify([id]))", completed["id"])
    page.reload()
    page.get_by_role("button", name="Finished: a cat, slow push in").click(timeout=120_000)
    here.assert_plays()
    page.keyboard.press("k")
    expect(page.get_by_role("button", name="Play", exact=True)).to_be_visible()
    page.keyboard.press("Home")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert page.locator("video").evaluate("video => Math.floor(video.currentTime * 24)") == 3
    page.get_by_role("button", name="One frame back").click()
    assert page.locator("video").evaluate("video => Math.floor(video.currentTime * 24)") == 2
    page.get_by_label("Speed").select_option("0.5")
    expect(page.locator("video")).to_have_js_property("playbackRate", 0.5)
    page.get_by_role("button", name="Loop").click()
    expect(page.locator("video")).to_have_js_property("loop", False)

    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy the video’s link").click()
    link: str = page.evaluate("navigator.clipboard.readText()")
    assert httpx.get(link, trust_env=False).headers["content-type"] == "video/mp4"
    page.get_by_role("button", name="Share the recipe").click()
    recipe: str = page.evaluate("navigator.clipboard.readText()")
    other = visit(running, recipe.removeprefix(running.url), previews=False)
    expect(other.prompt).to_have_value("a cat, slow push in")
    expect(other.page.get_by_role("radio", name="1:1")).to_be_checked()
    expect(other.page.get_by_label("Seed", exact=True)).to_have_value("7")
    expect(other.tiles).to_have_count(1)

    page.get_by_role("button", name="Change one thing and run again").click()
    expect(here.prompt).to_have_value("a cat, slow push in")
    expect(page.get_by_role("radio", name="1:1")).to_be_checked()
    expect(here.tiles).to_have_count(1)


def test_runs_outlive_a_reload_and_a_server(install: Callable[..., Installation], visit: Callable[..., Visit]) -> None:
    server = install(workers=0).start()
    here = visit(server, previews=False)
    page = here.page
    here.choose(EXAMPLES / "coffee.jpg")
    here.prompt.fill("Steam rises; orbit")
    page.get_by_role("radio", name="480p").check()
    here.run()
    here.wait_for_state("running")
    expect(here.stage.get_by_text("Waiting, first in the queue")).to_be_visible()
    page.set_viewport_size({"width": 360, "height": 640})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360, "the line of a run fits a small telephone"
    page.set_viewport_size({"width": 1280, "height": 800})
    page.wait_for_timeout(800)  # a double click is one run
    here.run()
    expect(here.stage.get_by_text("Waiting, second in the queue")).to_be_visible()
    expect(page.locator(".thumb[data-status=created]")).to_have_count(2)
    here.stage.get_by_role("button", name="Cancel").click()
    expect(here.stage.get_by_text("Canceled.", exact=True)).to_be_visible()
    expect(page.locator(".thumb[data-status=created]")).to_have_count(1)

    page.reload()
    here.wait_for_state("running")
    expect(here.prompt).to_have_value("Steam rises; orbit")
    expect(page.locator(".tile img")).to_have_js_property("complete", True)
    here.expect_complaint(
        r"net::ERR_(CONNECTION|INCOMPLETE|EMPTY)"
    )  # the browser's own words for a server that is away
    server.kill_group()
    notice = page.get_by_text("The server can’t be reached. Trying again…")
    expect(notice).to_be_in_viewport(timeout=15_000)
    server.workers = 1
    server.start()
    here.wait_for_state("done")
    here.assert_plays()
    expect(notice).to_have_count(0)


def test_pictures_come_in_every_way_and_are_put_in_order(
    running: Installation, visit: Callable[..., Visit], tmp_path: Path
) -> None:
    here = visit(running, previews=False)
    page = here.page
    page.get_by_role("button", name="From a web address").click()
    address = page.get_by_label("A picture’s web address")
    address.fill("not an address")
    address.press("Enter")
    expect(page.get_by_role("alert").filter(has_text="not a web address")).to_be_visible()
    address.fill(running.upload(EXAMPLES / "chelsea.jpg"))
    address.press("Enter")
    here.transfer("paste", EXAMPLES / "astronaut.jpg")
    page.get_by_role("button", name="From the camera").click()
    page.get_by_role("button", name="Take the picture").click()
    expect(here.tiles).to_have_count(3)
    here.choose(EXAMPLES / "coffee.jpg", EXAMPLES / "rocket.jpg")
    expect(page.get_by_role("alert").filter(has_text="“rocket.jpg” was left out")).to_be_visible()

    def names() -> list[str]:
        labels = here.tiles.evaluate_all("tiles => tiles.map((tile) => tile.getAttribute('aria-label'))")
        return [label.split(", ", 1)[1] for label in labels]

    assert names() == ["chelsea.jpg", "astronaut.jpg", "camera.jpg", "coffee.jpg"]
    expect(page.locator(".tile-facts").nth(1)).to_contain_text("512×512")
    page.get_by_role("button", name="Move earlier: picture 2, astronaut.jpg").press("Enter")
    assert names() == ["astronaut.jpg", "chelsea.jpg", "camera.jpg", "coffee.jpg"]
    here.tiles.nth(3).drag_to(here.tiles.nth(1))
    assert names() == ["astronaut.jpg", "coffee.jpg", "chelsea.jpg", "camera.jpg"]
    page.get_by_role("button", name="Remove: picture 3, chelsea.jpg").press("Enter")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Replace: picture 3, camera.jpg").press("Enter")
    chooser.value.set_files(EXAMPLES / "rocket.jpg")
    here.wait_for_uploads()
    assert names() == ["astronaut.jpg", "coffee.jpg", "rocket.jpg"]
    note = tmp_path / "notes.txt"
    note.write_text("words")
    here.choose(note)
    expect(page.get_by_role("alert").filter(has_text="notes.txt is not a picture.")).to_be_visible()


def test_what_is_seen_in_the_pictures_is_drawn_and_told(
    running: Installation, visit: Callable[..., Visit], tmp_path: Path
) -> None:
    turned, clear = tmp_path / "turned.jpg", tmp_path / "clear.png"
    with Image.open(EXAMPLES / "rocket.jpg") as picture:
        exif = Image.Exif()
        exif[0x0112] = 6  # stored lying on its side
        picture.transpose(Image.Transpose.ROTATE_90).save(turned, exif=exif)
        picture.convert("RGBA").crop((0, 0, 200, 200)).resize((100, 100)).save(clear)
        with Image.open(clear) as cut:
            cut.putalpha(cut.split()[0])
            cut.save(clear)
    here = visit(running, previews=False)
    page = here.page
    here.choose(EXAMPLES / "astronaut.jpg", turned, clear)
    here.prompt.fill("@1 waves")
    page.get_by_text("What is seen in them").click(timeout=RENDER_MS)
    told = page.get_by_role("list", name="What is seen in the pictures").get_by_role("listitem")
    first = re.compile(
        r"@1 Person · subject fills \d\d % · one face · sharp \(0\.\d\d\) · opaque · upright · 16:9 adds 44 % bars"
    )
    expect(told.nth(0)).to_contain_text(first, timeout=RENDER_MS)
    expect(told.nth(0)).to_contain_text("In a 16:9 frame, white bars take 44%")
    expect(told.nth(1)).to_contain_text(re.compile("no face .+ opaque · turned upright"))
    expect(told.nth(2)).to_contain_text("partly transparent")
    expect(page.get_by_text("The prompt does not seem to mention image 2")).to_be_visible()

    def box(selector: str) -> tuple[float, float, float, float]:
        found = page.locator(selector).first.evaluate("node => Object.values(node.getBoundingClientRect().toJSON())")
        return tuple(float(side) for side in found[:4])  # type: ignore[return-value]

    # On the thumbnail lies the window that a crop leaves: in the shape, and inside the picture.
    for shape, ratio in (("16:9", 16 / 9), ("9:16", 9 / 16)):
        page.get_by_role("radio", name=shape).check()
        expect(told.nth(0)).to_contain_text(f"{shape} adds 44 % bars")
        page.wait_for_function("() => !document.getAnimations().length")
        x, y, width, height = box(".crop > span")
        assert width / height == pytest.approx(ratio, rel=0.02)
        left, top, across, down = box(".tile-picture")
        assert left - 1 <= x <= x + width <= left + across + 1
        assert top - 1 <= y <= y + height <= top + down + 1
        _, _, across, down = box(".padded")
        assert across / down == pytest.approx(ratio, rel=0.02)
    page.get_by_role("radio", name="1:1").check()
    expect(told.nth(0)).not_to_contain_text("bars")
    expect(here.tiles.nth(0).locator(".crop")).to_have_count(0)
    expect(here.tiles.nth(1).locator(".crop")).to_have_count(1)


def test_the_form_is_the_models_and_what_is_wrong_is_said(
    running: Installation, visit: Callable[..., Visit], tmp_path: Path
) -> None:
    here = visit(running, previews=False)
    page = here.page
    here.run()
    expect(page.get_by_role("alert").filter(has_text="Add a picture first")).to_be_visible()
    broken = tmp_path / "broken.jpg"
    broken.write_bytes((EXAMPLES / "coffee.jpg").read_bytes()[:3000])
    here.choose(EXAMPLES / "astronaut.jpg", broken)
    here.run()
    expect(page.get_by_role("alert").filter(has_text="Write a prompt")).to_be_visible()
    expect(here.prompt).to_be_focused()
    page.get_by_role("button", name="orbit", exact=True).click()
    page.get_by_role("button", name="at night", exact=True).click()
    expect(here.prompt).to_have_value("orbit, at night")

    page.get_by_label("Duration").press("ArrowRight")
    expect(page.locator("#price")).to_have_text("$0.24")
    page.get_by_role("radio", name="Animatic free").check()
    expect(page.locator("#price")).to_have_text("Free")
    page.get_by_label("Seed", exact=True).fill("-3")
    here.run()
    expect(page.get_by_role("alert").filter(has_text="The seed has to be a whole number")).to_be_visible()
    page.get_by_role("button", name="Throw the dice").click()
    expect(page.get_by_label("Seed", exact=True)).to_have_value(re.compile(r"^\d+$"))
    page.get_by_role("button", name="Keep the seed").click()
    expect(page.get_by_label("Seed", exact=True)).to_have_value("")

    here.run()
    fault = here.stage.get_by_role("alert")
    expect(fault).to_have_text(re.compile(r"^Image 2 \(upload\): .+\.$"), timeout=RENDER_MS)
