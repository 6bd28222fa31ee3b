"""From noise to latents: the schedule, the network's forward pass, guidance, and the loop over them.

Knows nothing of prompts, pictures or frames: only of latents and of the text's keys. The loop is a generator: it can be
closed at every step, and at every block of a long one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import UniPCMultistepScheduler
from torch import Tensor

from mutoscope.engines.skyreels_v3.numerics import Attention, Numerics, TextKeys, rotary_angles
from mutoscope.engines.skyreels_v3.spec import FLOW_SHIFT, REFERENCE_SLOTS, TRAIN_STEPS

QUIET_SECONDS = 1.0  # a forward pass that takes longer yields between its blocks, about this often


@dataclass(frozen=True, slots=True)
class Working:
    """A step is under way: `fraction` of it is done."""

    step: int
    fraction: float


@dataclass(frozen=True, slots=True)
class Denoised:
    """A step is done: (1, 16, frames, h, w) latents after it, and the guided prediction that led there; `sigma` is the
    noise level that it started from."""

    step: int
    latents: Tensor
    prediction: Tensor
    sigma: float


def unipc(flow_shift: float = FLOW_SHIFT) -> Any:
    """The solver (UniPC, arXiv 2302.04867; order 2, bh2) as the model uses it, whatever the checkpoint says."""
    solver: Any = UniPCMultistepScheduler
    return solver(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=flow_shift)


def noise_levels(steps: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Sigmas before the shift, falling, without the last zero: (steps,).

    Given to the solver rather than left to it: diffusers changed its own, which makes another video (diffusers#12109).
    """
    return np.flip(1.0 - np.linspace(1.0, 1.0 / TRAIN_STEPS, steps + 1))[:-1].copy()


def schedule(steps: int, device: torch.device | None = None) -> Any:
    """A fresh solver set to `steps` steps: `timesteps` (steps,) int64 and `sigmas` (steps + 1,) float32."""
    solver = unipc()
    solver.set_timesteps(sigmas=noise_levels(steps), device=device)
    return solver


def append_references(latents: Tensor, references: Sequence[Tensor], slots: int = REFERENCE_SLOTS) -> Tensor:
    """What the network sees: the video's latents, then the references, then zeros up to `slots`, along time."""
    empty = latents.new_zeros((*latents.shape[:2], slots - len(references), *latents.shape[3:]))
    return torch.cat([latents, *references, empty], dim=2)  # (1, 16, frames + slots, h, w)


def first_frames(prediction: Tensor, frames: int) -> Tensor:
    """The video's part of a prediction: (1, 16, frames, h, w)."""
    return prediction[:, :, :frames]


def guide(whole: Tensor, no_text: Tensor, nothing: Tensor, text_guidance: float, image_guidance: float) -> Tensor:
    """Dual guidance: away from nothing towards the references, and from the references towards the prompt."""
    return nothing + image_guidance * (no_text - nothing) + text_guidance * (whole - no_text)


@dataclass(frozen=True)
class Conditions:
    """What steers the video, in the network's terms. Without guidance, `negative` is None."""

    references: Sequence[Tensor]  # (1, 16, 1, h, w) each
    prompt: Sequence[TextKeys]  # a pair per block
    negative: Sequence[TextKeys] | None = None
    text_guidance: float = 1.0
    image_guidance: float = 1.0


def precision_of(network: Any) -> torch.dtype:
    """The precision the network computes in: norms, modulation and the time embedding stay float32 beside it."""
    found: torch.dtype = network.patch_embedding.weight.dtype
    return found


def text_keys(network: Any, attention: Attention, embeddings: Tensor) -> list[TextKeys]:
    """Each block's keys and values of the text (1, 512, text_dim): the same at every step."""
    text = network.condition_embedder.text_embedder(embeddings.to(precision_of(network)))  # (1, 512, dim)
    return [attention.keys_of(block.attn2, text) for block in network.blocks]


