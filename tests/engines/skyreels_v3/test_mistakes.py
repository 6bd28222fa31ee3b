"""Sixteen plausible mistakes, each made on purpose at the rule that forbids it: the golden data must notice.

A mistake that moved the final latents by no more than the float32 limit would pass unseen, so each must move them by
100 times that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from PIL import Image
from torch import Tensor

from mutoscope.engines import Pixels
from mutoscope.engines.skyreels_v3 import conditioning, sampling, text
from mutoscope.engines.skyreels_v3.conditioning import Posterior
from mutoscope.engines.skyreels_v3.pipeline import Rules
from mutoscope.engines.skyreels_v3.sampling import LoopRules

from .golden import case_of, compare, last_apart, networks, picture, record

CASE = "c03_3ref_1x1"


def references_first(latents: Tensor, references: Sequence[Tensor]) -> Tensor:
    whole = sampling.append_references(latents, references)
    frames = latents.shape[2]
    return torch.cat([whole[:, :, frames:], whole[:, :, :frames]], 2)


def last_frames(prediction: Tensor, frames: int) -> Tensor:
    return prediction[:, :, -frames:]


def no_empty_slots(latents: Tensor, references: Sequence[Tensor]) -> Tensor:
    return sampling.append_references(latents, references, slots=len(references))


def last_reference_repeated(latents: Tensor, references: Sequence[Tensor]) -> Tensor:
    return sampling.append_references(latents, [*references, references[-1]])


def mean_of_posterior(posterior: Posterior, noise: Tensor) -> Tensor:
    return posterior.mean


def references_drawn_first(
    seed: int, frames: int, size: tuple[int, int], references: int, device: torch.device
) -> tuple[Tensor, Sequence[Tensor]]:
    noise, draws = conditioning.draw(seed, frames, size, references, device)
    stream = torch.cat([noise.flatten(), *(drawn.flatten() for drawn in draws)])
    plane = draws[0].numel()
    firsts = [stream[plane * index : plane * (index + 1)].view_as(draws[0]) for index in range(references)]
    return stream[plane * references :].view_as(noise), firsts


def not_normalised(vae: Any, latents: Tensor) -> Tensor:
    return latents


def stretched(pixels: Pixels, width: int, height: int) -> Pixels:
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))


def padding_kept(encoder: Any, ids: Sequence[int]) -> Tensor:
    padded = torch.tensor([[*ids, *[0] * (512 - len(ids))]])
    return encoder(padded, (torch.arange(512) < len(ids)).long()[None]).last_hidden_state


def only_text_guided(whole: Tensor, no_text: Tensor, nothing: Tensor, text_scale: float, image_scale: float) -> Tensor:
    return no_text + text_scale * (whole - no_text)


def shift_of_the_checkpoint(steps: int, device: torch.device) -> Any:
    solver = sampling.unipc(flow_shift=3.0)
    solver.set_timesteps(sigmas=sampling.noise_levels(steps))
    return solver


def euler(steps: int, device: torch.device) -> Any:
    solver: Any = FlowMatchEulerDiscreteScheduler(shift=5.0)
    solver.set_timesteps(sigmas=sampling.noise_levels(steps))
    return solver


def sigmas_of_the_library(steps: int, device: torch.device) -> Any:
    solver = sampling.unipc()
    solver.set_timesteps(steps)
    return solver


def loop(**changes: Any) -> Rules:
    return Rules(loop=replace(LoopRules(), **changes))


MISTAKES: dict[str, tuple[str, Rules]] = {
    "references before the video": (CASE, loop(arrange=references_first, video_part=last_frames)),
    "no zeros in unused slots": (CASE, loop(arrange=no_empty_slots)),
    "last reference repeated": (CASE, loop(arrange=last_reference_repeated)),
    "mean instead of a draw": (CASE, Rules(sample=mean_of_posterior)),
    "references drawn before the noise": (CASE, Rules(draw=references_drawn_first)),
    "latents not normalised": (CASE, Rules(normalise=not_normalised)),
    "stretched, not letterboxed": (CASE, Rules(letterbox=stretched)),
    "letterboxed on black": (CASE, Rules(letterbox=partial(conditioning.letterbox, background=(0, 0, 0)))),
    "padding of the text not zeroed": (CASE, Rules(embed=padding_kept)),
    "226 rows of text": (CASE, Rules(embed=partial(text.embed, rows=226))),
    "one guidance for both": ("c06_dualcfg", loop(guide=only_text_guided)),
    "flow shift of the checkpoint": (CASE, loop(schedule=shift_of_the_checkpoint)),
    "Euler": (CASE, loop(schedule=euler)),
    "the library's own sigmas": (CASE, loop(schedule=sigmas_of_the_library)),
}


def must_notice(name: str, rules: Rules | None = None, **how: Any) -> None:
    case = case_of(name, "float32")
    found = record(networks("fast", "float32"), case, rules, **how)
    assert last_apart(found, case) > 100 * 1e-4
    with pytest.raises(AssertionError):
        compare(found, case, exact=False)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_broken_rule_is_noticed(mistake: str) -> None:
    must_notice(*MISTAKES[mistake])


def test_swapped_references_are_noticed() -> None:
    first, second, third = (picture(path) for path in case_of(CASE, "float32")["refs"])
    must_notice(CASE, pictures=[second, first, third])


@pytest.mark.parametrize("clean", [str, str.strip], ids=["as it is", "stripped only"])
def test_a_prompt_that_is_not_cleaned_is_noticed(clean: Callable[[str], str]) -> None:
    must_notice("c08_prompt_edge", clean=clean)


def test_the_right_rules_pass() -> None:
    case = case_of(CASE, "float32")
    found = record(networks("fast", "float32"), case, Rules())
    compare(found, case, exact=False)
    assert last_apart(found, case) < 1e-5
