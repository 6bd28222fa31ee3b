"""How attention is computed: two sets of roundings for one formula, as processors that diffusers' Wan blocks call.

Knows one attention layer at a time: not the prompt, the schedule or the clip. `STRICT` rounds where the reference does;
`FAST` skips what costs time and changes no more than rounding. Both take the text's keys and values ready made, since
they stay the same from step to step.
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


STRICT = Numerics(round_twice, rotate_double, torch.complex128)
FAST = Numerics(round_once, rotate_single, torch.complex64)


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
        else:
            assert encoder_hidden_states is not None
            key, value = encoder_hidden_states
        seen = dispatch_attention_fn(query, key, value, backend=self._attention_backend)
        out: Tensor = attn.to_out[0](seen.flatten(2, 3))
        return out

    def keys_of(self, attn: Any, text: Tensor) -> TextKeys:
        """A block's keys and values of projected text (1, 512, dim)."""
        return _split(self._numerics.norm(attn.to_k(text), attn.norm_k), attn), _split(attn.to_v(text), attn)


def _split(tokens: Tensor, attn: Any) -> Tensor:
    return torch.unflatten(tokens, 2, (attn.heads, -1))  # (1, tokens, heads, head_dim)


def layer_norm_modulated(hidden: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """LayerNorm and its modulation in one pass: (1, tokens, dim), shift and scale (1, 1, dim) float32."""
    return functional.layer_norm(hidden.float(), hidden.shape[-1:], 1 + scale[0, 0], shift[0, 0], eps).to(hidden.dtype)
