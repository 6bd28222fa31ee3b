"""Preflight: what is seen in references, what is advised, and that no reference harms or stalls whoever asks."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from mutoscope.engines import Image as Pixels
from mutoscope.engines.animatic.seeing import see
from mutoscope.inspection import BusyError, Inspector
from mutoscope.inspection.looker import Looker, LookError
from mutoscope.inspection.mentions import mentioned
from mutoscope.references import Limits
from tests.installation import EXAMPLES, Installation
from tests.references.craft import exif


def photo(name: str) -> Image.Image:
    return Image.open(EXAMPLES / f"{name}.jpg").convert("RGB")


def save(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def disc(size: tuple[int, int], centre: tuple[int, int], radius: int, ground: str = "#c8c8d0") -> Image.Image:
    """A red disc before a plain wall."""
    image = Image.new("RGB", size, ground)
    x, y = centre
    ImageDraw.Draw(image).ellipse((x - radius, y - radius, x + radius, y + radius), fill="#b02818")
    return image


Inspect = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def inspect() -> Iterator[Inspect]:
    """Inspects files' bytes."""
    files: dict[str, bytes] = {}
    inspector = Inspector(Limits(), files.get)

    def ask(*pictures: bytes | Image.Image, prompt: str = "", shape: Any = "16:9") -> dict[str, Any]:
        for number, picture in enumerate(pictures, 1):
            files[f"https://h/{number}"] = picture if isinstance(picture, bytes) else save(picture)
        report = inspector.inspect([f"https://h/{n}" for n in range(1, len(pictures) + 1)], prompt, shape).show()
        found: dict[str, Any] = json.loads(json.dumps(report))
        return found

    yield ask
    inspector.close()


def only(report: dict[str, Any]) -> dict[str, Any]:
    (found,) = report["images"]
    assert isinstance(found, dict)
    return found


def codes(found: dict[str, Any]) -> list[str]:
    return [advice["code"] for advice in found["advice"]]


# What is seen


@pytest.mark.parametrize(
    ("name", "kind", "faces", "coverage"),
    [("astronaut", "person", 1, 0.53), ("chelsea", "animal", 1, 0.76), ("rocket", "scene", 0, 0.0)],
)
def test_the_examples_are_seen_as_what_they_are(
    inspect: Inspect, name: str, kind: str, faces: int, coverage: float
) -> None:
    found = only(inspect((EXAMPLES / f"{name}.jpg").read_bytes()))
    with Image.open(EXAMPLES / f"{name}.jpg") as image:
        assert (found["width"], found["height"]) == image.size
    assert (found["kind"], len(found["faces"]), found["format"], found["error"]) == (kind, faces, "JPEG", "")
    assert found["coverage"] == pytest.approx(coverage, abs=0.2)
    assert (found["subject"] is None) == (kind == "scene")
    assert found["bytes"] == (EXAMPLES / f"{name}.jpg").stat().st_size
    assert not {"blurred", "turned", "transparent", "faces"} & set(codes(found))


def test_a_persons_face_is_not_taken_for_an_animals_however_close(inspect: Inspect) -> None:
    for box in ((170, 60, 290, 180), (183, 78, 270, 165)):
        found = only(inspect(photo("astronaut").crop(box).resize((480, 480), Image.Resampling.BICUBIC)))
        assert found["kind"] == "face", box


def test_a_thing_before_a_plain_wall_is_a_product_where_it_stands(inspect: Inspect) -> None:
    found = only(inspect(disc((640, 480), (220, 240), 130)))
    assert found["kind"] == "product"
    assert found["subject"] == pytest.approx([90 / 640, 110 / 480, 260 / 640, 260 / 480], abs=0.02)
    assert found["coverage"] == pytest.approx(3.1416 * 130**2 / (640 * 480), abs=0.01)


def test_transparency_tells_the_subject(inspect: Inspect) -> None:
    image = disc((400, 300), (200, 150), 100).convert("RGBA")
    mask = Image.new("L", image.size)
    ImageDraw.Draw(mask).rectangle((100, 60, 299, 239), fill=255)
    image.putalpha(mask)
    found = only(inspect(image, shape="9:16"))
    assert found["has_alpha"]
    assert found["kind"] == "product"
    assert found["subject"] == pytest.approx([0.25, 0.2, 0.5, 0.6], abs=0.005)
    assert found["coverage"] == pytest.approx(0.3, abs=0.005)
    assert "transparent" in codes(found)
    assert "shape" not in codes(found)  # bars of the white that it lies on anyway are no bars


