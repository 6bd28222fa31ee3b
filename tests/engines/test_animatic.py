"""The animatic as its callers see it: frames, from real pictures, through real networks."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage

from mutoscope.config import load_settings
from mutoscope.engines import Frames, Image, Pixels, Step
from mutoscope.engines.animatic import Animatic
from mutoscope.engines.animatic.cutout import Box, Cutout, Edge
from mutoscope.engines.animatic.direction import Moves
from mutoscope.engines.animatic.filming.framing import Wish, frame
from mutoscope.engines.animatic.filming.ground import rest_of
from mutoscope.engines.animatic.filming.lens import Lens, carry
from mutoscope.engines.animatic.filming.path import lay_path
from mutoscope.engines.animatic.seeing import see
from mutoscope.opening import open_engine
from mutoscope.tasks import SIZES, Shape, VideoRequest

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name: str) -> Image:
    return Image(np.asarray(PillowImage.open(EXAMPLES / f"{name}.jpg").convert("RGB")))


def request_for(prompt: str, images: Sequence[Image], shape: Shape, duration: int, seed: int) -> VideoRequest:
    return VideoRequest(prompt, ("reference",) * len(images), shape, duration, seed)


def film(
    prompt: str,
    *images: Image,
    shape: Shape = "16:9",
    duration: int = 1,
    seed: int = 1,
    keep: Sequence[int] | None = None,
) -> list[Pixels]:
    """The frames numbered in `keep` (all if None) of a render."""
    request = request_for(prompt, images, shape, duration, seed)
    kept: list[Pixels] = []
    number = 0
    for part in Animatic().generate(request, images):
        if isinstance(part, Frames):
            for pixels in part.pixels:
                if keep is None or number in keep:
                    kept.append(pixels.copy())
                number += 1
    assert number == request.num_frames
    return kept


def ends(prompt: str, *images: Image, shape: Shape = "16:9", duration: int = 2) -> tuple[Pixels, Pixels]:
    first, last = film(prompt, *images, shape=shape, duration=duration, keep=(0, 24 * duration))
    return first, last


def disc(colour: tuple[int, int, int], width: int = 300, height: int = 300) -> Image:
    """A caller's own cut-out: an ellipse of one colour on nothing."""
    pixels = np.zeros((height, width, 4), np.uint8)
    centre, radii = (width // 2, height // 2), (width // 2 - 12, height // 2 - 12)
    cv2.ellipse(pixels, centre, radii, 0, 0, 360, (*colour, 255), -1, cv2.LINE_AA)
    return Image(pixels)


def similarity(before: Pixels, after: Pixels) -> tuple[float, float, float]:
    """How a picture moved, by its own details: scale, and the shift of the frame's middle in pixels."""
    orb = cv2.ORB.create(3000, fastThreshold=8)
    key_a, des_a = orb.detectAndCompute(cv2.cvtColor(before, cv2.COLOR_RGB2GRAY), None)
    key_b, des_b = orb.detectAndCompute(cv2.cvtColor(after, cv2.COLOR_RGB2GRAY), None)
    matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(des_a, des_b)
    found, _ = cv2.estimateAffinePartial2D(
        np.array([key_a[m.queryIdx].pt for m in matches]), np.array([key_b[m.trainIdx].pt for m in matches])
    )
    middle = np.array([before.shape[1] / 2, before.shape[0] / 2])
    moved = found[:, :2] @ middle + found[:, 2] - middle
    return float(np.hypot(found[0, 0], found[1, 0])), float(moved[0]), float(moved[1])


def test_it_is_called_an_animatic_and_opens_by_that_name() -> None:
    assert open_engine("animatic", load_settings()).name == "animatic"


@pytest.mark.parametrize("shape", ["16:9", "9:16", "1:1"])
def test_it_yields_the_frames_of_the_shape_in_order_of_progress(shape: Shape) -> None:
    images = [example("coffee")]
    request = request_for("", images, shape, 1, 0)
    width, height = SIZES["720p"][shape]
    count, progress = 0, -1.0
    for part in Animatic().generate(request, images):
        assert isinstance(part, Step | Frames)
        assert progress <= part.progress <= 1
        progress = part.progress
        if isinstance(part, Frames):
            assert part.pixels.dtype == np.uint8
            assert part.pixels.shape[1:] == (height, width, 3)
            assert len(part.pixels) <= 8, "frames must be handed on a few at a time"
            count += len(part.pixels)
    assert count == request.num_frames == 25
    assert progress == pytest.approx(1)


def test_the_same_request_gives_the_same_bytes_and_another_seed_does_not() -> None:
    images = (example("astronaut"), example("rocket"))
    prompt = "handheld, snow, fog, embers"
    once = np.stack(film(prompt, *images, seed=3))
    again = np.stack(film(prompt, *images, seed=3))
    other = np.stack(film(prompt, *images, seed=4))
    assert once.tobytes() == again.tobytes()
    assert once.tobytes() != other.tobytes()


def test_what_was_seen_is_kept_for_its_sender_alone_and_changes_no_frame() -> None:
    engine, images = Animatic(), (example("astronaut"), example("rocket"))

    def ask(prompt: str, scope: str) -> tuple[float, bytes]:
        """Seconds of looking at the references, and the first frames."""
        work = engine.generate(request_for(prompt, images, "16:9", 5, 3), images, scope)
        begun, seconds = time.perf_counter(), 0.0
        for part in work:
            if isinstance(part, Frames):
                frames = part.pixels.tobytes()
                work.close()
                return seconds, frames
            if part.stage == "composing":
                seconds = time.perf_counter() - begun
        raise AssertionError("no frames")

    first, _ = ask("slow push in", "a")
    again, frames = ask("orbit, snow", "a")
    others, same = ask("orbit, snow", "b")
    assert frames == same
    assert again < first / 3
    assert others > again * 2


@pytest.mark.parametrize(("prompt", "sign"), [("pan left", 1), ("pan right", -1), ("truck left", 1)])
def test_the_view_goes_where_it_is_sent(prompt: str, sign: int) -> None:
    _, across, down = similarity(*ends(prompt, example("rocket")))
    assert across * sign > 40
    assert abs(down) < 25


@pytest.mark.parametrize(("prompt", "sign"), [("tilt up", 1), ("crane down", -1)])
def test_a_view_raised_lowers_what_it_shows(prompt: str, sign: int) -> None:
    _, across, down = similarity(*ends(prompt, example("rocket")))
    assert down * sign > 15
    assert abs(across) < 25


def test_push_in_and_zoom_in_enlarge_and_pull_out_shrinks() -> None:
    for prompt, larger in (("push in", True), ("zoom in", True), ("pull out", False)):
        scale, _, _ = similarity(*ends(prompt, example("rocket")))
        assert (scale > 1.05) if larger else (scale < 0.95), prompt


def test_fast_moves_further_than_slow() -> None:
    _, slow, _ = similarity(*ends("slow pan left", example("rocket")))
    _, fast, _ = similarity(*ends("fast pan left", example("rocket")))
    assert fast > 1.5 * slow


def test_a_static_camera_leaves_the_background_still() -> None:
    first, last = ends("static shot", example("rocket"))
    assert np.array_equal(first, last)
    first, last = ends("no camera movement", example("astronaut"))
    corner = np.s_[:200, :200]
    assert np.array_equal(first[corner], last[corner])


def test_motion_has_no_jerks() -> None:
    frames = film("pan left", example("rocket"), duration=2)
    grey = [cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32) for pixels in frames]
    window = cv2.createHanningWindow(grey[0].shape[::-1], cv2.CV_32F)
    steps = [cv2.phaseCorrelate(a, b, window)[0][0] for a, b in pairwise(grey)]
    assert max(steps) > 2
    assert max(abs(b - a) for a, b in pairwise(steps)) < 1.2


