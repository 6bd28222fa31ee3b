"""How a block computes: two sets of roundings for one formula, over the layers of diffusers' Wan blocks.

Knows one block at a time: not the prompt, the schedule or the clip. `STRICT` rounds where the reference does; `FAST`
skips what costs time or memory and changes no more than rounding. Both take the text's keys and values ready made,
since they stay the same from step to step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.embeddings import get_1d_rotary_pos_embed
from torch import Tensor, nn
from torch.nn import functional

TextKeys = tuple[Tensor, Tensor]
"""A block's keys and values of the text: (1, 512, heads, head_dim) each."""


def round_twice(tokens: Tensor, norm: nn.RMSNorm) -> Tensor:
    """RMS norm over all heads, rounded to the weight's precision before and after the weight (1, tokens, dim)."""
    eps = norm.eps
    assert eps is not None
    variance = tokens.float().pow(2).mean(-1, keepdim=True)
    return (tokens * torch.rsqrt(variance + eps)).to(norm.weight.dtype) * norm.weight


def round_once(tokens: Tensor, norm: nn.RMSNorm) -> Tensor:
    """The same norm, rounded once at its end (1, tokens, dim)."""
    if tokens.device.type == "cpu" and tokens.dtype != torch.float32:
        # torch's own takes twice as long there in bfloat16.
        eps = norm.eps
        assert eps is not None
        wide = tokens.float()
        return wide.mul_(torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).mul_(norm.weight).to(tokens.dtype)
    rounded: Tensor = norm(tokens)
    return rounded


def rotate_double(heads: Tensor, angles: Tensor) -> Tensor:
    """Rotary embedding in complex128: (1, tokens, heads, head_dim) by angles (tokens, 1, head_dim / 2)."""
    pairs = torch.view_as_complex(torch.unflatten(heads.double(), -1, (-1, 2)))
    return torch.view_as_real(pairs * angles).flatten(-2).to(heads.dtype)


def rotate_single(heads: Tensor, angles: Tensor) -> Tensor:
    """Rotary embedding in complex64, in place where the cast made a copy: one temporary instead of four."""
    pairs = torch.view_as_complex(torch.unflatten(heads.float(), -1, (-1, 2)))
    return torch.view_as_real(pairs.mul_(angles)).flatten(-2).to(heads.dtype)


@dataclass(frozen=True, slots=True)
class Numerics:
    """Where an attention layer rounds."""

    norm: Callable[[Tensor, nn.RMSNorm], Tensor]
    rotate: Callable[[Tensor, Tensor], Tensor]
    angles: torch.dtype
    is_lean: bool


STRICT = Numerics(round_twice, rotate_double, torch.complex128, is_lean=False)
FAST = Numerics(round_once, rotate_single, torch.complex64, is_lean=True)


def rotary_angles(head_dim: int, grid: tuple[int, int, int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Unit complex numbers of each token's place: (tokens, 1, head_dim / 2), for `grid` = (frames, rows, columns).

    Rows and columns take a third of the head each, rounded down to even numbers; time takes the rest (Wan 2.1).
    """
    side = 2 * (head_dim // 6)
    parts = []
    for axis, (length, dim) in enumerate(zip(grid, (head_dim - 2 * side, side, side), strict=True)):
        angles = get_1d_rotary_pos_embed(dim, length, use_real=False, freqs_dtype=torch.float64)  # (length, dim / 2)
        shape = [1, 1, 1, dim // 2]
        shape[axis] = length
        parts.append(angles.view(shape).expand(*grid, -1))
    whole = torch.cat(parts, dim=-1)  # (frames, rows, columns, head_dim / 2)
    return whole.flatten(0, 2).unsqueeze(1).to(device=device, dtype=dtype)


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
        norm, rotate = self._numerics.norm, self._numerics.rotate
        query = _split(norm(attn.to_q(hidden_states), attn.norm_q), attn)  # (1, tokens, heads, dim)
        if rotary_emb is not None:
            key = _split(norm(attn.to_k(hidden_states), attn.norm_k), attn)
            value = _split(attn.to_v(hidden_states), attn)
            query, key = rotate(query, rotary_emb), rotate(key, rotary_emb)
            key, value = self._laid_out(key), self._laid_out(value)
        else:
            assert encoder_hidden_states is not None
            key, value = encoder_hidden_states
        seen = dispatch_attention_fn(self._laid_out(query), key, value, backend=self._attention_backend)
        out: Tensor = attn.to_out[0](seen.flatten(2, 3))
        return out

    def keys_of(self, attn: Any, text: Tensor) -> TextKeys:
        """A block's keys and values of projected text (1, 512, dim)."""
        key = _split(self._numerics.norm(attn.to_k(text), attn.norm_k), attn)
        return self._laid_out(key), self._laid_out(_split(attn.to_v(text), attn))

    def _laid_out(self, heads: Tensor) -> Tensor:
        """(1, tokens, heads, head_dim) as it is read fastest: on a CPU, attention walks head by head."""
        if self._numerics.is_lean and heads.device.type == "cpu":
            return heads.transpose(1, 2).contiguous().transpose(1, 2)
        return heads


def _split(tokens: Tensor, attn: Any) -> Tensor:
    return torch.unflatten(tokens, 2, (attn.heads, -1))  # (1, tokens, heads, head_dim)


class LeanBlock(nn.Module):
    """A diffusers WanTransformerBlock's layers, with fewer passes over the tokens and fewer float32 copies of them.

    Norm and modulation are one operation, gate and residual another (a float32 copy is 2.6 GB for 5 s of 720p).
    """

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = block.norm1, block.norm2, block.norm3
        self.attn1, self.attn2, self.ffn = block.attn1, block.attn2, block.ffn
        self.scale_shift_table = block.scale_shift_table

    def forward(self, hidden: Tensor, keys: TextKeys, modulation: Tensor, angles: Tensor) -> Tensor:
        """As WanTransformerBlock: `hidden` (1, tokens, dim), `modulation` (1, 6, dim)."""
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = (self.scale_shift_table + modulation.float())[0]  # (dim,)
        seen = self.attn1(_modulated(hidden, self.norm1.eps, shift, scale), None, None, angles)
        hidden = torch.addcmul(hidden, seen, gate).to(hidden.dtype)
        hidden = hidden + self.attn2(self.norm2(hidden), keys, None, None)
        seen = self.ffn(_modulated(hidden, self.norm3.eps, ffn_shift, ffn_scale))
        return torch.addcmul(hidden, seen, ffn_gate).to(hidden.dtype)


def use(network: Any, numerics: Numerics) -> Attention:
    """Have a WanTransformer3DModel's blocks compute so. Tensors keep their names."""
    attention = Attention(numerics)
    for number, block in enumerate(network.blocks):
        block.attn1.set_processor(attention)
        block.attn2.set_processor(attention)
        if numerics.is_lean:
            network.blocks[number] = LeanBlock(block)
    return attention


def _modulated(hidden: Tensor, eps: float, shift: Tensor, scale: Tensor) -> Tensor:
    if hidden.device.type == "cpu":  # which takes weights wider than its input
        return functional.layer_norm(hidden, hidden.shape[-1:], 1 + scale, shift, eps)
    return functional.layer_norm(hidden.float(), hidden.shape[-1:], 1 + scale, shift, eps).to(hidden.dtype)