def test_exif_that_turns_a_picture_is_told(inspect: Inspect) -> None:
    found = only(inspect(save(photo("coffee"), "JPEG", exif=exif(6))))
    assert (found["width"], found["height"], found["orientation"]) == (400, 600, 6)
    assert "turned" in codes(found)


def test_blur_is_told_of_a_subject_and_not_of_its_background(inspect: Inspect) -> None:
    sharp = photo("astronaut")
    soft = sharp.filter(ImageFilter.GaussianBlur(4))
    subject = see(Pixels(np.asarray(sharp))).subject
    assert subject is not None
    person = Image.fromarray(subject[..., 3])
    portrait = Image.composite(sharp, soft, person)
    missed = Image.composite(soft, sharp, person)
    of_sharp, of_soft, of_portrait, of_missed = (only(inspect(image)) for image in (sharp, soft, portrait, missed))
    assert of_sharp["sharpness"] > 0.6 > 0.45 > of_soft["sharpness"]
    assert of_portrait["sharpness"] > 0.6
    assert "blurred" in codes(of_soft)
    assert "blurred" in codes(of_missed)
    assert "blurred" not in codes(of_sharp) + codes(of_portrait)


def test_a_flat_picture_is_a_scene_without_blur(inspect: Inspect) -> None:
    found = only(inspect(Image.new("RGB", (1280, 720), "#336699")))
    assert (found["kind"], found["sharpness"], codes(found)) == ("scene", 1.0, [])
    assert (found["crop"], found["pad"]) == (None, [0, 0, 1, 1])


def test_several_faces_and_a_small_one(inspect: Inspect) -> None:
    pair = Image.new("RGB", (1024, 512))
    for x in (0, 512):
        pair.paste(photo("astronaut"), (x, 0))
    found = only(inspect(pair))
    assert len(found["faces"]) == 2
    assert "faces" in codes(found)
    far = Image.new("RGB", (1600, 1600), "#667788")
    far.paste(photo("astronaut"), (500, 700))
    found = only(inspect(far, shape="16:9"))
    assert len(found["faces"]) == 1
    assert "small_face" in codes(found)
    assert "small_face" not in codes(only(inspect(photo("astronaut"))))


# The shape


def test_a_crop_keeps_the_subject_and_the_pad_is_the_models(inspect: Inspect) -> None:
    found = only(inspect(disc((1600, 800), (1300, 400), 200), shape="1:1"))
    assert found["pad"] == pytest.approx([0, 0.25, 1, 0.5])
    assert found["crop"] == pytest.approx([0.5, 0, 0.5, 1], abs=0.005)  # the subject's side, as far as there is one
    (shape,) = [advice for advice in found["advice"] if advice["code"] == "shape"]
    assert "1:1" in shape["message"]
    assert "50%" in shape["message"]
    assert "leaves the subject whole" in shape["message"]


def test_a_crop_that_would_cut_the_subject_says_so(inspect: Inspect) -> None:
    found = only(inspect(disc((1000, 1000), (500, 500), 450), shape="9:16"))
    assert found["crop"] == pytest.approx([0.21875, 0, 0.5625, 1], abs=0.01)
    (shape,) = [advice for advice in found["advice"] if advice["code"] == "shape"]
    assert "would cut into the subject" in shape["message"]


def test_a_crop_keeps_a_face_with_its_hair(inspect: Inspect) -> None:
    found = only(inspect(photo("astronaut"), shape="16:9"))
    _, top, _, height = found["crop"]
    (face,) = found["faces"]
    assert top < face[1] - 0.3 * face[3]
    assert face[1] + face[3] < top + height
    assert "the face is whole" in found["advice"][0]["message"]


def test_a_small_picture_is_told_by_how_much_it_is_enlarged(inspect: Inspect) -> None:
    found = only(inspect(photo("chelsea").resize((320, 180))))
    (small,) = [advice for advice in found["advice"] if advice["code"] == "small"]
    assert "4.0 times" in small["message"]
    assert "small" not in codes(only(inspect(photo("chelsea").resize((1280, 720)))))


# Together


