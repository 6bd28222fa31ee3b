"""How a block computes: two sets of roundings for one formula, over the layers of diffusers' Wan blocks.

Knows one block at a time: not the prompt, the schedule or the clip. `STRICT` rounds where the reference does; `FAST`
skips what costs time or memory and changes no more than rounding. Both take the text's keys and values ready made,
since they stay the same from step to step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.embeddings import get_1d_rotary_pos_embed
from torch import Tensor, nn
from torch.nn import functional

TextKeys = tuple[Tensor, Tensor]
"""A block's keys and values of the text: (1, 512, heads, head_dim) each."""


Heads = Callable[[Tensor, nn.RMSNorm, int, "Tensor | None"], Tensor]
"""Projected tokens (1, tokens, dim), which may be overwritten, to so many heads (1, tokens, heads, head_dim).

They are normalised over all heads and, where there are angles (tokens, 1, head_dim / 2), turned by them.
"""


def strict_heads(tokens: Tensor, norm: nn.RMSNorm, heads: int, angles: Tensor | None) -> Tensor:
    """Rounded to the weight's precision before the norm's weight, after it, and after a rotation in complex128."""
    eps = norm.eps
    assert eps is not None
    variance = tokens.float().pow(2).mean(-1, keepdim=True)
    tokens = (tokens * torch.rsqrt(variance + eps)).to(norm.weight.dtype) * norm.weight
    split = _split(tokens, heads)
    if angles is None:
        return split
    pairs = torch.view_as_complex(torch.unflatten(split.double(), -1, (-1, 2)))
    return torch.view_as_real(pairs * angles).flatten(-2).to(split.dtype)


def lean_heads(tokens: Tensor, norm: nn.RMSNorm, heads: int, angles: Tensor | None) -> Tensor:
    """In float32 and in place, some rows at a time; rounded at the end, and once between where the device has a kernel
    for the norm."""
    out = _split(tokens, heads) if tokens.device.type != "cpu" else _empty_heads(tokens, heads)
    for rows in _slices(tokens.shape[1], _rows_at_once(tokens)):
        wide = tokens[:, rows]
        if tokens.device.type == "cpu":
            eps = norm.eps
            assert eps is not None
            wide = wide.float()
            squares = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_()
            wide.mul_(squares.div_(wide.shape[-1]).add_(eps).rsqrt_()).mul_(norm.weight)
        else:
            wide = norm(wide)
        if angles is not None:
            wide = wide.float()
            torch.view_as_complex(torch.unflatten(_split(wide, heads), -1, (-1, 2))).mul_(angles[rows])
        out[:, rows] = _split(wide, heads)
    return out


def fused_heads(tokens: Tensor, norm: nn.RMSNorm, heads: int, angles: Tensor | None) -> Tensor:
    """In float32 throughout, for a compiler, which makes one loop of it: real angles (tokens, 1, head_dim / 2, 2)."""
    eps = norm.eps
    assert eps is not None
    wide = tokens.float()
    wide = _split(wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps) * norm.weight, heads)
    if angles is not None:
        even, odd = torch.unflatten(wide, -1, (-1, 2)).unbind(-1)
        cos, sin = angles.unbind(-1)
        wide = torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)
    return _laid_out(wide.to(tokens.dtype))


@dataclass(frozen=True, slots=True)
class Numerics:
    """Where a block rounds."""

    heads: Heads
    angles: torch.dtype
    is_lean: bool


STRICT = Numerics(strict_heads, torch.complex128, is_lean=False)
FAST = Numerics(lean_heads, torch.complex64, is_lean=True)
COMPILED = Numerics(fused_heads, torch.float32, is_lean=True)


