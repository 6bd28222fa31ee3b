"""One forward pass on several devices: Ulysses sequence parallelism (DeepSpeed-Ulysses, arXiv 2309.14509).

Each rank computes some of the tokens, with all heads; around self-attention they trade, so that each has all the tokens
of some heads. Shares differ by at most one token or head: nothing is padded, so attention sees what one device would
show it, whatever the size of the video. Knows torch.distributed's default group and one pass, but not how processes
come and go, nor what the latents are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from diffusers.models.attention_dispatch import dispatch_attention_fn
from torch import Tensor

from mutoscope.engines.skyreels_v3.numerics import Attention, Numerics, TextKeys


@dataclass(frozen=True, slots=True)
class Shares:
    """Who has what, of `size` ranks: consecutive pieces, in the order of ranks, the first ones larger by at most 1."""

    rank: int
    size: int

    def counts(self, whole: int) -> list[int]:
        """Each rank's share of `whole` things. Raises ValueError when there are too few for all."""
        if whole < self.size:
            raise ValueError(f"{whole} can't be shared by {self.size} devices")
        least, left = divmod(whole, self.size)
        return [least + (rank < left) for rank in range(self.size)]

    def mine(self, whole: int) -> slice:
        """This rank's piece of `whole` things."""
        ends = list(accumulate(self.counts(whole), initial=0))
        return slice(ends[self.rank], ends[self.rank + 1])


_Function = TypeVar("_Function", bound=Callable[..., Any])


def _untraced(function: _Function) -> _Function:
    """A trade between ranks, which a compiled block steps out for."""
    any_compiler: Any = torch.compiler
    untraced: _Function = any_compiler.disable(function)
    return untraced


@dataclass(frozen=True, slots=True)
class SharedAngles:
    """What a rank's blocks get for rotary angles: its own tokens' (rows, 1, head_dim / 2), and how many all are."""

    angles: Tensor
    tokens: int


class UlyssesAttention(Attention):
    """The processor of self-attention where tokens are shared. With text keys it attends as on one device."""

    def __init__(self, numerics: Numerics, shares: Shares) -> None:
        super().__init__(numerics)
        self._shares = shares

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: TextKeys | None = None,
        attention_mask: None = None,
        rotary_emb: Any = None,
    ) -> Tensor:
        if rotary_emb is None:
            return super().__call__(attn, hidden_states, encoder_hidden_states)
        heads, angles, tokens = self._numerics.heads, rotary_emb.angles, rotary_emb.tokens
        # Each is under way while the next is computed.
        value = self._to_heads(_split(attn.to_v(hidden_states), attn.heads), tokens)
        key = self._to_heads(heads(attn.to_k(hidden_states), attn.norm_k, attn.heads, angles), tokens)
        query = self._to_heads(heads(attn.to_q(hidden_states), attn.norm_q, attn.heads, angles), tokens)
        seen = dispatch_attention_fn(query(), key(), value(), backend=self._attention_backend)
        out: Tensor = attn.to_out[0](self._to_rows(seen, attn.heads).flatten(2, 3))
        return out

    @_untraced
    def _to_heads(self, rows: Tensor, tokens: int) -> Callable[[], Tensor]:
        """Start trading (1, rows, heads, head_dim); the result, when waited for: (1, tokens, own heads, head_dim)."""
        head_dim = rows.shape[3]
        heads = self._shares.counts(rows.shape[2])
        mine = heads[self._shares.rank]
        send = torch.cat([piece.reshape(-1) for piece in torch.split(rows, heads, dim=2)])
        received = rows.new_empty(tokens * mine * head_dim)
        work = dist.all_to_all_single(
            received,
            send,
            [count * mine * head_dim for count in self._shares.counts(tokens)],
            [rows.shape[1] * count * head_dim for count in heads],
            async_op=True,
        )

        @_untraced
        def wait(send: Tensor = send) -> Tensor:  # what is sent must live until then
            work.wait()
            return received.view(1, tokens, mine, head_dim)

        return wait

    @_untraced
    def _to_rows(self, seen: Tensor, all_heads: int) -> Tensor:
        """Trade (1, tokens, own heads, head_dim) back: (1, own rows, heads, head_dim)."""
        _, tokens, mine, head_dim = seen.shape
        heads, rows = self._shares.counts(all_heads), self._shares.counts(tokens)
        own = rows[self._shares.rank]
        received = seen.new_empty(own * all_heads * head_dim)
        dist.all_to_all_single(
            received,
            seen.contiguous().view(-1),
            [own * count * head_dim for count in heads],
            [count * mine * head_dim for count in rows],
        )
        pieces = torch.split(received, [own * count * head_dim for count in heads])
        return torch.cat([piece.view(1, own, -1, head_dim) for piece in pieces], dim=2)


class SharedNetwork:
    """A WanTransformer3DModel as `predict` sees it, whose blocks see this rank's tokens alone.

    Making it gives self-attention its processor. Every rank must run the same pass at once.
    """

    def __init__(self, network: Any, numerics: Numerics, shares: Shares) -> None:
        """Raises ValueError when there are fewer heads than ranks."""
        shares.counts(network.config.num_attention_heads)
        self._network, self._shares = network, shares
        self._tokens = 0
        attention = UlyssesAttention(numerics, shares)
        attention._attention_backend = network.blocks[0].attn1.processor._attention_backend
        for block in network.blocks:
            block.attn1.set_processor(attention)
        self.blocks = [self._first, *(_later(block, shares) for block in network.blocks[1:])]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    def _first(self, hidden: Tensor, text: TextKeys, modulation: Tensor, angles: Tensor) -> Tensor:
        self._tokens = hidden.shape[1]
        mine = hidden[:, self._shares.mine(self._tokens)].contiguous()  # (1, own rows, dim)
        return _later(self._network.blocks[0], self._shares)(mine, text, modulation, angles)

    def proj_out(self, hidden: Tensor) -> Tensor:
        """The head on own rows (1, rows, dim), then everybody's: (1, tokens, 64)."""
        mine = self._network.proj_out(hidden)
        rows = self._shares.counts(self._tokens)
        padded = mine.new_zeros((1, rows[0], mine.shape[2]))
        padded[:, : mine.shape[1]] = mine
        everybody = [torch.empty_like(padded) for _ in rows]
        dist.all_gather(everybody, padded)
        return torch.cat([each[:, :count] for each, count in zip(everybody, rows, strict=True)], dim=1)


def _later(block: Any, shares: Shares) -> Callable[[Tensor, TextKeys, Tensor, Tensor], Tensor]:
    def run(hidden: Tensor, text: TextKeys, modulation: Tensor, angles: Tensor) -> Tensor:
        tokens = angles.shape[0]
        out: Tensor = block(hidden, text, modulation, SharedAngles(angles[shares.mine(tokens)], tokens))
        return out

    return run


def _split(tokens: Tensor, heads: int) -> Tensor:
    return torch.unflatten(tokens, 2, (heads, -1))  # (1, rows, heads, head_dim)