def predict(
    network: Any, latents: Tensor, timestep: Tensor, text: Sequence[TextKeys], angles: Tensor
) -> Generator[float, None, Tensor]:
    """One forward pass of a WanTransformer3DModel, yielding the fraction done after each block; returns the velocity.

    `latents` (1, 16, frames, h, w); `timestep` (1,); `angles` as rotary_angles gives them. The same arithmetic as the
    network's own forward, which can't be left halfway.
    """
    embedder = network.condition_embedder
    hidden = network.patch_embedding(latents)  # (1, dim, frames, h / 2, w / 2)
    _, dim, frames, rows, columns = hidden.shape
    hidden = hidden.flatten(2).transpose(1, 2).contiguous()  # (1, tokens, dim)

    wave = embedder.timesteps_proj(timestep).to(embedder.time_embedder.linear_1.weight.dtype)
    time_embedding = embedder.time_embedder(wave).to(hidden.dtype)  # (1, dim)
    modulation = embedder.time_proj(embedder.act_fn(time_embedding)).unflatten(1, (6, dim))

    for number, (block, keys) in enumerate(zip(network.blocks, text, strict=True), start=1):
        hidden = block(hidden, keys, modulation, angles)
        yield number / len(network.blocks)

    shift, scale = (network.scale_shift_table + time_embedding.unsqueeze(1)).chunk(2, dim=1)
    hidden = network.norm_out(hidden.float()).mul_(1 + scale).add_(shift).to(hidden.dtype)
    patches = network.proj_out(hidden).view(1, frames, rows, columns, 2, 2, -1)
    velocity: Tensor = patches.permute(0, 6, 1, 2, 4, 3, 5).reshape(1, -1, frames, 2 * rows, 2 * columns)
    return velocity


@dataclass(frozen=True)
class LoopRules:
    """The rules of the loop that make a Wan network SkyReels-V3 R2V: pure functions, one decision each."""

    schedule: Callable[[int, torch.device], Any] = schedule
    arrange: Callable[[Tensor, Sequence[Tensor]], Tensor] = append_references
    predict: Callable[..., Generator[float, None, Tensor]] = predict
    video_part: Callable[[Tensor, int], Tensor] = first_frames
    guide: Callable[[Tensor, Tensor, Tensor, float, float], Tensor] = guide


def denoise(
    network: Any,
    noise: Tensor,
    conditions: Conditions,
    numerics: Numerics,
    steps: int,
    rules: LoopRules,
    quiet_seconds: float = QUIET_SECONDS,
) -> Generator[Working | Denoised]:
    """Walk from noise (1, 16, frames, h, w) float32 to latents, yielding each step and the progress of long ones."""
    frames = noise.shape[2]
    references = conditions.references
    passes = [(references, conditions.prompt)]
    if conditions.negative is not None:
        passes += [(references, conditions.negative), ([], conditions.negative)]

    solver = rules.schedule(steps, noise.device)
    latents = noise
    _, _, depth, height, width = rules.arrange(latents, references).shape
    grid = (depth, height // 2, width // 2)
    angles = rotary_angles(network.config.attention_head_dim, grid, numerics.angles, noise.device)

    for step, timestep in enumerate(solver.timesteps):
        predictions = []
        pace = _Pace(noise.device, quiet_seconds)
        for number, (seen, text) in enumerate(passes):
            given = rules.arrange(latents, seen).to(precision_of(network))
            work = rules.predict(network, given, timestep.expand(1), text, angles)
            velocity = yield from pace.keep(work, step, number, len(passes))
            predictions.append(rules.video_part(velocity, frames))
        prediction = predictions[0]
        if conditions.negative is not None:
            _, no_text, nothing = predictions
            prediction = rules.guide(prediction, no_text, nothing, conditions.text_guidance, conditions.image_guidance)
        # The prediction enters the solver in the network's own precision, as it did when the model was measured.
        latents = solver.step(prediction, timestep, latents, return_dict=False)[0]
        yield Denoised(step, latents, prediction, float(solver.sigmas[step]))


class _Pace:
    """Turns a forward pass's fractions into Working, every `quiet_seconds`, so that a short step yields nothing."""

    def __init__(self, device: torch.device, quiet_seconds: float) -> None:
        self._device = device
        self._quiet_seconds = quiet_seconds
        self._last = time.monotonic()
        self._behind: list[Any] = []

    def keep(
        self, work: Generator[float, None, Tensor], step: int, number: int, count: int
    ) -> Generator[Working, None, Tensor]:
        while True:
            try:
                fraction = next(work)
            except StopIteration as end:
                found: Tensor = end.value
                return found
            self._wait()
            if time.monotonic() - self._last >= self._quiet_seconds:
                self._last = time.monotonic()
                yield Working(step, (number + fraction) / count)

    def _wait(self) -> None:
        """Let an accelerator run no further ahead than one block: a clock tells nothing of work only queued."""
        if self._device.type == "cpu":
            return
        event = torch.Event(self._device)
        event.record()
        self._behind.append(event)
        if len(self._behind) > 1:
            self._behind.pop(0).synchronize()