def test_slow_motion_does_not_shimmer() -> None:
    frames = film("slow push in", example("rocket"), duration=3)
    grey = [cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[100:620, 300:980] for pixels in frames]
    sharpness = np.array([cv2.Laplacian(picture, cv2.CV_32F).var() for picture in grey])
    smooth = np.convolve(sharpness, np.ones(5) / 5, "valid")
    assert np.abs(sharpness[2:-2] - smooth).max() < 0.02 * sharpness.mean()


@pytest.mark.parametrize("shape", ["16:9", "9:16", "1:1"])
def test_a_face_keeps_its_headroom_to_the_end_of_a_push_in(shape: Shape) -> None:
    first, last = ends("fast push in on her face", example("astronaut"), shape=shape, duration=5)
    for pixels in (first, last):
        face = see(Image(pixels)).faces[0]
        # Hair reaches about half a face above the detector's box.
        assert face.y0 > 0.3 * face.height
        assert face.x0 > 0
        assert face.x1 < pixels.shape[1]


@pytest.mark.parametrize("prompt", ["", "fast push in", "fast truck right", "orbit", "handheld", "product shot"])
def test_a_wide_thing_is_fitted_into_a_tall_frame(prompt: str) -> None:
    for pixels in film(prompt, disc((210, 20, 30), 700, 180), shape="9:16", duration=2, keep=(0, 24, 48)):
        red = (pixels[..., 0].astype(int) - pixels[..., 1] > 80).any(axis=0)
        columns = np.flatnonzero(red)
        assert columns[0] > 0
        assert columns[-1] < pixels.shape[1] - 1
        assert columns[-1] - columns[0] > 0.5 * pixels.shape[1]


