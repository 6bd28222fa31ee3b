"""From latents to frames, one latent frame at a time, in constant memory.

Knows nothing of how the latents came about. The bytes are those of decoding the whole clip at once.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d
from torch import Tensor, nn

from mutoscope.engines import Pixels
from mutoscope.engines.skyreels_v3.conditioning import statistics_of

Features = list[Any]
"""What each of the decoder's causal convolutions saw last, in their order: it looks back by these."""

_LARGE_FRAME_BYTES = 2**26


@dataclass(frozen=True, slots=True)
class Layer:
    """A piece of the decoder: what it makes of (1, channels, frames, rows, columns), with features and a place in them.

    `cost` is in multiplications per element of a latent plane. A layer that `is_past_time` makes one frame of one.
    """

    run: Callable[[Tensor, Features, list[int]], Tensor]
    cost: int
    is_past_time: bool


def decode(vae: Any, latents: Tensor, decoder: Callable[[Tensor, Features], Tensor] | None = None) -> Generator[Tensor]:
    """Yield each latent frame's video frames, -1 to 1: (1, 3, 1, height, width) first, then (1, 3, 4, height, width).

    `latents` are the network's: (1, 16, frames, height / 8, width / 8). The features are a list of ours, so that
    nothing is left in the VAE when the generator is closed halfway. `decoder` is the VAE's own unless another is given.
    """
    mean, scale = statistics_of(vae)
    latents = latents.to(vae.dtype)
    planes = vae.post_quant_conv(latents / scale.to(latents) + mean.to(latents))
    del latents
    decoder = decoder or partial(run, [*layers_of(vae.decoder)], is_by_frame=has_large_frames(vae, planes))
    features: Features = [None] * sum(isinstance(module, WanCausalConv3d) for module in vae.decoder.modules())
    for index in range(planes.shape[2]):
        yield decoder(planes[:, :, index : index + 1], features).clamp(-1.0, 1.0)


def has_large_frames(vae: Any, planes: Tensor) -> bool:
    """Whether the frames of these latent planes are large where the decoder is done with all but its last layers.

    Small ones must not be decoded one by one: PyTorch has other convolutions for the smallest inputs, which are slower
    on a CPU, need more room, and round otherwise than those that the whole clip would get.
    """
    pixels = 64 * planes.shape[-2] * planes.shape[-1]
    return bool(vae.config.base_dim * pixels * planes.element_size() >= _LARGE_FRAME_BYTES)


def run(layers: Sequence[Layer], hidden: Tensor, features: Features, *, is_by_frame: bool) -> Tensor:
    """The frames of one latent plane (1, channels, frames, rows, columns), which leaves its features.

    `is_by_frame`: past the last doubling of time each frame goes through all layers before the next one. To causal
    layers that is the same, and it takes a quarter of the memory.
    """
    place = [0]
    past_time = [layer for layer in layers if layer.is_past_time]
    for layer in layers[: len(layers) - len(past_time)]:
        hidden = layer.run(hidden, features, place)
    if not past_time:
        return hidden
    found = []
    for frame in torch.split(hidden, 1 if is_by_frame else hidden.shape[2], dim=2):
        along = [*place]
        for layer in past_time:
            frame = layer.run(frame, features, along)
        found.append(frame)
    return torch.cat(found, dim=2)


def to_pixels(frames: Tensor) -> Pixels:
    """(1, 3, frames, height, width), -1 to 1 → (frames, height, width, 3) uint8, halves rounded to even."""
    levels = (frames.float() * 0.5 + 0.5).clamp(0.0, 1.0).mul(255.0).round().to(torch.uint8)
    pixels: Pixels = levels[0].permute(1, 2, 3, 0).contiguous().cpu().numpy()
    return pixels


def layers_of(decoder: Any) -> Iterator[Layer]:
    """The decoder's layers in order."""
    yield Layer(_cached(decoder.conv_in), _size(decoder.conv_in), False)
    middle = decoder.mid_block
    yield Layer(_with_features(middle.resnets[0]), _size(middle.resnets[0]), False)
    for attention, residual in zip(middle.attentions, middle.resnets[1:], strict=True):
        yield Layer(_attended(attention, residual), _size(attention) + _size(residual), False)
    upsamplers = [upsampler for block in decoder.up_blocks for upsampler in block.upsamplers or ()]
    doublings = sum(upsampler.mode == "upsample3d" for upsampler in upsamplers)  # of time, still to come
    volume = 1  # elements now for each of a latent plane
    for block in decoder.up_blocks:
        for residual in block.resnets:
            yield Layer(_with_features(residual), volume * _size(residual), doublings == 0)
        for upsampler in block.upsamplers or ():
            is_past_time = doublings == 0
            cost = 0
            if upsampler.mode == "upsample3d":
                cost += volume * _size(upsampler.time_conv)
                volume *= 2
                doublings -= 1
            volume *= 4
            yield Layer(_with_features(upsampler), cost + volume * _size(upsampler.resample), is_past_time)
    yield Layer(_head(decoder), volume * _size(decoder.conv_out), True)


def _with_features(layer: Any) -> Any:
    return lambda hidden, features, place: layer(hidden, feat_cache=features, feat_idx=place)


def _attended(attention: Any, residual: Any) -> Any:
    return lambda hidden, features, place: residual(attention(hidden), feat_cache=features, feat_idx=place)


def _cached(conv: Any) -> Any:
    def run(hidden: Tensor, features: Features, place: list[int]) -> Tensor:
        """A causal convolution, which sees the last two frames before its input and leaves its own last two."""
        earlier = features[place[0]]
        kept = hidden[:, :, -2:].clone()
        if kept.shape[2] < 2 and earlier is not None:
            kept = torch.cat([earlier[:, :, -1:], kept], dim=2)
        out: Tensor = conv(hidden, earlier)
        features[place[0]] = kept
        place[0] += 1
        return out

    return run


def _head(decoder: Any) -> Any:
    last = _cached(decoder.conv_out)
    return lambda hidden, features, place: last(decoder.nonlinearity(decoder.norm_out(hidden)), features, place)


def _size(layer: nn.Module) -> int:
    return sum(parameter.numel() for parameter in layer.parameters())
