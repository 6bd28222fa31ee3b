"""How long a person waits, from the last keystroke to a free preview that plays: a real server, Debian's Chromium.

    python benchmarks/preview.py [--times 9]

Two of the example pictures, a prompt, 5 s at the preview's size. Each time something is typed the wait begins anew;
it ends when a video that was not there before has drawn a frame and its time moves.
"""

from __future__ import annotations

import sys

sys.path[0] = sys.path[0].removesuffix("benchmarks")  # where a `platform` lies that is not the standard library's

import argparse
import json
import os
import shutil
import statistics
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright
from tests.installation import EXAMPLES, Installation

PROMPT = "She stands before the rocket, slow push in"
ENDINGS = ["at night", "in the snow", "warm light", "handheld", "pan left", "pull out", "tilt up", "orbit", "dust"]

# The moment of the last key, and of the first frame of a video with another address whose time moves.
WATCH = """() => {
  const shown = document.querySelector("video")?.currentSrc ?? "";
  addEventListener("keydown", () => (window.typed = performance.now()), { capture: true });
  window.waited = new Promise((tell) => {
    const look = () => {
      const video = document.querySelector("video");
      const plays = video && video.currentSrc !== shown && video.readyState >= 2 && video.currentTime > 0;
      return plays ? tell(performance.now() - window.typed) : requestAnimationFrame(look);
    };
    look();
  });
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=9)
    times: int = parser.parse_args().times
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        server = Installation(Path(folder) / "home", sandbox=True).start()
        try:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--headless", "--no-sandbox", "--disable-gpu"]
            )
            waits = measure(browser, server, times)
        finally:
            server.close()
    waits.sort()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end, {times} times")
    median = statistics.median(waits)
    print(f"last key to a playing preview: median {median:.2f} s, {waits[0]:.2f} to {waits[-1]:.2f} s")


def measure(browser: Browser, server: Installation, times: int) -> list[float]:
    """Seconds of each wait."""
    page = open_page(browser, server)
    prompt = page.get_by_label("Prompt", exact=True)
    prompt.fill(PROMPT)
    expect(page.get_by_text("A free animatic of this shot")).to_be_visible(timeout=60_000)
    waits = []
    for number in range(times):
        prompt.fill(f"{PROMPT} {number}, ")
        page.evaluate(WATCH)
        prompt.press_sequentially(ENDINGS[number % len(ENDINGS)], delay=60)
        waits.append(page.evaluate("window.waited") / 1000)
    return waits


def open_page(browser: Browser, server: Installation) -> Page:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.add_init_script(f"localStorage.setItem('mutoscope.key', {json.dumps(json.dumps(server.key))})")
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto(server.url + "/")
    page.locator("input[type=file]").set_input_files([EXAMPLES / "astronaut.jpg", EXAMPLES / "rocket.jpg"])
    expect(page.locator(".tile[data-state=ready]")).to_have_count(2)
    return page


if __name__ == "__main__":
    main()
