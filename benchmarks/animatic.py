"""How fast the animatic is: seconds for each stage and the ratio to real time, for 1 to 4 references and three shapes.

Run `python benchmarks/animatic.py [seconds of video, 5 unless given]`. Everything happens in this one process: seeing,
composing, filming (on a thread) and encoding to a real file, as a worker does it.
"""

from __future__ import annotations

import sys

sys.path[0] = sys.path[0].removesuffix("benchmarks")  # where a `platform` lies that is not the standard library's

import resource
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from mutoscope.engines import Image, Step
from mutoscope.engines.animatic import Animatic
from mutoscope.tasks import SIZES, VideoRequest
from mutoscope.video import Mp4Writer

EXAMPLES = Path(__file__).parents[1] / "examples"
REFERENCES = ("astronaut", "rocket", "coffee", "chelsea")
PROMPTS = {
    "plain": "slow push in",
    "product": "product shot, the camera orbits, light sweep",
    "weather": "night, snow, fog, handheld camera",
}


def measure(prompt: str, images: list[Image], shape: str, duration: int) -> dict[str, float]:
    """Wall seconds of each stage; "waiting" is the time in which the encoder had no frame to work on."""
    request = VideoRequest(prompt, ("reference",) * len(images), shape, duration, 1)  # type: ignore[arg-type]
    engine = Animatic()
    spent: dict[str, float] = defaultdict(float)
    begun = last = time.perf_counter()
    named = {"looking at the references": "seeing", "composing": "composing", "rendering": "waiting"}
    stage = "composing"
    with tempfile.TemporaryDirectory() as folder, Mp4Writer(Path(folder) / "video.mp4", request.size, {}) as writer:
        for part in engine.generate(request, images):
            now = time.perf_counter()
            spent[stage] += now - last
            last = now
            if isinstance(part, Step):
                stage = named[part.stage.partition(",")[0]]
            else:
                writer.add(part.pixels)
                last = time.perf_counter()
                spent["encoding"] += last - now
    spent["all"] = time.perf_counter() - begun
    return spent


def main() -> None:
    """Print the table."""
    duration = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    images = [Image(np.asarray(PillowImage.open(EXAMPLES / f"{name}.jpg").convert("RGB"))) for name in REFERENCES]
    measure("", images[:1], "1:1", 1)  # loads the networks, which a worker does once
    stages = ("seeing", "composing", "waiting", "encoding", "all")
    print(f"{'references':>10} {'shape':>5} {'prompt':>8}", *(f"{stage:>10}" for stage in stages), "  x realtime")
    for count, shape, prompt in [
        *((count, shape, "plain") for count in range(1, 5) for shape in SIZES["720p"]),
        (1, "16:9", "product"),
        (2, "16:9", "weather"),
    ]:
        chosen = images[2:3] if prompt == "product" else images[:count]
        spent = measure(PROMPTS[prompt], chosen, shape, duration)
        seconds = " ".join(f"{spent[stage]:10.2f}" for stage in stages)
        print(f"{count:>10} {shape:>5} {prompt:>8} {seconds}   {duration / spent['all']:10.2f}", flush=True)
    print(f"peak resident memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