def rotary_angles(head_dim: int, grid: tuple[int, int, int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Unit complex numbers of each token's place: (tokens, 1, head_dim / 2), for `grid` = (frames, rows, columns).

    Where `dtype` is real, pairs of numbers: (tokens, 1, head_dim / 2, 2). Rows and columns take a third of the head
    each, rounded down to even numbers; time takes the rest (Wan 2.1).
    """
    side = 2 * (head_dim // 6)
    parts = []
    for axis, (length, dim) in enumerate(zip(grid, (head_dim - 2 * side, side, side), strict=True)):
        angles = get_1d_rotary_pos_embed(dim, length, use_real=False, freqs_dtype=torch.float64)  # (length, dim / 2)
        shape = [1, 1, 1, dim // 2]
        shape[axis] = length
        parts.append(angles.view(shape).expand(*grid, -1))
    whole = torch.cat(parts, dim=-1)  # (frames, rows, columns, head_dim / 2)
    whole = whole.flatten(0, 2).unsqueeze(1)
    return (whole if dtype.is_complex else torch.view_as_real(whole)).to(device=device, dtype=dtype)


class Attention:
    """A processor for both attentions of a Wan block.

    With `rotary_emb` the tokens attend to each other; without it, to `encoder_hidden_states`, which are the block's
    TextKeys.
    """

    _attention_backend = None  # set by diffusers' set_attention_backend
    _parallel_config = None

    def __init__(self, numerics: Numerics) -> None:
        self._numerics = numerics

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: TextKeys | None = None,
        attention_mask: None = None,
        rotary_emb: Tensor | None = None,
    ) -> Tensor:
        if rotary_emb is not None:
            value = self._laid_out(_split(attn.to_v(hidden_states), attn.heads))
            key = self._numerics.heads(attn.to_k(hidden_states), attn.norm_k, attn.heads, rotary_emb)
        else:
            assert encoder_hidden_states is not None
            key, value = encoder_hidden_states
        query = self._numerics.heads(attn.to_q(hidden_states), attn.norm_q, attn.heads, rotary_emb)
        seen = dispatch_attention_fn(query, key, value, backend=self._attention_backend)
        del query, key, value
        out: Tensor = attn.to_out[0](seen.flatten(2, 3))
        return out

    def keys_of(self, attn: Any, text: Tensor) -> TextKeys:
        """A block's keys and values of projected text (1, 512, dim)."""
        key = self._numerics.heads(attn.to_k(text), attn.norm_k, attn.heads, None)
        return key, self._laid_out(_split(attn.to_v(text), attn.heads))

    def _laid_out(self, heads: Tensor) -> Tensor:
        return _laid_out(heads) if self._numerics.is_lean else heads


def _split(tokens: Tensor, heads: int) -> Tensor:
    return torch.unflatten(tokens, 2, (heads, -1))  # (1, tokens, heads, head_dim)


def _laid_out(heads: Tensor) -> Tensor:
    """(1, tokens, heads, head_dim) as it is read fastest: on a CPU, attention walks head by head."""
    return heads.transpose(1, 2).contiguous().transpose(1, 2) if heads.device.type == "cpu" else heads


def _empty_heads(tokens: Tensor, heads: int) -> Tensor:
    _, count, dim = tokens.shape
    return tokens.new_empty((1, heads, count, dim // heads)).transpose(1, 2)


def _rows_at_once(tokens: Tensor) -> int:
    """As many as keep a device busy while what is computed of them, in float32 or four times as wide, stays small."""
    return 1024 if tokens.device.type == "cpu" else 16_384


def _slices(count: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, count, size))


class LeanBlock(nn.Module):
    """A diffusers WanTransformerBlock's layers, with fewer passes over the tokens and fewer float32 copies of them.

    Norm and modulation are one operation, gate and residual another. Whatever sees one token at a time sees some of
    them after another: for 5 s of 720p a float32 copy of all is 2.6 GB, and the inside of the feed-forward 3.5 GB.
    """

    def __init__(self, block: Any, is_compiled: bool) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = block.norm1, block.norm2, block.norm3
        self.attn1, self.attn2, self.ffn = block.attn1, block.attn2, block.ffn
        self.scale_shift_table = block.scale_shift_table
        self._is_compiled = is_compiled  # then the compiler makes the passes few, and loops would stand in its way

    def forward(self, hidden: Tensor, keys: TextKeys, modulation: Tensor, angles: Tensor) -> Tensor:
        """As WanTransformerBlock: `hidden` (1, tokens, dim), which is overwritten, `modulation` (1, 6, dim)."""
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = (self.scale_shift_table + modulation.float())[0]  # (dim,)

        def entered(rows: Tensor) -> Tensor:
            return _normalised(rows, self.norm1.eps, 1 + scale, shift)

        def crossed(rows: Tensor) -> Tensor:
            return _normalised(rows, self.norm2.eps, self.norm2.weight, self.norm2.bias)

        def fed(rows: Tensor) -> Tensor:
            seen = self._fed(_normalised(rows, self.norm3.eps, 1 + ffn_scale, ffn_shift))
            return torch.addcmul(rows, seen, ffn_gate).to(rows.dtype)

        def gated(rows: Tensor, seen: Tensor) -> Tensor:
            return torch.addcmul(rows, seen, gate).to(rows.dtype)

        seen = self.attn1(self._by_rows(entered, None, hidden), None, None, angles)
        hidden = self._by_rows(gated, hidden, hidden, seen)
        del seen
        hidden = self._by_rows(torch.add, hidden, hidden, self.attn2(self._by_rows(crossed, None, hidden), keys))
        return self._by_rows(fed, hidden, hidden)

    def _by_rows(self, function: Callable[..., Tensor], out: Tensor | None, *given: Tensor) -> Tensor:
        """What a function of rows makes of (1, tokens, dim), some rows after others, in place of `out`."""
        if self._is_compiled:
            return function(*given)
        out = torch.empty_like(given[0]) if out is None else out
        for rows in _slices(out.shape[1], _rows_at_once(out)):
            out[:, rows] = function(*(each[:, rows] for each in given))
        return out

    def _fed(self, tokens: Tensor) -> Tensor:
        activation, _, back = self.ffn.net
        out: Tensor = back(torch.ops.aten.gelu_(activation.proj(tokens), approximate=activation.approximate))
        return out


def use(network: Any, numerics: Numerics) -> Attention:
    """Have a WanTransformer3DModel's blocks compute so. Tensors keep their names."""
    attention = Attention(numerics)
    for number, block in enumerate(network.blocks):
        block.attn1.set_processor(attention)
        block.attn2.set_processor(attention)
        if numerics.is_lean:
            network.blocks[number] = LeanBlock(block, numerics is COMPILED)
        if numerics is COMPILED:
            # Block by block, so that a pass can be left between them; what is compiled for one serves them all.
            network.blocks[number].compile()
    return attention


def _normalised(hidden: Tensor, eps: float, weight: Tensor, bias: Tensor) -> Tensor:
    if hidden.device.type == "cpu":  # which takes weights wider than its input
        return functional.layer_norm(hidden, hidden.shape[-1:], weight, bias, eps)
    return functional.layer_norm(hidden.float(), hidden.shape[-1:], weight, bias, eps).to(hidden.dtype)