def test_near_duplicates_are_found_and_others_are_not(inspect: Inspect) -> None:
    one = photo("coffee")
    again = save(ImageEnhance.Brightness(one.resize((420, 280))).enhance(1.06), "JPEG", quality=60)
    report = inspect(one, photo("rocket"), again, one.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    assert [(advice["code"], advice["images"]) for advice in report["advice"]] == [("near_duplicates", [1, 3])]
    plain = [disc((400, 400), (200, 200), 90, ground) for ground in ("white", "black")]
    assert inspect(*plain)["advice"] == []


def test_a_reference_that_the_prompt_never_mentions(inspect: Inspect) -> None:
    pictures = (photo("astronaut"), photo("rocket"), photo("chelsea"))
    (silent,) = inspect(*pictures, prompt="An astronaut beside the launch pad at night")["advice"]
    assert (silent["code"], silent["images"]) == ("unmentioned", [3])
    assert "image 3 (an animal)" in silent["message"]
    assert "@3" in silent["message"]
    assert inspect(*pictures, prompt="@1 waves, her cat looks up, the rocket starts")["advice"] == []
    assert inspect(photo("chelsea"), prompt="slow push in")["advice"] == []  # a single one needs no mention
    assert inspect(*pictures)["advice"] == []


KINDS = ["person", "product", "scene", "animal"]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("@1 and @3", {1, 3}),
        ("@4", {4}),
        ("@5 @12", set()),
        ("the object of image 2", {2}),
        ("Image one shakes", {1}),
        ("images 1, 2 and 4", {1, 2, 4}),
        ("images 2-4", {2, 3, 4}),
        ("pictures 1 to 3", {1, 2, 3}),
        ("the first image comes alive", {1}),
        ("the first and the third reference image", {1, 3}),
        ("the last photo", {4}),
        ("all four images", {1, 2, 3, 4}),
        ("both references", {1, 2, 3, 4}),
        ("a woman", {1}),
        ("two women", {1}),
        ("a firewoman runs", {1}),
        ("a cellist plays", {1}),
        ("slow push in on a perfume bottle", {2}),
        ("kittens", {4}),
        ("a stroll in a kitchen", {3}),
        ("somewhere in the Louvre", {3}),
        ("in the first second", set()),
        ("slow push in", set()),
        ("图1 走", None),
        ("一个女人走在街上", None),
        ("eine Frau mit einer Tasse", None),
        ("a naïve dog", {4}),
        ("she yawns", {1}),
        ("", set()),
    ],
)
def test_what_a_prompt_mentions(prompt: str, expected: set[int] | None) -> None:
    assert mentioned(prompt, ["https://h/x.png"] * 4, KINDS) == expected


def test_a_files_own_name_is_a_word_for_it() -> None:
    links = [
        "https://h/a/quokka-2.jpg?expires=1",
        "https://h/IMG_1234.jpg",
        "data:image/png;base64,quokka",
        "https://[",
    ]
    assert mentioned("a quokka smiles", links, ["object"] * 4) == {1}
    assert mentioned("an img of it", links, [""] * 4) == {1, 2, 3, 4}  # what was not seen can't be missed


# What goes wrong


def test_what_cannot_be_read_is_an_error_of_its_own(inspect: Inspect) -> None:
    report = inspect(photo("rocket"), save(photo("coffee"), "JPEG")[:3000], b"%PDF-1.7", save(photo("coffee")))
    first, cut, other, last = report["images"]
    assert [found["kind"] for found in report["images"]] == ["scene", "", "", "object"]
    assert "damaged or incomplete" in cut["error"]
    assert cut["error"].startswith("Image 2")
    assert "PDF" in other["error"]
    assert (cut["width"], cut["subject"], cut["crop"], cut["advice"], cut["index"]) == (0, None, None, [], 2)
    assert set(cut) == set(first) == set(last)


PIXELS = np.asarray(photo("rocket"))


def child_of(looker: Looker) -> int:
    child = looker._child
    assert child is not None
    return child.pid


@pytest.mark.slow
def test_a_child_that_dies_or_stalls_costs_one_answer() -> None:
    looker = Looker()
    try:
        assert looker.look(PIXELS, time.monotonic() + 30).kind == "scene"
        os.kill(child_of(looker), signal.SIGKILL)
        looker._child.wait()  # type: ignore[union-attr]  # there is one
        assert looker.look(PIXELS, time.monotonic() + 30).kind == "scene"
        os.kill(child_of(looker), signal.SIGSTOP)
        started = time.monotonic()
        with pytest.raises(LookError, match="took too long"):
            looker.look(PIXELS, time.monotonic() + 0.5)
        assert time.monotonic() - started < 5
        assert looker.look(PIXELS, time.monotonic() + 30).kind == "scene"
        pid = child_of(looker)
    finally:
        looker.close()
    assert not Path(f"/proc/{pid}").exists()


