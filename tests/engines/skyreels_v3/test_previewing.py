"""A look at the video while it is denoised: right, small, and of no effect on what is made."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mutoscope.engines import Frames, Pixels, Preview
from mutoscope.engines.skyreels_v3.engine import SkyreelsV3
from mutoscope.engines.skyreels_v3.pipeline import Decoded, Drawn, Previewed, render
from mutoscope.engines.skyreels_v3.previewing import clean, strip
from mutoscope.engines.skyreels_v3.sampling import Denoised
from mutoscope.engines.skyreels_v3.spec import Options

from .golden import CHECKPOINT, apart, networks, picture
from .test_engine import images, request


def film(engine: SkyreelsV3) -> tuple[Pixels, list[Pixels]]:
    events = list(engine.generate(request(), images()))
    frames = np.concatenate([event.pixels for event in events if isinstance(event, Frames)])
    return frames, [event.pixels for event in events if isinstance(event, Preview)]


def test_a_step_ends_in_a_preview_and_the_video_is_the_same_without() -> None:
    alone, none = film(SkyreelsV3(Options(CHECKPOINT, precision="float32", has_previews=False)))
    engine = SkyreelsV3(Options(CHECKPOINT, precision="float32"))
    list(engine.load())
    state = torch.random.get_rng_state()
    frames, previews = film(engine)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (len(previews), none) == (8, [])
    assert frames.tobytes() == alone.tobytes()
    # Three frames of 96×64 side by side. After the last step no noise is left, so that the first is the video's own.
    assert {preview.shape for preview in previews} == {(64, 3 * 96, 3)}
    assert np.abs(previews[-1][:, :96].astype(int) - frames[0]).max() <= 1
    errors = [float(np.abs(preview[:, :96].astype(int) - frames[0]).mean()) for preview in previews]
    assert errors[-1] < errors[4] < errors[0]


@torch.inference_mode()
def test_what_a_preview_shows_is_what_the_solver_takes_for_clean() -> None:
    """The solver's own account of a step: with one step left, from `sigma` to nothing, its answer is the clean one."""
    found = networks("fast", "float32")
    pictures = [picture("refs/blobs_90x160_0.png")]
    latents = None
    for event in render(found, [5, 1], pictures, (96, 64), 5, 3, steps=1):
        match event:
            case Drawn(noise=noise):
                latents = noise
            case Denoised():
                assert latents is not None
                assert apart(clean(latents, event.prediction, event.sigma), event.latents) < 1e-5


@torch.inference_mode()
@pytest.mark.parametrize(("frames", "which"), [(1, [0]), (2, [0, 1]), (31, [0, 15, 30])])
def test_a_large_video_is_shown_small_and_whole(frames: int, which: list[int]) -> None:
    vae = networks("fast", "float32").vae
    generator = torch.Generator().manual_seed(1)
    small, velocity = (torch.randn((1, 16, frames, 22, 40), generator=generator) for _ in range(2))
    large, faster = (each.repeat_interleave(4, 3).repeat_interleave(4, 4) for each in (small, velocity))
    found = strip(vae, large, faster, 0.5)
    assert found.shape == (8 * 22, len(which) * 8 * 40, 3)
    # As if the small one were the video: what it shows of its frames, in their order.
    alone = [strip(vae, small[:, :, [frame]], velocity[:, :, [frame]], 0.5) for frame in which]
    assert np.abs(found.astype(int) - np.concatenate(alone, axis=1)).max() <= 1
    odd = torch.zeros((1, 16, frames, 90, 160))
    assert strip(vae, odd, odd, 0.5).shape == found.shape


def test_a_render_has_no_previews_unless_it_is_asked_for_them() -> None:
    found = networks("fast", "float32")
    events = list(render(found, [5, 1], [picture("refs/blobs_90x160_0.png")], (32, 32), 1, 3, steps=2))
    assert any(isinstance(event, Decoded) for event in events)
    assert not any(isinstance(event, Previewed) for event in events)
