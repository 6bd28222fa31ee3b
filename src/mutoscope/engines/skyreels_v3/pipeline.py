"""The model's journey, event by event: from token ids and pictures to embeddings, references, latents and frames.

Knows networks and sizes, but no request, task or setting: whoever drives it turns its events into progress and frames.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mutoscope.engines import Pixels
from mutoscope.engines.skyreels_v3 import conditioning, text
from mutoscope.engines.skyreels_v3.checkpoint import Networks
from mutoscope.engines.skyreels_v3.conditioning import Posterior
from mutoscope.engines.skyreels_v3.decoding import decode, to_pixels
from mutoscope.engines.skyreels_v3.previewing import strip
from mutoscope.engines.skyreels_v3.sampling import (
    QUIET_SECONDS,
    Conditions,
    Denoised,
    LoopRules,
    Working,
    denoise,
    text_keys,
)
from mutoscope.engines.skyreels_v3.spec import DEFAULT_STEPS, REFERENCE_SLOTS, check_size, num_latent_frames


@dataclass(frozen=True, slots=True)
class Embedded:
    """The text is read: (1, 512, text_dim) each; `negative` is None without guidance."""

    prompt: Tensor
    negative: Tensor | None


@dataclass(frozen=True, slots=True)
class Drawn:
    """The noise that the video starts from: (1, 16, frames, height / 8, width / 8) float32."""

    noise: Tensor


@dataclass(frozen=True, slots=True)
class Referenced:
    """A reference is encoded: the picture as it was seen, what the VAE said of it, and its latents (1, 16, 1, h, w)."""

    index: int
    picture: Pixels
    posterior: Posterior
    latents: Tensor


@dataclass(frozen=True, slots=True)
class Previewed:
    """The video as the step just done predicts it: some frames, small, side by side, (height, width, 3) uint8."""

    pixels: Pixels


@dataclass(frozen=True, slots=True)
class Decoded:
    """The next frames of the video, (frames, height, width, 3) uint8, and the latent frame that they come from."""

    index: int
    pixels: Pixels


Event = Embedded | Drawn | Referenced | Working | Denoised | Previewed | Decoded


@dataclass(frozen=True)
class Rules:
    """The rules that make a Wan network SkyReels-V3 R2V: pure functions, one decision each."""

    embed: Callable[[Any, Sequence[int]], Tensor] = text.embed
    draw: Callable[..., tuple[Tensor, Sequence[Tensor]]] = conditioning.draw
    letterbox: Callable[[Pixels, int, int], Pixels] = conditioning.letterbox
    encode: Callable[[Any, Pixels], Posterior] = conditioning.encode
    sample: Callable[[Posterior, Tensor], Tensor] = conditioning.sample
    normalise: Callable[[Any, Tensor], Tensor] = conditioning.normalise
    loop: LoopRules = field(default_factory=LoopRules)
    decode: Callable[[Any, Tensor], Generator[Tensor]] = decode


@torch.inference_mode()
def render(
    networks: Networks,
    # what is asked for
    prompt: Sequence[int],
    pictures: Sequence[Pixels],
    size: tuple[int, int],
    num_frames: int,
    seed: int,
    # how it is sampled
    steps: int = DEFAULT_STEPS,
    negative: Sequence[int] | None = None,
    text_guidance: float = 1.0,
    image_guidance: float = 1.0,
    noise_device: torch.device | None = None,
    rules: Rules | None = None,
    quiet_seconds: float = QUIET_SECONDS,
    has_previews: bool = False,
) -> Generator[Event]:
    """Render `num_frames` frames of `size` (width, height) from 1 to 4 pictures, yielding each piece of work when done.

    `prompt` and `negative` are token ids, with the end token; a `negative` turns guidance on. A step that takes longer
    than `quiet_seconds` yields in between, so that it can be left. `has_previews`: each step ends in one. Raises
    ValueError for sizes and counts that the network can't take.
    """
    check_size(size)
    if not 1 <= len(pictures) <= REFERENCE_SLOTS:
        raise ValueError(f"{len(pictures)} references: the model takes 1 to {REFERENCE_SLOTS}")
    rules = rules or Rules()
    device = networks.device

    # 1. Text.
    embedded = Embedded(
        rules.embed(networks.text_encoder, prompt),
        None if negative is None else rules.embed(networks.text_encoder, negative),
    )
    yield embedded
    prompt_keys = text_keys(networks.transformer, networks.attention, embedded.prompt)
    negative_keys = None
    if embedded.negative is not None:
        negative_keys = text_keys(networks.transformer, networks.attention, embedded.negative)
    del embedded

    # 2. Noise: the video's first, then one draw for each reference. The order is part of what a seed means.
    frames = num_latent_frames(num_frames)
    noise, draws = rules.draw(seed, frames, size, len(pictures), noise_device or torch.device("cpu"))
    noise = noise.to(device)
    yield Drawn(noise)

    # 3. References.
    references = []
    for index, (picture, drawn) in enumerate(zip(pictures, draws, strict=True)):
        seen = rules.letterbox(picture, *size)
        posterior = rules.encode(networks.vae, seen)
        references.append(rules.normalise(networks.vae, rules.sample(posterior, drawn)))
        yield Referenced(index, seen, posterior, references[-1])
    del draws, picture, drawn, seen, posterior

    # 4. Latents.
    conditions = Conditions(references, prompt_keys, negative_keys, text_guidance, image_guidance)
    latents = noise
    for event in denoise(networks.transformer, noise, conditions, networks.numerics, steps, rules.loop, quiet_seconds):
        yield event
        if isinstance(event, Denoised):
            if has_previews:
                yield Previewed(strip(networks.vae, latents, event.prediction, event.sigma))
            latents = event.latents
    del conditions, references, prompt_keys, negative_keys, noise, event

    # 5. Frames.
    for index, decoded in enumerate(rules.decode(networks.vae, latents)):
        yield Decoded(index, to_pixels(decoded))
