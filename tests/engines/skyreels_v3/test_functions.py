"""The pure functions between the networks, against the reference implementation's vectors."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from mutoscope.engines.skyreels_v3 import spec, text
from mutoscope.engines.skyreels_v3.conditioning import draw, letterbox
from mutoscope.engines.skyreels_v3.sampling import schedule
from mutoscope.tasks import FPS, SIZES, InvalidRequestError

from .golden import FUNCTIONS, GOLDEN, networks, picture

PICTURES = sorted((GOLDEN / "refs").iterdir())


def test_buckets() -> None:
    for vector in FUNCTIONS["bucket_hw"]:
        width, height = spec.bucket(*vector["image_wh"], vector["resolution"])
        assert [height, width] == vector["height_width"], vector


def test_the_contract_s_sizes_are_buckets_of_the_model() -> None:
    for size in SIZES["720p"].values():
        assert spec.bucket(*size, "720P") == size
        spec.check_size(size)


@pytest.mark.parametrize("vector", FUNCTIONS["resize_ref"], ids=lambda vector: "-".join(map(str, vector["image"])))
def test_letterbox(vector: dict) -> None:
    kind, width, height = vector["image"]
    boxed = letterbox(np.zeros((height, width, 3), np.uint8), *vector["target_wh"])
    rows, columns = np.nonzero((boxed < 255).any(2))
    assert [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] == vector["non_white_box_xyxy"]
    # The vectors are of each kind's picture number 0; of some sizes the golden data holds other numbers only.
    for path in PICTURES:
        if path.name == f"{kind}_{width}x{height}_0.png":
            boxed = letterbox(picture(f"refs/{path.name}"), *vector["target_wh"])
            assert hashlib.sha256(boxed.tobytes()).hexdigest() == vector["sha256_rgb_bytes"]


@pytest.mark.parametrize("size", [(4000, 10), (10, 4000), (1, 1)])
def test_the_narrowest_picture_keeps_a_pixel(size: tuple[int, int]) -> None:
    width, height = size
    boxed = letterbox(np.zeros((height, width, 3), np.uint8), 128, 96)
    assert boxed.shape == (96, 128, 3)
    assert (boxed == 0).any()


@pytest.mark.parametrize("vector", FUNCTIONS["prompt_clean"], ids=lambda vector: repr(vector["in"][:12]))
def test_prompts_are_cleaned_and_tokenized(vector: dict) -> None:
    cleaned = text.clean(vector["in"])
    assert cleaned == vector["out"]
    assert text.token_ids(networks("fast", "float32").tokenizer, cleaned) == vector["input_ids"]


def test_a_prompt_that_the_model_would_not_read_to_its_end_is_refused_with_its_length() -> None:
    tokenizer = networks("fast", "float32").tokenizer
    longest = "a " * 511
    assert len(text.token_ids(tokenizer, text.clean(longest))) == 512
    with pytest.raises(InvalidRequestError, match="513 tokens long; the model reads 512"):
        text.token_ids(tokenizer, text.clean(longest + "a"))


@pytest.mark.parametrize("vector", FUNCTIONS["schedule"], ids=lambda vector: str(vector["steps"]))
def test_schedules(vector: dict) -> None:
    solver = schedule(vector["steps"])
    assert solver.timesteps.tolist() == vector["timesteps"]
    assert solver.sigmas.tolist() == vector["sigmas_f32"]


def test_frame_counts() -> None:
    for vector in FUNCTIONS["num_frames"]:
        assert FPS * vector["duration_s"] + 1 == vector["num_frames"] == vector["decoded_frames"]
        assert spec.num_latent_frames(vector["num_frames"]) == vector["latent_frames"]
    for count in (0, -3, 2, 120):
        with pytest.raises(ValueError, match="frames"):
            spec.num_latent_frames(count)


def test_noise_is_one_stream() -> None:
    check = FUNCTIONS["cpu_generator_check"]
    noise, [first, second] = draw(42, 3, (160, 96), 2, torch.device("cpu"))
    assert noise.flatten()[:8].tolist() == check["first8"]
    assert float(noise.double().sum()) == pytest.approx(check["sum"], abs=1e-3)
    generator = torch.Generator().manual_seed(42)
    for part in (noise, first, second):
        assert torch.equal(part, torch.randn(part.shape, generator=generator))


@pytest.mark.parametrize("size", [(1280, 712), (8, 96), (0, 0), (100, 96)])
def test_sizes_that_the_network_can_t_divide_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="multiple of 16"):
        spec.check_size(size)
