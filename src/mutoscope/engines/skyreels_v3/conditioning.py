"""From reference pictures to reference latents, and the noise that a video starts from.

Knows nothing of text, of steps or of tasks. Pictures are (height, width, 3) uint8 arrays; latents are
normalised and float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mutoscope.engines import Pixels
from mutoscope.engines.skyreels_v3.spec import LATENT_CHANNELS, SPACE_FACTOR

WHITE = (255, 255, 255)


@dataclass(frozen=True, slots=True)
class Posterior:
    """What the VAE says of a picture: mean and standard deviation, (1, 16, 1, height / 8, width / 8) each."""

    mean: Tensor
    std: Tensor


def letterbox(picture: Pixels, width: int, height: int, background: tuple[int, int, int] = WHITE) -> Pixels:
    """The whole picture as large as it fits, in the middle of `width` × `height` pixels: (height, width, 3).

    Sides are cut to whole pixels; a side that would be cut to nothing keeps one.
    """
    rows, columns = picture.shape[:2]
    if width / height > columns / rows:
        inner = (max(1, int(height * columns / rows)), height)
    else:
        inner = (width, max(1, int(width * rows / columns)))
    canvas = Image.new("RGB", (width, height), background)
    resized = Image.fromarray(picture).resize(inner, Image.Resampling.LANCZOS)
    canvas.paste(resized, ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return np.asarray(canvas)


def encode(vae: Any, picture: Pixels) -> Posterior:
    """The VAE's posterior of a picture whose sides are multiples of 16 pixels."""
    values = torch.from_numpy(picture.astype(np.float32) / 255.0).permute(2, 0, 1)[None, :, None]  # (1, 3, 1, h, w)
    found = vae.encode((2.0 * values - 1.0).to(device=vae.device, dtype=vae.dtype)).latent_dist
    return Posterior(found.mean, found.std)


def sample(posterior: Posterior, noise: Tensor) -> Tensor:
    """A draw from the posterior, by standard normal `noise` of the mean's shape."""
    return posterior.mean + posterior.std * noise.to(posterior.mean.device)


def normalise(vae: Any, latents: Tensor) -> Tensor:
    """VAE latents (1, 16, frames, h, w) → the network's."""
    mean, scale = statistics_of(vae)
    return (latents - mean.to(latents)) * scale.to(latents)


def statistics_of(vae: Any) -> tuple[Tensor, Tensor]:
    """Each channel's mean and the reciprocal of its standard deviation: (1, 16, 1, 1, 1) each."""
    shape = (1, LATENT_CHANNELS, 1, 1, 1)
    mean = torch.tensor(vae.config.latents_mean).view(shape)
    return mean, 1.0 / torch.tensor(vae.config.latents_std).view(shape)


def draw(
    seed: int, frames: int, size: tuple[int, int], references: int, device: torch.device
) -> tuple[Tensor, Sequence[Tensor]]:
    """All the random numbers of a video, from one generator on `device`: the video's noise, then each reference's.

    `frames` are latent frames, `size` is (width, height) in pixels: (1, 16, frames, h, w) and (1, 16, 1, h, w) each.
    torch's generator on a CPU reads the seed's lowest 32 bits, so seeds that agree in them give one video.
    """
    generator = torch.Generator(device).manual_seed(seed)
    width, height = size
    plane = (height // SPACE_FACTOR, width // SPACE_FACTOR)

    def normal(count: int) -> Tensor:
        shape = (1, LATENT_CHANNELS, count, *plane)
        return torch.randn(shape, generator=generator, device=device, dtype=torch.float32)

    return normal(frames), [normal(1) for _ in range(references)]
