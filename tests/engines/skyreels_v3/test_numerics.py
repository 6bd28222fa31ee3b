"""Rows that are computed some after others are the rows computed at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from mutoscope.engines.skyreels_v3.checkpoint import Networks
from mutoscope.engines.skyreels_v3.numerics import LeanBlock, lean_heads, rotary_angles
from mutoscope.engines.skyreels_v3.spec import Precision

from .golden import apart, networks
from .ranks import inputs

GRID = (5, 20, 25)  # 2,500 tokens: two and a half times what a CPU takes at once


@torch.inference_mode()
@pytest.mark.parametrize(("precision", "limit"), [("bfloat16", 1e-3), ("float32", 1e-6)])
def test_a_block_in_slices_is_the_block_as_a_whole(precision: Precision, limit: float) -> None:
    """Within rounding: a product of matrices may be divided otherwise when it has fewer rows."""
    found: Networks = networks("fast", precision)
    sliced: Any = found.transformer.blocks[1]
    whole = LeanBlock(sliced, is_compiled=True)
    _, _, keys, angles = inputs(found, GRID)
    generator = torch.Generator().manual_seed(2)
    hidden = torch.randn((1, 2500, 128), generator=generator).to(found.transformer.patch_embedding.weight.dtype)
    modulation = torch.randn((1, 6, 128), generator=generator)
    expected = whole(hidden, keys[1], modulation, angles)
    given = hidden.clone()
    out = sliced(given, keys[1], modulation, angles)
    assert apart(out, expected) <= limit
    assert out.data_ptr() == given.data_ptr(), "in place: one tensor of all tokens less"


@torch.inference_mode()
def test_heads_in_slices_are_the_same_bits() -> None:
    tokens = torch.randn((1, 2500, 128), generator=torch.Generator().manual_seed(3)).bfloat16()
    norm = nn.RMSNorm(128, 1e-6, dtype=torch.bfloat16)
    angles = rotary_angles(32, GRID, torch.complex64, tokens.device)
    whole = lean_heads(tokens.clone(), norm, 4, angles)
    pieces = [
        lean_heads(tokens[:, at : at + 500].clone(), norm, 4, angles[at : at + 500]) for at in range(0, 2500, 500)
    ]
    assert torch.equal(whole, torch.cat(pieces, 1))
