"""The VAE's decoder as a relay: each rank runs some of its layers, on one latent frame while the next has another.

The decoder looks back along all of time, by the features of earlier frames: 38 latent frames, more than a clip of 5
seconds has, so that ranks can't each decode a piece of the clip without most of the work done twice. Its layers can be
shared out instead: each sees the frames in order and keeps its own features, every operation is the one that a single
device would do, and the bytes are the same. Knows decoders and torch.distributed's default group.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class RelayVae:
    """An AutoencoderKLWan as `decode` sees it: `decoder` is this rank's stretch of it.

    Frames go from rank 1 to the last and then to rank 0, whose result is the video's; the other ranks' is of no use.
    """

    def __init__(self, vae: Any, rank: int, size: int) -> None:
        self._vae = vae
        layers, weights = zip(*_layers(vae.decoder), strict=True)
        stretches = share(weights, min(size, len(layers)))
        # Ranks too many for the layers pass nothing on and get nothing.
        order = [*range(1, len(stretches)), 0]
        place = order.index(rank) if rank in order else None
        self.decoder = _Stretch(
            vae,
            [] if place is None else layers[stretches[place]],
            order[place - 1] if place else None,
            None if place in (None, len(order) - 1) else order[place + 1],
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._vae, name)


class _Stretch:
    """Some consecutive layers of the decoder, between the rank that frames come from and the one they go to."""

    def __init__(self, vae: Any, layers: Sequence[Any], source: int | None, target: int | None) -> None:
        self._vae, self._layers, self._source, self._target = vae, layers, source, target
        self._sent: list[tuple[Any, Tensor]] = []

    def modules(self) -> Iterator[nn.Module]:
        """All the decoder's: they say how long the list of features must be."""
        return iter(self._vae.decoder.modules())

    def __call__(
        self, planes: Tensor, feat_cache: list[Tensor | str | None], feat_idx: list[int], first_chunk: bool
    ) -> Tensor:
        if not self._layers:
            return planes
        hidden = planes if self._source is None else _receive(self._source, planes)
        for layer in self._layers:
            hidden = layer(hidden, feat_cache, feat_idx)
        if self._target is not None:
            self.settle()
            self._sent = _send(hidden, self._target)
            return planes
        return hidden

    def settle(self) -> None:
        """Wait until what was sent has arrived."""
        for work, _ in self._sent:
            work.wait()
        self._sent = []


def share(weights: Sequence[float], count: int) -> list[slice]:
    """Cut a list into `count` consecutive pieces, none empty, whose heaviest is as light as can be."""
    # best[k][n]: the heaviest of k pieces of the first n, and where the last of them begins.
    total = [sum(weights[:n]) for n in range(len(weights) + 1)]
    best: list[list[tuple[float, int]]] = [[(0.0 if n == 0 else float("inf"), 0) for n in range(len(total))]]
    for _ in range(count):
        before = best[-1]
        best.append(
            [
                min(((max(before[cut][0], total[n] - total[cut]), cut) for cut in range(n)), default=(float("inf"), 0))
                for n in range(len(total))
            ]
        )
    cuts = [len(weights)]
    for pieces in range(count, 0, -1):
        cuts.append(best[pieces][cuts[-1]][1])
    return [slice(start, end) for start, end in pairwise(reversed(cuts))]


def _layers(decoder: Any) -> Iterator[tuple[Any, float]]:
    """The decoder's layers in order, each with what it costs: multiplications per element of a latent plane."""
    yield _cached(decoder.conv_in), _size(decoder.conv_in)
    middle = decoder.mid_block
    yield _with_features(middle.resnets[0]), _size(middle.resnets[0])
    for attention, residual in zip(middle.attentions, middle.resnets[1:], strict=True):
        yield _attended(attention, residual), _size(attention) + _size(residual)
    volume = 1  # elements now for each of a latent plane
    for block in decoder.up_blocks:
        for residual in block.resnets:
            yield _with_features(residual), volume * _size(residual)
        for upsampler in block.upsamplers or ():
            cost = 0
            if upsampler.mode == "upsample3d":
                cost += volume * _size(upsampler.time_conv)
                volume *= 2
            volume *= 4
            yield _with_features(upsampler), cost + volume * _size(upsampler.resample)
    yield _head(decoder), volume * _size(decoder.conv_out)


def _with_features(layer: Any) -> Any:
    return lambda hidden, features, index: layer(hidden, feat_cache=features, feat_idx=index)


def _attended(attention: Any, residual: Any) -> Any:
    return lambda hidden, features, index: residual(attention(hidden), feat_cache=features, feat_idx=index)


def _cached(conv: Any) -> Any:
    def run(hidden: Tensor, features: list[Tensor | None], index: list[int]) -> Tensor:
        """A causal convolution, which sees the last two frames before its input and leaves its own last two."""
        earlier = features[index[0]]
        kept = hidden[:, :, -2:].clone()
        if kept.shape[2] < 2 and earlier is not None:
            kept = torch.cat([earlier[:, :, -1:], kept], dim=2)
        out: Tensor = conv(hidden, earlier)
        features[index[0]] = kept
        index[0] += 1
        return out

    return run


def _head(decoder: Any) -> Any:
    last = _cached(decoder.conv_out)
    return lambda hidden, features, index: last(decoder.nonlinearity(decoder.norm_out(hidden)), features, index)


def _size(layer: nn.Module) -> int:
    return sum(parameter.numel() for parameter in layer.parameters())


def _send(hidden: Tensor, target: int) -> list[tuple[Any, Tensor]]:
    shape = torch.tensor(hidden.shape, device=hidden.device)
    hidden = hidden.contiguous()
    return [(dist.isend(part, target), part) for part in (shape, hidden)]


def _receive(source: int, like: Tensor) -> Tensor:
    """(1, channels, frames, rows, columns) in the type and on the device of `like`."""
    shape = torch.empty(5, dtype=torch.int64, device=like.device)
    dist.recv(shape, source)
    hidden = like.new_empty(tuple(shape.tolist()))
    dist.recv(hidden, source)
    return hidden
