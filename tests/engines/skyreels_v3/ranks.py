"""What the tests of several processes share: networks for a rank, a pass's inputs, grids of every divisibility."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import torch
from torch import Tensor

from mutoscope.engines.skyreels_v3.checkpoint import Networks
from mutoscope.engines.skyreels_v3.numerics import rotary_angles
from mutoscope.engines.skyreels_v3.sampling import text_keys
from mutoscope.engines.skyreels_v3.spec import Mode, Precision

from .golden import networks

SHAPES = [(5, 2, 4), (5, 1, 5), (5, 2, 5), (5, 1, 7), (5, 2, 2), (5, 3, 3), (5, 2, 3), (5, 1, 3)]
"""Small grids of tokens (frames, rows, columns) for each remainder that a grid can leave."""


def build(rank: int, mode: Mode = "fast", precision: Precision = "float32") -> Networks:
    torch.set_num_threads(1)
    return networks.__wrapped__(mode, precision)


def fail(rank: int) -> Networks:
    raise MemoryError("no room for the transformer")


def build_faulty(rank: int) -> Networks:
    """Networks of which the others' second block runs out of memory."""
    found = build(rank)
    if rank:

        def run_out(*_: object) -> None:
            raise MemoryError("no room for the second block")

        found.transformer.blocks[1].register_forward_pre_hook(run_out)
    return found


def finish(work: Generator[float, None, Tensor]) -> Tensor:
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


def inputs(found: Networks, grid: tuple[int, int, int], seed: int = 1) -> Any:
    """What `predict` takes after the network: latents (1, 16, frames, 2 rows, 2 columns), a time, text and angles."""
    generator = torch.Generator().manual_seed(seed)
    frames, rows, columns = grid
    dtype = found.transformer.patch_embedding.weight.dtype
    latents = torch.randn((1, 16, frames, 2 * rows, 2 * columns), generator=generator).to(dtype)
    words = torch.randn((1, 512, 64), generator=generator).to(dtype)
    keys = text_keys(found.transformer, found.attention, words)
    return latents, torch.tensor([749]), keys, rotary_angles(32, grid, found.numerics.angles, found.device)
