"""The engine of the contract, with the tiny checkpoint: what it yields, what it refuses, what it heeds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from mutoscope.engines import Engine, Frames, Image, Preview, Step
from mutoscope.engines.skyreels_v3.engine import SkyreelsV3
from mutoscope.engines.skyreels_v3.spec import Options
from mutoscope.film import Film
from mutoscope.references import Limits
from mutoscope.tasks import InvalidRequestError, VideoRequest

from .golden import CHECKPOINT, GOLDEN, picture


class Small(VideoRequest):
    """A request for 9 frames of 96×64 pixels, which the contract has no words for."""

    size = (96, 64)
    num_frames = 9


@pytest.fixture(scope="module")
def engine() -> SkyreelsV3:
    return SkyreelsV3(Options(CHECKPOINT, precision="float32"))


def request(prompt: str = "A paper boat drifts.", seed: int = 1) -> VideoRequest:
    return Small(prompt, ("file:0",), seed=seed)


def images(*paths: str) -> list[Image]:
    return [Image(picture(f"refs/{path}.png")) for path in paths or ("blobs_90x160_0", "gradient_64x64_0")]


def pixels(engine: Engine, asked: VideoRequest, given: list[Image]) -> np.ndarray:
    return np.concatenate([event.pixels for event in engine.generate(asked, given) if isinstance(event, Frames)])


def test_steps_tell_of_the_whole_journey_and_progress_only_rises() -> None:
    engine = SkyreelsV3(Options(CHECKPOINT))
    events = list(engine.generate(request(), images()))
    steps = [event.stage for event in events if isinstance(event, Step)]
    assert steps == [
        "checking the weights",
        "loading the text encoder",
        "loading the VAE",
        "loading the transformer",
        "reading the prompt",
        "looking at the references, 1 of 2",
        "looking at the references, 2 of 2",
        *[f"denoising, step {number} of 8" for number in range(1, 9)],
        "rendering",
    ]
    progress = [event.progress for event in events if not isinstance(event, Preview)]
    assert progress == sorted(progress)
    assert progress[-1] == 1.0
    frames = [event.pixels.shape for event in events if isinstance(event, Frames)]
    assert frames == [(1, 64, 96, 3), (4, 64, 96, 3), (4, 64, 96, 3)]
    # The engine stays warm.
    assert next(iter(engine.generate(request(), images()))) == Step("reading the prompt", 0.0)


def test_load_may_come_first(engine: SkyreelsV3) -> None:
    list(engine.load())
    assert list(engine.load()) == []


def test_it_is_filmed_into_an_mp4(engine: SkyreelsV3, tmp_path: Path) -> None:
    def read(reference: str) -> bytes:
        return Path(reference).read_bytes()

    asked = Small("A paper boat drifts.", (str(GOLDEN / "refs/blobs_90x160_0.png"),))
    film = Film(engine, asked, tmp_path / "out.mp4", tmp_path / "out.jpg")
    shots = list(film.shoot(Limits(), read))
    assert sum(shot.num_frames for shot in shots) == 9
    with av.open(str(tmp_path / "out.mp4")) as opened:
        assert sum(1 for _ in opened.decode(video=0)) == 9
    assert (tmp_path / "out.jpg").stat().st_size > 0


def test_the_size_is_the_request_s_whatever_the_first_picture_s_shape(engine: SkyreelsV3) -> None:
    for given in (images("blobs_90x160_0"), images("shapes_301x97_0"), images("blobs_7x5_3")):
        assert pixels(engine, request(), given).shape == (9, 64, 96, 3)


def test_transparency_lies_on_white(engine: SkyreelsV3) -> None:
    opaque = picture("refs/blobs_64x64_0.png")
    alpha = np.zeros((64, 64, 1), np.uint8)
    alpha[16:48, 16:48] = 255
    hidden = Image(np.concatenate([opaque, alpha], 2))
    on_white = Image(np.where(alpha == 255, opaque, 255).astype(np.uint8))
    assert np.array_equal(pixels(engine, request(), [hidden]), pixels(engine, request(), [on_white]))
    assert not np.array_equal(pixels(engine, request(), [hidden]), pixels(engine, request(), [Image(opaque)]))


def test_what_the_model_can_t_take_is_refused(engine: SkyreelsV3) -> None:
    with pytest.raises(InvalidRequestError, match="601 tokens long; the model reads 512"):
        pixels(engine, request("a " * 600), images())
    with pytest.raises(InvalidRequestError, match="5 reference images"):
        pixels(engine, request(), images(*["blobs_64x64_0"] * 5))
    with pytest.raises(InvalidRequestError, match="0 reference images"):
        pixels(engine, request(), [])


def test_guidance_reads_the_negative_prompt_and_no_guidance_does_not(engine: SkyreelsV3) -> None:
    def with_options(**options: Any) -> bytes:
        return pixels(SkyreelsV3(Options(CHECKPOINT, precision="float32", **options)), request(), images()).tobytes()

    plain = pixels(engine, request(), images()).tobytes()
    assert with_options(negative_prompt="blurred") == plain
    guided = with_options(text_guidance=3.0, image_guidance=1.5)
    assert guided != plain
    assert with_options(text_guidance=3.0, image_guidance=1.5, negative_prompt="blurred") != guided
    assert with_options(steps=4) != plain


def test_the_version_names_weights_mode_and_precision(engine: SkyreelsV3) -> None:
    assert engine.version.endswith(" fast float32")
    assert engine.name == "skyreels-v3"
    assert engine.longest_side is None


@pytest.mark.parametrize(
    "options", [{"steps": 0}, {"steps": 1001}, {"mode": "exact"}, {"precision": "float16"}], ids=str
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        Options(CHECKPOINT, **options)


def test_what_the_model_is_can_be_read_without_torch() -> None:
    program = "import sys, mutoscope.engines, mutoscope.engines.skyreels_v3.spec; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