CASES: list[tuple[Box, frozenset[Edge]]] = [
    (Box(100, 40, 300, 400), frozenset({"bottom"})),
    (Box(100, 40, 300, 360), frozenset()),
    (Box(0, 150, 500, 250), frozenset({"left"})),
    (Box(20, 150, 480, 250), frozenset()),
    (Box(0, 30, 400, 400), frozenset({"left", "bottom"})),
]


@pytest.mark.parametrize("shape", ["16:9", "9:16", "1:1"])
@pytest.mark.parametrize(("box", "cropped"), CASES)
@pytest.mark.parametrize(
    "moves",
    [
        Moves(push=1.6),
        Moves(zoom=-1.6),
        Moves(pan=1),
        Moves(crane=1),
        Moves(orbit=1, push=0.5),
        Moves(roll=1, handheld=1),
    ],
)
def test_whole_sides_stay_inside_and_cut_sides_outside_all_along(
    shape: Shape, box: Box, cropped: frozenset[Edge], moves: Moves
) -> None:
    rgb = np.zeros((400, 500, 3), np.uint8)
    subject = np.zeros((400, 500, 4), np.uint8)
    subject[box.y0 : box.y1, box.x0 : box.x1, 3] = 255
    cutout = Cutout("object", rgb, subject, box, rgb, (), cropped, transparent=False)
    lens = Lens(*SIZES["720p"][shape])
    scale = max(lens.width / 500, lens.height / 400)
    wish = Wish(scale, lens.width / 2, lens.height / 2, 20, 20)
    framed = frame(cutout, wish, lens, lay_path(lens, moves, 5, 0))
    assert not framed.faded
    x0, y0, x1, y1 = framed.place.box(box)
    corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float32)
    for moment in range(40):
        seen = carry(lens.project(framed.path.at(moment / 39), 0), corners)
        inside = {
            "left": seen[:, 0].min() > 0,
            "top": seen[:, 1].min() > 0,
            "right": seen[:, 0].max() < lens.width,
            "bottom": seen[:, 1].max() < lens.height,
        }
        assert {edge for edge, is_inside in inside.items() if not is_inside} == cropped


def test_each_of_four_references_is_in_the_video() -> None:
    discs = [disc(colour) for colour in ((220, 30, 30), (30, 170, 40), (40, 60, 220), (230, 200, 30))]
    frames = film("", *discs, keep=(0, 12, 24))
    for image in discs:
        colour = image.pixels[150, 150, :3].astype(int)
        share = max((np.abs(pixels.astype(int) - colour).sum(axis=2) < 120).mean() for pixels in frames)
        assert share > 0.02, f"nothing of {colour} to be seen"


def test_scenes_that_cannot_share_a_frame_follow_one_another_and_never_through_black() -> None:
    tints = ((200, 120, 90), (90, 190, 110), (90, 120, 210), (200, 180, 80))
    scenes = []
    for index, tint in enumerate(tints):
        noise = np.random.default_rng(index).normal(0, 1, (400, 600)).astype(np.float32)
        hills = cv2.GaussianBlur(noise, (0, 0), 9) * 300
        scenes.append(Image(np.clip(np.array(tint) + hills[..., None], 0, 255).astype(np.uint8)))
    frames = film("", *scenes, duration=2)
    means = np.array([pixels.reshape(-1, 3).mean(axis=0) for pixels in frames])
    for tint in tints:
        hue = np.array(tint) / np.linalg.norm(tint)
        assert (means @ hue / np.linalg.norm(means, axis=1)).max() > 0.99
    assert means.mean(axis=1).min() > 0.8 * min(np.mean(tint) for tint in tints)


