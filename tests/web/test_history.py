"""The history of a key with ten thousand takes."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import expect

from tests.installation import EXAMPLES, SKYREELS, Installation
from tests.web.conftest import Visit

pytestmark = pytest.mark.slow

_MANY = 10_000


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A server without workers whose key has ten thousand canceled takes, and one that waits."""
    server = Installation(tmp_path_factory.mktemp("full") / "home", workers=0).start()
    image = server.upload(EXAMPLES / "coffee.jpg")
    first = server.submit(prompt="take 0", images=[image])
    server.http.delete(f"/api/v3/predictions/{first['id']}")
    with contextlib.closing(sqlite3.connect(server.home / "mutoscope.db")) as database:
        names = [row[1] for row in database.execute("PRAGMA table_info(tasks)") if row[1] != "seq"]
        values = {
            "id": "printf('%032x', n)",
            "created_at": "created_at - n",
            "request": "json_set(request, '$.prompt', 'take ' || n)",
            "prompt": "'take ' || n",
        }
        columns = ", ".join(names)
        copied = ", ".join(values.get(name, name) for name in names)
        with database:
            database.execute(
                f"WITH RECURSIVE counted(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < {_MANY - 1}) "
                f"INSERT INTO tasks ({columns}) SELECT {copied} FROM tasks, counted WHERE id = ?",
                [first["id"]],
            )
    server.submit(prompt="the one that waits", images=[image], model=SKYREELS)
    yield server
    server.close()


def test_ten_thousand_takes_scroll_like_ten(full: Installation, visit: Callable[..., Visit]) -> None:
    here = visit(full, "/#/history", previews=False)
    page = here.page
    expect(page.get_by_text(f"{_MANY + 1:,} takes")).to_be_visible()
    shelf = page.get_by_role("region", name="Takes")
    expect(shelf.get_by_role("button", name="Waiting: the one that waits")).to_be_visible()
    assert shelf.get_by_role("listitem").count() < 80, "only what is in sight is drawn"

    usual = page.evaluate(
        """async () => {
          const shelf = document.querySelector(".shelf");
          const times = [];
          for (let step = 1; step <= 60; step += 1) {
            const begun = performance.now();
            shelf.scrollTop = (shelf.scrollHeight * step) / 60;
            await new Promise(requestAnimationFrame);
            await new Promise(requestAnimationFrame);
            times.push(performance.now() - begun);
          }
          return times.sort((one, other) => one - other)[30];
        }"""
    )
    assert usual < 400, f"a step of scrolling takes {usual} ms"
    expect(shelf.get_by_role("button", name=f"Canceled: take {_MANY - 1}")).to_be_visible()
    assert shelf.get_by_role("listitem").count() < 80

    page.get_by_role("searchbox").fill("take 4321")
    expect(page.get_by_text("1 take", exact=True)).to_be_visible()
    shelf.get_by_role("button", name="Favourite: take 4321").press("Enter")
    page.get_by_role("searchbox").fill("")
    page.get_by_role("button", name="Favourites").click()
    expect(page.get_by_text("1 take", exact=True)).to_be_visible()
    page.get_by_role("button", name="Favourites").click()
    page.get_by_label("State").select_option("created")
    expect(page.get_by_text("1 take", exact=True)).to_be_visible()
    page.get_by_label("State").select_option("cancelled")
    expect(page.get_by_text(f"{_MANY:,} takes")).to_be_visible()

    page.once("dialog", lambda dialog: dialog.accept())
    for name in ("Choose: take 1", "Choose: take 2"):
        shelf.get_by_role("checkbox", name=name, exact=True).check(force=True)
    page.get_by_role("toolbar").get_by_role("button", name="Delete").click()
    expect(page.get_by_text(f"{_MANY - 2:,} takes")).to_be_visible()
    page.get_by_role("searchbox").fill("no such take")
    expect(page.get_by_text("No take fits. Ask for less.")).to_be_visible()


def test_up_to_four_takes_are_compared_in_step(running: Installation, image: str, visit: Callable[..., Visit]) -> None:
    shapes = {
        "First, static": "1:1",
        "Second, pan left": "16:9",
        "Third, pull out": "9:16",
        "Fourth": "16:9",
        "Fifth": "1:1",
    }
    made = [
        running.submit(prompt=prompt, images=[image], aspect_ratio=shape, resolution="480p")
        for prompt, shape in shapes.items()
    ]
    for each in made:
        assert running.wait(each["id"])["status"] == "completed"
    here = visit(running, "/#/history", previews=False)
    page = here.page
    compare = page.get_by_role("toolbar").get_by_role("button", name="Compare")
    for prompt in shapes:
        page.get_by_role("checkbox", name=f"Choose: {prompt}").check(force=True)
    expect(compare).to_be_disabled()  # five are too many
    page.get_by_role("checkbox", name="Choose: Fifth").uncheck(force=True)
    compare.click()
    here.wait_for_state("compare")
    videos = page.locator("video")
    expect(videos).to_have_count(4)
    for number in range(4):
        here.assert_plays(number)
    times = videos.evaluate_all("videos => videos.map((video) => video.currentTime)")
    assert max(times) - min(times) < 0.25
    here.screenshot("compare-1280-dark")
