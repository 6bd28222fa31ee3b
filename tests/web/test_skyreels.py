"""What a person sees while SkyReels-V3 itself renders, with the tiny checkpoint: frames of the video as they arrive."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.installation import EXAMPLES, SKYREELS, Installation
from tests.test_skyreels import CHECKPOINT
from tests.web.conftest import RENDER_MS, Visit

pytestmark = pytest.mark.slow


# The take was started by a program and opened from the history: it is followed all the same.
def test_frames_of_the_video_are_leafed_through_as_they_arrive(
    install: Callable[..., Installation], visit: Callable[..., Visit]
) -> None:
    server = install(
        sandbox=False, workers=0, skyreels_weights=CHECKPOINT, skyreels_precision="float32", skyreels_steps=2
    )
    server.start()
    image = server.upload(EXAMPLES / "astronaut.jpg")
    task = server.submit(SKYREELS, prompt="She smiles", images=[image], aspect_ratio="1:1", resolution="480p")
    server.stop()
    with contextlib.closing(sqlite3.connect(server.home / "mutoscope.db")) as database, database:
        # A second: what the contract allows, 5 s at the least, takes minutes without a GPU.
        database.execute("UPDATE tasks SET request = json_set(request, '$.duration', 1) WHERE id = ?", [task["id"]])
    server.workers = 1
    here = visit(server.start(), "/#/history", previews=False)
    here.page.locator(".take-open").click()

    picture = here.stage.get_by_role("img", name="Frames of the video as they arrive")
    expect(picture).to_be_visible(timeout=RENDER_MS)
    first, middle, last = 0, 1, 2
    assert picture.evaluate("image => image.naturalWidth / image.naturalHeight") == last + 1
    assert picture.evaluate("image => image.style.getPropertyValue('--frames')") == "3"
    stage = here.stage.locator(".frame.is-making").bounding_box()
    assert stage is not None
    seen = set()
    for _ in range(60):
        box = picture.bounding_box()
        assert box is not None
        seen.add(round((stage["x"] - box["x"]) / stage["width"]))
        here.page.wait_for_timeout(50)
    assert seen == {first, middle, last}, "each fills the stage in its turn"
    here.screenshot("skyreels-arriving-1280-dark")
    here.stage.get_by_role("button", name="Cancel").click()
    here.wait_for_state("failed")
    expect(here.stage.get_by_role("status")).to_have_text("Canceled.")
