"""What a video is going to look like, told halfway: some frames of the predicted clean latents, decoded small.

Knows one step's outcome and the VAE; changes neither, and draws no random number: a video is the same with it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor
from torch.nn import functional

from mutoscope.engines import Pixels
from mutoscope.engines.skyreels_v3.decoding import decode, to_pixels

_LONGER_SIDE = 40  # latent pixels that are decoded, 320 of the picture: 1/16 of the work at 720p


def clean(latents: Tensor, velocity: Tensor, sigma: float) -> Tensor:
    """The latents without their noise, as the network sees them at noise level `sigma`: velocity is noise minus clean.

    (1, 16, frames, h, w) all three, float32 out.
    """
    return latents.float() - sigma * velocity.float()


def strip(vae: Any, latents: Tensor, velocity: Tensor, sigma: float) -> Pixels:
    """The first, the middle and the last latent frame, side by side: (height, width, 3) uint8.

    `latents` and `velocity` as in `clean`. Averages over squares of latents are latents of a smaller picture.
    """
    frames, rows, columns = latents.shape[2:]
    which = sorted({0, frames // 2, frames - 1})
    scale = min(1.0, _LONGER_SIDE / max(rows, columns))
    size = (round(rows * scale), round(columns * scale))
    pictures = []
    for frame in which:
        sharp = clean(latents[:, :, frame], velocity[:, :, frame], sigma)  # (1, 16, h, w)
        small = functional.adaptive_avg_pool2d(sharp, size)[:, :, None]  # (1, 16, 1, rows, columns)
        # Each as if it were a video's first: the decoder looks back at nothing, and keeps nothing.
        pictures.append(to_pixels(next(decode(vae, small)))[0])
    return np.concatenate(pictures, axis=1)
