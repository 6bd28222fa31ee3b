"""What the animatic reads in a prompt."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mutoscope.engines.animatic.direction import Direction, Moves, read_direction


def moves(prompt: str) -> Moves:
    read = read_direction(prompt).moves
    assert read is not None, f"no camera found in {prompt!r}"
    return read


@pytest.mark.parametrize(
    ("prompt", "move", "sign"),
    [
        ("Slow push in on the astronaut", "push", 1),
        ("the camera slowly pushes in while snow falls", "push", 1),
        ("dolly in", "push", 1),
        ("camera moves closer", "push", 1),
        ("pull back to reveal the hall", "push", -1),
        ("dolly out quickly", "push", -1),
        ("the camera slowly zooms in on her face", "zoom", 1),
        ("zoom out", "zoom", -1),
        ("camera pans left across the garage", "pan", -1),
        ("pan right to left", "pan", -1),
        ("pan from left to right, slowly", "pan", 1),
        ("tilt up to the sky", "tilt", 1),
        ("the view pans downward", "tilt", -1),
        ("crane up revealing the city", "crane", 1),
        ("camera descends to the floor", "crane", -1),
        ("truck left", "truck", -1),
        ("camera glides to the right", "truck", 1),
        ("tracking shot from right to left", "truck", -1),
        ("the camera orbits around the product", "orbit", 1),
        ("camera orbits around the man, counter-clockwise", "orbit", -1),
        ("orbit left around the car", "orbit", -1),
        ("arc shot around the couple", "orbit", 1),
        ("dutch roll", "roll", 1),
        ("handheld camera, nervous", "handheld", 1),
        ("镜头缓慢推进", "push", 1),
        ("la cámara se acerca lentamente", "push", 1),
    ],
)
def test_a_stated_move_is_read(prompt: str, move: str, sign: int) -> None:
    assert getattr(moves(prompt), move) * sign > 0


@pytest.mark.parametrize(
    "prompt",
    [
        "static shot",
        "a locked-off shot of a cat",
        "no camera movement",
        "the camera does not move",
        "camera without any movement",
        "Camera: static.",
        "the camera stays still while the light sweeps over the bottle",
    ],
)
def test_a_camera_asked_to_stand_still_has_no_moves(prompt: str) -> None:
    assert moves(prompt) == Moves()


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "a cat",
        "don't zoom in",
        "never pan left",
        "she tilts her head up",
        "he pushes the door",
        "a man walks to the left",
        "a frying pan on the left of the stove",
        "an astronaut in orbit around Earth",
        "static electricity in the air",
    ],
)
def test_what_is_not_said_of_the_camera_leaves_the_choice_open(prompt: str) -> None:
    assert read_direction(prompt).moves is None


def test_a_negated_move_does_not_hide_another() -> None:
    assert moves("not static, camera drifts left").truck < 0


def test_slow_and_fast_change_the_amount() -> None:
    assert moves("slow push in").push < moves("push in").push < moves("fast push in").push


def test_slow_belongs_to_its_own_clause() -> None:
    assert moves("push in. Snow falls slowly").push == moves("push in").push


def test_two_moves_are_both_read() -> None:
    both = moves("push in, then pan left")
    assert both.push > 0 > both.pan


@pytest.mark.parametrize("prompt", ["product shot of a bottle", "studio packshot", "a turntable with the product"])
def test_a_product_shot_goes_to_the_studio(prompt: str) -> None:
    assert read_direction(prompt).studio


def test_the_studios_colour_is_read() -> None:
    assert read_direction("product shot on a navy background").backdrop == "navy"


def test_light_grade_and_weather_are_read() -> None:
    read = read_direction("snow at night, shallow depth of field, god rays, black and white")
    assert read.night == 1
    assert read.weather == ("snow",)
    assert read.soften == 1
    assert read.rays == 1
    assert read.colour == 0
    assert read_direction("golden hour").warmth > 0 > read_direction("icy").warmth


def test_negated_weather_stays_away() -> None:
    assert read_direction("no snow, without any rain, just sunshine").weather == ()


def test_cuts_are_asked_for_by_name() -> None:
    assert read_direction("hard cut to the next room").join == "cut"
    assert read_direction("a room and then the next").join == "dissolve"


@given(st.text(max_size=300))
@settings(max_examples=150, deadline=None)
def test_no_text_fails(prompt: str) -> None:
    assert isinstance(read_direction(prompt), Direction)