def test_four_photographs_all_appear_and_no_frame_is_dark() -> None:
    names = ("astronaut", "coffee", "chelsea", "rocket")
    frames = film("four friends", *(example(name) for name in names), duration=4)
    assert min(pixels.mean() for pixels in frames) > 25
    sift = cv2.SIFT.create(1500)
    matcher = cv2.BFMatcher()
    shown = [sift.detectAndCompute(cv2.cvtColor(frames[at], cv2.COLOR_RGB2GRAY), None)[1] for at in (10, 30, 66, 86)]
    for name in names:
        _, known = sift.detectAndCompute(cv2.cvtColor(example(name).pixels, cv2.COLOR_RGB2GRAY), None)
        hits = [
            sum(a.distance < 0.7 * b.distance for a, b in matcher.knnMatch(known, features, k=2)) for features in shown
        ]
        assert max(hits) > 20, f"{name} is not recognisable in any frame"


def test_a_product_moves_and_stands_on_something_soft() -> None:
    first, last = ends("product shot of a coffee cup", example("coffee"))
    assert np.abs(first.astype(int) - last).mean() > 3
    # No hard line runs across the backdrop: its rows change gently.
    rows = cv2.GaussianBlur(first[:, 20:120], (0, 0), 2).mean(axis=(1, 2))
    assert np.abs(np.diff(rows)).max() < 2


def test_a_saucer_is_known_to_be_seen_from_above_and_a_bottle_is_not() -> None:
    saucer = np.zeros((300, 400), np.uint8)
    cv2.ellipse(saucer, (200, 150), (180, 130), 0, 0, 360, 255, -1)
    bottle = np.zeros((400, 300), np.uint8)
    cv2.rectangle(bottle, (100, 120), (200, 390), 255, -1)
    cv2.rectangle(bottle, (130, 10), (170, 130), 255, -1)
    assert rest_of(saucer).from_above
    assert not rest_of(bottle).from_above


@pytest.mark.parametrize("size", [(1, 1), (6, 9), (64, 64), (1200, 40), (40, 1200)])
def test_pictures_of_any_size_fill_every_shape(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(90, 220, (*size, 3), dtype=np.uint8)
    for shape in SIZES["720p"]:
        for frame_seen in film("", Image(pixels), shape=shape, keep=(0, 24)):
            edges = (frame_seen[0], frame_seen[-1], frame_seen[:, 0], frame_seen[:, -1])
            assert min(edge.mean() for edge in edges) > 30, "a black bar"


@pytest.mark.parametrize(
    "prompt", ["雪の中の猫、カメラは左へ", "قطة في الثلج", "🎬" * 100, "\x00\n\t", "камера медленно приближается"]
)
def test_prompts_in_any_language_are_filmed(prompt: str) -> None:
    assert len(film(prompt, disc((40, 60, 220)))) == 25


def test_closing_the_generator_ends_its_work() -> None:
    images = [example("rocket")]
    frames = Animatic().generate(request_for("", images, "16:9", 30, 0), images)
    while not isinstance(next(frames), Frames):
        pass
    assert any(thread.name.startswith("filming") for thread in threading.enumerate())
    frames.close()  # type: ignore[attr-defined]
    assert not any(thread.name.startswith("filming") for thread in threading.enumerate())


_PEAK = """
import sys
import numpy as np
from PIL import Image as PillowImage
from mutoscope.engines import Image
from mutoscope.engines.animatic import Animatic
from mutoscope.tasks import VideoRequest
images = [Image(np.asarray(PillowImage.open(path).convert("RGB"))) for path in sys.argv[2:]]
request = VideoRequest("push in, snow", ("r",) * len(images), "16:9", int(sys.argv[1]), 0)
for _ in Animatic().generate(request, images):
    pass
# Not ru_maxrss: a process inherits that from the one that started it.
print(int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_clip() -> None:
    def peak(duration: int) -> float:
        paths = [str(EXAMPLES / f"{name}.jpg") for name in ("astronaut", "rocket")]
        ran = subprocess.run(
            [sys.executable, "-c", _PEAK, str(duration), *paths], check=True, capture_output=True, text=True
        )
        return float(json.loads(ran.stdout))

    short, long = peak(5), peak(10)
    assert long < 1.15 * short
    assert long < 1024
