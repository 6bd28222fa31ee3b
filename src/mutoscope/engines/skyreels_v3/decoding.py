"""From latents to frames, one latent frame at a time, in constant memory.

Knows nothing of how the latents came about. The bytes are those of decoding the whole clip at once.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d
from torch import Tensor

from mutoscope.engines import Pixels
from mutoscope.engines.skyreels_v3.conditioning import statistics_of


def decode(vae: Any, latents: Tensor) -> Generator[Tensor]:
    """Yield each latent frame's video frames, -1 to 1: (1, 3, 1, height, width) first, then (1, 3, 4, height, width).

    `latents` are the network's: (1, 16, frames, height / 8, width / 8). The decoder looks back by features kept in a
    list of ours, so that nothing is left in the VAE when the generator is closed halfway.
    """
    mean, scale = statistics_of(vae)
    latents = latents.to(vae.dtype)
    planes = vae.post_quant_conv(latents / scale.to(latents) + mean.to(latents))
    del latents
    looked_back_at = sum(isinstance(module, WanCausalConv3d) for module in vae.decoder.modules())
    features: list[Tensor | str | None] = [None] * looked_back_at
    for index in range(planes.shape[2]):
        yield vae.decoder(
            planes[:, :, index : index + 1], feat_cache=features, feat_idx=[0], first_chunk=index == 0
        ).clamp(-1.0, 1.0)


def to_pixels(frames: Tensor) -> Pixels:
    """(1, 3, frames, height, width), -1 to 1 → (frames, height, width, 3) uint8, halves rounded to even."""
    levels = (frames.float() * 0.5 + 0.5).clamp(0.0, 1.0).mul(255.0).round().to(torch.uint8)
    pixels: Pixels = levels[0].permute(1, 2, 3, 0).contiguous().cpu().numpy()
    return pixels