def test_many_at_once_are_turned_away_and_places_come_back() -> None:
    gate = Event()

    def wait(_: str) -> bytes:
        gate.wait(30)
        return b""

    inspector = Inspector(Limits(), wait)
    try:
        begun = [inspector.start(caller, ["https://h/1"], "", "1:1") for caller in "aabbccd"]
        with pytest.raises(BusyError) as refused:
            inspector.start("a", ["https://h/1"], "", "1:1")
        assert refused.value.is_caller
        begun.append(inspector.start("d", ["https://h/1"], "", "1:1"))
        with pytest.raises(BusyError) as refused:
            inspector.start("e", ["https://h/1"], "", "1:1")
        assert not refused.value.is_caller
        gate.set()
        for one in begun:
            assert "the file is empty" in one.result(30).show()["images"][0]["error"]
        inspector.start("e", ["https://h/1"], "", "1:1").result(30)
    finally:
        gate.set()
        inspector.close()


# Over HTTP and at the terminal

PATH = "/api/v3/references/inspect"


def test_uploads_and_data_uris_over_http(running: Installation, image: str) -> None:
    data = "data:image/png;base64," + b64encode(save(disc((300, 300), (150, 150), 90))).decode()
    answer = running.http.post(PATH, json={"images": [image, data], "prompt": "a cat", "aspect_ratio": "1:1"})
    assert answer.status_code == 200, answer.text
    report = answer.json()["data"]
    assert [found["error"] for found in report["images"]] == ["", ""]
    assert [found["kind"] for found in report["images"]] == ["animal", "product"]
    assert [advice["images"] for advice in report["advice"]] == [[2]]
    assert report["images"][0]["crop"] is not None


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "images is missing"),
        ({"images": []}, "images is []"),
        ({"images": ["https://h/a"] * 5}, "images is 5 items long"),
        ({"images": ["file:uploads/x/y"]}, "images[0] is"),
        ({"images": ["https://h/a"], "aspect_ratio": "4:3"}, "aspect_ratio"),
        ({"images": ["https://h/a"], "prompt": 5}, "prompt is 5"),
    ],
)
def test_what_is_asked_wrongly_is_named(running: Installation, body: dict[str, Any], said: str) -> None:
    answer = running.http.post(PATH, json=body)
    assert (answer.status_code, answer.json()["error_code"]) == (400, "invalid_parameter")
    assert answer.json()["message"].startswith(said)


def test_a_key_is_needed(running: Installation) -> None:
    assert httpx.post(running.url + PATH, json={"images": ["https://h/a"]}, trust_env=False).status_code == 401


def test_slow_addresses_stall_nobody(running: Installation) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor(2) as pool:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/a.png"
        slow = [pool.submit(running.http.post, PATH, json={"images": [url] * 4}) for _ in range(2)]
        connections = [silent.accept()[0] for _ in range(8)]
        refused = running.http.post(PATH, json={"images": [url]})
        assert (refused.status_code, refused.json()["error_code"]) == (429, "too_many_inspections")
        assert int(refused.headers["retry-after"]) >= 1
        started = time.monotonic()
        assert running.http.get("/healthz").status_code == 200
        assert time.monotonic() - started < 2
        for connection in connections:
            connection.close()
        for answer in slow:
            errors = [found["error"] for found in answer.result().json()["data"]["images"]]
            assert all(error.startswith("Image ") for error in errors)


@pytest.mark.slow
def test_the_command_says_it_in_words_and_in_json(running: Installation) -> None:
    files = [str(EXAMPLES / "astronaut.jpg"), str(EXAMPLES / "chelsea.jpg")]
    said = running.run("inspect", *files, "--prompt", "she smiles", "--shape", "9:16")
    words = " ".join(said.stdout.split())
    assert "1 astronaut.jpg JPEG, 512 × 512 pixels, 94 kB; person" in words
    assert "best cropped to 9:16 as 288 × 512 from" in words
    assert "does not seem to mention image 2 (an animal)" in words
    report = json.loads(running.run("inspect", *files, "--json").stdout)
    assert [found["kind"] for found in report["images"]] == ["person", "animal"]
    wrong = running.run("inspect", *files, "--shape", "4:3", check=False)
    assert (wrong.returncode, wrong.stdout) == (2, "")
