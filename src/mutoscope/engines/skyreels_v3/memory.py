"""What one clip needs of a GPU's memory, by what is kept there: the placements, and which of them fit.

Weights follow from the parameter counts; activations were measured on the real classes in fast mode, tensor by tensor,
without a GPU (the tests measure them again). Knows no speed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mutoscope.engines.skyreels_v3.cost import TEXT_ENCODER, TRANSFORMER, VAE, Clip
from mutoscope.engines.skyreels_v3.spec import TEXT_TOKENS

Placement = Literal["resident", "text offloaded", "blocks offloaded", "int8 weights", "fp8 weights"]

PLACEMENTS: tuple[Placement, ...] = ("resident", "text offloaded", "blocks offloaded", "int8 weights", "fp8 weights")
"""In the order of preference: the first three give the same numbers, the last two round the weights."""

WHAT: dict[Placement, str] = {
    "resident": "all of it on the GPU",
    "text offloaded": "text encoder in host memory",
    "blocks offloaded": "layers stream from host memory",
    "int8 weights": "a byte a weight, nearly exact",
    "fp8 weights": "a byte a weight, coarser",
}

_ACTIVATION_BYTES = 12.4  # a token and channel in attention, where a block's peak is: q, k, v, out and two before them
_DECODE_BYTES = 14_140  # a pixel of a frame: the cache of earlier frames (9,458) and one latent frame's work, float32
_ENCODE_BYTES = 3_875  # a pixel of a reference
_BLOCKS_AT_HAND = 2  # one at work, one on its way
_RESERVE_BYTES = 1_200_000_000  # CUDA's context, libraries' workspaces; assumed
_FRAGMENTATION = 1.05  # of what the allocator is asked for; assumed


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes at the peak of one clip under one placement: weights that lie there, and the larger of the works."""

    placement: Placement
    weights: int
    work: int

    @property
    def total(self) -> int:
        """With what the driver and the allocator take besides."""
        return int((self.weights + self.work) * _FRAGMENTATION) + _RESERVE_BYTES


def weight_bytes() -> dict[str, int]:
    """Bytes of each part as it is served."""
    return {
        "transformer": _transformer(2),
        "text encoder": 2 * TEXT_ENCODER.num_parameters,
        "VAE": 4 * VAE.num_parameters,
    }


def footprint(clip: Clip, placement: Placement, gpus: int = 1) -> Footprint:
    """The peak on the busiest of `gpus` that share one clip: each holds the weights, tokens are divided."""
    parts = weight_bytes()
    block = 2 * TRANSFORMER.num_block_parameters // TRANSFORMER.layers
    around = parts["transformer"] - block * TRANSFORMER.layers
    transformer = {
        "resident": parts["transformer"],
        "text offloaded": parts["transformer"],
        "blocks offloaded": around + _BLOCKS_AT_HAND * block,
        "int8 weights": _transformer(1),
        "fp8 weights": _transformer(1),
    }[placement]
    weights = transformer + parts["VAE"]
    pixels = clip.width * clip.height
    work = max(
        int(_ACTIVATION_BYTES * clip.tokens * TRANSFORMER.dim / gpus) + _text_keys(1 if clip.predictions == 1 else 2),
        _DECODE_BYTES * pixels,
        _ENCODE_BYTES * pixels,
    )
    if placement == "resident":
        weights += parts["text encoder"]
    else:  # it comes in before anything else is at work
        work = max(work, parts["text encoder"])
    return Footprint(placement, weights, work)


def _text_keys(prompts: int) -> int:
    """Each block's keys and values of the text, which are kept from step to step."""
    return prompts * TRANSFORMER.layers * 2 * 2 * TEXT_TOKENS * TRANSFORMER.dim


def _transformer(block_weight_bytes: int) -> int:
    # Modulation, norms between the blocks' layers and the time embedder stay float32 (0.1 % of the weights).
    network = TRANSFORMER
    kept = network.layers * 8 * network.dim + network.freq_dim * network.dim + network.dim**2 + 4 * network.dim
    blocks = network.num_block_parameters - network.layers * 8 * network.dim
    return block_weight_bytes * blocks + 2 * (network.num_parameters - blocks - kept) + 4 * kept
