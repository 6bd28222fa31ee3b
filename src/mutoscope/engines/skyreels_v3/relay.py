"""The VAE's decoder as a relay: each rank runs some of its layers, on one latent frame while the next has another.

The decoder looks back along all of time, by the features of earlier frames: 38 latent frames, more than a clip of 5
seconds has, so that ranks can't each decode a piece of the clip without most of the work done twice. Its layers can be
shared out instead: each sees the frames in order and keeps its own features, every operation is the one that a single
device would do, and the bytes are the same. Knows decoders and torch.distributed's default group.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from mutoscope.engines.skyreels_v3.decoding import Features, has_large_frames, layers_of, run


class Relay:
    """This rank's stretch of a decoder, as `decode` takes one.

    Frames go from rank 1 to the last and then to rank 0, whose result is the video's; the other ranks' is of no use.
    """

    def __init__(self, vae: Any, rank: int, size: int) -> None:
        self._vae = vae
        layers = [*layers_of(vae.decoder)]
        stretches = share([layer.cost for layer in layers], min(size, len(layers)))
        # Ranks too many for the layers pass nothing on and get nothing.
        order = [*range(1, len(stretches)), 0]
        place = order.index(rank) if rank in order else None
        self._layers = [] if place is None else layers[stretches[place]]
        self._source = order[place - 1] if place else None
        self._target = None if place in (None, len(order) - 1) else order[place + 1]
        self._sent: list[tuple[Any, Tensor]] = []

    def __call__(self, planes: Tensor, features: Features) -> Tensor:
        """One latent plane's frames on rank 0; elsewhere something of no use."""
        if not self._layers:
            return planes
        # Each rank's features are its own, so that their places may begin anywhere.
        hidden = planes if self._source is None else _receive(self._source, planes)
        hidden = run(self._layers, hidden, features, is_by_frame=has_large_frames(self._vae, planes))
        if self._target is None:
            return hidden
        self.settle()
        self._sent = _send(hidden, self._target)
        return planes

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
